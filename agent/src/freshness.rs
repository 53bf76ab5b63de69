//! # Freshness: datasets grow old, and somebody must hear of it
//!
//! Addresses move between countries, and a dataset does not notice. At the start, at each reload and once a day, each
//! dataset that is older than `[datasets] max_age` gets an alert of its own in the journal (a fixed `MESSAGE_ID`, which
//! the catalog explains) and a record in the trail, so that the evidence says how old the data was that decided.
//!
//! Invariants: what is judged are the datasets of the policy in force, so that a file that was imported but not yet
//! taken by a reload silences nothing; a stale dataset goes on deciding, since what it denies would not be allowed by
//! having no data at all, nor should a model go dark over a date.
//!
//! What it does not do: fetch anything, or decide anything.

use crate::app::control;
use crate::config::settings::Settings;
use crate::config::stale;
use crate::egress::Kind;
use crate::watch::alert;
use bailiwick_audit::Log;
use bailiwick_regions::{Metadata, today};
use libsystemd::logging::Priority;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked.
const EACH: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks now, at each reload and once a day, for as long as the agent lives.
pub(crate) async fn watch(mut settings: watch::Receiver<Arc<Settings>>, log: Log) {
    let mut days = tokio::time::interval(EACH);
    loop {
        tokio::select! {
            _ = days.tick() => {}
            changed = settings.changed() => if changed.is_err() {
                return;
            },
        }
        let current = Arc::clone(&settings.borrow_and_update());
        let datasets = &current.datasets;
        for dataset in datasets.stale(today()) {
            alert(Priority::Warning, Kind::Stale, stale(dataset, datasets.max_age), fields(dataset));
            let age = dataset.age(today()).to_string();
            let detail = [("dataset", dataset.name.as_str()), ("date", &dataset.date), ("age_days", &age)];
            if let Err(error) = log.append(control("stale-dataset", detail)).await {
                tracing::error!(%error, "a stale dataset is in the journal but could not be recorded in the audit trail");
            }
        }
    }
}

fn fields(dataset: &Metadata) -> Vec<(&'static str, String)> {
    vec![
        ("BAILIWICK_DATASET", dataset.name.clone()),
        ("BAILIWICK_DATASET_DATE", dataset.date.clone()),
        ("BAILIWICK_DATASET_SHA256", dataset.sha256.clone()),
        ("BAILIWICK_AGE_DAYS", dataset.age(today()).to_string()),
    ]
}
