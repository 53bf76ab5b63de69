//! The load: connections that ask as fast as they are answered, and what they saw.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::{CONNECTIONS, Measured, WARM_UP};

/// Whom to ask, and how.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
}

/// What one round showed.
#[derive(Debug)]
pub(crate) struct Round {
    /// answers a second
    pub(crate) rate: f64,
    /// half of the requests took no longer
    pub(crate) p50: Duration,
    /// 99 of 100 took no longer
    pub(crate) p99: Duration,
    /// the warm-up's too
    pub(crate) all_requests: u32,
}

impl Target {
    /// HTTP without a token.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, authorization: None }
    }

    /// HTTPS with a bearer token.
    pub(crate) fn tls(address: SocketAddr, tls: Arc<rustls::ClientConfig>, token: &str) -> Measured<Self> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))?;
        authorization.set_sensitive(true);
        Ok(Self { address, tls: Some(TlsConnector::from(tls)), authorization: Some(authorization) })
    }
}

/// One round, after a warm-up. Any answer but 200 ends the bench: the speed of refusals is not what is measured.
pub(crate) fn round(target: &Target, length: Duration) -> Measured<Round> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut connections = JoinSet::new();
        let from = Instant::now() + WARM_UP;
        for _ in 0..CONNECTIONS {
            connections.spawn(ask_until(target.clone(), from, from + length));
        }
        let (mut times, mut all_requests) = (Vec::new(), 0);
        while let Some(ended) = connections.join_next().await {
            let (seen, requests) = ended??;
            times.extend(seen);
            all_requests += requests;
        }
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied().ok_or("nothing was answered");
        let answered = u32::try_from(times.len())?;
        Ok(Round {
            rate: f64::from(answered) / length.as_secs_f64(),
            p50: at(50)?,
            p99: at(99)?,
            all_requests,
        })
    })
}

/// The status of one answer.
pub(crate) fn ask_once(target: &Target) -> Measured<http::StatusCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async { Ok(connect(target).await?.send_request(request(target)?).await?.status()) })
}

async fn ask_until(target: Target, from: Instant, until: Instant) -> Measured<(Vec<Duration>, u32)> {
    let mut sender = connect(&target).await?;
    let (mut times, mut requests) = (Vec::new(), 0);
    loop {
        let asked = Instant::now();
        if asked >= until {
            return Ok((times, requests));
        }
        sender.ready().await?;
        let answer = sender.send_request(request(&target)?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status != http::StatusCode::OK {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
        }
        requests += 1;
        if asked >= from {
            times.push(asked.elapsed());
        }
    }
}

/// One connection, ready to be asked over.
pub(crate) async fn connect(target: &Target) -> Measured<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &target.tls else {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        return Ok(sender);
    };
    let stream = tls.connect(ServerName::from(target.address.ip()), stream).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A short conversation.
fn request(target: &Target) -> Measured<Request<Full<Bytes>>> {
    const BODY: &str = r#"{"model":"bench","max_tokens":160,"messages":[{"role":"system","content":"You are a helpful assistant that answers briefly and names its sources where it has any."},{"role":"user","content":"Summarise for me in four sentences what the report of last quarter says about energy use in the northern halls, and what has changed since the year before."}]}"#;
    asking(target, Bytes::from_static(BODY.as_bytes()))
}

/// A chat completion is asked for.
pub(crate) fn asking(target: &Target, body: Bytes) -> Measured<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/v1/chat/completions");
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(&target.address.to_string())?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(authorization) = &target.authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}
