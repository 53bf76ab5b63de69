//! Runs cargo for the target.

use std::{
    env,
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::find::{Compiler, Toolchain};

/// The target triple: BPF, little-endian.
pub const TARGET: &str = "bpfel-unknown-none";
/// The package with the programs, and the name of its object file.
pub const PACKAGE: &str = "bailiwick-ebpf";

/// Why there is no object.
#[derive(Debug)]
pub enum BuildError {
    /// Cargo could not be started.
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cargo failed; what it and the compiler said.
    Failed {
        /// Their standard error.
        output: String,
    },
    /// Cargo succeeded, but there is no object.
    NoObject {
        /// Where it should be.
        path: PathBuf,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { program, source } => {
                write!(f, "cannot start {}: {source}; is cargo in PATH?", program.display())
            }
            Self::Failed { output } => {
                write!(
                    f,
                    "the eBPF programs do not compile; `cargo xtask setup` checks the toolchain\n{output}"
                )
            }
            Self::NoObject { path } => write!(f, "cargo built the eBPF programs, but not {}", path.display()),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Start { source, .. } => Some(source),
            Self::Failed { .. } | Self::NoObject { .. } => None,
        }
    }
}

impl Toolchain {
    /// Compiles the eBPF programs of the workspace at `workspace_root` into `out_dir`; returns the object's path.
    ///
    /// # Errors
    /// [`BuildError`] with what the compiler said.
    pub fn compile(&self, workspace_root: &Path, out_dir: &Path) -> Result<PathBuf, BuildError> {
        let target_dir = out_dir.join("ebpf");
        let mut command = self.cargo();
        command
            .current_dir(workspace_root)
            .args(["build", "--package", PACKAGE, "--release", "--target", TARGET, "--target-dir"])
            .arg(&target_dir)
            // The programs keep BTF needs at zero: no debug information, so that the object loads anywhere.
            .args(["--config", "profile.release.debug=false", "--config", "profile.release.panic=\"abort\""])
            .arg("--config")
            .arg(format!("target.{TARGET}.linker={:?}", self.linker.display().to_string()));
        if workspace_root.join("Cargo.lock").is_file() {
            command.arg("--locked");
        }
        let program = PathBuf::from(command.get_program());
        let output =
            command.stdin(Stdio::null()).output().map_err(|source| BuildError::Start { program, source })?;
        if !output.status.success() {
            return Err(BuildError::Failed { output: String::from_utf8_lossy(&output.stderr).into_owned() });
        }
        let path = target_dir.join(TARGET).join("release").join(PACKAGE);
        if path.is_file() { Ok(path) } else { Err(BuildError::NoObject { path }) }
    }

    fn cargo(&self) -> Command {
        match &self.compiler {
            Compiler::Distribution { rustc, .. } => {
                let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                without_outer_cargo(&mut command);
                // The prebuilt core is unstable to use from a stable compiler.
                command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Compiler::Nightly { .. } => {
                let mut command = Command::new("rustup");
                without_outer_cargo(&mut command);
                command.args(["run", "nightly", "cargo", "-Z", "build-std=core"]);
                command
            }
        }
    }
}

/// Takes away what an outer cargo or rustup set for itself: flags, wrappers, toolchain, target directory.
pub(crate) fn without_outer_cargo(command: &mut Command) {
    const ALSO: [&str; 12] = [
        "RUSTUP_TOOLCHAIN",
        "RUST_RECURSION_COUNT",
        "LD_LIBRARY_PATH",
        "MAKEFLAGS",
        "MFLAGS",
        "TARGET",
        "HOST",
        "OUT_DIR",
        "PROFILE",
        "NUM_JOBS",
        "OPT_LEVEL",
        "DEBUG",
    ];
    // Where cargo keeps its registry, and how it reaches it, is the user's and stays.
    const KEPT: [&str; 2] = ["CARGO_HOME", "CARGO_HTTP_"];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let kept = KEPT.iter().any(|kept| name.starts_with(kept))
            || name.starts_with("CARGO_REGISTRIES_")
            || name.starts_with("CARGO_NET_");
        let outer = name.starts_with("CARGO") || name.starts_with("RUSTC") || name.starts_with("RUSTDOC");
        if (outer && !kept) || name == "RUSTFLAGS" || ALSO.contains(&name.as_ref()) {
            command.env_remove(name.as_ref());
        }
    }
}
