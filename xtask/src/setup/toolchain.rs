//! The eBPF toolchain as setup sees it: is one here, and what would Debian need to have one.
//!
//! Two kinds are known. Debian's own: `rustc-web` with a prebuilt `core` for the BPF target, and a bpf-linker built
//! against the same LLVM. Rustup's: a nightly with `rust-src` (so that cargo can build `core`) and any bpf-linker.
//! A bpf-linker whose LLVM is older than the compiler's cannot read what the compiler writes; hence the pinned pair.

use std::path::Path;
use std::process::Command;

use crate::{house, process};

/// The bpf-linker that goes with Debian's rustc-web 1.96 and LLVM 22.
pub(crate) const LINKER_VERSION: &str = "0.13.0";
/// Where Debian's llvm-22-dev puts its llvm-config.
pub(crate) const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// What to do where Debian's packages are not to be had.
pub(crate) const RUSTUP_WAY: &str = "an eBPF toolchain. Without Debian's packages, rustup gives one:\n\
    rustup toolchain install nightly --component rust-src\n\
    cargo install bpf-linker --locked\n\
    then run this command again: it will be found";

/// What is missing, a line each.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) Vec<String>);

/// Each file that Debian's way needs, and the package that brings it.
const DEBIAN: &[(&str, &str)] = &[
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/lib/rustlib/bpfel-unknown-none/lib", "libstd-rust-web-dev-bpf"),
];
/// The same, for building bpf-linker.
const DEBIAN_LLVM: &[(&str, &str)] = &[
    ("/usr/lib/llvm-22/bin/llvm-config", "llvm-22-dev"),
    ("/usr/lib/llvm-22/lib/libPolly.a", "libpolly-22-dev"),
];

/// The toolchain in words, or what is missing.
pub(crate) fn find() -> Result<String, Missing> {
    if !linker_runs() {
        return Err(Missing(vec!["bpf-linker".to_owned()]));
    }
    if DEBIAN.iter().all(|(file, _)| Path::new(file).exists()) {
        return Ok("eBPF by Debian's rustc and bpf-linker".to_owned());
    }
    let sysroot = process::answer(Command::new("rustc").args(["+nightly", "--print", "sysroot"]));
    if sysroot.is_some_and(|path| Path::new(&path).join("lib/rustlib/src/rust/library/core").is_dir()) {
        return Ok("eBPF by rustup's nightly and bpf-linker".to_owned());
    }
    Err(Missing(vec![RUSTUP_WAY.to_owned()]))
}

/// Whether a bpf-linker is here and starts (it does not when its LLVM library has gone).
pub(crate) fn linker_runs() -> bool {
    house::find("bpf-linker")
        .is_some_and(|path| process::answer(Command::new(path).arg("--version")).is_some())
}

/// The Debian packages that bring what is missing of the compiler, and of LLVM where the linker is to be built.
pub(crate) fn missing_packages(linker: bool) -> Vec<&'static str> {
    let llvm = if linker { DEBIAN_LLVM } else { &[] };
    DEBIAN
        .iter()
        .chain(llvm)
        .filter(|(file, _)| !Path::new(file).exists())
        .map(|(_, package)| *package)
        .collect()
}
