//! `test`: everything that must hold, in one command, with one line of numbers at the end.
//!
//! All test programs are built at once, then run one after the other by us rather than by `cargo test`, so that those
//! which share the kernel (cgroup root, namespaces, pins) run their tests one at a time and the others do not have
//! to. Every program runs even when an earlier one failed. A runner that dies before its result line counts as failed.

mod runners;

use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Step, how};
use crate::stop::Stop;
use crate::tally::Tally;
use crate::test::runners::Runner;
use crate::{Outcome, build, house, lint, preconditions, setup, tally};

/// Packages whose tests share the machine's kernel state.
const SERIAL: &[&str] = &["bailiwick-kernel", "bailiwick-tests"];
/// No single test program may take longer.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Nothing to choose: the tests are all of the tests.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Runs the command.
pub(crate) fn run(_arguments: &Arguments) -> Outcome {
    let began = Instant::now();
    preconditions::check()?;
    setup::ensure(true)?;
    build::programs(false)?;

    let mut total = Tally::default();
    let mut failed = Vec::new();
    for (name, check) in [
        ("format", lint::format as fn() -> Outcome),
        ("clippy", lint::clippy),
        ("clippy of the fuzz targets", lint::fuzz_targets),
    ] {
        if let Err(stop) = check() {
            interrupted(&stop)?;
            println!("    {stop}");
            total += Tally::broken();
            failed.push(name.to_owned());
        }
    }
    for runner in runners::build()? {
        let name = runner.name();
        let tally = runner_tally(&runner)?;
        if tally.failed > 0 {
            failed.push(format!("{name} ({} of {})", tally.failed, tally.passed + tally.failed));
        }
        total += tally;
    }
    let tally = documentation_tally()?;
    if tally.failed > 0 {
        failed.push("examples in the documentation".to_owned());
    }
    total += tally;

    println!("\n==> summary after {} s", began.elapsed().as_secs());
    for name in &failed {
        println!("    FAILED: {name}");
    }
    if total.ignored > 0 {
        println!("    {} ignored in the source", total.ignored);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 { Ok(()) } else { Err(Stop::Tests(total.failed)) }
}

fn runner_tally(runner: &Runner) -> Result<Tally, Stop> {
    let serial = SERIAL.contains(&runner.package.as_str());
    println!("==> {}{}", runner.name(), if serial { ", one test at a time" } else { "" });
    let mut command = runner.command();
    if serial {
        command.arg("--test-threads=1");
    }
    run_and_count(&runner.name(), command)
}

fn documentation_tally() -> Result<Tally, Stop> {
    println!("==> examples in the documentation");
    let mut command = house::cargo();
    command.args([
        "test",
        "--quiet",
        "--doc",
        "--workspace",
        "--exclude",
        "bailiwick-ebpf",
        "--no-fail-fast",
    ]);
    run_and_count("cargo test --doc", command)
}

fn run_and_count(name: &str, command: Command) -> Result<Tally, Stop> {
    let mut total = Tally::default();
    let (mut begun, mut results) = (0_usize, 0_usize);
    let ended = Step::new(name).limit(LIMIT).run_with(command, |line| {
        begun += usize::from(tally::begins(line));
        if let Some(tally) = Tally::read(line) {
            total += tally;
            results += 1;
        }
    });
    match ended {
        // A program without libtest's harness is one test, and its exit status is the result.
        Ok(ended) if begun == 0 && results == 0 && ended.status.success() => total += Tally::one(),
        Ok(ended) if begun == results && (ended.status.success() || total.failed > 0) => {}
        Ok(ended) => {
            println!("    {name} ended with {} before it had told all of its results", how(ended.status));
            total += Tally::broken();
        }
        Err(stop) => {
            interrupted(&stop)?;
            println!("    {stop}");
            total += Tally::broken();
        }
    }
    Ok(total)
}

/// An interruption ends everything; other reasons are counted.
fn interrupted(stop: &Stop) -> Outcome {
    if matches!(stop, Stop::Interrupted) { Err(Stop::Interrupted) } else { Ok(()) }
}
