//! Batches of spans on their way out: sent once, dropped and counted when that fails.

use super::Span;
use super::message::message;
use crate::config::settings::Traces;
use crate::identity::fetch::{self, Client, FetchError, Transport};
use crate::metrics::Metrics;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Spans of one message.
const BATCH: usize = 256;
/// How long the first of them waits for others.
const WAIT: Duration = Duration::from_secs(2);

pub(super) struct Exporter {
    endpoint: String,
    ca: Option<PathBuf>,
    host: String,
    metrics: Arc<Metrics>,
    client: Option<Client>,
    /// The last export failed: said once.
    failing: bool,
}

impl Exporter {
    pub(super) fn new(settings: &Traces, host: &str, metrics: Arc<Metrics>) -> Self {
        let (endpoint, ca) = (settings.endpoint.clone(), settings.ca.clone());
        Self { endpoint, ca, host: host.to_owned(), metrics, client: None, failing: false }
    }

    /// Exports until nobody is left who could hand spans over, and then what is left.
    pub(super) async fn run(mut self, mut spans: mpsc::Receiver<Span>) {
        while let Some(first) = spans.recv().await {
            let mut batch = vec![first];
            let until = Instant::now() + WAIT;
            while batch.len() < BATCH {
                match timeout_at(until, spans.recv()).await {
                    Ok(Some(span)) => batch.push(span),
                    Ok(None) | Err(_) => break,
                }
            }
            let count = batch.len() as u64;
            match self.export(&batch).await {
                Ok(()) => {
                    self.metrics.spans_exported(count);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("traces are taken again");
                    }
                }
                Err(why) => {
                    self.client = None;
                    self.metrics.spans_dropped("export-failed", count);
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!("traces are dropped and counted: the collector {why}");
                    }
                }
            }
        }
    }

    async fn export(&mut self, batch: &[Span]) -> Result<(), String> {
        let url: Uri = self.endpoint.parse().map_err(|_| "has no URL".to_owned())?;
        let plain = url.scheme_str() == Some("http");
        let transport = if plain { Transport::PlainLoopback } else { Transport::Tls };
        let client = match &self.client {
            Some(client) => client,
            None => {
                let client =
                    fetch::client(transport, self.ca.as_deref()).await.map_err(|error| said(&error))?;
                self.client.insert(client)
            }
        };
        let body = message(&self.host, batch).to_string();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, url);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fetch::send(client, request).await.map(|_| ()).map_err(|error| said(&error))
    }
}

/// What an operator can do about it.
fn said(error: &FetchError) -> String {
    match error {
        FetchError::Unreachable(_) => "cannot be reached: its region ([traces] region) must hold its addresses and the host's \
                                       name servers, and its certificate must chain to [traces] ca or the system's anchors"
            .to_owned(),
        FetchError::Anchors(_)
        | FetchError::SystemAnchors
        | FetchError::Tls(_)
        | FetchError::TimedOut
        | FetchError::Status(_)
        | FetchError::Body => format!("gave no good answer: {error}"),
    }
}
