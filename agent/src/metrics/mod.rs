//! # Metrics: health, readiness and numbers, for whoever operates the proxy
//!
//! ```text
//!   proxy ── each request, when it ends ──▶ Metrics ◀── kernel truth, once a second ── watch
//!                                             │
//!   load balancer ── GET /healthz, /readyz ──▶ listener.rs ──▶ readiness.rs   guard, trail, certificate, upstreams, draining
//!   Prometheus ───── GET /metrics ───────────▶     └─────────▶ scrape.rs      what is read when it is asked for
//! ```
//!
//! Invariants:
//! - **Labels are ours.** A label is a name of the config (model, upstream, issuer, dataset) or a word of this program
//!   (endpoint, outcome, reason): nothing that a caller or a model sends becomes one, so that their number is bounded and no
//!   payload, subject, token or credential can be in the answer (law 5).
//! - The listener is loopback or a Unix socket; anywhere else only with the operator's reason. It is for reading: there is
//!   no path that changes anything.
//! - The guard's numbers are the kernel's own, from the look that the watch took last; one that is too old counts as none.
//!
//! What it does not do: it keeps no history and alerts nobody; a restart begins at zero, as Prometheus expects.

mod listener;
mod readiness;
mod scrape;

pub use listener::Listener;
pub use readiness::{Readiness, Validity};

use crate::proxy::Policy;
use bailiwick_audit::Log;
use bailiwick_kernel::Status;
use bailiwick_policy::Name;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Seconds: a model thinks and speaks for anything from a moment to many minutes.
const REQUESTS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];
/// Seconds.
const FIRST_TOKEN: [f64; 11] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds: one `fdatasync`, or a disk that hangs.
const COMMITS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// What is counted. There is one an agent; a reload goes on with it.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    first_tokens: HistogramVec,
    tokens: IntCounterVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    active: IntGaugeVec,
    streams: IntGaugeVec,
    commits: Histogram,
    exported: IntCounter,
    dropped: IntCounterVec,
    told: scrape::Told,
    guard: Mutex<Option<(Instant, Status)>>,
}

/// What is asked when somebody asks.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The policy in force.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// The trail.
    pub log: Log,
    /// True once the agent is to stop.
    pub stopping: watch::Receiver<bool>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        Self {
            requests: counters(
                &registry,
                "requests_total",
                "Requests that have ended, by how and why.",
                &["model", "endpoint", "outcome", "reason"],
            ),
            durations: histograms(
                &registry,
                "request_duration_seconds",
                "From a request's head to the end of its story.",
                &REQUESTS,
            ),
            first_tokens: histograms(
                &registry,
                "time_to_first_token_seconds",
                "From a streamed request's admission to the first piece of the model's answer.",
                &FIRST_TOKEN,
            ),
            tokens: counters(
                &registry,
                "tokens_total",
                "Tokens of requests and answers, as the model tells them or as estimated.",
                &["model"],
            ),
            request_bytes: counters(
                &registry,
                "request_bytes_total",
                "Bytes of the bodies of admitted requests.",
                &["model"],
            ),
            response_bytes: counters(
                &registry,
                "response_bytes_total",
                "Bytes of the bodies of answers.",
                &["model"],
            ),
            active: gauges(&registry, "active_requests", "Requests under way.", &["model"]),
            streams: gauges(&registry, "active_streams", "Streamed requests under way.", &["model"]),
            commits: {
                let name = "bailiwick_audit_commit_duration_seconds";
                let help = "From a record to its being durable in the audit trail.";
                let options = HistogramOpts::new(name, help).buckets(COMMITS.to_vec());
                registered(&registry, Histogram::with_opts(options))
            },
            exported: registered(
                &registry,
                IntCounter::new("bailiwick_traces_exported_total", "Spans that the collector took."),
            ),
            dropped: counters(
                &registry,
                "traces_dropped_total",
                "Spans that were dropped, by reason.",
                &["reason"],
            ),
            told: scrape::Told::new(&registry),
            guard: Mutex::default(),
            registry,
        }
    }
}

impl Metrics {
    /// An admitted request is under way until the answer is dropped.
    pub fn begin(&self, model: &Name, streamed: bool, request_bytes: usize) -> Active<'_> {
        let label = [model.as_str()];
        self.request_bytes.with_label_values(&label).inc_by(request_bytes as u64);
        let streams = streamed.then(|| self.streams.with_label_values(&label));
        let gauges = [Some(self.active.with_label_values(&label)), streams];
        gauges.iter().flatten().for_each(|gauge| gauge.inc());
        Active { metrics: self, model: model.clone(), gauges, since: Instant::now() }
    }

    /// A request has ended; `model` and `endpoint` where it led to one that the config has.
    pub fn ended(
        &self,
        model: Option<&str>,
        endpoint: Option<&'static str>,
        outcome: &'static str,
        reason: &'static str,
        after: Duration,
    ) {
        let (model, endpoint) = (model.unwrap_or_default(), endpoint.unwrap_or_default());
        self.requests.with_label_values(&[model, endpoint, outcome, reason]).inc();
        self.durations.with_label_values(&[model, endpoint]).observe(after.as_secs_f64());
    }

    /// A record was durable, or given up, after so long.
    pub fn committed(&self, after: Duration) {
        self.commits.observe(after.as_secs_f64());
    }

    /// So many spans were taken by the collector.
    pub fn spans_exported(&self, count: u64) {
        self.exported.inc_by(count);
    }

    /// So many spans were dropped.
    pub fn spans_dropped(&self, reason: &'static str, count: u64) {
        self.dropped.with_label_values(&[reason]).inc_by(count);
    }

    /// What the kernel said at the last look.
    pub fn guard_seen(&self, truth: Status) {
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), truth));
    }

    /// Everything, in Prometheus' text format (0.0.4).
    ///
    /// # Errors
    /// when it cannot be written down, which is a defect
    pub fn text(&self, sources: &Sources) -> Result<String, prometheus::Error> {
        let _one_at_a_time = self.told.fill(self, sources);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// An admitted request under way.
#[derive(Debug)]
pub struct Active<'a> {
    metrics: &'a Metrics,
    model: Name,
    gauges: [Option<IntGauge>; 2],
    since: Instant,
}

impl Active<'_> {
    /// It was answered, with so many bytes, at the cost of so many tokens where they were counted; `first` is when a
    /// stream's first piece came.
    pub fn answered(
        &self,
        endpoint: &'static str,
        bytes: u64,
        tokens: Option<u64>,
        first: Option<tokio::time::Instant>,
    ) {
        let (Self { metrics, model, since, .. }, label) = (self, &[self.model.as_str()]);
        metrics.response_bytes.with_label_values(label).inc_by(bytes);
        if let Some(tokens) = tokens {
            metrics.tokens.with_label_values(label).inc_by(tokens);
        }
        if let Some(first) = first {
            let after = first.into_std().saturating_duration_since(*since);
            metrics.first_tokens.with_label_values(&[model.as_str(), endpoint]).observe(after.as_secs_f64());
        }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.gauges.iter().flatten().for_each(|gauge| gauge.dec());
    }
}

/// A metric that was made from constants and is asked for by its registry alone.
fn registered<T: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<T>) -> T {
    let registered = made.and_then(|metric| registry.register(Box::new(metric.clone())).map(|()| metric));
    registered.unwrap_or_else(|error| unreachable!("a metric's name and labels are constants: {error}"))
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("bailiwick")
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(options(name, help), labels))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(options(name, help), labels))
}

fn histograms(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::from(options(name, help)).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(options, &["model", "endpoint"]))
}
