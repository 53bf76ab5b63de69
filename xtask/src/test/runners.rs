//! The test programs, as cargo tells of them while it builds them.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::house;
use crate::process::{Step, how};
use crate::stop::Stop;

/// One test program: the unit tests of a crate, or one integration test.
#[derive(Debug)]
pub(super) struct Runner {
    /// the cargo package it tests
    pub(super) package: String,
    target: String,
    directory: PathBuf,
    executable: PathBuf,
}

impl Runner {
    /// Package and target, as in `bailiwick-tests::e2e`.
    pub(super) fn name(&self) -> String {
        format!("{}::{}", self.package, self.target)
    }

    /// How cargo itself would run it: in the package's directory, knowing the package.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.directory);
        command.env("CARGO_MANIFEST_DIR", &self.directory).env("CARGO_PKG_NAME", &self.package);
        command
    }
}

/// Builds all test programs; in the order of their names, so that two runs read alike.
pub(super) fn build() -> Result<Vec<Runner>, Stop> {
    let step = "building the tests";
    println!("==> {step}");
    let mut command = house::cargo();
    command.args(["test", "--quiet", "--workspace", "--exclude", "bailiwick-ebpf", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    let mut runners = Vec::new();
    let mut unreadable = None;
    let ended = Step::new(step).unshown().run_with(command, |line| match serde_json::from_str(line) {
        Ok(message) => runners.extend(Runner::from_message(message)),
        Err(error) => unreadable = Some(error.to_string()),
    })?;
    if !ended.status.success() {
        return Err(Stop::Step { step: step.to_owned(), how: how(ended.status) });
    }
    if let Some(reason) = unreadable {
        return Err(Stop::Output { step: step.to_owned(), reason });
    }
    if runners.is_empty() {
        return Err(Stop::Output { step: step.to_owned(), reason: "no test program named".to_owned() });
    }
    runners.sort_by_key(Runner::name);
    Ok(runners)
}

/// The part that we need of cargo's `compiler-artifact` message (the Cargo book, "External tools").
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

impl Runner {
    fn from_message(message: Message) -> Option<Self> {
        if message.reason != "compiler-artifact" || !message.profile?.test {
            return None;
        }
        let directory = message.manifest_path?.parent()?.to_owned();
        let target = message.target?;
        let integration = target.kind.iter().any(|kind| kind == "test");
        Some(Self {
            package: package_name(&directory)?,
            target: if integration { target.name } else { format!("{} (unit tests)", target.kind.join("+")) },
            directory,
            executable: message.executable?,
        })
    }
}

/// The name line of the manifest: cargo's package id has the name only where it differs from the directory's.
fn package_name(directory: &std::path::Path) -> Option<String> {
    let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).ok()?;
    manifest.lines().find_map(|line| {
        let value = line.strip_prefix("name")?.trim_start().strip_prefix('=')?;
        Some(value.trim().trim_matches('"').to_owned())
    })
}
