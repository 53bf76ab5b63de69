//! Where the parts of a toolchain are, and which are missing.

use std::{
    env,
    error::Error,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::compile::{TARGET, without_outer_cargo};

/// Where distributions put their compiler.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// A complete eBPF toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Who compiles.
    pub compiler: Compiler,
    /// Who links.
    pub linker: PathBuf,
}

/// A compiler with a `core` for the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// A compiler with a prebuilt `core`.
    Distribution {
        /// Its path.
        rustc: PathBuf,
        /// What it says of itself.
        version: String,
    },
    /// rustup's nightly, which builds `core` from rust-src.
    Nightly {
        /// What it says of itself.
        version: String,
    },
}

/// One part that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingPart {
    /// Neither kind of compiler.
    Compiler,
    /// rustup's nightly is there, but not its rust-src.
    RustSource,
    /// The distribution's compiler is there, but not its `core` for the target.
    Core,
    /// bpf-linker.
    Linker,
}

impl fmt::Display for MissingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler => write!(
                f,
                "a compiler for {TARGET}: {DISTRIBUTION_RUSTC} with a core for it, or rustup's nightly with rust-src"
            ),
            Self::RustSource => write!(f, "the rust-src component of rustup's nightly"),
            Self::Core => write!(f, "the core library for {TARGET} of {DISTRIBUTION_RUSTC}"),
            Self::Linker => write!(f, "bpf-linker, in PATH or in cargo's bin directory"),
        }
    }
}

/// Every part that is missing; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The parts. [`MissingPart::RustSource`] and [`MissingPart::Core`] are alternatives: either is enough.
    pub parts: Vec<MissingPart>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the eBPF toolchain is incomplete; missing:")?;
        for part in &self.parts {
            write!(f, "\n  - {part}")?;
        }
        write!(f, "\nRun `cargo xtask setup`: it says what it will install, then installs it.")
    }
}

impl Error for Missing {}

impl Toolchain {
    /// Looks for a complete toolchain; the distribution's compiler comes first.
    ///
    /// # Errors
    /// [`Missing`] with every part that is missing.
    pub fn find() -> Result<Self, Missing> {
        let mut parts = Vec::new();
        let compiler = find_compiler(&mut parts);
        let linker = find_program("bpf-linker");
        if linker.is_none() {
            parts.push(MissingPart::Linker);
        }
        match (compiler, linker) {
            (Some(compiler), Some(linker)) => Ok(Self { compiler, linker }),
            _ => Err(Missing { parts }),
        }
    }

    /// The toolchain in one line.
    #[must_use]
    pub fn describe(&self) -> String {
        let compiler = match &self.compiler {
            Compiler::Distribution { rustc, version } => format!("{} ({version})", rustc.display()),
            Compiler::Nightly { version } => format!("rustup nightly with rust-src ({version})"),
        };
        format!("{compiler}, {}", self.linker.display())
    }
}

fn find_compiler(parts: &mut Vec<MissingPart>) -> Option<Compiler> {
    let mut partial = Vec::new();
    let distribution = Path::new(DISTRIBUTION_RUSTC);
    if let Some(sysroot) = ask(Command::new(distribution).args(["--print", "sysroot"])) {
        if has_core(Path::new(&sysroot)) {
            let version = ask(Command::new(distribution).arg("--version")).unwrap_or_default();
            return Some(Compiler::Distribution { rustc: distribution.to_owned(), version });
        }
        partial.push(MissingPart::Core);
    }
    if let Some(sysroot) = ask(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]))
    {
        if Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir() {
            let version = ask(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]))
                .unwrap_or_default();
            return Some(Compiler::Nightly { version });
        }
        partial.push(MissingPart::RustSource);
    }
    if partial.is_empty() {
        partial.push(MissingPart::Compiler);
    }
    parts.append(&mut partial);
    None
}

fn has_core(sysroot: &Path) -> bool {
    let Ok(entries) = fs::read_dir(sysroot.join("lib/rustlib").join(TARGET).join("lib")) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

/// The first line that a program answers, if it answers at all.
fn ask(command: &mut Command) -> Option<String> {
    without_outer_cargo(command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_cure() {
        let text = Missing { parts: vec![MissingPart::Core, MissingPart::Linker] }.to_string();
        for word in ["core library", "bpf-linker", "cargo xtask setup"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn a_directory_without_the_target_has_no_core() {
        assert!(!has_core(Path::new("/nonexistent")));
    }
}
