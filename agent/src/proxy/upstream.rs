//! The way to one server of a model: its address, its credential, and a connection that nobody else uses.

use super::authorization::authorization;
use super::headers;
use super::health::{Cause, Health, UnderWay};
use super::impostor::{Alarm, Witness};
use super::ledger::Admitted;
use super::limits::Limits;
use super::line::{Answered, Kept, Line, Unsent, Whose};
use super::unix_socket::{self, DialError};
use crate::config::settings::{HealthCheck, ModelAddress, Replica, ServerPreset};
use crate::protocol::Dialect;
use bailiwick_kernel::slice_path;
use bailiwick_policy::{Name, Principal};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

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
    /// Whether connections to it are kept for a caller's next request.
    keeps: bool,
}

/// A connection that the model's server has taken, and over which nothing of this request was sent.
pub(super) struct Dialled<'a> {
    server: &'a Upstream,
    socket: Socket,
    under_way: UnderWay,
    /// Whose it is, and who may keep it for them.
    of: Whose,
    kept: &'a Arc<Kept>,
}

enum Socket {
    Port(TcpStream),
    Unix(UnixStream),
    Kept(Line),
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.replica.address).finish_non_exhaustive()
    }
}

/// What is asked of the model: made by `protocol` from the caller's body, and not to be shown.
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Bytes,
    pub(super) content_type: Cow<'static, str>,
    pub(super) streamed: bool,
    pub(super) dialect: Dialect,
    /// Of the API, where its servers ask for that.
    pub(super) version: Option<HeaderValue>,
}

