//! # xtask: how the project is set up, built, tried, tested and measured
//!
//! One command a verb, one file a command. A developer or a CI machine needs no other script:
//!
//! ```text
//! setup ─┬─► build ──► demo        the main job, played once
//!        ├─► install                a release build onto this host, or into a staging directory
//!        ├─► test                  everything that must hold
//!        ├─► lint                  what a reviewer should not have to say
//!        ├─► bench NAME            figures, kept with the machine they were taken on
//!        └─► fuzz TARGET           a parser, and whatever makes it take new turns
//! ```
//!
//! **Invariants.**
//! - xtask compiles on a machine without an eBPF toolchain: it never depends, even indirectly, on a crate whose build
//!   script needs one. That is why what it finds out about the toolchain comes from `bailiwick-ebpf-build` alone.
//! - Nothing is installed unannounced: [`setup`] lists first what is missing and what would bring it. The second
//!   time it finds nothing to do and says so in one line.
//! - No step is silent for long: output is shown indented, and a step that prints nothing has a heartbeat.
//! - A missing privilege, kernel feature or tool is a failure that names what is missing and the cure. Nothing is
//!   skipped quietly; what could not be checked is said to be unchecked.
//! - The numbers at the end of `test` are summed from what the test runners printed, never kept by hand.
//! - `lint` and `test` change nothing in the tree. `bench` writes one report under `tests/benches/results/`.
//!
//! **What it does not do.** It knows nothing of policies, packets or proxies: the story of the demo, the testbed and
//! the real counterparts live in `bailiwick-tests`; the load and its figures come from programs under `tests/`
//! and the examples of the rooms. It publishes nothing and has no privileges of its own: what needs root is run by
//! root, and otherwise printed as a command to run.

#![allow(clippy::print_stdout, reason = "a command-line program speaks on its standard output")]

mod bench;
mod build;
mod demo;
mod fuzz;
mod house;
mod install;
mod interrupt;
mod lint;
mod preconditions;
mod process;
mod setup;
mod stop;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::stop::Stop;

/// How to set up, build, demo, test, lint and bench Bailiwick.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find or install the eBPF toolchain and what the demo and the tests need.
    Setup(setup::Arguments),
    /// Build the agent (and with it the eBPF programs).
    Build(build::Arguments),
    /// Play the main job once, on this machine's kernel.
    Demo(demo::Arguments),
    /// Build the agent and install it on this host: binary, units, example config.
    Install(install::Arguments),
    /// Run all of the tests.
    Test(test::Arguments),
    /// Check format, lints, licences, duplicates and advisories. Installs nothing.
    Lint(lint::Arguments),
    /// Measure, print a table or JSON, keep the report.
    Bench(bench::Arguments),
    /// Feed a parser with what makes it take new turns, for as long as told.
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    interrupt::watch();
    let outcome = match Arguments::parse().command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Install(arguments) => install::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("\nerror: {stop}");
            ExitCode::FAILURE
        }
    }
}

/// What every command returns.
type Outcome = Result<(), Stop>;
