//! The way to one server of a model: its address, its credential, and one connection a request.

use super::headers;
use super::health::{Cause, Health, UnderWay};
use super::impostor::{Alarm, Witness};
use super::ledger::Admitted;
use super::limits::Limits;
use super::unix_socket::{self, DialError};
use crate::config::settings::{HealthCheck, ModelAddress, Replica};
use crate::protocol::Dialect;
use crate::secret;
use bailiwick_kernel::slice_path;
use bailiwick_policy::Name;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Bytes of an answer that the agent reads for itself; a list of endpoints is the longest.
const LONGEST_HEARD: usize = 4 * 1024 * 1024;

/// What a server answers to a question of the agent's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The status.
    pub status: u16,
    /// The body; empty where it broke off or was too long.
    pub body: Bytes,
}

/// Where a model's server is reached, and as whom.
pub(super) struct Upstream {
    replica: Replica,
    host: HeaderValue,
    /// `Bearer …`. Requests share it; it is wiped when the last of them is done and the policy is gone.
    authorization: Option<HeaderValue>,
    /// The cgroup that whoever answers must live in.
    slice: PathBuf,
    witness: Option<Arc<dyn Witness>>,
    alarm: Alarm,
    health: Arc<Health>,
}

/// A connection that the model's server has taken, and over which nothing was sent.
pub(super) struct Dialled<'a> {
    server: &'a Upstream,
    socket: Socket,
    under_way: UnderWay,
}

enum Socket {
    Port(TcpStream),
    Unix(UnixStream),
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.replica.address).finish_non_exhaustive()
    }
}

/// What is asked of the model: made by `protocol` from the caller's body, and not to be shown.
pub(super) struct Question<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) body: Bytes,
    pub(super) content_type: Cow<'static, str>,
    pub(super) streamed: bool,
    pub(super) dialect: Dialect,
    /// Of the API, where its servers ask for that.
    pub(super) version: Option<HeaderValue>,
}

impl<'a> Question<'a> {
    /// One of the agent's own, in which nothing is a caller's.
    fn plain(method: &'a Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            body: Bytes::new(),
            content_type: Cow::Borrowed(""),
            streamed: false,
            dialect: Dialect::OpenAi,
            version: None,
        }
    }
}

/// The head of the model's answer, and the body as it comes. Dropping it closes the connection, and so
/// cancels the generation.
#[derive(Debug)]
pub(super) struct ModelAnswer {
    pub(super) head: Response<()>,
    pub(super) body: Incoming,
    _connection: Connection,
    _under_way: UnderWay,
}

