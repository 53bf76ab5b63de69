//! The listener: three paths, to be read.

use super::{Metrics, Sources};
use crate::config::settings::MetricsListener;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// Connections at once; more wait in the kernel's backlog.
const CONNECTIONS: usize = 32;
/// For a request's head, and for the next one on a kept connection.
const PATIENCE: Duration = Duration::from_secs(20);
/// For a whole connection: whoever scrapes comes again.
const LONGEST: Duration = Duration::from_secs(300);
/// After an accept that failed for want of something, which would fail at once again.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(200);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A listener that is bound.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    metrics: Arc<Metrics>,
    sources: Sources,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens. A Unix socket is made with mode 0660; one that an agent left that was killed makes room. Call it inside a
    /// tokio runtime, and with the host's lock.
    ///
    /// # Errors
    /// when it cannot listen; the message says where
    pub fn bind(at: &MetricsListener, metrics: Arc<Metrics>, sources: Sources) -> io::Result<Self> {
        let named = |at: &dyn std::fmt::Display, error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {at}: {error}; see [metrics] listen"))
        };
        let socket = match at {
            MetricsListener::Address(address) => {
                Socket::Tcp(tcp(*address).map_err(|error| named(address, error))?)
            }
            MetricsListener::Socket(path) => {
                Socket::Unix(unix(path).map_err(|error| named(&path.display(), error))?, path.clone())
            }
        };
        Ok(Self { socket, metrics, sources })
    }

    /// Where it listens; `None` for a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Serves until it is dropped.
    pub async fn serve(self) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let (metrics, sources) = (Arc::clone(&self.metrics), self.sources.clone());
            let accepted = match &self.socket {
                Socket::Tcp(listener) => listener.accept().await.map(|(socket, _)| {
                    connections.spawn(async move {
                        let _place = place;
                        converse(socket, &metrics, &sources).await;
                    });
                }),
                Socket::Unix(listener, _) => listener.accept().await.map(|(socket, _)| {
                    connections.spawn(async move {
                        let _place = place;
                        converse(socket, &metrics, &sources).await;
                    });
                }),
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "the metrics listener does not accept");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // What stays makes room for the next agent's.
            let _gone_already = fs::remove_file(path);
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn unix(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else of this name"));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}

async fn converse<S>(socket: S, metrics: &Arc<Metrics>, sources: &Sources)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), metrics, sources))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(socket), service);
    // Whoever left or spoke nonsense is nobody's concern.
    let _ended = tokio::time::timeout(LONGEST, connection).await;
}

/// The answer to one request; whatever else it holds is not read.
fn answer(method: &Method, path: &str, metrics: &Metrics, sources: &Sources) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, TEXT, "read only: GET or HEAD\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/healthz" => said(StatusCode::OK, JSON, "{\"alive\":true}\n".to_owned()),
        "/readyz" => {
            let readiness = metrics.readiness(sources);
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let text = serde_json::to_string(&readiness).unwrap_or_else(|_| "{\"ready\":false}".to_owned());
            said(status, JSON, text + "\n")
        }
        "/metrics" => match metrics.text(sources) {
            Ok(text) => said(StatusCode::OK, TEXT, text),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written down");
                said(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "they cannot be written down\n".to_owned())
            }
        },
        _ => said(StatusCode::NOT_FOUND, TEXT, "/healthz, /readyz, /metrics\n".to_owned()),
    }
}

fn said(status: StatusCode, kind: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
