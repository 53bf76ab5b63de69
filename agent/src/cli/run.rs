//! `bailiwick run`: guard the models and serve the proxy.

use super::ConfigPath;
use crate::app;
use crate::config::{self, HostFacts};
use crate::state::MaskKey;
use bailiwick_kernel::{Site, own_slice};
use std::panic::Location;
use std::process::ExitCode;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::prelude::*;

/// Arguments of `bailiwick run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigPath,
}

/// Runs until a signal. Exit 2: the config or the host cannot be used and nothing was changed; 1: it failed
/// later (the guard stays).
pub(super) fn run(args: &RunArgs) -> ExitCode {
    log_to_stderr();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{}", where_it_was(panic.location()))));

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
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Our own events only, whatever level is asked for: those of the libraries may quote requests (HTTP/2's, for one, the path).
fn log_to_stderr() {
    let level = EnvFilter::try_from_env("BAILIWICK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // journald stamps each line itself.
        .without_time()
        .with_ansi(false)
        .with_filter(filter_fn(|event| is_ours(event.target())));
    tracing_subscriber::registry().with(level).with(lines).init();
}

fn is_ours(target: &str) -> bool {
    target.split("::").next().is_some_and(|room| room == "bailiwick" || room.starts_with("bailiwick_"))
}

/// A panic's message may quote what it stumbled over, so only the place is told.
fn where_it_was(place: Option<&Location<'_>>) -> String {
    let place = place.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    format!("a defect of the agent at {place}: please report it; what it was about is not shown")
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_events_are_logged() {
        for (target, ours) in [
            ("bailiwick", true),
            ("bailiwick::proxy::handler", true),
            ("bailiwick_audit::health", true),
            ("h2::server", false),
            ("hyper_util::client", false),
            ("bailiwickish", false),
            ("", false),
        ] {
            assert_eq!(is_ours(target), ours, "{target}");
        }
    }
}