/// Why the model did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("the model does not accept connections: {0}")]
    Connect(#[source] io::Error),
    #[error("{0}")]
    Impostor(#[source] Box<dyn Error + Send + Sync>),
    #[error("the model did not accept a connection in time")]
    ConnectTimedOut,
    #[error("the model did not answer in time")]
    TimedOut,
    #[error("the model's connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the request for the model cannot be put together")]
    Unaskable,
}

impl Upstream {
    /// Reads the server's credential.
    ///
    /// # Errors
    /// names the file that holds no usable credential
    pub(super) fn new(
        replica: Replica,
        witness: Option<Arc<dyn Witness>>,
        health: Arc<Health>,
    ) -> io::Result<Self> {
        let host = match &replica.address {
            ModelAddress::Port(address) => {
                HeaderValue::from_str(&address.to_string()).map_err(io::Error::other)?
            }
            ModelAddress::Socket(_) => HeaderValue::from_static("localhost"),
        };
        let authorization = replica.credential.as_deref().map(authorization).transpose()?;
        let (slice, alarm) = (slice_path(&replica.slice), Alarm::default());
        Ok(Self { replica, host, authorization, slice, witness, alarm, health })
    }

    /// Its name.
    pub(super) fn name(&self) -> &Name {
        &self.replica.name
    }

    /// Whether it is asked only when no other one is well.
    pub(super) fn is_backup(&self) -> bool {
        self.replica.backup
    }

    /// What is known of it.
    pub(super) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Whether another config means this very server.
    pub(super) fn is(&self, other: &Replica) -> bool {
        let of = |replica: &Replica| (replica.name.clone(), replica.slice.clone(), replica.address.clone());
        of(&self.replica) == of(other)
    }

    /// Tells the journal of an impostor.
    pub(super) fn raise(&self, model: &Name, cause: &(dyn Error + Send + Sync)) {
        self.alarm.raise(model, cause);
    }

    /// A connection that the server itself has taken; nothing is sent over it.
    pub(super) async fn connect(&self, limits: &Limits) -> Result<Dialled<'_>, UpstreamError> {
        let under_way = self.health.begin();
        let socket = self.socket(limits).await?;
        Ok(Dialled { server: self, socket, under_way })
    }

    async fn socket(&self, limits: &Limits) -> Result<Socket, UpstreamError> {
        Ok(match &self.replica.address {
            ModelAddress::Port(address) => Socket::Port(self.dial(*address, limits).await?),
            ModelAddress::Socket(path) => Socket::Unix(self.dial_socket(path, limits).await?),
        })
    }

    /// Asks whether it is well. Nothing of a caller's goes there, and nobody is told what it answers but its status.
    pub(super) async fn check(&self, check: &HealthCheck, limits: &Limits) -> Result<(), Cause> {
        let asked = self.put(Question::plain(&Method::GET, &check.path), limits);
        let answered = timeout(check.timeout, asked).await.map_err(|_| Cause::Silent)?;
        let status = answered.map_err(|error| error.cause())?.0.status();
        if status.is_success() { Ok(()) } else { Err(Cause::Status(status.as_u16())) }
    }

    /// Asks something of the agent's own, in which nothing is a caller's. Of an answer that is too long, only the status is
    /// told.
    pub(super) async fn ask(&self, method: &Method, path: &str, limits: &Limits) -> Result<Heard, Cause> {
        let (head, body, _connection) =
            self.put(Question::plain(method, path), limits).await.map_err(|error| error.cause())?;
        let status = head.status().as_u16();
        let body = Limited::new(body, LONGEST_HEARD).collect().await;
        Ok(Heard { status, body: body.map(Collected::to_bytes).unwrap_or_default() })
    }

    async fn put(
        &self,
        question: Question<'_>,
        limits: &Limits,
    ) -> Result<(Response<()>, Incoming, Connection), UpstreamError> {
        let authorization = self.authorization.clone();
        let request =
            headers::for_model(&question, &self.host, authorization).ok_or(UpstreamError::Unaskable)?;
        let request = request.map(|()| Full::new(question.body));
        match self.socket(limits).await? {
            Socket::Port(socket) => ask(socket, request, limits).await,
            Socket::Unix(socket) => ask(socket, request, limits).await,
        }
    }

    /// A connection to the model's port that the model itself has taken.
    async fn dial(&self, address: SocketAddr, limits: &Limits) -> Result<TcpStream, UpstreamError> {
        let dialled = async {
            let socket = TcpStream::connect(address).await.map_err(UpstreamError::Connect)?;
            if let Some(witness) = &self.witness {
                let local = socket.local_addr().map_err(UpstreamError::Connect)?;
                let peer = socket.peer_addr().map_err(UpstreamError::Connect)?;
                let proof = witness.prove(local, peer, &self.slice).await;
                proof.map_err(|error| UpstreamError::Impostor(error.into()))?;
            }
            Ok::<_, UpstreamError>(socket)
        };
        let socket = timeout(limits.connect, dialled).await.map_err(|_| UpstreamError::ConnectTimedOut)??;
        // Heads are small and answers flow the other way; a failure here costs latency, nothing else.
        let _slower = socket.set_nodelay(true);
        Ok(socket)
    }

    /// A connection to the model's Unix socket that the model itself serves.
    async fn dial_socket(&self, path: &Path, limits: &Limits) -> Result<UnixStream, UpstreamError> {
        timeout(limits.connect, unix_socket::dial(path, &self.slice))
            .await
            .map_err(|_| UpstreamError::ConnectTimedOut)?
            .map_err(|error| match error {
                DialError::Io(error) => UpstreamError::Connect(error),
                DialError::Impostor(error) => UpstreamError::Impostor(error.into()),
            })
    }
}

