//! # Control: what another process of root's may hand to the running agent
//!
//! ```text
//!   bailiwick selftest ──evidence, one line of JSON──▶ /run/bailiwick/control ──▶ trail: `self-test`
//!                      ◀──── recorded, or why not ────
//!   bailiwick status   ──how are the models' servers?──▶  ◀── as requests and checks have told ──
//!   bailiwick check --host ──what do their answers leave open?──▶  ◀── asked at that moment ──
//! ```
//!
//! The audit trail has one writer, and while the agent runs it is the agent. What others have to say of this host therefore
//! comes in here: a Unix socket in the service's runtime directory (`RuntimeDirectory=`, systemd.exec(5)).
//!
//! Invariants:
//! - Root alone: by the directory's and the socket's mode, and by what the kernel says of the peer (SO_PEERCRED, unix(7)).
//! - One request a connection, of bounded size, within a bounded time, one connection after the other: nobody can make the
//!   agent hold more, nor keep it from its work.
//! - Nothing is believed but what the request's type can say, and that is checked ([`Evidence::check`]): no free text gets
//!   from here into the trail.
//! - A refusal is said to the peer, with the reason, and changes nothing.
//!
//! What it does not do: it takes no orders, and what it tells is what no kernel knows: how the models' servers stand, and what
//! they answer to the agent, to whom alone they may. What is guarded is read from the kernel (law 7), a reload is a signal.

mod socket;

use crate::preflight::Asked;
use crate::proxy::UpstreamHealth;
use crate::selftest::Evidence;
use bailiwick_audit::Log;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub use socket::{Asking, Control, Known};

/// Where systemd makes the service's runtime directory, for those who do not run in the service.
const SHIPPED_DIRECTORY: &str = "/run/bailiwick";
/// The socket's name in there.
const NAME: &str = "control";
/// Bytes of a request. Evidence that names every attack of the catalog has less than half of it.
const LONGEST_REQUEST: u64 = 8 * 1024;
/// Bytes of an answer: more servers than a host has.
const LONGEST_ANSWER: u64 = 256 * 1024;
/// For a request to come and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    /// Record the result of a selftest.
    SelfTest(Evidence),
    /// Tell how the models' servers stand.
    Upstreams,
    /// Ask them what their settings leave open.
    Settings,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    /// It is durably in the trail.
    Recorded,
    /// How they stand.
    Upstreams(Vec<UpstreamHealth>),
    /// What they leave open.
    Settings(Vec<Asked>),
    /// It is not, and why.
    Refused(String),
}

/// Why a running agent did not take something.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no agent listens at {}; see: systemctl status bailiwick", .0.display())]
    NobodyListens(PathBuf),
    /// The conversation broke off.
    #[error("the agent at {} did not answer: {source}; see: journalctl -u bailiwick", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It answered something else.
    #[error("the agent at {} is another version; restart it: systemctl restart bailiwick", .0.display())]
    AnotherVersion(PathBuf),
    /// The agent said no.
    #[error("the running agent refused it: {0}")]
    Refused(String),
}

/// Where the agent listens: in `RUNTIME_DIRECTORY` where systemd says so, else where the shipped unit has it.
#[must_use]
pub fn place() -> PathBuf {
    let directory = std::env::var_os("RUNTIME_DIRECTORY");
    directory.map_or_else(|| PathBuf::from(SHIPPED_DIRECTORY), PathBuf::from).join(NAME)
}

/// Has the agent that listens at `path` record a selftest's result; returns once it is durable.
///
/// # Errors
/// [`ControlError`]; nothing was recorded, save that the answer may have been lost on its way.
pub fn hand_over(path: &Path, evidence: &Evidence) -> Result<(), ControlError> {
    match ask(path, &Request::SelfTest(evidence.clone()))? {
        Answer::Recorded => Ok(()),
        Answer::Upstreams(_) | Answer::Settings(_) => Err(ControlError::AnotherVersion(path.to_owned())),
        Answer::Refused(why) => Err(ControlError::Refused(why)),
    }
}

/// Asks the agent that listens at `path` how the models' servers stand.
///
/// # Errors
/// [`ControlError`]; then nobody knows.
pub fn upstreams(path: &Path) -> Result<Vec<UpstreamHealth>, ControlError> {
    match ask(path, &Request::Upstreams)? {
        Answer::Upstreams(told) => Ok(told),
        Answer::Recorded | Answer::Settings(_) => Err(ControlError::AnotherVersion(path.to_owned())),
        Answer::Refused(why) => Err(ControlError::Refused(why)),
    }
}

