//! `bailiwick run`: guard the models and serve the proxy.

use super::{ConfigPath, log, need_root};
use crate::config::settings::Settings;
use crate::config::{self, AGENT_SLICE, HostFacts};
use crate::preflight::{self, Grade};
use crate::state::MaskKey;
use crate::{app, lock};
use bailiwick_audit::Bell;
use bailiwick_kernel::{Site, own_slice};
use libsystemd::daemon::{NotifyState, notify};
use std::path::Path;
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
    let mask_key = match MaskKey::read_or_new() {
        Ok(key) => key,
        Err(error) => return refuse(&error),
    };
    let facts = HostFacts::of_this_host(*mask_key.bytes());
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
    if let Err(error) = in_the_agents_slice() {
        return refuse(&error);
    }
    if let Err(error) = host_holds(&settings) {
        return refuse(&error);
    }
    if let Err(error) = mask_key.keep() {
        return refuse(&error);
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }

    let bell = Bell::default();
    let ring = bell.clone();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.enable_all().on_thread_park(move || ring.ring()).build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error),
    };
    let path = args.config.config.clone();
    let load = Box::new(move || config::load(&path, &facts));
    match runtime.block_on(app::run(settings, &site, load, bell)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_why(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says what the models' units allow that no hook sees.
///
/// # Errors
/// When a model that is to be held could get past, and the config does not accept that.
fn host_holds(settings: &Settings) -> Result<(), String> {
    let findings = preflight::units(settings);
    let refusals: Vec<_> = preflight::refusals(&findings, settings).collect();
    for finding in &findings {
        let (what, found) = (&finding.what, &finding.found);
        let law = finding.law.unwrap_or_default();
        let cure = finding.cure.as_deref().unwrap_or_default();
        match finding.grade {
            Grade::Good | Grade::Note | Grade::Unsafe => {}
            Grade::Accepted => {
                tracing::warn!("{what}: {found}; this weakens law {law}, and the config accepts it")
            }
            Grade::Weak => tracing::error!("{what}: {found}; this weakens law {law}. Cure: {cure}"),
        }
    }
    let Some(first) = refusals.first() else { return Ok(()) };
    Err(format!(
        "{} ways past the guard are open; close them, or accept each by name: [host] accept = [\"{}\"]; see \
         `bailiwick check --host`",
        refusals.len(),
        first.what
    ))
}

/// The kernel tells the proxy from everybody else by its slice: nothing else may run there, a login session
/// least of all.
fn in_the_agents_slice() -> Result<(), String> {
    let slice = own_slice().map_err(|error| error.to_string())?;
    if slice == Path::new(AGENT_SLICE) {
        return Ok(());
    }
    Err(format!(
        "this process runs in {}, and whatever else runs there would pass for the proxy; start the service instead: \
         systemctl start bailiwick (its unit has Slice=bailiwick-agent.slice)",
        slice.display()
    ))
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
