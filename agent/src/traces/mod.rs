//! # Traces: one span a request, for whoever looks for where the time went
//!
//! ```text
//!   proxy ── a request of a known caller has ended ──▶ queue (bounded) ──▶ export.rs ── OTLP/HTTP, JSON ──▶ collector
//!                                                        full: dropped, counted        failed: dropped, counted
//! ```
//!
//! Invariants:
//! - **No content.** A span has names of the config, numbers and words of this program, after OpenTelemetry's conventions for
//!   generative AI (`gen_ai.*`): no prompt, answer, subject, address, token or model name that a caller wrote (law 5).
//! - **It blocks nobody.** Handing a span over never waits; what does not fit is dropped and counted
//!   (`bailiwick_traces_dropped_total`). Nothing is sent twice.
//! - **The destination has a region** that the agent's own egress is held to (law 8).
//! - A caller's `traceparent` (W3C Trace Context) makes the span a part of the caller's trace once the caller is known. It is
//!   not forwarded to the model, which is not to learn whose request it has (law 6); `tracestate` and baggage are not read.
//!
//! What it does not do: it samples nothing (a caller's flag does not decide what the operator sees), and is no evidence: the
//! audit trail is. An exporter of our own, since the SDK for it brings a runtime, an HTTP client and a code generator along,
//! for a message of one shape.

mod context;
mod export;
mod message;

pub use context::Context;

use crate::config::settings::Traces;
use crate::metrics::Metrics;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Spans that wait.
const QUEUE: usize = 2048;

/// Takes spans; cheap to clone.
#[derive(Clone)]
pub struct Tracer {
    queue: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tracer")
    }
}

/// One request's story, without what was said.
#[derive(Clone, Debug)]
pub struct Span {
    /// Whose trace it is part of.
    pub context: Context,
    /// When the request's head was there.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// The request's id, as in the audit trail.
    pub request: String,
    /// The model's name in the config; none where the path led nowhere.
    pub model: Option<String>,
    /// What serves it: the preset's name.
    pub provider: Option<&'static str>,
    /// The endpoint's name.
    pub endpoint: Option<&'static str>,
    /// The server that got it.
    pub upstream: Option<String>,
    /// As in the audit trail, or `denied`.
    pub outcome: &'static str,
    /// Kebab-case; empty for none.
    pub reason: &'static str,
    /// What the caller was told.
    pub status: u16,
    /// Tokens, where they were counted.
    pub tokens: Option<u64>,
    /// From the request's head to the first piece of a streamed answer.
    pub first_token: Option<Duration>,
}

impl Tracer {
    /// Hands a span over, or drops it.
    pub fn end(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans_dropped("queue-full", 1);
        }
    }
}

/// Starts to export; the task ends, what waits exported, when the last [`Tracer`] is gone. Call it inside a runtime.
#[must_use]
pub fn start(settings: &Traces, host: &str, metrics: &Arc<Metrics>) -> (Tracer, JoinHandle<()>) {
    let (queue, spans) = mpsc::channel(QUEUE);
    let exporter = export::Exporter::new(settings, host, Arc::clone(metrics));
    (Tracer { queue, metrics: Arc::clone(metrics) }, tokio::spawn(exporter.run(spans)))
}
