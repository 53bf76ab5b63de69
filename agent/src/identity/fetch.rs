//! One bounded HTTP exchange: no redirects, no retries, a time-out and a size limit.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// From the first packet to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(15);

/// Largest answer in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// How a URL is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Over TLS, the server's certificate verified.
    Tls,
    /// In the clear to this very host, for an issuer that runs beside the agent.
    PlainLoopback,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("reading the trust anchors in {0}: give a PEM file with at least one certificate")]
    Anchors(PathBuf),
    #[error("the system's trust anchors cannot be read: install ca-certificates, or set the issuer's ca")]
    SystemAnchors,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("cannot be reached: {}{}", causes(.0), cure(.0))]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    #[error("answered with status {0} where 200 is due (redirects are not followed)")]
    Status(StatusCode),
    #[error("the answer broke off or is larger than {MAX_ANSWER} bytes")]
    Body,
}

/// What sends requests. One for each use: fetches of keys are hours apart, and what changed on disk (anchors, resolver) is
/// seen by the next one; introspection keeps one, and its connections.
pub(crate) type Client = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Fetches `url`; `ca` holds the only trust anchors, `None` means the system's.
pub(super) async fn get(url: &Uri, transport: Transport, ca: Option<&Path>) -> Result<Bytes, FetchError> {
    let client = client(transport, ca).await?;
    let mut request = Request::new(Full::default());
    *request.uri_mut() = url.clone();
    request.headers_mut().insert(ACCEPT, http::HeaderValue::from_static("application/json"));
    send(&client, request).await
}

/// A client for one issuer.
pub(crate) async fn client(transport: Transport, ca: Option<&Path>) -> Result<Client, FetchError> {
    let anchors = ca.map(Path::to_path_buf);
    let tls = tokio::task::spawn_blocking(move || client_config(anchors))
        .await
        .map_err(|_| FetchError::SystemAnchors)??;
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
    let connector = match transport {
        Transport::Tls => builder.https_only(),
        Transport::PlainLoopback => builder.https_or_http(),
    };
    let mut client = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    Ok(client.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).build(connector.enable_http1().build()))
}

/// Sends a request; the answer must be 200.
pub(crate) async fn send(client: &Client, request: Request<Full<Bytes>>) -> Result<Bytes, FetchError> {
    let exchange = async {
        let answer = client.request(request).await.map_err(FetchError::Unreachable)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body =
            Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|_| FetchError::Body)?;
        Ok(body.to_bytes())
    };
    tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| FetchError::TimedOut)?
}

/// What is at the bottom of it: "client error (Connect)" alone helps nobody.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The guard refuses the agent's own calls out of the issuer's region with EPERM, those to a name server included.
fn cure(error: &dyn std::error::Error) -> &'static str {
    let text = causes(error);
    if text.contains("Operation not permitted") {
        "; the guard refused it: the region that the [[issuer]] names must hold the issuer's addresses"
    } else if text.contains("dns error") {
        "; the region that the [[issuer]] names must also hold the host's name servers (/etc/resolv.conf)"
    } else if text.contains("certificate") {
        "; if the issuer has an authority of its own, name it: ca = \"/path/to/ca.pem\""
    } else {
        ""
    }
}

fn client_config(ca: Option<PathBuf>) -> Result<ClientConfig, FetchError> {
    let versions = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?;
    let verified = match ca {
        Some(path) => versions.with_root_certificates(anchors(&path).ok_or(FetchError::Anchors(path))?),
        None => versions.with_native_roots().map_err(|_| FetchError::SystemAnchors)?,
    };
    Ok(verified.with_no_client_auth())
}

fn anchors(path: &Path) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).ok()? {
        store.add(certificate.ok()?).ok()?;
    }
    (!store.is_empty()).then_some(store)
}
