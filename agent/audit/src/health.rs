//! One failure stops the trail for good, and every thread and caller learns of the first one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::AuditError;

/// Shared by the committer, the integrator and the callers.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failure: OnceLock<Arc<str>>,
    pub(crate) counts: Counts,
}

impl Health {
    /// Poisons the trail; the first failure is the one that stays.
    pub(crate) fn fail(&self, error: &AuditError) -> Arc<str> {
        if self.failure.get().is_none() {
            tracing::error!(%error, "the audit trail stopped");
        }
        Arc::clone(self.failure.get_or_init(|| error.to_string().into()))
    }

    pub(crate) fn check(&self) -> Result<(), Arc<str>> {
        self.failure.get().map_or(Ok(()), |cause| Err(Arc::clone(cause)))
    }
}

/// What the writer has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// records made durable
    pub records: u64,
    /// group commits, each one `fdatasync`
    pub commits: u64,
    /// checkpoints signed
    pub checkpoints: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    records: AtomicU64,
    commits: AtomicU64,
    checkpoints: AtomicU64,
}

impl Counts {
    pub(crate) fn commit(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn checkpoint(&self) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Statistics {
        Statistics {
            records: self.records.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            checkpoints: self.checkpoints.load(Ordering::Relaxed),
        }
    }
}