/// Has the agent that listens at `path` ask the models' servers what their settings leave open.
///
/// # Errors
/// [`ControlError`]; then nobody knows.
pub fn settings(path: &Path) -> Result<Vec<Asked>, ControlError> {
    match ask(path, &Request::Settings)? {
        Answer::Settings(asked) => Ok(asked),
        Answer::Recorded | Answer::Upstreams(_) => Err(ControlError::AnotherVersion(path.to_owned())),
        Answer::Refused(why) => Err(ControlError::Refused(why)),
    }
}

fn ask(path: &Path, request: &Request) -> Result<Answer, ControlError> {
    let broken = |source| ControlError::Broken { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NobodyListens(path.to_owned())
        }
        _ => broken(error),
    })?;
    let answer = (|| {
        // Somebody else may be served first.
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        stream.set_write_timeout(Some(2 * PATIENCE))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let written = stream.write_all(&line);
        let mut answer = String::new();
        // A refusal may come before the request is written: it is heard all the same.
        match BufReader::new((&stream).take(LONGEST_ANSWER)).read_line(&mut answer) {
            Ok(1..) => Ok(serde_json::from_str(&answer)?),
            Ok(0) => Err(written.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(error),
        }
    })();
    answer.map_err(broken)
}

/// Serves one connection to its end; `admitted` is who may ask, a user id.
async fn converse(
    mut stream: tokio::net::UnixStream,
    admitted: u32,
    log: &Log,
    known: &dyn Known,
) -> io::Result<()> {
    let answer = match judge(&mut stream, admitted).await {
        Ok(Request::SelfTest(evidence)) => match log.append(evidence.record("agent")).await {
            Ok(_) => Answer::Recorded,
            Err(error) => Answer::Refused(format!("the audit trail: {error}")),
        },
        Ok(Request::Upstreams) => Answer::Upstreams(known.upstreams()),
        Ok(Request::Settings) => Answer::Settings(known.settings().await),
        Err(why) => Answer::Refused(why),
    };
    match &answer {
        Answer::Upstreams(_) | Answer::Settings(_) => {}
        Answer::Recorded => tracing::info!("the result of a selftest was recorded"),
        Answer::Refused(why) => tracing::warn!("a request at the control socket was refused: {why}"),
    }
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, stream.write_all(&line)).await?
}

/// Reads a request of somebody who may make one, and checks it. The reason of a refusal never repeats what was sent.
async fn judge(stream: &mut tokio::net::UnixStream, admitted: u32) -> Result<Request, String> {
    let peer = stream.peer_cred().map_err(|error| format!("the kernel does not say who asks: {error}"))?;
    if peer.uid() != admitted {
        return Err(format!("root alone may ask, and this is uid {}", peer.uid()));
    }
    let line = tokio::time::timeout(PATIENCE, read_line(stream))
        .await
        .map_err(|_| "the request did not come in time".to_owned())?
        .map_err(|error| format!("the request cannot be read: {error}"))?;
    if line.len() as u64 > LONGEST_REQUEST {
        return Err(format!("the request has more than {LONGEST_REQUEST} bytes"));
    }
    let request: Request = serde_json::from_slice(&line).map_err(|_| {
        "this version knows no such request; is the agent another version? restart it".to_owned()
    })?;
    match &request {
        Request::SelfTest(evidence) => evidence.check().map_err(str::to_owned)?,
        Request::Upstreams | Request::Settings => {}
    }
    Ok(request)
}

