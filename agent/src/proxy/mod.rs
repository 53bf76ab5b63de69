//! # Proxy: the only way in to a model, and the story of a request
//!
//! ```text
//!   listener.rs  accept → TLS (tls.rs) → HTTP/1.1 or HTTP/2, as ALPN agreed
//!   handler.rs   the story, in one function:
//!                  route.rs      which model, which endpoint        → Route
//!                  identity      who is calling                     → Principal
//!                  policy        may they, from there               → Permit
//!                  quota.rs      is there any left for them         → Share      (meter.rs counts what it costs)
//!                  body.rs       the body, bounded, then protocol's strip and mask
//!                  pool.rs       which server, by health.rs         → Dialled    (a connection, and nothing sent)
//!                    upstream.rs     one server of the model
//!                    line.rs         a connection to it, kept for the same caller for a moment
//!                    impostor.rs     a model on a port: first, whose socket took the connection
//!                    unix_socket.rs  a model on a Unix socket: first, whose it is
//!                  ledger.rs     durably recorded, whose it is      → Admitted   (takes the Permit)
//!                  upstream.rs   forwarded                          (demands an Admitted, takes the Dialled)
//!                  relay.rs      the answer, masked as it streams   → Ending     (all but the last byte)
//!                  ledger.rs     the outcome, durably recorded      → Settled    (takes the Admitted)
//!                  reply.rs      the last byte                      (demands a Settled)
//!   flood.rs     refusals of strangers beyond a rate are counted, not recorded one by one
//!   error.rs     every refusal → one status, one code, one message
//! ```
//!
//! ## What holds
//! - **The order is in the types.** `Dialled::forward` wants an `Admitted`, which only a durable `admit`
//!   record gives and only for a `Permit`, which only the policy makes. `Reply::end` wants a `Settled`, which only
//!   a durable `outcome` record gives. `Reply::refuse` wants a `Recorded`, from a durable `denied` record
//!   (or, in a flood of strangers, from a count that is recorded within a second).
//! - **If the trail cannot be written, nothing is forwarded** (503 `audit-unavailable`); if the outcome cannot be
//!   written, the answer's last byte is never sent, nor an event stream's `[DONE]`: the connection or stream is cut.
//! - **No byte passes unseen.** The body is read whole, bounded, and rewritten by `protocol`; the answer goes
//!   through `protocol::Answer`. Encoded bodies are refused both ways. An unknown path, method or content type is refused.
//! - **The model never learns who calls**: its request is built anew from a short list of headers, with the model's
//!   own credential. **The caller never learns what answers**: so is the answer. No header is copied in bulk.
//! - **Who leaves, cancels.** A request runs in a task of its own that watches its caller; when the caller is gone
//!   the connection to the model is closed at once, before the first token too, and the outcome is recorded as `cancelled`.
//! - **Everything is bounded**: connections, streams, headers, bodies one by one and together, the records that
//!   strangers can cause, the time a silent peer is waited for. Times
//!   are idle times, never the length of a request: a model may think and speak for an hour. Back-pressure
//!   reaches from the caller to the model: one piece is in flight between them, and no queue grows.
//! - **A reload bends nothing under way.** `policy.rs` is one value that a request takes when it begins and keeps to its end;
//!   where the new one says so, a caller whom it no longer admits is cut (removal.rs), and told why. TLS is part of it (tls.rs):
//!   certificates and revocation lists are read anew, and connections that are open are held against them.
//! - A caller's address is its socket's. No header is believed about it.
//!
//! ## What it does not do
//! It does not retry, cache or follow redirects: what was sent to one server of a model is never sent to another. Nor does it
//! balance beyond this host. It shares no connection to a model between callers: a request never rides on one whose state
//! another caller left (line.rs), and closing it is cancelling. It does not move its listener: a restart does (units restart
//! fast, the guard stays shut meanwhile). A request that is not HTTP at all is answered by the HTTP library with a bare 400; it
//! is recorded all the same.

mod authorization;
mod body;
mod error;
mod flood;
mod handler;
mod headers;
mod health;
mod impostor;
mod ledger;
mod limits;
mod line;
mod listener;
mod meter;
mod policy;
mod pool;
mod quota;
mod relay;
mod removal;
mod reply;
mod request_id;
mod route;
mod tls;
mod unix_socket;
mod unreadable;
mod upstream;

pub use impostor::{Proof, Witness};
pub use limits::Limits;
pub use policy::Policy;
pub use pool::UpstreamHealth;
pub use upstream::Heard;

use crate::config::settings::Settings;
use crate::identity::Timing;
use bailiwick_audit::Log;
use bailiwick_policy::{Name, Operation};
use http::{Method, Uri};
use ledger::Ledger;
use quota::Quotas;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Everything that requests share.
struct Proxy {
    policy: watch::Receiver<Arc<Policy>>,
    limits: Limits,
    ledger: Ledger,
    /// What callers have used; no reload forgets it.
    quotas: Arc<Quotas>,
    /// For request bodies.
    room: Arc<Semaphore>,
    /// Bytes of it: no reload makes it larger.
    room_bytes: u64,
}

