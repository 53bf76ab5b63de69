//! Connections: accepted, shaken hands with, served, and let go of in time.

use super::Proxy;
use super::handler::{self, Client};
use super::ledger::Seen;
use super::limits::Limits;
use super::line::Kept;
use super::reply;
use super::request_id::RequestId;
use super::tls::{ServerTls, Shown};
use super::unreadable::{self, Worded};
use bailiwick_audit::Pseudonym;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::ReusableBoxFuture;

/// A pause after an accept that failed for want of something (file descriptors): the listener is ready again at
/// once, and would otherwise be asked again at once.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);

/// Kept by every story that is told; when the last one is dropped, all are.
pub(super) type Running = mpsc::Sender<Infallible>;

/// Accepts until `stop` is true, then lets what is under way finish within the drain time, and cuts the rest.
pub(super) async fn accept_until_stopped(
    listener: TcpListener,
    proxy: &Arc<Proxy>,
    running: &Running,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(proxy.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let connection = Connection {
                    proxy: Arc::clone(proxy),
                    peer,
                    running: running.clone(),
                    in_use: Arc::default(),
                    kept: Arc::default(),
                    spare: Arc::default(),
                };
                let stop = stop.clone();
                connections.spawn(async move {
                    let _place = place;
                    connection.serve(socket, stop).await;
                });
            }
            Err(cause) => {
                tracing::warn!(%cause, "a connection could not be accepted");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            }
        }
    }
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(proxy.limits.drain, all_done).await.is_err() {
        tracing::warn!(left = connections.len(), "the drain time is over: what is still under way is cut");
        connections.shutdown().await;
    }
}

/// Resolves when `stop` is true, or nobody is left who could make it so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await;
}

/// One caller's connection.
struct Connection {
    proxy: Arc<Proxy>,
    peer: SocketAddr,
    running: Running,
    in_use: Arc<Use>,
    kept: Arc<Kept>,
    spare: Arc<Spare>,
}

impl Connection {
    async fn serve(self, socket: TcpStream, stop: watch::Receiver<bool>) {
        let proxy = Arc::clone(&self.proxy);
        let limits = &proxy.limits;
        // Answers are written in pieces as they come; a failure here costs latency, nothing else.
        let _slower = socket.set_nodelay(true);
        let tls = Arc::clone(&self.proxy.policy().tls);
        // Boxed, as what follows: a task is as long as the longest of what it may come to do.
        let handshake = Box::pin(tokio::time::timeout(limits.handshake, tls.acceptor().accept(socket)));
        let stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(cause)) => return tls.failed(&cause),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        };
        let Some(Shaken { io, certificate, http2 }) = shaken(stream, &tls) else {
            return tracing::debug!("a client certificate cannot be read");
        };
        let in_use = Arc::clone(&self.in_use);
        let id = RequestId::new();
        let client = self.peer.ip();
        let name = proxy.ledger.client(client);
        let service = service_fn(move |request| self.answer(request, certificate.clone(), name.clone()));
        let ended = if http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.streams)
                // Beyond what is accepted, so that such a head is refused in words (headers::fits); what is larger
                // still gets the library's bare 431.
                .max_header_list_size(4 * limits.header_bytes)
                .keep_alive_interval(limits.connection_idle / 4)
                .keep_alive_timeout(limits.connection_idle / 4)
                .serve_connection(io, service);
            drive(Box::pin(connection), &in_use, limits, stop).await
        } else {
            let io = Worded::new(io, id.clone());
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head)
                .max_headers(limits.headers)
                .max_header_size(limits.header_bytes as usize)
                .max_buf_size(2 * limits.header_bytes as usize)
                .serve_connection(io, service);
            drive(Box::pin(connection), &in_use, limits, stop).await
        };
        if let Err(cause) = ended {
            tracing::debug!(%cause, "a connection ended early");
            if let Some(id) = id.filter(|_| cause.is_parse()) {
                Box::pin(record_unreadable(&proxy, client, id, cause.is_parse_too_large())).await;
            }
        }
    }

    /// Has the story told in a task of its own, which outlives this connection: when the caller leaves, this
    /// future is dropped, the story sees that, stops the model and records the outcome.
    fn answer(
        &self,
        request: Request<Incoming>,
        certificate: Option<Arc<Shown>>,
        name: Pseudonym,
    ) -> impl Future<Output = Result<http::Response<reply::AnswerBody>, reply::Cut>> + use<> {
        let (reply, answer) = reply::pair(self.proxy.limits.caller_stall);
        let (proxy, address, kept) = (Arc::clone(&self.proxy), self.peer.ip(), Arc::clone(&self.kept));
        let (running, in_use) = (self.running.clone(), InUse::begin(&self.in_use));
        // Boxed, both: what is moved on as it is has its room in each task and function that it passes through.
        let request = Box::new(request);
        let mut story = self.spare.enter(async move {
            handler::serve(&proxy, Client { address, name, certificate, kept }, request, reply).await;
            drop((running, in_use));
        });
        let spare = Arc::clone(&self.spare);
        tokio::spawn(async move {
            (&mut story).await;
            spare.leave(story);
        });
        reply::head(answer)
    }
}