/// Up to a line's end, the end of the stream, or one byte more than a request may have.
async fn read_line(stream: &mut tokio::net::UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut bytes = [0; 1024];
    while line.len() as u64 <= LONGEST_REQUEST && !line.contains(&b'\n') {
        match stream.read(&mut bytes).await? {
            0 => break,
            length => line.extend_from_slice(&bytes[..length]),
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_audit::LogSettings;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    fn evidence(through: &[&str]) -> Evidence {
        let through = through.iter().map(|name| (*name).to_owned()).collect();
        Evidence { policy: "0123456789abcdef".to_owned(), held: 30, not_tried: 1, through }
    }

    /// An agent's socket and trail, for whoever has this user id; what `ask` gets there, and the trail's records.
    fn with_agent<T: Send + 'static>(
        admitted: u32,
        ask: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> (T, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let (path, trail) = (directory.path().join("run/control"), directory.path().join("audit"));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let got = runtime.block_on(async {
            let settings = LogSettings { directory: trail.clone(), origin: "bailiwick/host-1".to_owned() };
            let log = Log::open(settings).unwrap();
            let control = Control::bind(&path).unwrap().admitting(admitted);
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700), "for root alone");
            let serving = tokio::spawn(control.serve(log.clone(), Arc::new(Servers)));
            let at = path.clone();
            let got = tokio::task::spawn_blocking(move || ask(&at)).await.unwrap();
            serving.abort();
            assert!(serving.await.unwrap_err().is_cancelled());
            log.close().await.unwrap();
            got
        });
        assert!(!path.exists(), "nothing stays");
        let records = bailiwick_audit::records(&trail).unwrap();
        (got, records.into_iter().map(|(_, record)| String::from_utf8(record).unwrap()).collect())
    }

    struct Servers;

    impl Known for Servers {
        fn upstreams(&self) -> Vec<UpstreamHealth> {
            vec![server()]
        }

        fn settings(&self) -> Asking {
            let (model, upstream) = ("llama".to_owned(), "llama-b".to_owned());
            let silent = Some("it did not answer in time".to_owned());
            Box::pin(async { vec![Asked { model, upstream, cautions: Vec::new(), silent }] })
        }
    }

    fn server() -> UpstreamHealth {
        UpstreamHealth {
            model: "llama".to_owned(),
            upstream: "llama-b".to_owned(),
            state: "down".to_owned(),
            checked: true,
            backup: false,
            active: 0,
            cause: Some("it takes no connection".to_owned()),
        }
    }

    #[test]
    fn how_the_servers_stand_is_told_and_recorded_nowhere() {
        let (got, trail) = with_agent(own_id(), upstreams);
        assert_eq!(got.unwrap(), [server()]);
        assert_eq!(trail, Vec::<String>::new());
        let (got, trail) = with_agent(own_id(), settings);
        assert_eq!(got.unwrap()[0].upstream, "llama-b");
        assert_eq!(trail, Vec::<String>::new());
        let (got, _) = with_agent(own_id() + 1, upstreams);
        assert!(got.unwrap_err().to_string().contains("root alone"));
    }

    fn own_id() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[test]
    fn evidence_that_is_handed_over_is_in_the_trail() {
        let (got, trail) = with_agent(own_id(), |path| hand_over(path, &evidence(&["udp-connected"])));
        assert!(got.is_ok(), "{got:?}");
        assert_eq!(trail.len(), 1, "{trail:?}");
        for part in ["self-test", "udp-connected", "0123456789abcdef", r#""written-by":"agent""#] {
            assert!(trail[0].contains(part), "{part}: {}", trail[0]);
        }
    }

    #[test]
    fn whoever_is_not_admitted_is_told_so_and_leaves_nothing() {
        let (got, trail) = with_agent(own_id() + 1, |path| hand_over(path, &evidence(&[])));
        assert!(got.unwrap_err().to_string().contains("root alone"), "the reason is said");
        assert_eq!(trail, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_request_is_refused_and_the_next_one_served() {
        let (answers, trail) = with_agent(own_id(), |path| {
            let say = |bytes: Vec<u8>| {
                let mut stream = UnixStream::connect(path).unwrap();
                // Too much is not read to its end.
                let _cut = stream.write_all(&bytes);
                let _gone = stream.shutdown(std::net::Shutdown::Write);
                let mut answer = String::new();
                BufReader::new(stream).read_line(&mut answer).unwrap();
                answer
            };
            let line = |text: &str| format!("{text}\n").into_bytes();
            let said = serde_json::to_string(&Request::SelfTest(evidence(&["what is my password"]))).unwrap();
            let answers = [
                say(line("nonsense")),
                say(line(r#"{"release":{}}"#)),
                say(line(&said.replace("held", "text"))),
                say(line(&said)),
                say(vec![b'x'; 20 * 1024]),
                say(Vec::from(said.trim_end_matches('}'))).replace('\n', ""),
            ];
            (answers, hand_over(path, &evidence(&[])))
        });
        let (answers, last) = answers;
        for answer in &answers {
            assert!(answer.contains("refused") && !answer.contains("password"), "{answer}");
        }
        assert!(answers[4].contains("8192 bytes"), "{}", answers[4]);
        assert!(last.is_ok(), "{last:?}");
        assert_eq!(trail.len(), 1, "{trail:?}");
    }

    #[test]
    fn where_nobody_listens_that_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let error = hand_over(&directory.path().join("control"), &evidence(&[])).unwrap_err();
        assert!(matches!(error, ControlError::NobodyListens(_)), "{error}");
        assert!(error.to_string().contains("systemctl status bailiwick"), "{error}");
    }
}
