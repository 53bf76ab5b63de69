//! The real binary, for tests that run it as a user does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a ready-made binary to test in place of the one built from this source.
const OVERRIDE: &str = "BAILIWICK_BINARY";

/// The `bailiwick` binary of the same profile as the running test. Under cargo it is built first, once a
/// process, so that no test runs against yesterday's; without cargo it must lie where cargo would put it.
///
/// # Panics
/// When it cannot be built or is not there.
#[must_use]
pub fn bailiwick_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(find_or_build).clone()
}

fn find_or_build() -> PathBuf {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{OVERRIDE} names {}, which is no file", path.display());
        return path;
    }
    // target/PROFILE/deps/TEST, or target/PROFILE/examples/NAME
    let test = std::env::current_exe().expect("the path of the running test");
    let directory = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps");
    let binary = directory.join("bailiwick");
    if let Some(cargo) = std::env::var_os("CARGO") {
        build(Path::new(&cargo), directory);
    }
    assert!(binary.is_file(), "{} is missing; run: cargo build -p bailiwick", binary.display());
    binary
}

fn build(cargo: &Path, directory: &Path) {
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let target = directory.parent().expect("a profile's directory lies in target");
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "bailiwick", "--bin", "bailiwick", "--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
}
