//! The model server, on one thread: a fixed chat completion of about a kilobyte, at once; or, where it is asked for one, a stream
//! as the prompt says (see [`Pace`]).

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::child::Role;
use crate::{Measured, streams};

/// The server.
pub(crate) struct Upstream {
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
}

/// How a stream is to come: what stands in the prompt.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Pace {
    /// Milliseconds until the first piece.
    pub(crate) first: u64,
    /// Milliseconds between pieces; none waits for the caller to read.
    pub(crate) every: u64,
    /// How many.
    pub(crate) pieces: u32,
    /// Bytes of text in each.
    pub(crate) bytes: usize,
}

/// Starts it and waits until it listens.
pub(crate) fn start() -> Measured<Upstream> {
    let (role, line) = Role::start("upstream", &[])?;
    Ok(Upstream { role, address: line.parse()? })
}

/// The process itself.
#[allow(clippy::print_stdout, reason = "it tells its parent where it listens")]
pub(crate) fn run() -> Measured<()> {
    streams::allow_many_sockets()?;
    let whole = Bytes::from(whole());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let whole = whole.clone();
            let service = service_fn(move |request| answer(request, whole.clone()));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, whole: Bytes) -> Result<Answer, Infallible> {
    // A model reads its prompt; a body left unread would also end the connection.
    let prompt = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (kind, body) = match pace(&prompt) {
        Some(pace) => ("text/event-stream", Pieces::new(pace).boxed_unsync()),
        None => ("application/json", Full::new(whole).boxed_unsync()),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// Read only where a stream is asked for: parsing costs the core that the load is on.
fn pace(prompt: &[u8]) -> Option<Pace> {
    const STREAM: &[u8] = b"\"stream\":true";
    prompt.windows(STREAM.len()).any(|window| window == STREAM).then_some(())?;
    let prompt: serde_json::Value = serde_json::from_slice(prompt).ok()?;
    serde_json::from_str(prompt.pointer("/messages/0/content")?.as_str()?).ok()
}

/// A stream of events.
struct Pieces {
    pace: Pace,
    piece: Bytes,
    sent: u32,
    next: Pin<Box<Sleep>>,
}

impl Pieces {
    fn new(pace: Pace) -> Self {
        let words = "token ".repeat(pace.bytes.div_ceil(6));
        let event = serde_json::json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench",
            "choices": [{ "index": 0, "delta": { "content": words } }],
        });
        let first = Instant::now() + Duration::from_millis(pace.first);
        Self { pace, piece: format!("data: {event}\n\n").into(), sent: 0, next: Box::pin(sleep_until(first)) }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent > self.pace.pieces {
            return Poll::Ready(None);
        }
        if self.pace.every > 0 || self.sent == 0 {
            ready!(self.next.as_mut().poll(cx));
            let next = self.next.deadline() + Duration::from_millis(self.pace.every);
            self.next.as_mut().reset(next);
        }
        self.sent += 1;
        let last = self.sent > self.pace.pieces;
        let piece = if last { Bytes::from_static(b"data: [DONE]\n\n") } else { self.piece.clone() };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

fn whole() -> String {
    serde_json::json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "bench",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "The quick brown fox jumps over the lazy dog. ".repeat(16) },
        }],
        "usage": { "prompt_tokens": 60, "completion_tokens": 160, "total_tokens": 220 },
    })
    .to_string()
}