impl Proxy {
    /// The policy that a request which begins now is judged by.
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }
}

/// Why a path leads nowhere, as a caller is told.
#[derive(Clone, Debug)]
pub struct RouteRefusal {
    /// The status.
    pub status: u16,
    /// Kebab-case.
    pub code: &'static str,
    /// In words.
    pub message: String,
}

/// Which model and operation a method and path lead to.
///
/// # Errors
/// [`RouteRefusal`]
pub fn route(settings: &Settings, method: &Method, uri: &Uri) -> Result<(Name, Operation), RouteRefusal> {
    let found = route::find(settings, method, uri).map_err(|error| {
        let said = error::Refusal::from(error).say();
        RouteRefusal { status: said.status.as_u16(), code: said.code, message: said.message }
    })?;
    Ok((found.model.name.clone(), found.endpoint.operation))
}

/// Binds the listener (errors here stop the start), then serves until `stop` becomes true, then drains (bounded).
/// `ready` is told the address once connections are accepted. There is no guard here, and so no [`Witness`]: whoever listens
/// on a model's port is taken for the model.
///
/// # Errors
/// when it cannot bind, or TLS files or a model's credential cannot be read; the message names the file and the cure
pub async fn serve(
    settings: Arc<Settings>,
    log: Log,
    ready: oneshot::Sender<SocketAddr>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    serve_within(settings, log, Limits::default(), Timing::default(), None, ready, stop).await
}

/// As [`serve`], within other bounds than the default ones, and with a witness of whose socket takes a connection.
///
/// # Errors
/// as [`serve`]
pub async fn serve_within(
    settings: Arc<Settings>,
    log: Log,
    limits: Limits,
    timing: Timing,
    witness: Option<Arc<dyn Witness>>,
    ready: oneshot::Sender<SocketAddr>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let (_never_changed, policy) = watch::channel(Arc::new(Policy::new(settings, timing, witness)?));
    serve_current(policy, log, limits, ready, stop).await
}

/// As [`serve`], with a policy that may be exchanged: a request is judged, to its end, by the one that is current when it
/// begins. Listener and trail stay those of the first.
///
/// # Errors
/// as [`serve`]
pub async fn serve_current(
    policy: watch::Receiver<Arc<Policy>>,
    log: Log,
    limits: Limits,
    ready: oneshot::Sender<SocketAddr>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let settings = Arc::clone(policy.borrow().settings());
    let listener = TcpListener::bind(settings.proxy.listen).await.map_err(|error| {
        let at = settings.proxy.listen;
        let cure = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another service has the port (ss -ltnp shows which): stop it, or change"
            }
            io::ErrorKind::AddrNotAvailable => {
                "no interface has that address: use one of this host's, or [::], in"
            }
            _ => "see",
        };
        io::Error::new(error.kind(), format!("cannot listen on {at}: {error}; {cure} [proxy] listen"))
    })?;
    let room_bytes = limits.bodies.max(settings.proxy.max_body);
    let room = body::room(room_bytes);
    let ledger = Ledger::new(log, &limits, Arc::clone(&policy.borrow().metrics));
    let proxy = Arc::new(Proxy { policy, limits, ledger, quotas: Arc::default(), room, room_bytes });

    proxy.policy().authenticator.warm_up();
    // Whoever asked for the start may be gone already; serving goes on until `stop` says otherwise.
    let _unheard = ready.send(listener.local_addr()?);
    let (running, mut all_told) = mpsc::channel(1);
    tokio::select! {
        () = listener::accept_until_stopped(listener, &proxy, &running, stop) => {}
        () = proxy.ledger.keep_count() => {}
        () = keep_checking(proxy.policy.clone(), limits) => {}
    }

    // No connection is left, so every story that is still told has lost its caller and is about to record that.
    drop(running);
    if tokio::time::timeout(limits.last_words, all_told.recv()).await.is_err() {
        tracing::warn!("some requests had not recorded their outcome when the proxy stopped");
    }
    // If this fails it was said, and there is nobody left to refuse.
    let _unwritten = proxy.ledger.record_counted().await;
    Ok(())
}

/// Checks the servers of every model whose config asks for that, by the policy that is current; for ever.
async fn keep_checking(mut policy: watch::Receiver<Arc<Policy>>, limits: Limits) {
    loop {
        let current = Arc::clone(&policy.borrow_and_update());
        let mut checking = tokio::task::JoinSet::new();
        let names: Vec<Name> = current.upstreams.keys().cloned().collect();
        for name in names {
            let current = Arc::clone(&current);
            checking.spawn(async move {
                if let Some(pool) = current.upstreams.get(&name) {
                    pool.check(&limits).await;
                }
            });
        }
        if policy.changed().await.is_err() {
            // No other policy will come: this one's checks go on.
            while checking.join_next().await.is_some() {}
            std::future::pending::<()>().await;
        }
    }
}
