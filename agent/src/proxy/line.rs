//! A connection to a model's server: one request at a time, and kept for the same caller's next one, for a moment.
//!
//! Making a connection and taking it down costs as much as all the rest of a short request. So one whose answer was read to
//! its end is kept, by the caller's own connection, for [`KEPT`]: for the same principal, and the same server. It is proven
//! again before each use, as a new one is. Never is it for another caller: should a server answer twice, or take a part of
//! a body for a request, what comes of it stays with whoever sent that. And it is not kept for longer, so that the model
//! cannot tell by it whose requests belong together but of those that come in one breath, and that no server's own idle time
//! ends it first. Whatever else happened on it (a caller who left, an answer that was stopped) closes it at once.

use super::health::Health;
use super::limits::Limits;
use super::upstream::UpstreamError;
use bailiwick_policy::Principal;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// For how long; it is closed at the latest after twice that.
const KEPT: Duration = Duration::from_millis(250);
/// By one caller's connection; HTTP/2 has many requests at once.
const MOST_KEPT: usize = 16;

/// A connection over which HTTP is spoken. Dropping it closes it, and so cancels what the server was asked.
pub(super) struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// Ours and the server's, where it is a port; others are never kept.
    ends: Option<(SocketAddr, SocketAddr)>,
    _driver: Driver,
}

/// A request of which not one byte was sent: the server had closed the line.
pub(super) struct Unsent(pub(super) Request<Full<Bytes>>);

/// What an answer begins with, and what is left of it.
pub(super) type Answered = (Response<()>, Incoming, Line);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Line {
    /// Over a new connection.
    pub(super) async fn new(
        socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        ends: Option<(SocketAddr, SocketAddr)>,
    ) -> Result<Self, UpstreamError> {
        let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(socket)).await?;
        // A block that waits for what it captured has room for it twice.
        let driver = Driver(tokio::spawn(connection.map(|ended| {
            if let Err(cause) = ended {
                tracing::debug!(%cause, "a connection to a model ended early");
            }
        })));
        Ok(Self { sender, ends, _driver: driver })
    }

    /// Its ends, where it may be kept.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends
    }

    /// Whether it is open, and nothing is under way on it: no rest of a request or an answer.
    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends one request and waits for the answer's head.
    pub(super) async fn ask(
        mut self,
        request: Request<Full<Bytes>>,
        limits: &Limits,
    ) -> Result<Result<Answered, Unsent>, UpstreamError> {
        let sent = self.sender.try_send_request(request);
        match timeout(limits.model_idle, sent).await.map_err(|_| UpstreamError::TimedOut)? {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok(Ok((Response::from_parts(head, ()), body, self)))
            }
            Err(mut error) => match error.take_message() {
                Some(request) => Ok(Err(Unsent(request))),
                None => Err(error.into_error().into()),
            },
        }
    }
}

/// The task that drives a connection; dropping this ends it and closes the socket.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The lines that a caller's connection keeps. Dropping it closes them.
#[derive(Default)]
pub(super) struct Kept(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    lines: Vec<KeptLine>,
    /// Somebody looks after them.
    swept: bool,
}

struct KeptLine {
    line: Line,
    of: Whose,
    since: Instant,
}

/// Whose requests a line is for, and which server it leads to.
#[derive(Clone)]
pub(super) struct Whose {
    pub(super) principal: Arc<Principal>,
    /// A server is known by what is known of it.
    pub(super) server: Arc<Health>,
}

impl PartialEq for Whose {
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.principal, &other.principal) || self.principal == other.principal;
        same && Arc::ptr_eq(&self.server, &other.server)
    }
}

impl Kept {
    fn locked(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line that was used last, if it is fit for use.
    pub(super) fn take(&self, of: &Whose) -> Option<Line> {
        let mut held = self.locked();
        let at = held.lines.iter().rposition(|kept| kept.of == *of)?;
        let kept = held.lines.swap_remove(at);
        (kept.since.elapsed() < KEPT && kept.line.is_ready()).then_some(kept.line)
    }

    /// Keeps a line whose answer was read to its end.
    pub(super) fn keep(self: &Arc<Self>, line: Line, of: Whose) {
        if line.ends.is_none() {
            return;
        }
        let mut held = self.locked();
        if held.lines.len() < MOST_KEPT {
            held.lines.push(KeptLine { line, of, since: Instant::now() });
            if !std::mem::replace(&mut held.swept, true) {
                self.sweep();
            }
        }
    }

    /// Closes what is too old, now and then, while there is anything.
    fn sweep(self: &Arc<Self>) {
        let kept = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEPT).await;
                let Some(kept) = kept.upgrade() else { return };
                let mut held = kept.locked();
                held.lines.retain(|kept| kept.since.elapsed() < KEPT);
                if held.lines.is_empty() {
                    held.swept = false;
                    return;
                }
            }
        });
    }
}
