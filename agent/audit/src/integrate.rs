//! From durable entries to tiles and a signed checkpoint: a thread of its own, so that appends never wait for it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signed_note::StandardSigner;
use tlog_tiles::record_hash;
use tokio::sync::oneshot;

use crate::checkpoint;
use crate::disk::Store;
use crate::error::{At, AuditError};
use crate::health::Health;
use crate::layout::{CHECKPOINT, Kind, TILE_WIDTH, TileName, push_entry};
use crate::tree::{Edge, partial_bundle, partial_names};
use crate::wal::{self, Spares};

/// How long an entry may be durable but not yet signed.
pub(crate) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Durable bytes held in memory before they are integrated early.
const PENDING_BYTES: usize = 16 << 20;

/// Files that are settled together: far fewer than a process may have open.
const TOGETHER: usize = 64;

/// The published part of the log: tiles up to [`Edge::size`], and what is needed to go on.
pub(crate) struct Published {
    pub(crate) edge: Edge,
    /// the unfinished entry bundle
    pub(crate) bundle: Vec<u8>,
}

/// Writes tiles and checkpoints.
pub(crate) struct Integrator {
    pub(crate) store: Arc<Store>,
    pub(crate) signer: StandardSigner,
    pub(crate) published: Published,
    pub(crate) spares: Arc<Spares>,
}

impl Integrator {
    /// Adds durable entries to the tiles, then signs a checkpoint over them, then removes what it replaces.
    pub(crate) fn integrate(&mut self, entries: &[Vec<u8>]) -> Result<(), AuditError> {
        let before = self.published.edge.size();
        let mut staged = Vec::new();
        for entry in entries {
            push_entry(&mut self.published.bundle, entry);
            for (name, tile) in self.published.edge.push(record_hash(entry)) {
                staged.push(self.store.stage(&name.path(), &tile, 0o644)?);
                if name.kind == Kind::Hashes(0) {
                    let name = TileName::full(Kind::Entries, name.number);
                    staged.push(self.store.stage(&name.path(), &self.published.bundle, 0o644)?);
                    self.published.bundle.clear();
                }
            }
            if staged.len() >= TOGETHER {
                self.store.settle(&std::mem::take(&mut staged))?;
            }
        }
        let size = self.published.edge.size();
        if let Some(name) = partial_bundle(size) {
            staged.push(self.store.stage(&name.path(), &self.published.bundle, 0o644)?);
        }
        for (name, tile) in self.published.edge.partial_tiles() {
            staged.push(self.store.stage(&name.path(), &tile, 0o644)?);
        }
        self.store.settle(&staged)?;
        self.sign()?;
        self.discard_replaced(before)
    }

    /// Publishes a checkpoint over the tiles as they are.
    pub(crate) fn sign(&self) -> Result<(), AuditError> {
        let edge = &self.published.edge;
        let bytes = checkpoint::sign(&self.signer, edge.size(), edge.root());
        let bytes = bytes.ok_or(AuditError::Failed { cause: "the checkpoint could not be signed".into() })?;
        self.store.publish(CHECKPOINT.as_ref(), &bytes, 0o644).map(drop)
    }

    /// Removes the partial tiles of the checkpoint before, and the segments of the write-ahead log that are wholly in the tiles;
    /// a few of those are kept to be written over.
    fn discard_replaced(&self, before: u64) -> Result<(), AuditError> {
        let size = self.published.edge.size();
        let names = |size| partial_names(size).into_iter().chain(partial_bundle(size));
        let current: BTreeSet<TileName> = names(size).collect();
        for old in names(before).filter(|old| !current.contains(old)) {
            self.store.discard(&old.path())?;
        }
        let directory = self.store.path(wal::DIRECTORY);
        let mut segments: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(&directory).at("list", &directory)? {
            segments.push(entry.at("list", &directory)?.path());
        }
        segments.sort_unstable();
        let covered = wal::segment_path(size);
        // A segment is in the tiles when the next one begins at or below the signed size.
        let mut aside = Vec::new();
        for pair in segments.windows(2).take_while(|pair| pair[1].file_name() <= covered.file_name()) {
            if aside.len() < self.spares.room() {
                aside.push(self.store.set_aside(&pair[0])?);
            } else {
                self.store.discard(&pair[0])?;
            }
        }
        if !aside.is_empty() {
            // Before one is written over: a crash must not bring its old name back with new content.
            self.store.disk().sync_directory(&directory).at("sync the directory", &directory)?;
            self.spares.put(aside);
        }
        Ok(())
    }

    /// At the end. What cannot be removed now is removed at the next start.
    fn discard_spares(&self) {
        while let Some(spare) = self.spares.take() {
            let _ = self.store.disk().remove(&spare);
        }
    }
}

/// What the committer tells. It is told when there is something to do, not at every commit: a thread that is woken thousands
/// of times a second to put a batch aside costs as much as the commits.
pub(crate) enum Message {
    /// Entries are pending where none were, or more than should be.
    Pending,
    /// Sign a last checkpoint, say how it went, and end.
    Close(oneshot::Sender<Result<(), Arc<str>>>),
}

/// Entries that are durable in the write-ahead log, in order, and not integrated yet.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    entries: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pending {
    fn locked(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch; whether [`Message::Pending`] is to be sent.
    pub(crate) fn add(&self, batch: Vec<Vec<u8>>) -> bool {
        let mut held = self.locked();
        let first = held.entries.is_empty();
        held.bytes += batch.iter().map(Vec::len).sum::<usize>();
        held.entries.extend(batch);
        first || held.bytes >= PENDING_BYTES
    }

    fn is_full(&self) -> bool {
        self.locked().bytes >= PENDING_BYTES
    }

    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.locked()).entries
    }
}

/// Poisons the trail when the thread ends by a defect: what is acknowledged after that would never be signed.
struct Watched<'a>(&'a Health);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&AuditError::Failed { cause: "the thread that makes tiles ended".into() });
        }
    }
}

/// The thread: integrates what is pending every [`CHECKPOINT_INTERVAL`].
///
/// It holds the directory's lock: it is the last to write.
pub(crate) fn run(
    mut integrator: Integrator,
    pending: &Pending,
    messages: &Receiver<Message>,
    health: &Health,
    lock: File,
) {
    let _watched = Watched(health);
    let mut due: Option<Instant> = None;
    loop {
        let message = match due {
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => messages.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        let (publish, closing) = match message {
            Ok(Message::Pending) => {
                let due = *due.get_or_insert_with(|| Instant::now() + CHECKPOINT_INTERVAL);
                (pending.is_full() || due <= Instant::now(), None)
            }
            Ok(Message::Close(reply)) => (true, Some(Some(reply))),
            Err(RecvTimeoutError::Timeout) => (true, None),
            Err(RecvTimeoutError::Disconnected) => (true, Some(None)),
        };
        if publish {
            let entries = pending.take();
            due = None;
            // Once failed, tiles in memory and on disk may differ: nothing more is signed.
            if health.check().is_ok() && !entries.is_empty() {
                match integrator.integrate(&entries) {
                    Ok(()) => health.counts.checkpoint(),
                    Err(error) => drop(health.fail(&error)),
                }
            }
        }
        if let Some(reply) = closing {
            integrator.discard_spares();
            drop(lock);
            if let Some(reply) = reply {
                // The one who closes may have given up waiting.
                let _ = reply.send(health.check());
            }
            return;
        }
    }
}

/// How many entries a bundle of a log of this size holds at its number.
pub(crate) fn bundle_width(number: u64, size: u64) -> u64 {
    size.saturating_sub(number * TILE_WIDTH).min(TILE_WIDTH)
}
