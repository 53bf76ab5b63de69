//! What is read at the moment when somebody asks: the guard, the servers, the trail, keys, datasets, the certificate.

use super::{Metrics, Sources, counters, gauges, registered};
use bailiwick_kernel::Status;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;

/// A look at the kernel that is older than this tells nothing: the watch looks once a second.
const STALE: Duration = Duration::from_secs(5);

/// The numbers that others keep, as they were at the last scrape.
#[derive(Debug)]
pub(super) struct Told {
    one_at_a_time: Mutex<()>,
    guarded: IntGauge,
    generation: IntGauge,
    denied: IntCounterVec,
    would_deny: IntCounterVec,
    lost: IntCounter,
    unseen: IntCounter,
    up: IntGaugeVec,
    busy: IntGaugeVec,
    records: IntCounter,
    commits: IntCounter,
    writable: IntGauge,
    key_age: GaugeVec,
    dataset_age: IntGaugeVec,
    expiry: IntGauge,
    ready: IntGauge,
}

impl Told {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter =
            |name: &str, help: &str| registered(registry, IntCounter::new(format!("bailiwick_{name}"), help));
        let gauge =
            |name: &str, help: &str| registered(registry, IntGauge::new(format!("bailiwick_{name}"), help));
        let build = gauges(registry, "build_info", "1, labelled with the agent's version.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            one_at_a_time: Mutex::default(),
            guarded: gauge("guard_stands", "1 when the kernel holds everything that the config names."),
            generation: gauge("policy_generation", "The policy in force in the kernel; 0 for none."),
            denied: counters(
                registry,
                "guard_denied_total",
                "What the kernel refused since the guard was put up, by reason.",
                &["reason"],
            ),
            would_deny: counters(
                registry,
                "guard_would_deny_total",
                "What the kernel would have refused but for shadow mode, by reason.",
                &["reason"],
            ),
            lost: counter("guard_lost_events_total", "Refusals that came too fast to be told one by one."),
            unseen: counter(
                "guard_lost_observations_total",
                "Flows and first words that came too fast to be told one by one.",
            ),
            up: gauges(
                registry,
                "upstream_up",
                "1 when a model's server is well, as far as checks and requests tell.",
                &["model", "upstream"],
            ),
            busy: gauges(
                registry,
                "upstream_active_requests",
                "Requests that a model's server has now.",
                &["model", "upstream"],
            ),
            records: counter("audit_records_total", "Records made durable in the audit trail."),
            commits: counter("audit_commits_total", "Group commits of the audit trail, each one fdatasync."),
            writable: gauge(
                "audit_writable",
                "1 while the audit trail can be written; without it nothing is served.",
            ),
            key_age: registered(
                registry,
                GaugeVec::new(
                    super::options("issuer_key_age_seconds", "Since an issuer's keys were fetched."),
                    &["issuer"],
                ),
            ),
            dataset_age: gauges(
                registry,
                "dataset_age_seconds",
                "Since the date of a dataset of regions, in whole days.",
                &["dataset"],
            ),
            expiry: gauge(
                "tls_certificate_expiry_timestamp_seconds",
                "When the proxy's certificate expires, since the epoch.",
            ),
            ready: gauge("ready", "1 when /readyz says yes."),
        }
    }

    /// Reads everything anew; hold what it returns until the text is made.
    pub(super) fn fill(&self, metrics: &Metrics, sources: &Sources) -> MutexGuard<'_, ()> {
        let alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = std::sync::Arc::clone(&sources.policy.borrow());
        let truth = metrics.truth();
        self.guarded.set(i64::from(truth.as_ref().is_some_and(|truth| truth.guarded)));
        if let Some(truth) = &truth {
            self.generation.set(truth.generation.map_or(0, i64::from));
            refill(&self.denied, truth.denied.iter());
            refill(&self.would_deny, truth.would_deny.iter());
            recount(&self.lost, truth.lost_events);
            recount(&self.unseen, truth.lost_observations);
        }
        self.up.reset();
        self.busy.reset();
        for server in policy.upstream_health() {
            let labels = [server.model.as_str(), server.upstream.as_str()];
            self.up.with_label_values(&labels).set(i64::from(server.state == "up"));
            self.busy.with_label_values(&labels).set(whole(server.active));
        }
        let written = sources.log.statistics();
        recount(&self.records, written.records);
        recount(&self.commits, written.commits);
        self.writable.set(i64::from(sources.log.check().is_ok()));
        self.key_age.reset();
        for (issuer, age) in policy.key_ages() {
            if let Some(age) = age {
                self.key_age.with_label_values(&[issuer.as_str()]).set(age.as_secs_f64());
            }
        }
        self.dataset_age.reset();
        let today = OffsetDateTime::now_utc().date();
        for dataset in &policy.settings().datasets.kept {
            let age = i64::from(dataset.age(today)) * 86_400;
            self.dataset_age.with_label_values(&[dataset.name.to_string().as_str()]).set(age);
        }
        self.expiry.set(policy.certificate().map_or(0, |validity| validity.until.unix_timestamp()));
        self.ready.set(i64::from(metrics.readiness(sources).ready));
        alone
    }
}

impl Metrics {
    /// What the kernel said at a look that is recent.
    pub(super) fn truth(&self) -> Option<Status> {
        let seen = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|(at, _)| at.elapsed() < STALE).map(|(_, truth)| truth.clone())
    }
}

/// A counter that the kernel or the trail keeps: it is told as it is.
fn recount(counter: &IntCounter, count: u64) {
    counter.reset();
    counter.inc_by(count);
}

fn refill<'a>(counters: &IntCounterVec, counted: impl Iterator<Item = (&'a String, &'a u64)>) {
    counters.reset();
    for (reason, count) in counted {
        counters.with_label_values(&[reason.as_str()]).inc_by(*count);
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
