//! Reading without the lock, also while a writer is at work.
//!
//! What moves (checkpoint, partial tiles at its size, write-ahead log) is small and is read first, between two readings of the
//! checkpoint that must agree; full tiles never change and are read afterwards.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::checkpoint::Signed;
use crate::error::{At, AuditError};
use crate::integrate::bundle_width;
use crate::layout::{CHECKPOINT, Kind, TILE_WIDTH, TileName, split_bundle};
use crate::record::Index;
use crate::tree::{NamedTile, partial_bundle, partial_names};
use crate::wal::{self, SegmentContent};

/// A live writer replaces the checkpoint about once a second; a snapshot takes milliseconds.
const ATTEMPTS: usize = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The moving part of a trail at one moment.
pub(crate) struct Snapshot {
    pub(crate) signed: Signed,
    /// the unfinished hash tiles and the unfinished bundle at the signed size
    pub(crate) partials: Vec<NamedTile>,
    pub(crate) segments: Vec<SegmentContent>,
}

impl Snapshot {
    pub(crate) fn take(root: &Path) -> Result<Self, AuditError> {
        let mut attempt = 0;
        loop {
            let before = read_checkpoint(root)?;
            let taken = Self::take_once(root, &before);
            let vanished = matches!(&taken, Err(AuditError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound);
            attempt += 1;
            let moved = read_checkpoint(root)? != before;
            // Something that vanishes while the checkpoint stands still gets a few chances: a removal may still be under way.
            if (moved && attempt < ATTEMPTS) || (vanished && attempt < 5) {
                thread::sleep(PAUSE);
                continue;
            }
            return match taken {
                Err(AuditError::Io { path, source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Err(AuditError::tampered(path, "is missing although the signed checkpoint needs it"))
                }
                taken => taken,
            };
        }
    }

    fn take_once(root: &Path, checkpoint: &[u8]) -> Result<Self, AuditError> {
        let signed = Signed::parse(checkpoint)
            .ok_or_else(|| AuditError::tampered(root.join(CHECKPOINT), "is not a signed checkpoint"))?;
        let size = signed.size();
        let mut partials = Vec::new();
        for name in partial_names(size).into_iter().chain(partial_bundle(size)) {
            let path = root.join(name.path());
            partials.push((name, fs::read(&path).at("read", &path)?));
        }
        let segments = wal::read_all(root)?;
        let path = root.join(wal::segment_path(size));
        let Some((first, last)) = segments.first().zip(segments.last()) else {
            return Err(AuditError::tampered(
                path,
                "or an earlier segment is missing: the write-ahead log is gone",
            ));
        };
        if last.end() < size {
            let (path, found) = (root.join(&last.path), last.end());
            return Err(AuditError::Shrunk { signed: size, found, path });
        }
        if first.first > size {
            let first = first.first;
            let problem = format!("covers {size} records, but the write-ahead log begins at record {first}");
            return Err(AuditError::tampered(root.join(CHECKPOINT), problem));
        }
        Ok(Self { signed, partials, segments })
    }

    /// Durable entries that the checkpoint does not cover yet, in order.
    pub(crate) fn unsigned(&self) -> impl Iterator<Item = &Vec<u8>> {
        let size = self.signed.size();
        self.segments.iter().flat_map(move |segment| {
            let known = usize::try_from(size.saturating_sub(segment.first)).unwrap_or(usize::MAX);
            segment.entries.iter().skip(known)
        })
    }

    /// The signed entries of one bundle, read from the file that the signed size calls for.
    pub(crate) fn signed_entries(&self, root: &Path, number: u64) -> Result<Vec<Vec<u8>>, AuditError> {
        let width = bundle_width(number, self.signed.size());
        if width == 0 {
            return Ok(Vec::new());
        }
        let name = TileName { kind: Kind::Entries, number, width };
        let path = root.join(name.path());
        let bytes = match self.partials.iter().find(|(partial, _)| *partial == name) {
            Some((_, bytes)) => bytes.clone(),
            None => read_signed(&path)?,
        };
        let entries = split_bundle(&bytes).filter(|entries| entries.len() as u64 == width);
        entries.ok_or_else(|| {
            let last = number * TILE_WIDTH + width - 1;
            AuditError::tampered(
                path,
                format!("does not hold the {width} records up to record {last}: its lengths do not add up"),
            )
        })
    }
}

/// A file that the signed checkpoint vouches for: missing is tampering.
pub(crate) fn read_signed(path: &Path) -> Result<Vec<u8>, AuditError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(AuditError::tampered(path, "is missing although the signed checkpoint needs it"))
        }
        read => read.at("read", path),
    }
}

/// Every record in order, as canonical JSON bytes with its index: the signed ones and those that are only durable yet.
/// Needs no lock; works beside a live writer. Believes what it reads: to know whether it is true, [`crate::verify`].
/// # Errors
/// there is no trail, or it cannot be read or parsed
pub fn records(directory: &Path) -> Result<Vec<(Index, Vec<u8>)>, AuditError> {
    let snapshot = Snapshot::take(directory)?;
    let mut entries = Vec::new();
    for number in 0..snapshot.signed.size().div_ceil(TILE_WIDTH) {
        entries.extend(snapshot.signed_entries(directory, number)?);
    }
    entries.extend(snapshot.unsigned().cloned());
    Ok((0..).map(Index).zip(entries).collect())
}

/// The newest record, as canonical JSON bytes, without reading the others; `None` in an empty trail. Believes what it reads.
/// # Errors
/// there is no trail, or its end cannot be read or parsed
pub fn last_record(directory: &Path) -> Result<Option<Vec<u8>>, AuditError> {
    let snapshot = Snapshot::take(directory)?;
    if let Some(last) = snapshot.unsigned().last() {
        return Ok(Some(last.clone()));
    }
    let Some(last) = snapshot.signed.size().checked_sub(1) else { return Ok(None) };
    Ok(snapshot.signed_entries(directory, last / TILE_WIDTH)?.pop())
}

/// The bytes of the signed head.
pub(crate) fn read_checkpoint(root: &Path) -> Result<Vec<u8>, AuditError> {
    let path = root.join(CHECKPOINT);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if root.join("tile").exists() || root.join(wal::DIRECTORY).exists() {
                return Err(AuditError::tampered(path, "is missing although records exist"));
            }
            Err(AuditError::NotATrail { path: root.to_path_buf() })
        }
        read => read.at("read", &path),
    }
}
