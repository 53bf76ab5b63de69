//! # The app: the only place that puts the parts together
//!
//! ```text
//!   Settings ─┬─▶ kernel::Guard   attach, apply one generation, follow the slices     (law 1)
//!             ├─▶ audit::Log      what is not recorded does not happen                (law 4)
//!             ├─▶ egress::report  kernel events → journal and trail
//!             └─▶ proxy::serve    the only way in
//! ```
//!
//! Order matters, and it is the order in which a failure is safest: the guard stands before anything else is
//! tried, so that an agent that fails later leaves closed doors behind; the trail opens before the proxy
//! listens; systemd hears `READY=1` only when all of it stands. Stopping takes the same way back, except that
//! the guard stays: its links are pinned, and only `bailiwick release` takes them away.

use crate::config::settings::Settings;
use crate::{egress, proxy};
use bailiwick_audit::{AuditError, Log, LogSettings, Record};
use bailiwick_kernel::{Guard, KernelError, Site};
use libsystemd::daemon::{NotifyState, notify};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

/// How often the cgroup tree is compared with what the kernel was told.
const REFRESH: Duration = Duration::from_millis(200);

/// Why the agent stopped, or could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The guard could not be put up, or its events could not be read.
    #[error("the kernel guard: {0}")]
    Kernel(#[from] KernelError),
    /// The trail could not be opened or written; without it nothing is served.
    #[error("the audit trail: {0}")]
    Audit(#[from] AuditError),
    /// The proxy could not listen or read its TLS files.
    #[error("the proxy: {0}")]
    Proxy(#[source] std::io::Error),
    /// The process could not be prepared.
    #[error("{0}: {1}")]
    Process(&'static str, #[source] std::io::Error),
}

/// Guards and serves until SIGTERM or SIGINT; the whole life of `bailiwick run`.
///
/// # Errors
/// [`AppError`]; the guard stays in force in every case.
pub async fn run(settings: Settings, site: &Site) -> Result<(), AppError> {
    // Prompts and the model's credential pass through this memory: no core dump, no ptrace by the same uid.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| AppError::Process("cannot forbid core dumps of the agent", errno.into()))?;
    let settings = Arc::new(settings);

    let mut guard = Guard::attach(site)?;
    let generation = guard.apply(&settings.kernel)?;
    let events = guard.events()?;
    tracing::info!(generation, scopes = settings.kernel.scopes.len(), "the guard stands");

    let log = Log::open(LogSettings {
        directory: settings.audit.directory.clone(),
        origin: settings.audit.origin.clone(),
    })?;
    log.append(control("start", [("version", env!("CARGO_PKG_VERSION")), ("policy", &settings.id)])).await?;
    log.append(control(
        "guard-attached",
        [("generation", generation.to_string().as_str()), ("policy", &settings.id)],
    ))
    .await?;

    let (stop, stopping) = watch::channel(false);
    let (ready, listening) = oneshot::channel();
    let mut reporting = tokio::spawn(egress::report(Arc::clone(&settings), log.clone(), events));
    let mut following = tokio::spawn(follow_slices(guard, log.clone()));
    let mut serving = tokio::spawn(proxy::serve(Arc::clone(&settings), log.clone(), ready, stopping));
    tokio::spawn(async move {
        if let Ok(address) = listening.await {
            tracing::info!(%address, "the proxy listens");
            say_to_systemd(&[NotifyState::Ready, NotifyState::Status("guarding and serving".to_owned())]);
        }
    });

    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        result = &mut serving => flatten(result, "the proxy ended").and_then(|ended| ended.map_err(AppError::Proxy)),
        result = &mut reporting => flatten(result, "the event reader ended").and_then(|ended| Ok(ended?)),
        result = &mut following => flatten(result, "the slice watch ended").and_then(|ended| ended),
    };

    say_to_systemd(&[NotifyState::Stopping]);
    // A receiver that is gone is a proxy that has ended already.
    let _ = stop.send(true);
    if !serving.is_finished() && (&mut serving).await.is_err() {
        tracing::error!("the proxy did not drain cleanly");
    }
    reporting.abort();
    following.abort();
    log.append(control("stop", [("reason", if ended.is_ok() { "signal" } else { "failure" })])).await?;
    log.close().await?;
    ended
}

/// A control record with its details.
pub(crate) fn control<'a>(event: &str, detail: impl IntoIterator<Item = (&'a str, &'a str)>) -> Record {
    let detail: BTreeMap<String, String> =
        detail.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Record::Control { event: event.to_owned(), detail }
}

/// Tells the kernel where the slices are now; they come and go with `systemctl stop` and `start`.
async fn follow_slices(mut guard: Guard, log: Log) -> Result<(), AppError> {
    let mut tick = tokio::time::interval(REFRESH);
    loop {
        tick.tick().await;
        for scope in guard.refresh()? {
            tracing::info!(scope = %scope, "a slice appeared, moved or went away; the kernel was told");
            log.append(control("slice-changed", [("scope", scope.as_str())])).await?;
        }
    }
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, AppError> {
    signal(kind).map_err(|error| AppError::Process("cannot listen for signals", error))
}

fn flatten<T>(result: Result<T, tokio::task::JoinError>, what: &'static str) -> Result<T, AppError> {
    // A panic's message may quote what it stumbled over; where it was, the panic hook has told.
    result.map_err(|_| AppError::Process(what, std::io::Error::other("it stopped by a defect, see above")))
}

fn say_to_systemd(states: &[NotifyState]) {
    if let Err(error) = notify(false, states) {
        tracing::warn!(%error, "systemd was not told");
    }
}