impl Question {
    /// One of the agent's own, in which nothing is a caller's.
    fn plain(method: &Method, path: &str) -> Self {
        Self {
            method: method.clone(),
            path: path.to_owned(),
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
pub(super) struct ModelAnswer<'a> {
    pub(super) head: Response<()>,
    pub(super) body: Incoming,
    line: Line,
    of: Whose,
    kept: Option<&'a Arc<Kept>>,
    _under_way: UnderWay,
}

impl ModelAnswer<'_> {
    /// It was read to its end: the caller's next request may have the connection.
    pub(super) fn ended(self) {
        if let Some(kept) = self.kept {
            kept.keep(self.line, self.of);
        }
    }
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
    #[error("the model closed its connection before it was asked")]
    Closed,
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
        preset: ServerPreset,
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
        // llama.cpp's server has a thread for each connection, and few: one that is kept would keep others waiting.
        let keeps = matches!(replica.address, ModelAddress::Port(_)) && preset != ServerPreset::LlamaCpp;
        Ok(Self { replica, host, authorization, slice, witness, alarm, health, keeps })
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

    /// A connection that the server itself has taken: the one of `kept` that this principal has used a moment ago, or a new
    /// one. Nothing is sent over it.
    pub(super) async fn connect<'a>(
        &'a self,
        principal: &Arc<Principal>,
        kept: &'a Arc<Kept>,
        limits: &Limits,
    ) -> Result<Dialled<'a>, UpstreamError> {
        let under_way = self.health.begin();
        let of = Whose { principal: Arc::clone(principal), server: Arc::clone(&self.health) };
        let used = match kept.take(&of) {
            Some(line) => self.proven(line, limits).await,
            None => None,
        };
        let socket = match used {
            Some(line) => Socket::Kept(line),
            None => self.socket(limits).await?,
        };
        Ok(Dialled { server: self, socket, under_way, of, kept })
    }

    /// A line that was kept, if it can be proven still to be the server's; what is no more may just have been closed.
    async fn proven(&self, line: Line, limits: &Limits) -> Option<Line> {
        let (local, peer) = line.ends()?;
        let proof = timeout(limits.connect, self.prove(local, peer)).await;
        proof.is_ok_and(|proof| proof.is_ok()).then_some(line)
    }

    async fn prove(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), UpstreamError> {
        let Some(witness) = &self.witness else { return Ok(()) };
        let proof = witness.prove(local, peer, &self.slice).await;
        proof.map_err(|error| UpstreamError::Impostor(error.into()))
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

    async fn put(&self, question: Question, limits: &Limits) -> Result<Answered, UpstreamError> {
        let request = self.request(question, false)?;
        self.socket(limits)
            .await?
            .line()
            .await?
            .ask(request, limits)
            .await?
            .map_err(|_| UpstreamError::Closed)
    }

    /// Over a connection that there is; where the server has closed a kept one meanwhile, over a new one.
    async fn ask_over(
        &self,
        socket: Socket,
        request: Request<Full<Bytes>>,
        limits: &Limits,
    ) -> Result<Answered, UpstreamError> {
        let was_kept = matches!(socket, Socket::Kept(_));
        let request = match socket.line().await?.ask(request, limits).await? {
            Ok(answered) => return Ok(answered),
            Err(Unsent(request)) => request,
        };
        if !was_kept {
            return Err(UpstreamError::Closed);
        }
        let again = self.socket(limits).await?.line().await?.ask(request, limits).await?;
        again.map_err(|_| UpstreamError::Closed)
    }

    /// What is sent to the server, and whether the connection is to end with it.
    fn request(&self, question: Question, keeps: bool) -> Result<Request<Full<Bytes>>, UpstreamError> {
        let authorization = self.authorization.clone();
        let request = headers::for_model(&question, &self.host, authorization, keeps);
        Ok(request.ok_or(UpstreamError::Unaskable)?.map(|()| Full::new(question.body)))
    }

    /// A connection to the model's port that the model itself has taken.
    async fn dial(&self, address: SocketAddr, limits: &Limits) -> Result<TcpStream, UpstreamError> {
        let dialled = async {
            let socket = TcpStream::connect(address).await.map_err(UpstreamError::Connect)?;
            if self.witness.is_some() {
                let local = socket.local_addr().map_err(UpstreamError::Connect)?;
                let peer = socket.peer_addr().map_err(UpstreamError::Connect)?;
                self.prove(local, peer).await?;
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

impl Socket {
    async fn line(self) -> Result<Line, UpstreamError> {
        match self {
            Self::Port(socket) => {
                let ends = socket.local_addr().and_then(|local| Ok((local, socket.peer_addr()?))).ok();
                Line::new(socket, ends).await
            }
            Self::Unix(socket) => Line::new(socket, None).await,
            Self::Kept(line) => Ok(line),
        }
    }
}

impl<'a> Dialled<'a> {
    /// Whose connection it is.
    pub(super) fn name(&self) -> &Name {
        self.server.name()
    }

    /// Asks the model, once the request is durably recorded as admitted. The future resolves with the answer's
    /// head; dropping it before closes the connection. However it ends, the question is asked of no other server, and of this
    /// one again only where not one byte of it was sent.
    pub(super) async fn forward(
        self,
        admitted: &Admitted,
        question: Question,
        limits: &Limits,
    ) -> Result<ModelAnswer<'a>, UpstreamError> {
        let Self { server, socket, under_way, of, kept } = self;
        let request = server.request(question, server.keeps)?;
        tracing::trace!(model = %admitted.permit().model(), rule = %admitted.permit().rule(), "forwarding");

        let answer = server.ask_over(socket, request, limits).await;
        match &answer {
            Ok((head, ..)) if matches!(head.status().as_u16(), 502..=504) => {
                server.health.failed(Cause::Status(head.status().as_u16()), Instant::now());
            }
            Ok(_) => server.health.served(),
            Err(error) => server.health.failed(error.cause(), Instant::now()),
        }
        let (head, body, line) = answer?;
        let kept = server.keeps.then_some(kept);
        Ok(ModelAnswer { head, body, line, of, kept, _under_way: under_way })
    }
}

impl UpstreamError {
    /// What that says of the server.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Connect(_) => Cause::Unreachable,
            Self::Impostor(_) => Cause::Impostor,
            Self::ConnectTimedOut | Self::TimedOut => Cause::Silent,
            Self::Broken(_) | Self::Closed | Self::Unaskable => Cause::BrokeOff,
        }
    }
}
