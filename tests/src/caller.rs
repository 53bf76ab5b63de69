//! The caller: a plain HTTP(S) client that hides nothing of what came back, and when.
//!
//! It opens one connection per request, speaks HTTP/1.1 or HTTP/2 as told, and keeps every body frame with the
//! time it arrived. It follows no redirect, retries nothing and reads no environment.

use crate::authority::{self, AuthorityError, Identity};
use crate::net_namespace::NetNamespace;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Which HTTP to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge in the clear.
    Http2,
}

/// A client: how to speak, whom to trust, where to stand.
#[derive(Clone, Debug)]
pub struct Caller {
    /// HTTP/1.1 unless said otherwise.
    pub protocol: Protocol,
    /// The only trusted roots for `https`, PEM.
    pub roots: String,
    /// The namespace to call from; `None` means where the process is.
    pub namespace: Option<NetNamespace>,
    /// Bounds the whole exchange.
    pub patience: Duration,
    /// The certificate that it shows over `https`, if any.
    pub identity: Option<Identity>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it arrived.
    pub frames: Vec<Frame>,
    /// Why the body ended early, when it did.
    pub cut: Option<String>,
}

/// A piece of a body.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Since the request was sent.
    pub after: Duration,
    /// The bytes.
    pub bytes: Bytes,
}

/// An error in the model API's own shape: `{"error": {"message", "type", "code", …}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// In words.
    pub message: String,
    /// The API's class of error.
    pub kind: Option<String>,
    /// The machine-readable code.
    pub code: Option<String>,
    /// What the operator can look up.
    pub request_id: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The address or request is not usable.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// No connection.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// The other end.
        to: SocketAddr,
        /// What the system said; TLS errors are wrapped in it.
        source: io::Error,
    },
    /// The exchange broke.
    #[error("the exchange with {to} broke: {source}")]
    Exchange {
        /// The other end.
        to: SocketAddr,
        /// What hyper said.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("no full answer after {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The namespace, runtime or trust store cannot be used.
    #[error("the caller cannot start: {0}")]
    Start(#[from] io::Error),
    /// The roots cannot be used.
    #[error(transparent)]
    Trust(#[from] AuthorityError),
}

impl Caller {
    /// HTTP/1.1 from where the process is, trusting `roots` (PEM), for at most 30 s.
    #[must_use]
    pub fn new(roots: &str) -> Self {
        let patience = Duration::from_secs(30);
        let roots = roots.to_owned();
        Self { protocol: Protocol::Http1, roots, namespace: None, patience, identity: None }
    }

    /// The same caller with a certificate to show.
    #[must_use]
    pub fn showing(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The same caller in a namespace.
    #[must_use]
    pub fn from(mut self, namespace: &NetNamespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// The same caller with another protocol.
    #[must_use]
    pub fn speaking(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sends a request and reads the whole answer, on a thread of its own. The URI's host must be an IP address
    /// (or `localhost`, which is 127.0.0.1).
    ///
    /// # Errors
    /// [`CallerError`]
    pub fn send(&self, request: Request<Bytes>) -> Result<Answer, CallerError> {
        let exchange = move || -> Result<Answer, CallerError> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(self.exchange(request))
        };
        match &self.namespace {
            Some(namespace) => namespace.run(exchange)?,
            None => std::thread::scope(|scope| match scope.spawn(exchange).join() {
                Ok(answer) => answer,
                Err(panic) => std::panic::resume_unwind(panic),
            }),
        }
    }

    /// As [`Self::send`], in the calling task and therefore in the caller's own namespace.
    ///
    /// # Errors
    /// [`CallerError`]
    pub async fn exchange(&self, request: Request<Bytes>) -> Result<Answer, CallerError> {
        match tokio::time::timeout(self.patience, self.connect_and_send(request)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(CallerError::TimedOut(self.patience)),
        }
    }

    /// Posts JSON with an optional bearer token.
    ///
    /// # Errors
    /// [`CallerError`]
    pub fn post(&self, url: &str, token: Option<&str>, body: &Value) -> Result<Answer, CallerError> {
        self.send(json_request(url, token, body)?)
    }

    /// Gets a URL with an optional bearer token.
    ///
    /// # Errors
    /// [`CallerError`]
    pub fn get(&self, url: &str, token: Option<&str>) -> Result<Answer, CallerError> {
        let builder = with_token(Request::builder().method(Method::GET).uri(url), token);
        self.send(builder.body(Bytes::new()).map_err(|error| CallerError::Request(error.to_string()))?)
    }

    async fn connect_and_send(&self, request: Request<Bytes>) -> Result<Answer, CallerError> {
        let (host, to) = target(request.uri())?;
        let failed = |source| CallerError::Connect { to, source };
        let stream = TcpStream::connect(to).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        if request.uri().scheme_str() != Some("https") {
            return self.speak(stream, to, request).await;
        }
        let protocols: &[&str] = match self.protocol {
            Protocol::Http1 => &["http/1.1"],
            Protocol::Http2 => &["h2"],
        };
        let config = authority::client_as(self.identity.as_ref(), &self.roots, protocols)?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let name = ServerName::try_from(host).map_err(|error| CallerError::Request(error.to_string()))?;
        self.speak(connector.connect(name, stream).await.map_err(failed)?, to, request).await
    }

    async fn speak<S>(
        &self,
        stream: S,
        to: SocketAddr,
        mut request: Request<Bytes>,
    ) -> Result<Answer, CallerError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broke = |source| CallerError::Exchange { to, source };
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let started = Instant::now();
        let answer = match self.protocol {
            Protocol::Http1 => {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
                tokio::spawn(connection);
                // HTTP/1.1 sends the path alone and the authority as Host (RFC 9112, section 3.2.1).
                if let Some(host) = authority.and_then(|host| host.parse().ok()) {
                    request.headers_mut().entry(http::header::HOST).or_insert(host);
                }
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
                *request.uri_mut() =
                    path.parse().map_err(|error| CallerError::Request(format!("{error}")))?;
                sender.send_request(request.map(Full::new)).await.map_err(broke)?
            }
            Protocol::Http2 => {
                let executor = TokioExecutor::new();
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
                        .await
                        .map_err(broke)?;
                tokio::spawn(connection);
                sender.send_request(request.map(Full::new)).await.map_err(broke)?
            }
        };
        Ok(read(answer, started).await)
    }
}

impl Answer {
    /// The whole body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect()
    }

    /// The body as JSON; `Null` when it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).unwrap_or(Value::Null)
    }

    /// The payloads of the server-sent events, `[DONE]` included.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        let body = String::from_utf8_lossy(&self.body()).into_owned();
        body.lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.trim().to_owned())
            .collect()
    }

    /// The text of a chat answer, streamed or whole, of the first choice.
    #[must_use]
    pub fn text(&self) -> String {
        let content = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
        let whole = self.json();
        if whole.is_object() {
            return content(&whole["choices"][0]["message"]);
        }
        let events = self.events();
        let parsed = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
        parsed.map(|event| content(&event["choices"][0]["delta"])).collect()
    }

    /// The error in the API's own shape, if that is what the body is.
    #[must_use]
    pub fn error(&self) -> Option<ApiError> {
        ApiError::read(&self.json())
    }
}

