//! The eBPF toolchain as setup sees it: is one here (`bailiwick-ebpf-build` knows, as it is what will use it), and what
//! would Debian need to have one.
//!
//! Two kinds are known. Debian's own: `rustc-web` with a prebuilt `core` for the BPF target, and a bpf-linker built
//! against the same LLVM. Rustup's: a nightly with `rust-src` (so that cargo can build `core`) and any bpf-linker.
//! A bpf-linker whose LLVM is older than the compiler's cannot read what the compiler writes; hence the pinned pair.

use std::path::Path;
use std::process::Command;

use bailiwick_ebpf_build::{Missing, MissingPart, Toolchain};

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

/// Debian's compiler, and its core for the target.
const COMPILER: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];
/// Each file that building bpf-linker needs, and the package that brings it.
const LLVM: &[(&str, &str)] = &[
    ("/usr/lib/llvm-22/bin/llvm-config", "llvm-22-dev"),
    ("/usr/lib/llvm-22/lib/libPolly.a", "libpolly-22-dev"),
];

/// What there is, or what is missing.
#[derive(Debug)]
pub(crate) enum Found {
    /// All of it, in words.
    Complete(String),
    /// Parts are missing; `linker` too, or it does not start.
    Incomplete {
        /// what the builder of the eBPF programs says
        missing: Missing,
        /// whether bpf-linker has to be built
        linker: bool,
    },
}

/// Looks for the toolchain. A linker that does not start (its LLVM library may have gone) counts as missing.
pub(crate) fn find() -> Found {
    let linker = !linker_runs();
    match Toolchain::find() {
        Ok(toolchain) if !linker => Found::Complete(toolchain.describe()),
        Ok(_) => Found::Incomplete { missing: Missing { parts: vec![MissingPart::Linker] }, linker },
        Err(missing) => Found::Incomplete { missing, linker },
    }
}

/// The Debian packages that bring what is missing: of the compiler, and of LLVM where the linker is to be built.
pub(crate) fn packages(missing: &Missing, linker: bool) -> Vec<&'static str> {
    let compiler = missing.parts.iter().any(|part| match part {
        MissingPart::Compiler | MissingPart::RustSource | MissingPart::Core => true,
        MissingPart::Linker => false,
    });
    let compiler = if compiler { COMPILER } else { &[] };
    let llvm =
        LLVM.iter().filter(|(file, _)| linker && !Path::new(file).exists()).map(|(_, package)| *package);
    compiler.iter().copied().chain(llvm).collect()
}

fn linker_runs() -> bool {
    house::find("bpf-linker")
        .is_some_and(|path| process::answer(Command::new(path).arg("--version")).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_compiler_needs_debians_and_a_linker_that_is_here_needs_no_llvm() {
        use MissingPart::{Compiler, Core, Linker, RustSource};
        for (parts, expected, why) in [
            (vec![Compiler], COMPILER, "no compiler at all"),
            (vec![Core, RustSource], COMPILER, "two compilers, neither complete"),
            (vec![Linker], &[], "LLVM is asked for by what is not there, not by name"),
        ] {
            assert_eq!(packages(&Missing { parts }, false), expected, "{why}");
        }
    }
}
