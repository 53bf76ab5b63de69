//! The model server: a fixed chat completion of about a kilobyte, at once, on one thread.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::Measured;

/// The server, in a process of its own. It ends when dropped.
pub(crate) struct Upstream {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Upstream {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it and waits until it listens.
pub(crate) fn start() -> Measured<Upstream> {
    let mut child = Command::new(std::env::current_exe()?).arg("upstream").stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take();
    let mut upstream = Upstream { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
    let mut line = String::new();
    BufReader::new(output.ok_or("no output")?).read_line(&mut line)?;
    upstream.address = line.trim().parse()?;
    Ok(upstream)
}

/// The process itself.
#[allow(clippy::print_stdout, reason = "it tells its parent where it listens")]
pub(crate) fn run() -> Measured<()> {
    let answer = Bytes::from(answer());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    // A model reads its prompt; a body left unread would also end the connection.
                    let _ = request.into_body().collect().await;
                    let mut response = Response::new(Full::new(answer));
                    response
                        .headers_mut()
                        .insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

fn answer() -> String {
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