/// The memory of a connection's story, kept for the next one. Stories come and go by the dozen, with the writes of the trail
/// that they wait for: taken from the allocator anew, it would mostly be memory that was just given back to the kernel.
#[derive(Default)]
struct Spare(Mutex<Option<Story>>);

type Story = ReusableBoxFuture<'static, ()>;

impl Spare {
    fn held(&self) -> MutexGuard<'_, Option<Story>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, story: impl Future<Output = ()> + Send + 'static) -> Story {
        match self.held().take() {
            Some(mut spare) => {
                spare.set(story);
                spare
            }
            None => Story::new(story),
        }
    }

    fn leave(&self, told: Story) {
        *self.held() = Some(told);
    }
}

/// A connection that was shaken hands over.
struct Shaken {
    io: TokioIo<TlsStream<TcpStream>>,
    certificate: Option<Arc<Shown>>,
    http2: bool,
}

/// What the handshake showed; `None` where there is a certificate that cannot be read: it was verified, and must not pass for
/// none.
///
/// Apart, because a task keeps the room of whatever was borrowed in it: the stream's, twice.
fn shaken(stream: TlsStream<TcpStream>, tls: &Arc<ServerTls>) -> Option<Shaken> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().filter(|chain| !chain.is_empty());
    let certificate = match chain {
        None => None,
        Some(chain) => Some(Arc::new(Shown::read(chain, tls)?)),
    };
    let http2 = session.alpn_protocol() == Some(b"h2");
    Some(Shaken { io: TokioIo::new(stream), certificate, http2 })
}

/// Drives a connection to its end. It is let go of, requests under way excepted, when it is unused for the idle
/// time or when `stop` is true. A caller who still has not fetched what was left for it a stall later is cut off: the
/// requests are long over, and nothing else would ever end this.
async fn drive<C, E>(
    mut connection: Pin<Box<C>>,
    in_use: &Use,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) -> Result<(), E>
where
    C: GracefulConnection<Error = E>,
{
    let idle = limits.connection_idle;
    let mut glance = tokio::time::interval(idle / 4);
    let mut closing = false;
    loop {
        let close = tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stopped(&mut stop), if !closing => true,
            _ = glance.tick() => in_use.unused_for() >= idle,
        };
        if in_use.unused_for() >= idle + limits.caller_stall {
            return Ok(());
        }
        if close && !closing {
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// A request that is not HTTP never becomes one: the library answers it. It is recorded as what it was.
async fn record_unreadable(proxy: &Proxy, client: IpAddr, id: RequestId, too_large: bool) {
    let location = proxy.policy().settings().regions.locate(client);
    let seen = Seen::new(id, proxy.ledger.client(client), location);
    let status =
        if too_large { StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    // The caller has its answer; if this cannot be written, neither can anything else be served.
    let said = unreadable::said(status);
    let _unwritten = proxy.ledger.deny(&seen, &said).await;
    proxy.policy().metrics.ended(None, None, "denied", said.code, Duration::ZERO);
}

/// How much a connection is in use.
struct Use {
    requests: AtomicUsize,
    last: Mutex<Instant>,
}

impl Default for Use {
    fn default() -> Self {
        Self { requests: AtomicUsize::new(0), last: Mutex::new(Instant::now()) }
    }
}

impl Use {
    /// Zero while a request is under way.
    fn unused_for(&self) -> Duration {
        if self.requests.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Held by a request while it is under way.
struct InUse(Arc<Use>);

impl InUse {
    fn begin(connection: &Arc<Use>) -> Self {
        connection.requests.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(connection))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}
