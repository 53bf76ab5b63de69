//! Alerts to journald, in its native protocol, from a thread of their own.

use super::Alert;
use libsystemd::logging::{Priority, journal_send};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// Alerts that may wait for the journal before more are counted instead of kept.
const WAITING_MAX: usize = 4096;

/// The way to the journal. A thread, because the journal's socket blocks when journald does not read.
pub(super) struct Journal {
    waiting: SyncSender<Alert>,
    dropped: Arc<AtomicU64>,
}

impl Journal {
    /// Starts the thread; it ends when the `Journal` is dropped.
    pub(super) fn start() -> Self {
        let (waiting, alerts) = sync_channel::<Alert>(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::spawn(move || {
            for alert in alerts {
                write(&alert);
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    write_lost(lost);
                }
            }
        });
        Self { waiting, dropped }
    }

    /// Queues one alert. When journald cannot keep up the alert is counted, and the count is said as soon as
    /// the journal takes entries again; the trail has each of them all the same.
    pub(super) fn send(&self, alert: Alert) {
        match self.waiting.try_send(alert) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn write(alert: &Alert) {
    let priority = if alert.blocked() { Priority::Warning } else { Priority::Notice };
    let message = alert.message();
    if let Err(error) = journal_send(priority, &message, alert.fields().into_iter()) {
        // Not under systemd, or journald is gone: standard error is what is left.
        tracing::warn!(%error, "{message}");
    }
}

fn write_lost(count: u64) {
    let message =
        format!("{count} alerts came faster than the journal took them; the audit trail has each of them");
    let fields = [("SYSLOG_IDENTIFIER", "bailiwick".to_owned()), ("BAILIWICK_COUNT", count.to_string())];
    if let Err(error) = journal_send(Priority::Warning, &message, fields.into_iter()) {
        tracing::warn!(%error, "{message}");
    }
}
