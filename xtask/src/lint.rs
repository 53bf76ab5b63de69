//! `lint`: format, clippy, licences, duplicates, sources, advisories. Installs nothing; a tool that is missing is a
//! failure that says how to get it, and what could not be checked is said to be unchecked.

use std::process::Command;
use std::time::Duration;

use crate::process::{Step, answer};
use crate::stop::Stop;
use crate::{Outcome, fuzz, house};

/// The version that `deny.toml` is written for.
const DENY_VERSION: &str = "0.20.2";

/// Nothing to choose.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command: all of the checks, then one verdict.
pub(crate) fn run(_arguments: &Arguments) -> Outcome {
    let mut wrong = Vec::new();
    for stop in [format(), clippy(), fuzz_targets(), dependencies()].into_iter().filter_map(Result::err) {
        println!("    {stop}");
        wrong.push(stop);
    }
    match wrong.pop() {
        None => {
            println!("lint: clean");
            Ok(())
        }
        Some(last) => Err(last),
    }
}

/// rustfmt, for every package.
pub(crate) fn format() -> Outcome {
    println!("==> format");
    let mut check = house::cargo();
    check.args(["fmt", "--all", "--", "--check"]);
    Step::new("cargo fmt --check").run(check).map(|_| ())
}

/// clippy, warnings as errors, for all targets of the host's packages (the eBPF programs are for another target).
pub(crate) fn clippy() -> Outcome {
    println!("==> clippy");
    let mut check = house::cargo();
    check.args(["clippy", "--quiet", "--workspace", "--exclude", "bailiwick-ebpf", "--all-targets"]);
    check.args(["--", "--deny", "warnings"]);
    Step::new("cargo clippy").run(check).map(|_| ())
}

/// clippy for the fuzz targets: they are no part of the workspace and have a lock file of their own, so that nothing else
/// would notice that they no longer build.
pub(crate) fn fuzz_targets() -> Outcome {
    println!("==> clippy, fuzz targets");
    Step::new("cargo clippy of the fuzz targets").run(fuzz::clippy()?).map(|_| ())
}

fn dependencies() -> Outcome {
    println!("==> dependencies");
    if answer(house::cargo().args(["deny", "--version"])).is_none() {
        return Err(Stop::Missing(vec![format!(
            "cargo-deny: licences, bans, sources and advisories were NOT checked. Install it with\n\
             cargo install cargo-deny --version {DENY_VERSION} --locked"
        )]));
    }
    let mut check = deny(&["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    check.env("CARGO_TERM_COLOR", "never");
    Step::new("cargo deny check licenses bans sources").run(check)?;
    println!("==> advisories");
    // The database is a git repository: no network, no check, and that is said and not failed.
    if Step::new("cargo deny fetch").limit(Duration::from_secs(60)).run(deny(&["fetch", "db"])).is_err() {
        println!("    NOT CHECKED: the advisory database cannot be fetched from here");
        return Ok(());
    }
    Step::new("cargo deny check advisories").run(deny(&["check", "advisories"])).map(|_| ())
}

fn deny(arguments: &[&str]) -> Command {
    let mut command = house::cargo();
    command.args(["deny", "--log-level", "warn", "--all-features"]).args(arguments);
    command
}
