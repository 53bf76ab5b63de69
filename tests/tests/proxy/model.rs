//! A model server that does exactly as scripted, and keeps the very bytes it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What it does once it has read a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends these bytes as they are.
    Send(Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Waits until the other side closes.
    Hang,
    /// Reads the next request on the same connection, and does everything again.
    Again,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Request line and header lines.
    pub(crate) head: String,
    /// As many bytes as `content-length` says.
    pub(crate) body: String,
}

impl Seen {
    /// The names of its headers, sorted.
    pub(crate) fn header_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        names.sort();
        names
    }
}

/// The server; it stops with the runtime.
pub(crate) struct Model {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Vec<Step>,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
    closed: watch::Sender<usize>,
}

impl Model {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) async fn start(script: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script,
            seen: Mutex::default(),
            connections: Mutex::default(),
            closed: watch::channel(0).0,
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                *serving.connections.lock().unwrap() += 1;
                let serving = Arc::clone(&serving);
                tokio::spawn(async move {
                    // A peer that breaks off is what some tests are about.
                    let _broken = serving.converse(socket).await;
                    serving.closed.send_modify(|count| *count += 1);
                });
            }
        });
        Self { address, shared }
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Connections so far: a proxy that forwards nothing opens none.
    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Waits until the other side has closed `count` connections.
    pub(crate) async fn closed(&self, count: usize) {
        self.shared.closed.subscribe().wait_for(|closed| *closed >= count).await.unwrap();
    }

    /// Waits until it has seen `count` requests.
    pub(crate) async fn reached(&self, count: usize) {
        while self.seen().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Shared {
    async fn converse(&self, mut socket: TcpStream) -> std::io::Result<()> {
        while self.answer(&mut socket).await? {}
        Ok(())
    }

    /// Whether it is to be asked again.
    async fn answer(&self, socket: &mut TcpStream) -> std::io::Result<bool> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read_buf(&mut bytes).await? == 0 {
                return Ok(false);
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.trim().parse().unwrap());
        while bytes.len() < end + length {
            if socket.read_buf(&mut bytes).await? == 0 {
                return Ok(false);
            }
        }
        let body = String::from_utf8_lossy(&bytes[end..]).into_owned();
        self.seen.lock().unwrap().push(Seen { head, body });
        for step in &self.script {
            match step {
                Step::Send(bytes) => socket.write_all(bytes).await?,
                Step::Pause(time) => {
                    // Whoever closes is noticed while it waits.
                    let read = tokio::time::timeout(*time, socket.read_u8()).await;
                    if let Ok(Err(_)) = read {
                        return Ok(false);
                    }
                }
                Step::Again => return Ok(true),
                Step::Hang => {
                    let _closed = socket.read_u8().await;
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }
}

/// A whole answer.
pub(crate) fn whole(status: &str, content_type: &str, body: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status}\r\nserver: uvicorn\r\nset-cookie: a=b\r\nx-model-host: gpu-7\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    vec![Step::Send([head.as_bytes(), body.as_bytes()].concat())]
}

/// A chat answer with this text.
pub(crate) fn chat(text: &str) -> Vec<Step> {
    let body = serde_json::json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "echo",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
    });
    whole("200 OK", "application/json", &body.to_string())
}

/// The head of a stream.
pub(crate) fn stream_head() -> Step {
    Step::Send(
        b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
    )
}

/// One chunk of it.
pub(crate) fn chunk(bytes: &[u8]) -> Step {
    Step::Send([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

/// Its end.
pub(crate) fn stream_end() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

/// One event with a piece of text.
pub(crate) fn event(text: &str) -> String {
    let event = serde_json::json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "echo",
        "choices": [{"index": 0, "delta": {"content": text}}],
    });
    format!("data: {event}\n\n")
}

/// A whole stream of these pieces, its bytes cut every `cut` bytes, with `pause` between the cuts.
pub(crate) fn stream(pieces: &[&str], cut: usize, pause: Duration) -> Vec<Step> {
    let bytes: String =
        pieces.iter().map(|piece| event(piece)).chain(["data: [DONE]\n\n".to_owned()]).collect();
    let mut steps = vec![stream_head()];
    for cut in bytes.as_bytes().chunks(cut) {
        steps.push(chunk(cut));
        steps.push(Step::Pause(pause));
    }
    steps.push(stream_end());
    steps
}
