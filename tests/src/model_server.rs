//! A small model server with OpenAI's shapes. It echoes, it streams, and it remembers what it saw.
//!
//! ```text
//!   proxy ──HTTP──▶ [::]:8000   /v1/chat/completions  /v1/completions  /v1/embeddings  /v1/models  /health
//!   story ──Unix──▶ control     seen | forget | connect ADDRESS PORT      one line in, one line of JSON out
//! ```
//!
//! It stands in for a real one where a test must know exactly what the model saw, how its stream was cut, and
//! what happens when the very process that answers opens a connection of its own. What it saw is kept in memory
//! and shown on the control socket only. It is not a model: the answer repeats the last user message, and then
//! says the `aside` it was started with.

mod answers;
mod control;

pub use control::{Control, ControlError, Seen};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// How many requests are remembered.
const REMEMBERED: usize = 64;

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct ModelServer {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// The key it demands as `Authorization: Bearer`; `None` demands nothing.
    pub api_key: Option<String>,
    /// Its control socket; `None` for none.
    pub control: Option<PathBuf>,
    /// The model's name in answers.
    pub model: String,
    /// Said after the echo, in every chat answer.
    pub aside: String,
    /// Characters of text in one streamed event.
    pub piece: usize,
    /// Where the network cuts the stream: bytes in one body frame; 0 sends each event in a frame of its own.
    pub cut: usize,
    /// The pause between frames.
    pub pause: Duration,
    /// What it answers where another kind of server would: an object of `"GET /path": [status, body]`.
    pub answers: Value,
}

impl Default for ModelServer {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            api_key: None,
            control: None,
            model: "echo".into(),
            aside: String::new(),
            piece: 7,
            cut: 0,
            pause: Duration::from_millis(10),
            answers: Value::Null,
        }
    }
}

/// What the server shares between connections.
#[derive(Debug)]
struct Shared {
    settings: ModelServer,
    seen: Mutex<VecDeque<Seen>>,
}

type Reply = Response<BoxBody<Bytes, Infallible>>;

impl ModelServer {
    /// Serves until the future is dropped; `ready` is called with the bound addresses once it accepts.
    ///
    /// # Errors
    /// When an address or the control socket cannot be bound.
    pub async fn serve(self, ready: impl FnOnce(&[SocketAddr])) -> io::Result<()> {
        let mut listeners = Vec::new();
        for address in &self.listen {
            listeners.push(TcpListener::bind(address).await?);
        }
        let bound = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        let control = match &self.control {
            Some(path) => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                let _none_from_before = std::fs::remove_file(path);
                Some(UnixListener::bind(path)?)
            }
            None => None,
        };
        let shared = Arc::new(Shared { settings: self, seen: Mutex::default() });
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(listener) = control {
            let shared = Arc::clone(&shared);
            tasks.spawn(control::serve(listener, shared));
        }
        for listener in listeners {
            tasks.spawn(accept(listener, Arc::clone(&shared)));
        }
        ready(&bound);
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            let _the_peer_may_go_at_any_time = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return error(StatusCode::BAD_REQUEST, "invalid_request_error", "the body ended early");
        };
        self.remember(&parts, &body);
        let asked = format!("{} {}", parts.method, parts.uri.path());
        if let Some(status) = self.settings.answers[&asked][0].as_u64() {
            let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
            return whole(
                status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                &self.settings.answers[&asked][1],
            );
        }
        if parts.uri.path() == "/health" {
            return whole(StatusCode::OK, &json!({"status": "ok"}));
        }
        if !self.admits(&parts.headers) {
            return error(StatusCode::UNAUTHORIZED, "authentication_error", "Invalid API Key");
        }
        let asked: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        match (parts.method.as_str(), parts.uri.path()) {
            ("GET", "/v1/models") => whole(StatusCode::OK, &answers::models(&self.settings.model)),
            ("POST", "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings") if !asked.is_object() => {
                error(StatusCode::BAD_REQUEST, "invalid_request_error", "the body is not a JSON object")
            }
            ("POST", "/v1/chat/completions") => self.generate(answers::Shape::Chat, &asked),
            ("POST", "/v1/completions") => self.generate(answers::Shape::Completion, &asked),
            ("POST", "/v1/embeddings") => {
                whole(StatusCode::OK, &answers::embeddings(&self.settings.model, &asked))
            }
            _ => error(StatusCode::NOT_FOUND, "not_found_error", "File Not Found"),
        }
    }

    fn generate(&self, shape: answers::Shape, asked: &Value) -> Reply {
        let settings = &self.settings;
        let text = answers::text(shape, asked, &settings.aside);
        if asked["stream"] != json!(true) {
            return whole(StatusCode::OK, &answers::whole(shape, &settings.model, asked, &text));
        }
        let events = answers::events(shape, &settings.model, asked, &text, settings.piece);
        answers::stream(events, settings.cut, settings.pause)
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match &self.settings.api_key {
            None => true,
            Some(key) => given.and_then(|value| value.strip_prefix("Bearer ")) == Some(key),
        }
    }

    fn remember(&self, parts: &http::request::Parts, body: &Bytes) {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(Seen {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: String::from_utf8_lossy(body).into_owned(),
        });
    }
}

fn whole(status: StatusCode, body: &Value) -> Reply {
    let mut reply = Response::new(Full::from(body.to_string()).boxed());
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    reply
}

fn error(status: StatusCode, kind: &str, message: &str) -> Reply {
    whole(status, &json!({"error": {"message": message, "type": kind, "code": status.as_u16()}}))
}
