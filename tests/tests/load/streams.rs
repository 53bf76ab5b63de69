//! Callers that want their stream, whatever happens, and count what they get.

use crate::scene::Scene;
use bailiwick_tests::authority;
use rustls_pki_types::ServerName;
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The callers, on a thread of their own in the client host's network.
pub(crate) struct Streams {
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<()>,
}

/// What they counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flowed {
    /// answers that began
    pub(crate) opened: u64,
    /// answers that ended before their end
    pub(crate) cut: u64,
    /// pieces that came
    pub(crate) pieces: u64,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    opened: AtomicU64,
    cut: AtomicU64,
    pieces: AtomicU64,
    /// Which callers have had a piece since it was last asked to forget: one bit a caller would do, a count each is
    /// simpler to read.
    flowing: Vec<AtomicBool>,
}

struct Call {
    connector: TlsConnector,
    to: std::net::SocketAddr,
    request: Vec<u8>,
}

impl Streams {
    pub(crate) fn start(scene: &Scene, count: usize) -> Self {
        let to = scene.lab().host.at_v4(8443);
        // At four pieces of five characters a second: longer than the test may take.
        let body = json!({
            "model": "echo",
            "stream": true,
            "messages": [{"role": "user", "content": "on and on ".repeat(600)}],
        })
        .to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            scene.token(),
            body.len()
        );
        let tls = authority::client(scene.authority().certificate(), &["http/1.1"]).unwrap();
        let call = Arc::new(Call { connector: TlsConnector::from(tls), to, request: request.into() });
        let flowing = (0..count).map(|_| AtomicBool::new(false)).collect();
        let shared = Arc::new(Shared { flowing, ..Shared::default() });
        let (namespace, of_thread) = (scene.lab().client.namespace.clone(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            namespace.enter().expect("the client's network");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for caller in 0..count {
                    tokio::spawn(insist(caller, Arc::clone(&call), Arc::clone(&of_thread)));
                }
                while !of_thread.over.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Self { shared, thread }
    }

    /// Waits until so many streams flow, or the time is over; says how many do.
    pub(crate) fn wait(&self, wanted: usize, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        loop {
            let flowing = self.shared.flowing.iter().filter(|flows| flows.load(Ordering::Relaxed)).count();
            if flowing >= wanted || Instant::now() >= deadline {
                return flowing;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// From now on only pieces that come from now on count as flowing.
    pub(crate) fn forget(&self) {
        for flows in &self.shared.flowing {
            flows.store(false, Ordering::Relaxed);
        }
    }

    /// Hangs up and says what came.
    pub(crate) fn stop(self) -> Flowed {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Before the hanging up, which is no cut.
        let (opened, cut, pieces) =
            (read(&self.shared.opened), read(&self.shared.cut), read(&self.shared.pieces));
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the callers' thread");
        Flowed { opened, cut, pieces }
    }
}

/// Asks again whenever there is no stream, or no more.
async fn insist(caller: usize, call: Arc<Call>, shared: Arc<Shared>) {
    loop {
        let began = stream(caller, &call, &shared).await;
        if began {
            shared.cut.fetch_add(1, Ordering::Relaxed);
        }
        // As many at once as come may come: an agent that has just started is asked by all of them.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One request; whether its answer began.
async fn stream(caller: usize, call: &Call, shared: &Shared) -> bool {
    let Ok(Ok(mut connection)) = tokio::time::timeout(Duration::from_secs(5), ask(call)).await else {
        return false;
    };
    let mut bytes = vec![0; 16 * 1024];
    let mut began = false;
    while let Ok(length @ 1..) = connection.read(&mut bytes).await {
        if !began {
            if !bytes[..length].starts_with(b"HTTP/1.1 200 ") {
                return false;
            }
            began = true;
            shared.opened.fetch_add(1, Ordering::Relaxed);
        }
        if bytes[..length].windows(6).any(|window| window == b"data: ") {
            shared.pieces.fetch_add(1, Ordering::Relaxed);
            shared.flowing[caller].store(true, Ordering::Relaxed);
        }
    }
    began
}

async fn ask(call: &Call) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(call.to).await?;
    let mut stream = call.connector.connect(ServerName::from(call.to.ip()), stream).await?;
    stream.write_all(&call.request).await?;
    Ok(stream)
}
