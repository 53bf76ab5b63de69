//! # The command line: one file a command
//!
//! `main` reads the arguments and hands over to one command. Commands print for people by default and one
//! JSON value with `--json`. Exit codes: 0 it is so, 1 it is not so (tampered, not guarded, failed while
//! running), 2 the input cannot be used (arguments, config), and nothing was changed.

mod audit;
mod check;
mod release;
mod run;
mod selftest;
mod status;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps a self-hosted AI model's data inside its jurisdiction, and proves it.
#[derive(Debug, Parser)]
#[command(name = "bailiwick", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Guard the models and serve the proxy; what the systemd service runs.
    Run(run::RunArgs),
    /// Report every error of a config at once.
    Check(check::CheckArgs),
    /// Say what is guarded, read from the kernel at this moment.
    Status(status::StatusArgs),
    /// Show and verify the audit trail.
    Audit(audit::AuditArgs),
    /// Try the harmless attacks on this very host.
    Selftest(selftest::SelftestArgs),
    /// Take the guard down; the only way to unguard a model.
    Release(release::ReleaseArgs),
}

/// Where the config is unless `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/bailiwick/bailiwick.toml";

/// The `--config` option, the same everywhere.
#[derive(Debug, clap::Args)]
struct ConfigPath {
    /// The config file.
    #[arg(long, default_value = DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,
}

/// Parses the arguments and runs one command.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Release(args) => release::run(&args),
    }
}