impl ApiError {
    /// Reads the shape; `None` when it is another.
    #[must_use]
    pub fn read(body: &Value) -> Option<Self> {
        let error = body.get("error")?.as_object()?;
        let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            message: text("message")?,
            kind: text("type"),
            code: text("code"),
            request_id: text("request_id"),
        })
    }
}

/// A JSON POST with an optional bearer token, to be changed further or sent with [`Caller::send`].
///
/// # Errors
/// When the URL or token is not usable in a request.
pub fn json_request(url: &str, token: Option<&str>, body: &Value) -> Result<Request<Bytes>, CallerError> {
    let builder = Request::builder().method(Method::POST).uri(url).header("content-type", "application/json");
    with_token(builder, token)
        .body(Bytes::from(body.to_string()))
        .map_err(|error| CallerError::Request(error.to_string()))
}

fn with_token(builder: http::request::Builder, token: Option<&str>) -> http::request::Builder {
    match token {
        Some(token) => builder.header("authorization", format!("Bearer {token}")),
        None => builder,
    }
}

fn target(uri: &Uri) -> Result<(String, SocketAddr), CallerError> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let address = if host == "localhost" { "127.0.0.1" } else { &host };
    let address = address
        .parse()
        .map_err(|_| CallerError::Request(format!("the host of {uri} is not a literal IP address")))?;
    Ok((host, SocketAddr::new(address, uri.port_u16().unwrap_or(default))))
}

async fn read(answer: http::Response<Incoming>, started: Instant) -> Answer {
    let (parts, mut body) = answer.into_parts();
    let (mut frames, mut cut) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(bytes)) => frames.push(Frame { after: started.elapsed(), bytes }),
            Ok(Err(_trailers)) => {}
            Err(error) => {
                // An HTTP/2 body says the same error whenever it is asked again.
                cut = Some(error.to_string());
                break;
            }
        }
    }
    Answer { status: parts.status, headers: parts.headers, frames, cut }
}
