//! The writer: one thread that takes whatever has queued up while the last fsync ran and until those who append have nothing
//! else to do, writes it as one frame, syncs it once, and only then acknowledges it.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::bell::Bell;
use crate::disk::Store;
use crate::error::AuditError;
use crate::health::Health;
use crate::integrate::{Message, Pending};
use crate::record::Index;
use crate::wal::{Segment, Spares};

/// A batch is closed once it has this many bytes; a record may exceed it by its own length.
const BATCH_BYTES: usize = 1 << 20;

/// Right after a commit of at least so many records the next one waits for as many: where so many come while one fsync runs, each
/// costs less when more share the next one.
const MANY: u64 = 16;

/// How long a commit waits for more, at most. Short beside an fsync.
const PATIENCE: Duration = Duration::from_millis(1);

/// What callers ask of the writer.
pub(crate) enum Command {
    Append { entry: Vec<u8>, reply: oneshot::Sender<Result<Index, Arc<str>>> },
    Close(oneshot::Sender<Result<(), Arc<str>>>),
}

/// The writer's state.
pub(crate) struct Committer {
    pub(crate) store: Arc<Store>,
    pub(crate) bell: Bell,
    pub(crate) segment: Segment,
    pub(crate) next: u64,
    pub(crate) health: Arc<Health>,
    pub(crate) pending: Arc<Pending>,
    /// Bounded: an integrator that falls far behind slows appends down instead of filling the memory.
    pub(crate) integrator: SyncSender<Message>,
    pub(crate) spares: Arc<Spares>,
    /// A segment that has reached this length is followed by a new one.
    pub(crate) segment_bytes: u64,
}

#[derive(Default)]
struct Batch {
    entries: Vec<Vec<u8>>,
    replies: Vec<oneshot::Sender<Result<Index, Arc<str>>>>,
    bytes: usize,
}

impl Committer {
    /// The thread. Ends on a close, or when the last caller is gone.
    pub(crate) fn run(mut self, commands: &mut mpsc::Receiver<Command>) {
        self.bell.attend();
        // Records: all that were taken, and of those the last batch; and when that was written.
        let (mut taken, mut last, mut written) = (0u64, 0u64, Instant::now());
        while let Some(first) = commands.blocking_recv() {
            let many = last >= MANY && written.elapsed() < PATIENCE;
            if (many || self.bell.is_rung()) && matches!(first, Command::Append { .. }) {
                self.bell.wait(taken + if many { last } else { 1 }, Instant::now() + PATIENCE);
            }
            let mut batch = Batch::default();
            let mut next = Some(first);
            let mut closing = None;
            while let Some(command) = next {
                match command {
                    Command::Append { entry, reply } => {
                        batch.bytes += entry.len();
                        batch.entries.push(entry);
                        batch.replies.push(reply);
                    }
                    Command::Close(reply) => {
                        closing = Some(reply);
                        break;
                    }
                }
                next = if batch.bytes < BATCH_BYTES { commands.try_recv().ok() } else { None };
            }
            last = batch.entries.len() as u64;
            taken += last;
            self.commit(batch);
            written = Instant::now();
            if let Some(reply) = closing {
                self.close(reply);
                return;
            }
        }
    }

    fn commit(&mut self, batch: Batch) {
        if batch.entries.is_empty() {
            return;
        }
        let first = self.next;
        match self.make_durable(first, &batch.entries) {
            Ok(()) => {
                for (index, reply) in (first..).zip(batch.replies) {
                    // A caller that gave up waiting is no reason to stop.
                    let _ = reply.send(Ok(Index(index)));
                }
                if self.pending.add(batch.entries) && self.integrator.send(Message::Pending).is_err() {
                    self.health
                        .fail(&AuditError::Failed { cause: "the thread that makes tiles ended".into() });
                }
            }
            Err(cause) => {
                for reply in batch.replies {
                    let _ = reply.send(Err(Arc::clone(&cause)));
                }
            }
        }
    }

    fn make_durable(&mut self, first: u64, entries: &[Vec<u8>]) -> Result<(), Arc<str>> {
        self.health.check()?;
        if self.segment.length() >= self.segment_bytes {
            let segment = match self.spares.take() {
                Some(spare) => Segment::write_over(&self.store, first, spare),
                None => Segment::create(&self.store, first),
            };
            self.segment = segment.map_err(|error| self.health.fail(&error))?;
        }
        // After a failed fsync the kernel marks pages clean that never reached the disk: asking again would lie.
        self.segment.commit(&self.store, first, entries).map_err(|error| self.health.fail(&error))?;
        self.next += entries.len() as u64;
        self.health.counts.commit(entries.len() as u64);
        Ok(())
    }

    /// Leaves an empty segment behind, so that a closed trail consists of signed bytes only.
    fn close(mut self, reply: oneshot::Sender<Result<(), Arc<str>>>) {
        if self.health.check().is_ok() && !self.segment.is_empty() {
            match Segment::create(&self.store, self.next) {
                Ok(segment) => self.segment = segment,
                // The integrator reports it.
                Err(error) => drop(self.health.fail(&error)),
            }
        }
        let _ = self.integrator.send(Message::Close(reply));
    }
}
