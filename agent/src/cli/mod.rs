//! # The command line: one file a command
//!
//! `main` reads the arguments and hands over to one command. Commands print for people by default and one
//! JSON value with `--json`. Exit codes: 0 it is so, 1 it is not so (tampered, not guarded, failed while
//! running), 2 the input cannot be used (arguments, config), and nothing was changed.

mod alerts;
mod audit;
mod check;
mod egress;
mod explain;
mod host;
mod log;
mod regions;
mod release;
mod reload;
mod run;
mod selftest;
mod since;
mod status;
mod suggest;
mod text;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps a self-hosted AI model's data inside its jurisdiction, and proves it.
#[derive(Debug, Parser)]
#[command(name = "bailiwick", version, about, after_help = EXIT_CODES)]
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
    /// Show the alerts: who tried what, and what to do about it.
    Alerts(alerts::AlertsArgs),
    /// Who went where, how often and how much, by region; live, too.
    Egress(egress::EgressArgs),
    /// Propose the narrowest policy that would allow what was refused, each line with its evidence. Changes nothing.
    Suggest(suggest::SuggestArgs),
    /// Show and verify the audit trail.
    Audit(audit::AuditArgs),
    /// The datasets that say in which country an address is: import, list, look up, compare, freshness.
    Regions(regions::RegionsArgs),
    /// Let the running agent take the config as it is now; streams go on.
    Reload(reload::ReloadArgs),
    /// Try the harmless attacks on this very host.
    Selftest(selftest::SelftestArgs),
    /// Take the guard down, on record; the agent must be stopped.
    Release(release::ReleaseArgs),
}

/// Said at the end of every help text.
const EXIT_CODES: &str = "Exit codes: 0 it is so; 1 it is not so (not guarded, tampered, failed while running); \
    2 the input or the host cannot be used, and nothing was changed.\n\
    Config: /etc/bailiwick/bailiwick.toml. Alerts: bailiwick alerts, or journalctl -t bailiwick -x. Log: journalctl -u bailiwick.";

/// What the agent tells systemd when it stays on the policy before.
pub(crate) const RELOAD_REFUSED: &str = "refused";

/// Where the config is unless `--config` says otherwise.
const DEFAULT_CONFIG: &str = "/etc/bailiwick/bailiwick.toml";

/// The `--config` option, the same everywhere.
#[derive(Debug, clap::Args)]
struct ConfigPath {
    /// The config file.
    #[arg(long, default_value = DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,
}

/// Reading pins and changing the guard is root's; said before anything else is tried.
fn need_root() -> Result<(), &'static str> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err("this needs root, since only root may look at what the kernel holds; run it with sudo")
    }
}

/// Parses the arguments and runs one command.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Alerts(args) => alerts::run(&args),
        Command::Egress(args) => egress::run(&args),
        Command::Suggest(args) => suggest::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Regions(args) => regions::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Release(args) => release::run(&args),
    }
}
