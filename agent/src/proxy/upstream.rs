//! The way to a model: its address, its credential, and one connection a request.

use super::headers;
use super::impostor::{Alarm, Witness};
use super::ledger::Admitted;
use super::limits::Limits;
use super::unix_socket::{self, DialError};
use crate::config::settings::{Model, ModelAddress};
use crate::protocol::Dialect;
use crate::secret;
use bailiwick_kernel::slice_path;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Where a model is reached, and as whom.
pub(super) struct Upstream {
    address: Address,
    host: HeaderValue,
    /// `Bearer …`. Requests share it; it is wiped when the last of them is done and the policy is gone.
    authorization: Option<HeaderValue>,
    /// The cgroup that whoever answers must live in.
    slice: PathBuf,
    witness: Option<Arc<dyn Witness>>,
    alarm: Alarm,
}

/// What is dialled.
#[derive(Debug)]
enum Address {
    Port(SocketAddr),
    Socket(PathBuf),
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).finish_non_exhaustive()
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

/// The head of the model's answer, and the body as it comes. Dropping it closes the connection, and so
/// cancels the generation.
#[derive(Debug)]
pub(super) struct ModelAnswer {
    pub(super) head: Response<()>,
    pub(super) body: Incoming,
    _connection: Connection,
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
    /// Reads the model's credential.
    ///
    /// # Errors
    /// names the file that holds no usable credential
    pub(super) fn new(model: &Model, witness: Option<Arc<dyn Witness>>) -> io::Result<Self> {
        let (address, host) = match &model.upstream {
            ModelAddress::Port(address) => (
                Address::Port(*address),
                HeaderValue::from_str(&address.to_string()).map_err(io::Error::other)?,
            ),
            ModelAddress::Socket(path) => {
                (Address::Socket(path.clone()), HeaderValue::from_static("localhost"))
            }
        };
        let authorization = model.credential.as_deref().map(authorization).transpose()?;
        let (slice, alarm) = (slice_path(&model.slice), Alarm::default());
        Ok(Self { address, host, authorization, slice, witness, alarm })
    }

    /// Asks the model, once the request is durably recorded as admitted. The future resolves with the answer's
    /// head; dropping it before closes the connection.
    pub(super) async fn forward(
        &self,
        admitted: &Admitted,
        question: Question<'_>,
        limits: &Limits,
    ) -> Result<ModelAnswer, UpstreamError> {
        let authorization = self.authorization.clone();
        let request =
            headers::for_model(&question, &self.host, authorization).ok_or(UpstreamError::Unaskable)?;
        tracing::trace!(model = %admitted.permit().model(), rule = %admitted.permit().rule(), "forwarding");

        let request = request.map(|()| Full::new(question.body));
        let answer = match &self.address {
            Address::Port(address) => match self.dial(*address, limits).await {
                Ok(socket) => ask(socket, request, limits).await,
                Err(error) => Err(error),
            },
            Address::Socket(path) => match self.dial_socket(path, limits).await {
                Ok(socket) => ask(socket, request, limits).await,
                Err(error) => Err(error),
            },
        };
        answer.inspect_err(|error| {
            if let UpstreamError::Impostor(cause) = error {
                self.alarm.raise(admitted.permit().model(), cause.as_ref());
            }
        })
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

/// Sends one request over a connection of its own, and waits for the answer's head.
async fn ask(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
    limits: &Limits,
) -> Result<ModelAnswer, UpstreamError> {
    let (mut sender, connection) = http1::Builder::new().handshake(TokioIo::new(socket)).await?;
    let connection = Connection(tokio::spawn(async move {
        if let Err(cause) = connection.await {
            tracing::debug!(%cause, "a connection to a model ended early");
        }
    }));
    let sent = sender.send_request(request);
    let (head, body) =
        timeout(limits.model_idle, sent).await.map_err(|_| UpstreamError::TimedOut)??.into_parts();
    Ok(ModelAnswer { head: Response::from_parts(head, ()), body, _connection: connection })
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
