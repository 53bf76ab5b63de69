//! Compiles the eBPF programs, so that the agent carries them inside.

use std::{env, path::PathBuf, process::ExitCode};

use bailiwick_ebpf_build::Toolchain;

fn main() -> ExitCode {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let workspace_root = manifest.join("../..");
    for part in [
        "agent-ebpf/src",
        "agent-ebpf/Cargo.toml",
        "agent-ebpf/abi/src",
        "agent-ebpf/abi/Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", workspace_root.join(part).display());
    }
    let built = Toolchain::find().map_err(|missing| missing.to_string()).and_then(|toolchain| {
        toolchain.compile(&workspace_root, &out_dir).map_err(|error| error.to_string())
    });
    match built {
        Ok(object) => {
            println!("cargo::rustc-env=BAILIWICK_EBPF_OBJECT={}", object.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            for line in problem.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}
