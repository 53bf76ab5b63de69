//! # The app: the only place that puts the parts together
//!
//! ```text
//!   Settings ─┬─▶ kernel::Guard   attach, apply one generation                        (law 1)
//!             ├─▶ audit::Log      what is not recorded does not happen                (law 4)
//!             ├─▶ watch           kernel truth every second; repairs, alerts, records; follows the slices
//!             ├─▶ egress::report  kernel events → journal, trail and register
//!             ├─▶ freshness       datasets that are too old → journal and trail
//!             ├─▶ control         what root hands over for the trail and asks about the servers, at a Unix socket
//!             ├─▶ preflight       what the servers' own settings leave open, once each → the log
//!             ├─▶ traces          one span a request, where the config says so
//!             ├─▶ metrics         health, readiness and numbers, where the config says so
//!             └─▶ proxy::serve    the only way in
//! ```
//!
//! SIGHUP exchanges the policy in the kernel and in the proxy, all of it or nothing ([`crate::reload`]).
//!
//! Order matters, and it is the order in which a failure is safest: the guard stands before anything else is
//! tried, so that an agent that fails later leaves closed doors behind; the trail opens before the proxy
//! listens; systemd hears `READY=1` only when all of it stands. Stopping takes the same way back, except that
//! the guard stays: its links are pinned, and only `bailiwick release` takes them away.

use crate::cli::RELOAD_REFUSED;
use crate::config::settings::Settings;
use crate::control::{self as handing_over, Asking, Control, Known};
use crate::egress::register::{self, Bounds, RegisterError, Store};
use crate::identity::Timing;
use crate::metrics::{Listener, Metrics, Sources};
use crate::preflight;
use crate::proxy::{Limits, Policy, Proof, UpstreamHealth, Witness};
use crate::reload::{Load, Reload};
use crate::watch::{self as watching, Watch};
use crate::{egress, freshness, proxy, traces};
use bailiwick_audit::{AuditError, Bell, Log, LogSettings, Record};
use bailiwick_kernel::{Guard, KernelError, Site, Slices};
use libsystemd::daemon::{NotifyState, notify};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

