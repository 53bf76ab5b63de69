//! How the writer hears that those who append have nothing else to do: then it commits what waits, and not sooner, since every
//! record that comes along shares one fsync.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Instant;

/// Rung by a runtime whose threads append to one [`crate::Log`], each time one of them is about to sleep
/// (`tokio::runtime::Builder::on_thread_park`). Cheap to clone and to ring.
///
/// It makes commits fewer and larger, never later by more than a millisecond. Where nobody rings, only what comes right after a
/// large commit waits for others.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    rung: AtomicBool,
    /// records that were queued, ever
    queued: AtomicU64,
    /// of those, how many were there when a thread last ran out of work
    idle: AtomicU64,
    /// how many of them the writer waits for; zero: it does not wait
    wanted: AtomicU64,
    writer: OnceLock<Thread>,
}

impl Bell {
    /// A thread that appends is about to sleep.
    pub fn ring(&self) {
        let shared = &*self.0;
        // Looked at first: many threads ring, and what is only read stays in each one's cache.
        if !shared.rung.load(Ordering::Relaxed) {
            shared.rung.store(true, Ordering::Relaxed);
        }
        let queued = shared.queued.load(Ordering::Relaxed);
        if shared.idle.load(Ordering::Relaxed) == queued {
            return;
        }
        // Sequentially consistent, as in `wait`: one of the two sees what the other wrote.
        shared.idle.fetch_max(queued, Ordering::SeqCst);
        let wanted = shared.wanted.load(Ordering::SeqCst);
        // Only the one that ends this very wait wakes the writer: it may be at the next one already.
        if wanted != 0
            && queued >= wanted
            && shared.wanted.compare_exchange(wanted, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            && let Some(writer) = shared.writer.get()
        {
            writer.unpark();
        }
    }

    /// A record was queued.
    pub(crate) fn count(&self) {
        self.0.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// This thread is the writer.
    pub(crate) fn attend(&self) {
        let _ = self.0.writer.set(thread::current());
    }

    /// Whether anybody rings it.
    pub(crate) fn is_rung(&self) -> bool {
        self.0.rung.load(Ordering::Relaxed)
    }

    /// Waits until a thread ran out of work when so many records had been queued (since the beginning), or until then.
    pub(crate) fn wait(&self, records: u64, until: Instant) {
        let shared = &*self.0;
        shared.wanted.store(records, Ordering::SeqCst);
        while shared.idle.load(Ordering::SeqCst) < records {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        shared.wanted.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(1)
    }

    #[test]
    fn the_writer_waits_for_an_idle_thread_and_for_as_many_records() {
        let bell = Bell::default();
        bell.attend();
        assert!(!bell.is_rung());
        bell.ring();
        assert!(bell.is_rung());

        bell.count();
        let begun = Instant::now();
        bell.wait(1, soon());
        assert!(begun.elapsed() >= Duration::from_millis(1), "nobody was idle since");
        bell.ring();
        bell.wait(1, Instant::now() + LONG);

        let other = bell.clone();
        let worker = thread::spawn(move || {
            other.count();
            other.ring();
            thread::sleep(Duration::from_millis(20));
            other.count();
            other.ring();
        });
        bell.wait(3, Instant::now() + LONG);
        assert_eq!(bell.0.idle.load(Ordering::SeqCst), 3, "not at the second");
        worker.join().unwrap();
        assert!(begun.elapsed() < LONG, "it was woken");
    }

    #[test]
    fn a_ring_is_never_lost_between_looking_and_sleeping() {
        let bell = Bell::default();
        bell.attend();
        let begun = Instant::now();
        let worker = thread::spawn({
            let bell = bell.clone();
            move || {
                for turn in 1..=5_000_u64 {
                    bell.count();
                    bell.ring();
                    while bell.0.wanted.load(Ordering::SeqCst) <= turn && begun.elapsed() < LONG {
                        thread::yield_now();
                    }
                }
            }
        });
        for turn in 1..=5_000 {
            bell.wait(turn, begun + LONG);
        }
        bell.0.wanted.store(u64::MAX, Ordering::SeqCst);
        worker.join().unwrap();
        assert!(begun.elapsed() < LONG, "a ring was lost");
    }
}
