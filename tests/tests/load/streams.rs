//! Callers that want their stream, whatever happens, and count what they get.
//!
//! They behave as real clients do: an attempt has a time limit, a caller who hears nothing for longer than the model ever
//! pauses hangs up and asks again, and after a failure each waits a little longer than after the last one. A reset that the
//! network loses while a process dies is never sent again, and who waits for it waits for ever: what is under test is the
//! agent, not the callers' patience.

use crate::scene::Scene;
use bailiwick_tests::authority;
use rustls_pki_types::ServerName;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For connection, handshake and request.
const TO_ASK: Duration = Duration::from_secs(5);
/// For the answer's first byte, and for each next one; the model pauses for a quarter of a second.
const SILENCE: Duration = Duration::from_secs(5);
/// After a failure; doubled each time up to the longest, and begun anew once a stream flowed.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// The callers, on a thread of their own in the client host's network.
pub(crate) struct Streams {
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<()>,
}

/// What they counted.
#[derive(Clone, Debug)]
pub(crate) struct Flowed {
    /// answers that began
    pub(crate) opened: u64,
    /// answers that ended before their end
    pub(crate) cut: u64,
    /// pieces that came
    pub(crate) pieces: u64,
    /// how attempts ended, by what the caller saw
    #[expect(dead_code, reason = "shown, for whoever must find out why")]
    pub(crate) endings: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    opened: AtomicU64,
    cut: AtomicU64,
    pieces: AtomicU64,
    /// How often it was told to forget. What a caller reads late, of a connection from before, counts no more.
    life: AtomicU64,
    /// Which callers have had a piece since.
    flowing: Vec<AtomicBool>,
    /// What each caller waits for at the moment.
    doing: Mutex<Vec<&'static str>>,
    endings: Mutex<BTreeMap<String, u64>>,
}

struct Call {
    connector: TlsConnector,
    to: std::net::SocketAddr,
    request: Vec<u8>,
}

/// One caller among them.
struct Caller {
    number: usize,
    call: Arc<Call>,
    shared: Arc<Shared>,
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
        let doing = Mutex::new(vec!["nothing"; count]);
        let shared = Arc::new(Shared { flowing, doing, ..Shared::default() });
        let (namespace, of_thread) = (scene.lab().client.namespace.clone(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            namespace.enter().expect("the client's network");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for number in 0..count {
                    let (call, shared) = (Arc::clone(&call), Arc::clone(&of_thread));
                    tokio::spawn(Caller { number, call, shared }.insist());
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

    /// From now on only pieces of connections that are made from now on count as flowing, for as long as these last. To be
    /// called before the agent is killed: once it is dead, the next one may have a caller before this returns, whose stream
    /// would then never count.
    pub(crate) fn forget(&self) {
        self.shared.life.fetch_add(1, Ordering::SeqCst);
        for flows in &self.shared.flowing {
            flows.store(false, Ordering::SeqCst);
        }
    }

    /// From now on only pieces that come from now on count as flowing, of whatever connection.
    pub(crate) fn look_again(&self) {
        for flows in &self.shared.flowing {
            flows.store(false, Ordering::SeqCst);
        }
    }

    /// What those callers do whose stream does not flow, and how attempts ended so far: for whoever must find out why.
    pub(crate) fn account(&self) -> String {
        let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
        for (flows, doing) in self.shared.flowing.iter().zip(self.shared.doing.lock().unwrap().iter()) {
            if !flows.load(Ordering::SeqCst) {
                *waiting.entry(doing).or_default() += 1;
            }
        }
        format!("callers without a stream: {waiting:?}; endings: {:?}", self.shared.endings.lock().unwrap())
    }

    /// Hangs up and says what came.
    pub(crate) fn stop(self) -> Flowed {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Before the hanging up, which is no cut.
        let (opened, cut, pieces) =
            (read(&self.shared.opened), read(&self.shared.cut), read(&self.shared.pieces));
        let endings = self.shared.endings.lock().unwrap().clone();
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the callers' thread");
        Flowed { opened, cut, pieces, endings }
    }
}

impl Caller {
    /// Asks again whenever there is no stream, or no more.
    async fn insist(self) {
        let mut pause = PAUSE;
        loop {
            let (began, ending) = self.stream().await;
            self.shared.flowing[self.number].store(false, Ordering::SeqCst);
            *self.shared.endings.lock().unwrap().entry(ending).or_default() += 1;
            if began {
                self.shared.cut.fetch_add(1, Ordering::Relaxed);
                pause = PAUSE;
            }
            self.does("pausing");
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// One request; whether its answer began, and how it ended.
    async fn stream(&self) -> (bool, String) {
        let mut connection = match timeout(TO_ASK, self.ask()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return (false, format!("asking: {:?}", error.kind())),
            Err(_) => return (false, "asking: out of time".to_owned()),
        };
        // Not before: who waited for a connection while the agent was killed has one to the next agent.
        let life = self.shared.life.load(Ordering::SeqCst);
        self.does("waiting for the answer");
        let mut bytes = vec![0; 16 * 1024];
        let mut began = false;
        loop {
            let when = if began { "streaming" } else { "waiting" };
            let length = match timeout(SILENCE, connection.read(&mut bytes)).await {
                Ok(Ok(length @ 1..)) => length,
                Ok(Ok(0)) => return (began, format!("{when}: end")),
                Ok(Err(error)) => return (began, format!("{when}: {:?}", error.kind())),
                Err(_) => return (began, format!("{when}: hung up after silence")),
            };
            if !began {
                let status = bytes[..length].split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                if status != b"200" {
                    return (false, format!("status {}", String::from_utf8_lossy(status)));
                }
                began = true;
                self.does("waiting for the next piece");
                self.shared.opened.fetch_add(1, Ordering::Relaxed);
            }
            if bytes[..length].windows(6).any(|window| window == b"data: ") {
                self.shared.pieces.fetch_add(1, Ordering::Relaxed);
                if self.shared.life.load(Ordering::SeqCst) == life {
                    self.shared.flowing[self.number].store(true, Ordering::SeqCst);
                }
            }
        }
    }

    async fn ask(&self) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        self.does("connecting");
        let stream = TcpStream::connect(self.call.to).await?;
        self.does("shaking hands");
        let name = ServerName::from(self.call.to.ip());
        let mut stream = self.call.connector.connect(name, stream).await?;
        self.does("asking");
        stream.write_all(&self.call.request).await?;
        Ok(stream)
    }

    fn does(&self, what: &'static str) {
        self.shared.doing.lock().unwrap()[self.number] = what;
    }
}