/// For the last traces when the agent stops.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Why the agent stopped, or could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The guard could not be put up, or its events could not be read.
    #[error("the kernel guard: {0}")]
    Kernel(#[from] KernelError),
    /// The trail could not be opened or written; without it nothing is served.
    #[error("the audit trail: {0}")]
    Audit(#[from] AuditError),
    /// The register of flows could not be opened.
    #[error("{0}; it holds no evidence that the audit trail does not: to begin another, move it away")]
    Register(#[from] RegisterError),
    /// The proxy could not listen or read its TLS files.
    #[error("the proxy: {0}")]
    Proxy(#[source] std::io::Error),
    /// The metrics' listener could not listen.
    #[error("the metrics: {0}")]
    Metrics(#[source] std::io::Error),
    /// The process could not be prepared.
    #[error("{0}: {1}")]
    Process(&'static str, #[source] std::io::Error),
}

/// Guards and serves until SIGTERM or SIGINT; the whole life of `bailiwick run`. The runtime rings `bell` when it is idle.
///
/// # Errors
/// [`AppError`]; the guard stays in force in every case.
pub async fn run(settings: Settings, site: &Site, load: Load, bell: Bell) -> Result<(), AppError> {
    // Before anything else: a signal that nobody listens for would end the process.
    let mut hangup = listen_for(SignalKind::hangup())?;
    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    // Prompts and the model's credential pass through this memory: no core dump, no ptrace by the same uid.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| AppError::Process("cannot forbid core dumps of the agent", errno.into()))?;
    let settings = Arc::new(settings);

    let unwatched = watching::before_start(site, &settings.kernel, &settings.audit.directory);
    let mut guard = Guard::attach(site)?;
    let generation = guard.apply(&settings.kernel)?;
    let (events, flows) = (guard.events()?, guard.flows()?);
    tracing::info!(generation, scopes = settings.kernel.scopes.len(), "the guard stands");

    let trail =
        LogSettings { directory: settings.audit.directory.clone(), origin: settings.audit.origin.clone() };
    let log = Log::open_with(trail, bell)?;
    log.append(control("start", [("version", env!("CARGO_PKG_VERSION")), ("policy", &settings.id)])).await?;
    if let Some(unwatched) = unwatched {
        log.append(unwatched.record()).await?;
    }
    let (number, datasets) = (generation.to_string(), settings.datasets.provenance());
    let mut attached = vec![("generation", number.as_str()), ("policy", &settings.id)];
    if !datasets.is_empty() {
        attached.push(("datasets", &datasets));
    }
    log.append(control("guard-attached", attached)).await?;

    let register = match open_register(&log).await {
        Ok(register) => register,
        Err(error) => return Err(give_up(&log, error).await?),
    };

    let (stop, stopping) = watch::channel(false);
    let (leave, leaving) = watch::channel(false);
    let (orders, ordered) = mpsc::channel(1);
    let (ready, listening) = oneshot::channel();
    let witness: Arc<dyn Witness> = Arc::new(Slices::new(site));
    let policy = match Policy::new(Arc::clone(&settings), Timing::default(), Some(witness)) {
        Ok(policy) => policy,
        Err(error) => return Err(give_up(&log, AppError::Proxy(error)).await?),
    };
    let metrics = Arc::new(Metrics::default());
    let (tracer, tracing) =
        settings.traces.as_ref().map(|to| traces::start(to, host_of(&settings), &metrics)).unzip();
    let policy = policy.counted_by(Arc::clone(&metrics)).traced_by(tracer);
    let (policy, current) = watch::channel(Arc::new(policy));
    let (sender, named) = watch::channel(Arc::clone(&settings));
    let mut reporting = tokio::spawn(egress::report(named, log.clone(), events, flows, register, leaving));
    let fresh = tokio::spawn(freshness::watch(sender.subscribe(), log.clone()));
    let telling = match tell(&settings, &metrics, current.clone(), &log, stopping.clone()) {
        Ok(telling) => telling,
        Err(error) => return Err(give_up(&log, AppError::Metrics(error)).await?),
    };
    let mut following = tokio::spawn(Watch::new(guard, log.clone(), Arc::clone(&metrics)).run(ordered));
    let listening_for_root = hand_overs(&log, current.clone());
    let warning = tokio::spawn(preflight::warn_once(current.clone(), site.cgroup_root.clone()));
    let serving = proxy::serve_current(current, log.clone(), Limits::default(), ready, stopping);
    let mut serving = tokio::spawn(serving);
    let reload = Reload { load, policy, settings: sender, orders, log: log.clone() };
    let started = settings.id.clone();
    tokio::spawn(async move {
        if let Ok(address) = listening.await {
            tracing::info!(%address, "the proxy listens");
            say_to_systemd(&[
                NotifyState::Ready,
                NotifyState::Status(format!("guarding and serving; policy {started}")),
            ]);
        }
    });

    let mut reloads = 0_u64;
    let ended = loop {
        break tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            _ = hangup.recv() => {
                reloads += 1;
                reload_once(&reload, reloads).await;
                continue;
            }
            result = &mut serving => flatten(result, "the proxy ended").and_then(|ended| ended.map_err(AppError::Proxy)),
            result = &mut reporting => flatten(result, "the event reader ended").and_then(|ended| Ok(ended?)),
            result = &mut following => flatten(result, "the watch ended"),
        };
    };

    say_to_systemd(&[NotifyState::Stopping]);
    // A receiver that is gone is a proxy that has ended already.
    let _ = stop.send(true);
    if !serving.is_finished() && (&mut serving).await.is_err() {
        tracing::error!("the proxy did not drain cleanly");
    }
    fresh.abort();
    warning.abort();
    // Last, since what is refused meanwhile is told, too.
    let _ = leave.send(true);
    if !reporting.is_finished() && (&mut reporting).await.is_err() {
        tracing::error!("what was refused last may be in the kernel's counters only");
    }
    following.abort();
    for task in [listening_for_root, telling].into_iter().flatten() {
        task.abort();
        let _cancelled = task.await;
    }
    // Nobody is left who has spans to hand over: those that wait go out.
    drop(reload);
    if let Some(task) = tracing
        && tokio::time::timeout(LAST_SPANS, task).await.is_err()
    {
        tracing::warn!("the last traces were dropped: the collector does not take them");
    }
    log.append(control("stop", [("reason", if ended.is_ok() { "signal" } else { "failure" })])).await?;
    log.close().await?;
    ended
}

/// The host's name in the trail's origin.
fn host_of(settings: &Settings) -> &str {
    let origin = settings.audit.origin.as_str();
    origin.strip_prefix("bailiwick/").unwrap_or(origin)
}

/// Serves the control socket. It guards nothing: an agent without it says so and goes on.
fn hand_overs(log: &Log, policy: watch::Receiver<Arc<Policy>>) -> Option<tokio::task::JoinHandle<()>> {
    let place = handing_over::place();
    match Control::bind(&place) {
        Ok(control) => Some(tokio::spawn(control.serve(log.clone(), Arc::new(Servers(policy))))),
        Err(error) => {
            let place = place.display();
            tracing::warn!(%error, "no control socket at {place}: `bailiwick selftest` cannot record its result while this agent runs");
            None
        }
    }
}

/// The servers of the policy in force.
struct Servers(watch::Receiver<Arc<Policy>>);

impl Known for Servers {
    fn upstreams(&self) -> Vec<UpstreamHealth> {
        self.0.borrow().upstream_health()
    }

    fn settings(&self) -> Asking {
        let policy = Arc::clone(&self.0.borrow());
        Box::pin(preflight::ask_all(policy))
    }
}

/// Serves health and metrics where the config says so. It lives until all requests are drained, so that it can say so.
fn tell(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    policy: watch::Receiver<Arc<Policy>>,
    log: &Log,
    stopping: watch::Receiver<bool>,
) -> std::io::Result<Option<tokio::task::JoinHandle<()>>> {
    let Some(at) = &settings.metrics else { return Ok(None) };
    let sources = Sources { policy, log: log.clone(), stopping };
    let listener = Listener::bind(at, Arc::clone(metrics), sources)?;
    Ok(Some(tokio::spawn(listener.serve())))
}

/// A start that failed is on record; the error again.
async fn give_up(log: &Log, error: AppError) -> Result<AppError, AuditError> {
    log.append(control("stop", [("reason", "failure")])).await?;
    log.close().await?;
    Ok(error)
}

/// The register, or another one when it is damaged, on record.
async fn open_register(log: &Log) -> Result<Store, AppError> {
    let (store, aside) = Store::open_or_begin_anew(&register::path(), Bounds::OURS)?;
    if let Some(aside) = aside {
        let aside = aside.display().to_string();
        tracing::error!("the register of flows was damaged; it lies at {aside} now, and a new one begins");
        log.append(control("register-damaged", [("aside", aside.as_str())])).await?;
    }
    Ok(store)
}

/// The kernel is the witness of whose socket takes a connection.
impl Witness for Slices {
    fn prove<'a>(&'a self, local: SocketAddr, peer: SocketAddr, slice: &'a Path) -> Proof<'a> {
        Box::pin(Self::prove(self, local, peer, slice))
    }
}

/// Reloads, and says to systemd and in the journal what became of it. The text differs each time: `bailiwick reload` waits
/// for another one.
async fn reload_once(reload: &Reload, count: u64) {
    say_to_systemd(&[NotifyState::Reloading]);
    let text = match reload.reload().await {
        Ok(id) => format!("guarding and serving; policy {id}, reload {count}"),
        Err(error) => {
            tracing::error!("{error}");
            tracing::error!("the reload was refused and changed nothing; the policy before stays in force");
            let id = reload.settings.borrow().id.clone();
            format!("guarding and serving; policy {id}, reload {count} {RELOAD_REFUSED}, see the journal")
        }
    };
    say_to_systemd(&[NotifyState::Ready, NotifyState::Status(text)]);
}

/// A control record with its details.
pub(crate) fn control<'a>(event: &str, detail: impl IntoIterator<Item = (&'a str, &'a str)>) -> Record {
    let detail: BTreeMap<String, String> =
        detail.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Record::Control { event: event.to_owned(), detail }
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
