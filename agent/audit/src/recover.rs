//! Opening: what the last writer left, whole or cut off anywhere, becomes a signed trail with an empty write-ahead log again.
//!
//! ```text
//! keys → checkpoint, its signature → right edge of the tiles, its root → write-ahead log → integrate the rest, sign → new segment
//! ```
//! Every step can be cut off and run again. The log may be extended over its signed size, never fall short of it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tlog_tiles::record_hash;

use crate::checkpoint::Signed;
use crate::disk::Store;
use crate::error::{At, AuditError};
use crate::integrate::{Integrator, Published};
use crate::keys::{Keys, parse_verifier};
use crate::layout::{CHECKPOINT, split_bundle};
use crate::tree::{Edge, partial_bundle, partial_names};
use crate::wal::{self, Segment, SegmentContent};

/// A trail that is ready to be appended to.
pub(crate) struct Recovered {
    pub(crate) keys: Keys,
    pub(crate) integrator: Integrator,
    pub(crate) segment: Segment,
}

/// Brings the trail into order. The caller holds the lock.
pub(crate) fn recover(store: &Arc<Store>, origin: &str) -> Result<Recovered, AuditError> {
    store.sweep_temporaries()?;
    store.ensure_directory(&store.path("keys"))?;
    store.ensure_directory(&store.path(wal::DIRECTORY))?;
    let signed = read_checkpoint(store)?;
    let keys = Keys::open(store, origin, signed.is_none())?;
    let published = match &signed {
        None => Published { edge: Edge::default(), bundle: Vec::new() },
        Some(signed) => load_published(store, &keys, signed)?,
    };
    let size = published.edge.size();
    let (signer, spares) = (keys.signer.clone(), Arc::default());
    let mut integrator = Integrator { store: Arc::clone(store), signer, published, spares };
    if signed.is_none() {
        integrator.sign()?;
    }

    let mut segments = wal::read_all(store.root())?;
    let last = segments.pop();
    let Some(last) = last else {
        if size > 0 {
            return Err(AuditError::Shrunk {
                signed: size,
                found: 0,
                path: store.path(wal::segment_path(size)),
            });
        }
        return Ok(Recovered { keys, integrator, segment: Segment::create(store, 0)? });
    };
    cut_torn_tail(store, &last)?;
    let end = last.end();
    let first = segments.first().map_or(last.first, |segment| segment.first);
    if end < size {
        return Err(AuditError::Shrunk { signed: size, found: end, path: store.path(&last.path) });
    }
    if first > size {
        return Err(AuditError::tampered(
            store.path(CHECKPOINT),
            format!(
                "covers {size} records, but the write-ahead log begins at record {first}: an older checkpoint was put back"
            ),
        ));
    }
    let segment = Segment::create(store, end)?;
    let mut unpublished = Vec::new();
    for content in segments.into_iter().chain([last]) {
        let known = usize::try_from(size.saturating_sub(content.first)).unwrap_or(usize::MAX);
        unpublished.extend(content.entries.into_iter().skip(known));
    }
    // Also with nothing to add: it removes what a crash kept from being removed.
    if !unpublished.is_empty() {
        tracing::info!(
            records = unpublished.len(),
            "audit trail: recovered records that were durable but not yet signed"
        );
    }
    integrator.integrate(&unpublished)?;
    discard_stale_partials(store, integrator.published.edge.size())?;
    Ok(Recovered { keys, integrator, segment })
}

/// The signed head, or `None` in a directory where nothing was ever recorded.
fn read_checkpoint(store: &Store) -> Result<Option<Signed>, AuditError> {
    let path = store.path(CHECKPOINT);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let recorded = store.path("tile").exists() || !wal::read_all(store.root())?.is_empty();
            if recorded {
                return Err(AuditError::tampered(path, "is missing although records exist"));
            }
            Ok(None)
        }
        read => {
            let signed = Signed::parse(&read.at("read", &path)?);
            signed.map(Some).ok_or_else(|| AuditError::tampered(path, "is not a signed checkpoint"))
        }
    }
}

/// The right edge of the tiles at the signed size, held against the signed root.
fn load_published(store: &Store, keys: &Keys, signed: &Signed) -> Result<Published, AuditError> {
    let path = store.path(CHECKPOINT);
    if !signed.is_signed_by(&parse_verifier("the signing key", &keys.verifier)?) {
        return Err(AuditError::tampered(path, "is not signed by this trail's key"));
    }
    let size = signed.size();
    let mut tiles = Vec::new();
    for name in partial_names(size) {
        tiles.push((name, read_required(store, &name.path())?));
    }
    let edge = Edge::from_partial_tiles(size, &tiles);
    let edge = edge.filter(|edge| edge.root() == signed.root());
    let edge = edge.ok_or_else(|| {
        AuditError::tampered(path, "and the partial tiles at its size do not belong together")
    })?;
    let mut bundle = Vec::new();
    if let Some(name) = partial_bundle(size) {
        bundle = read_required(store, &name.path())?;
        let hashes = split_bundle(&bundle)
            .map(|entries| entries.iter().flat_map(|entry| record_hash(entry).0).collect());
        if hashes.as_ref() != tiles.first().map(|(_, tile)| tile) {
            return Err(AuditError::tampered(
                store.path(name.path()),
                "does not hold the entries that the tiles hash",
            ));
        }
    }
    Ok(Published { edge, bundle })
}

fn read_required(store: &Store, relative: &Path) -> Result<Vec<u8>, AuditError> {
    let path = store.path(relative);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(AuditError::tampered(path, "is missing although the signed checkpoint needs it"))
        }
        read => read.at("read", &path),
    }
}

/// Removes an interrupted write, which nobody was told of.
fn cut_torn_tail(store: &Store, segment: &SegmentContent) -> Result<(), AuditError> {
    if segment.torn == 0 {
        return Ok(());
    }
    let path = store.path(&segment.path);
    tracing::warn!(path = %path.display(), bytes = segment.torn, "audit trail: cut off an interrupted write");
    let file = fs::OpenOptions::new().write(true).open(&path).at("open", &path)?;
    store.disk().cut(&file, segment.whole).at("cut", &path)?;
    store.disk().sync_content(&file).at("sync", &path)
}

/// Partial tiles that a crash kept from being removed, beside the current ones.
fn discard_stale_partials(store: &Store, size: u64) -> Result<(), AuditError> {
    for current in partial_names(size).into_iter().chain(partial_bundle(size)) {
        let keep = store.path(current.path());
        let Some(directory) = keep.parent() else { continue };
        for entry in fs::read_dir(directory).at("list", directory)? {
            let path = entry.at("list", directory)?.path();
            if path != keep {
                store.discard(&path)?;
            }
        }
    }
    Ok(())
}
