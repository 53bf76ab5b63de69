//! `bailiwick run`: guard the models and serve the proxy.

use super::ConfigPath;
use crate::app;
use crate::config::settings::Settings;
use crate::config::{self, HostFacts};
use crate::preflight::{self, Grade};
use crate::state::MaskKey;
use bailiwick_kernel::{Site, own_slice};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Arguments of `bailiwick run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigPath,
}

/// Runs until a signal. Exit 2: the config or the host cannot be used and nothing was changed; 1: it failed
/// later (the guard stays).
pub(super) fn run(args: &RunArgs) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_env("BAILIWICK_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        // journald stamps each line itself.
        .without_time()
        .with_ansi(false)
        .init();

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
    let site = match slice.and_then(|_| Site::find()) {
        Ok(site) => site,
        Err(error) => return refuse(&error),
    };
    if !host_holds(&settings) {
        return ExitCode::from(2);
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
    let path = args.config.config.clone();
    let load = Box::new(move || config::load(&path, &facts));
    match runtime.block_on(app::run(settings, &site, load)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what the models' units allow that no hook sees. False when a model that is to be held could get past, and the config
/// does not accept that.
fn host_holds(settings: &Settings) -> bool {
    let findings = preflight::units(settings);
    let refusals: Vec<_> = preflight::refusals(&findings, settings).collect();
    for finding in &findings {
        let (what, found) = (&finding.what, &finding.found);
        let law = finding.law.unwrap_or_default();
        let cure = finding.cure.as_deref().unwrap_or_default();
        match finding.grade {
            Grade::Good | Grade::Note => {}
            Grade::Accepted => {
                tracing::warn!("{what}: {found}; this weakens law {law}, and the config accepts it")
            }
            Grade::Weak => tracing::error!("{what}: {found}; this weakens law {law}. Cure: {cure}"),
        }
    }
    if let Some(first) = refusals.first() {
        let name = &first.what;
        tracing::error!(
            "not started: {} ways past the guard are open; close them, or accept each by name: [host] accept = [\"{name}\"]; \
             see `bailiwick check --host`",
            refusals.len()
        );
    }
    refusals.is_empty()
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::from(2)
}
