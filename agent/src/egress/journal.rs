//! Alerts to journald, in its native protocol, from a thread of their own.
//!
//! Nothing is dropped without a word: folding keeps the alerts few ([`super::fold`]); the unit sets journald's rate limit for it
//! beyond what ever comes, and journald says itself what it suppresses if somebody switches it on again; what does not
//! fit into the queue is counted and said with [`Kind::Lost`].

use super::Alert;
use super::fold::{Folded, Many};
use super::kind::Kind;
use super::names::Tunnel;
use bailiwick_kernel::Verdict;
use libsystemd::logging::{Priority, journal_send};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Alerts that may wait for the journal before more are counted instead of kept.
const WAITING_MAX: usize = 4096;

/// What an entry of the journal has.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) priority: Priority,
    pub(super) message: String,
    /// Besides `MESSAGE`, `MESSAGE_ID`, `PRIORITY` and `SYSLOG_IDENTIFIER`.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl From<Folded> for Entry {
    fn from(folded: Folded) -> Self {
        match folded {
            Folded::Alert(alert) => Self::from(*alert),
            Folded::Many(many) => many.into(),
        }
    }
}

impl From<Alert> for Entry {
    fn from(alert: Alert) -> Self {
        Self {
            kind: alert.kind(),
            priority: alert.priority(),
            message: alert.message(),
            fields: alert.fields(),
        }
    }
}

impl From<Many> for Entry {
    fn from(many: Many) -> Self {
        let Many { scope, verdict, said } = many;
        let name = scope.as_ref().map_or("a model that is no longer configured", |name| name.as_str());
        let refused = match verdict {
            Verdict::Deny => "refused",
            Verdict::WouldDeny => "would be refused (shadow mode)",
        };
        let (count, total) = (said.count, said.total);
        let message = format!(
            "{name}: {count} attempts more were {refused}, of more kinds at once than are told apart ({total} in all). Somebody \
             may be trying addresses one after the other; see each of them: bailiwick audit show, bailiwick egress"
        );
        let mut fields = vec![
            ("BAILIWICK_VERDICT", super::alert::verdict(verdict).to_owned()),
            ("BAILIWICK_COUNT", count.to_string()),
            ("BAILIWICK_TOTAL", total.to_string()),
        ];
        fields.extend(scope.map(|scope| ("BAILIWICK_MODEL", scope.to_string())));
        Self { kind: Kind::Many, priority: Priority::Warning, message, fields }
    }
}

impl From<&Tunnel> for Entry {
    fn from(tunnel: &Tunnel) -> Self {
        let Tunnel { scope, resolver, protocol, finding } = tunnel;
        let name = scope.as_ref().map_or("a model that is no longer configured", |name| name.as_str());
        let within = match finding.within.as_secs() {
            60 => "a minute".to_owned(),
            3600 => "an hour".to_owned(),
            seconds => format!("{seconds} s"),
        };
        let message = format!(
            "{name}: it asked {resolver} for {} different names under {} within {within}, {} of them like encoded data ({} bytes \
             in all): data may be leaving as DNS queries, inside a destination that is allowed. Find the process and stop \
             it; to close the way, let the model ask a resolver that answers for the names that it needs only",
            finding.names, finding.domain, finding.data_like, finding.bytes
        );
        let mut fields = vec![
            ("BAILIWICK_VERDICT", "allow".to_owned()),
            ("BAILIWICK_REASON", "dns-tunnel".to_owned()),
            ("BAILIWICK_DESTINATION", resolver.ip().to_string()),
            ("BAILIWICK_PORT", resolver.port().to_string()),
            ("BAILIWICK_PROTOCOL", super::alert::protocol(*protocol)),
            ("BAILIWICK_NAME", finding.domain.clone()),
            ("BAILIWICK_COUNT", finding.names.to_string()),
            ("BAILIWICK_DATA_LIKE", finding.data_like.to_string()),
            ("BAILIWICK_BYTES", finding.bytes.to_string()),
            ("BAILIWICK_LONGEST_LABEL", finding.longest_label.to_string()),
            ("BAILIWICK_ENTROPY", format!("{:.2}", finding.entropy)),
        ];
        fields.extend(scope.as_ref().map(|scope| ("BAILIWICK_MODEL", scope.to_string())));
        Self { kind: Kind::Tunnel, priority: Priority::Warning, message, fields }
    }
}

/// The way to the journal. A thread, because the journal's socket blocks when journald does not read.
pub(super) struct Journal {
    waiting: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Journal {
    /// Starts the thread; it ends when the `Journal` is dropped.
    pub(super) fn start() -> Self {
        Self::to(write)
    }

    fn to(write: impl Fn(Entry) + Send + 'static) -> Self {
        let (waiting, entries) = sync_channel::<Entry>(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let thread = std::thread::spawn(move || {
            for entry in entries {
                write(entry);
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    write(lost_entry(lost));
                }
            }
        });
        Self { waiting, dropped, thread }
    }

    /// Queues one entry. When journald cannot keep up it is counted, and the count is said as soon as the journal takes
    /// entries again; the trail has each of them all the same.
    pub(super) fn send(&self, entry: impl Into<Entry>) {
        match self.waiting.try_send(entry.into()) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until all that was queued is written; it blocks.
    pub(super) fn finish(self) {
        let Self { waiting, thread, .. } = self;
        drop(waiting);
        // The thread cannot fail; if it did, its panic was told already.
        let _told = thread.join();
    }
}

fn write(entry: Entry) {
    let Entry { kind, priority, message, fields } = entry;
    let own = [("SYSLOG_IDENTIFIER", "bailiwick".to_owned()), ("MESSAGE_ID", kind.message_id().to_owned())];
    if let Err(error) = journal_send(priority, &message, own.into_iter().chain(fields)) {
        // Not under systemd, or journald is gone: standard error is what is left.
        tracing::warn!(%error, "{message}");
    }
}

fn lost_entry(count: u64) -> Entry {
    Entry {
        kind: Kind::Lost,
        priority: Priority::Warning,
        message: format!(
            "{count} alerts came faster than the journal took them; the audit trail has each of them: bailiwick audit show"
        ),
        fields: vec![("BAILIWICK_COUNT", count.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn what_a_slow_journal_cannot_take_is_counted_and_said() {
        let (release, released) = channel::<()>();
        let (written, writes) = channel();
        let journal = Journal::to(move |entry: Entry| {
            // The first one waits until it may; a channel that is gone lets all others pass.
            let _either = released.recv();
            let _ = written.send((entry.kind, entry.message));
        });
        let entry = || Entry {
            kind: Kind::Refused,
            priority: Priority::Warning,
            message: String::new(),
            fields: Vec::new(),
        };
        let sent = WAITING_MAX as u64 + 500;
        for _ in 0..sent {
            journal.send(entry());
        }
        drop(release);
        journal.finish();
        let all: Vec<(Kind, String)> = writes.iter().collect();
        let (lost, told): (Vec<_>, Vec<_>) = all.into_iter().partition(|(kind, _)| *kind == Kind::Lost);
        assert_eq!(lost.len(), 1, "once");
        let count: u64 = lost[0].1.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(told.len() as u64 + count, sent, "each is told or counted");
    }
}