impl Dialled<'_> {
    /// Whose connection it is.
    pub(super) fn name(&self) -> &Name {
        self.server.name()
    }

    /// Asks the model, once the request is durably recorded as admitted. The future resolves with the answer's
    /// head; dropping it before closes the connection. However it ends, the question is asked of no other server.
    pub(super) async fn forward(
        self,
        admitted: &Admitted,
        question: Question<'_>,
        limits: &Limits,
    ) -> Result<ModelAnswer, UpstreamError> {
        let Self { server, socket, under_way } = self;
        let authorization = server.authorization.clone();
        let request =
            headers::for_model(&question, &server.host, authorization).ok_or(UpstreamError::Unaskable)?;
        tracing::trace!(model = %admitted.permit().model(), rule = %admitted.permit().rule(), "forwarding");

        let request = request.map(|()| Full::new(question.body));
        let answer = match socket {
            Socket::Port(socket) => ask(socket, request, limits).await,
            Socket::Unix(socket) => ask(socket, request, limits).await,
        };
        match &answer {
            Ok((head, ..)) if matches!(head.status().as_u16(), 502..=504) => {
                server.health.failed(Cause::Status(head.status().as_u16()), Instant::now());
            }
            Ok(_) => server.health.served(),
            Err(error) => server.health.failed(error.cause(), Instant::now()),
        }
        let (head, body, connection) = answer?;
        Ok(ModelAnswer { head, body, _connection: connection, _under_way: under_way })
    }
}

impl UpstreamError {
    /// What that says of the server.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Connect(_) => Cause::Unreachable,
            Self::Impostor(_) => Cause::Impostor,
            Self::ConnectTimedOut | Self::TimedOut => Cause::Silent,
            Self::Broken(_) | Self::Unaskable => Cause::BrokeOff,
        }
    }
}

/// Sends one request over a connection of its own, and waits for the answer's head.
async fn ask(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
    limits: &Limits,
) -> Result<(Response<()>, Incoming, Connection), UpstreamError> {
    let (mut sender, connection) = http1::Builder::new().handshake(TokioIo::new(socket)).await?;
    let connection = Connection(tokio::spawn(async move {
        if let Err(cause) = connection.await {
            tracing::debug!(%cause, "a connection to a model ended early");
        }
    }));
    let sent = sender.send_request(request);
    let (head, body) =
        timeout(limits.model_idle, sent).await.map_err(|_| UpstreamError::TimedOut)??.into_parts();
    Ok((Response::from_parts(head, ()), body, connection))
}

/// The task that drives a connection; dropping this ends it and closes the socket.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The header that a model's credential makes. Its bytes are shared, never copied, and wiped when the last owner drops them.
fn authorization(file: &Path) -> io::Result<HeaderValue> {
    let token = secret::read(file, "the model's credential", "[[model]] credential")?;
    let value = Zeroizing::new(format!("Bearer {}", token.as_str()).into_bytes());
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(io::Error::other)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_is_shared_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, "s3cret\n").unwrap();
        let header = authorization(&file).unwrap();
        assert_eq!(header.as_bytes(), b"Bearer s3cret");
        assert_eq!(
            header.clone().as_bytes().as_ptr(),
            header.as_bytes().as_ptr(),
            "one copy, whoever sends it"
        );
        assert!(header.is_sensitive() && !format!("{header:?}").contains("s3cret"));
    }
}
