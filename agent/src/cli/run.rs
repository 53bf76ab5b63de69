//! `bailiwick run`: guard the models and serve the proxy.

use super::{ConfigPath, log, need_root};
use crate::config::{self, HostFacts};
use crate::state::MaskKey;
use crate::{app, lock};
use bailiwick_kernel::{Site, own_slice};
use libsystemd::daemon::{NotifyState, notify};
use std::process::ExitCode;

/// Arguments of `bailiwick run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Write the log as JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

/// Runs until a signal. Exit 2: the config or the host cannot be used and nothing was changed; 1: it failed
/// later (the guard stays).
pub(super) fn run(args: &RunArgs) -> ExitCode {
    log::start(args.json);
    if let Err(error) = need_root() {
        return refuse(&error);
    }
    // The config first: whatever else is wrong with this host, its errors are all said, and nothing was changed.
    let slice = own_slice();
    let mask_key = match MaskKey::read_or_new() {
        Ok(key) => key,
        Err(error) => return refuse(&error),
    };
    let facts = match &slice {
        Ok(agent_cgroup) => HostFacts::of_this_host(agent_cgroup.clone(), *mask_key.bytes()),
        Err(_) => HostFacts::for_check(),
    };
    let settings = match config::load(&args.config.config, &facts) {
        Ok(settings) => settings,
        Err(errors) => return refuse(&errors),
    };
    let site = match Site::find() {
        Ok(site) => site,
        Err(error) => return refuse(&error),
    };
    // Before anything else is changed: there is one agent a host.
    let _only_one = match lock::take(&site) {
        Ok(lock) => lock,
        Err(error) => return refuse(&error),
    };
    if let Err(error) = slice {
        return refuse(&error);
    }
    if let Err(error) = mask_key.keep() {
        return refuse(&error);
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }

    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error),
    };
    match runtime.block_on(app::run(settings, &site)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_why(&error);
            ExitCode::FAILURE
        }
    }
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    say_why(error);
    ExitCode::from(2)
}

/// To the log, and to the "Status:" line of `systemctl status`, which outlives the process.
fn say_why(error: &dyn std::fmt::Display) {
    tracing::error!("{error}");
    let line = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
    // Not under systemd there is nobody to tell.
    let _ = notify(false, &[NotifyState::Status(format!("not running: {line}"))]);
}
