//! Believing nothing but a key: every leaf hash, tile and root is computed again from the records.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use signed_note::StandardVerifier;
use tlog_tiles::{HASH_SIZE, Hash, record_hash};

use crate::checkpoint::Signed;
use crate::error::{At, AuditError};
use crate::keys::{VERIFIER, parse_verifier, read_verifier};
use crate::layout::{CHECKPOINT, Kind, TILE_WIDTH, TileName, push_entry};
use crate::snapshot::{Snapshot, read_checkpoint, read_signed};
use crate::tree::{Edge, NamedTile};

/// What `verify` found true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// the trail's name
    pub origin: String,
    /// records under the signature
    pub size: u64,
    /// the signed Merkle root, base64
    pub root: String,
    /// durable records behind the signed ones; only their checksums vouch for them
    pub unsigned: u64,
    /// bytes of an interrupted (or damaged) last write behind those; the next start cuts them off
    pub torn_bytes: u64,
    /// requests admitted of which no outcome is recorded: in flight, or cut off by a crash
    pub open_requests: u64,
    /// where the verifier key came from
    pub key: KeySource,
    /// the size of the checkpoint kept elsewhere that this trail was shown to extend
    pub since: Option<u64>,
}

/// Where the verifier key came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// The caller brought it: who changed the trail would have needed the signing key.
    Given,
    /// It lay beside the trail: whoever rewrote the whole directory, keys too, is not detected.
    Trail,
}

/// Verifies a trail (or a copy of one) against its checkpoint and, where given, a verifier key from elsewhere. Without one it
/// uses `keys/verifier.pub` of the trail, which proves less. Needs no lock.
/// # Errors
/// says which file, offset or record does not hold ([`AuditError::is_tampering`]), or why nothing could be said
pub fn verify(directory: &Path, verifier_key: Option<&str>) -> Result<Verified, AuditError> {
    verify_since(directory, verifier_key, None)
}

/// As [`verify`], and also that the trail extends the trail of an earlier checkpoint that was kept elsewhere.
/// # Errors
/// as [`verify`]; also when the kept checkpoint is not of this trail, or the trail does not begin with what it covered
pub fn verify_since(
    directory: &Path,
    verifier_key: Option<&str>,
    kept: Option<&[u8]>,
) -> Result<Verified, AuditError> {
    // A directory without a trail is not a trail that lost its key.
    read_checkpoint(directory)?;
    let (text, key) = match verifier_key {
        Some(text) => (text.trim().to_owned(), KeySource::Given),
        None => (read_verifier(directory)?, KeySource::Trail),
    };
    let verifier = match key {
        KeySource::Given => parse_verifier("the given verifier key", &text)?,
        KeySource::Trail => {
            let path = directory.join(VERIFIER);
            let place = path.display().to_string();
            parse_verifier(&place, &text).map_err(|error| AuditError::tampered(path, error.to_string()))?
        }
    };
    let kept = kept.map(|bytes| parse_kept(bytes, &verifier)).transpose()?;
    let mut patience = 3;
    loop {
        let (verified, beyond) = Attempt::new(directory, &verifier, key, kept.as_ref())?.run()?;
        let Some(path) = beyond else { return Ok(verified) };
        // A live writer places tiles a moment before it signs them: then the checkpoint moves. An older checkpoint that was
        // put back beside newer tiles does not.
        let now = Signed::parse(&read_signed(&directory.join(CHECKPOINT))?);
        if now.is_some_and(|now| now.size() > verified.size && now.is_signed_by(&verifier)) {
            return Ok(verified);
        }
        if patience == 0 {
            let problem = "holds more than the checkpoint and the write-ahead log account for";
            return Err(AuditError::tampered(path, problem));
        }
        patience -= 1;
        thread::sleep(Duration::from_millis(400));
    }
}

/// A file that disagrees with the records; whether it or the records are at fault, the signed root tells.
struct Disagreement {
    file: PathBuf,
    /// where the records are that disagree with it
    records: PathBuf,
    place: String,
}

struct Attempt<'a> {
    directory: &'a Path,
    key: KeySource,
    kept: Option<&'a Signed>,
    snapshot: Snapshot,
    /// tile files found on the disk, by tile: their widths
    tiles: BTreeMap<(Kind, u64), Vec<TileName>>,
    /// leaf hashes of signed records that are in the write-ahead log still
    logged: BTreeMap<u64, (Hash, PathBuf)>,
    disagreements: Vec<Disagreement>,
    open_requests: HashSet<String>,
}

impl<'a> Attempt<'a> {
    fn new(
        directory: &'a Path,
        verifier: &StandardVerifier,
        key: KeySource,
        kept: Option<&'a Signed>,
    ) -> Result<Self, AuditError> {
        let snapshot = Snapshot::take(directory)?;
        if !snapshot.signed.is_signed_by(verifier) {
            let problem = "is not signed by the verifier key: it was changed, or the key is another trail's";
            return Err(AuditError::tampered(directory.join(CHECKPOINT), problem));
        }
        let mut tiles: BTreeMap<(Kind, u64), Vec<TileName>> = BTreeMap::new();
        for name in list_tiles(directory)? {
            tiles.entry((name.kind, name.number)).or_default().push(name);
        }
        let mut logged = BTreeMap::new();
        for segment in &snapshot.segments {
            for (index, entry) in (segment.first..snapshot.signed.size()).zip(&segment.entries) {
                logged.insert(index, (record_hash(entry), segment.path.clone()));
            }
        }
        let (disagreements, open_requests) = (Vec::new(), HashSet::new());
        Ok(Self { directory, key, kept, snapshot, tiles, logged, disagreements, open_requests })
    }

    /// What holds, and a tile file of a longer log than was found, if there is one.
    fn run(mut self) -> Result<(Verified, Option<PathBuf>), AuditError> {
        let size = self.snapshot.signed.size();
        let unsigned: Vec<Vec<u8>> = self.snapshot.unsigned().cloned().collect();
        let total = size + unsigned.len() as u64;
        let mut unsigned = unsigned.into_iter();
        let mut edge = Edge::default();
        let mut root_holds = true;
        let mut marks = |edge: &Edge, attempt: &mut Self| {
            if edge.size() == size {
                root_holds = edge.root() == attempt.snapshot.signed.root();
                attempt.compare_partials(edge);
            }
            attempt.kept.is_none_or(|kept| kept.size() != edge.size() || kept.root() == edge.root())
        };
        let mut extends = marks(&edge, &mut self);
        for number in 0..total.div_ceil(TILE_WIDTH) {
            let mut entries = self.snapshot.signed_entries(self.directory, number)?;
            let missing = usize::try_from(TILE_WIDTH).unwrap_or(usize::MAX) - entries.len();
            entries.extend(unsigned.by_ref().take(missing));
            let mut bundle = Vec::new();
            for entry in &entries {
                self.count_request(entry);
                push_entry(&mut bundle, entry);
                let leaf = record_hash(entry);
                self.compare_logged(edge.size(), leaf);
                for tile in edge.push(leaf) {
                    self.compare_tile(&tile)?;
                }
                extends &= marks(&edge, &mut self);
            }
            self.compare_tile(&(
                TileName { kind: Kind::Entries, number, width: entries.len() as u64 },
                bundle,
            ))?;
        }
        for tile in edge.partial_tiles() {
            self.compare_tile(&tile)?;
        }
        self.judge(root_holds)?;
        if !extends || self.kept.is_some_and(|kept| kept.size() > size) {
            let kept = self.kept.map_or(0, Signed::size);
            let problem = format!(
                "does not extend the kept checkpoint of {kept} records: the trail was rewritten or rolled back"
            );
            return Err(AuditError::tampered(self.directory.join(CHECKPOINT), problem));
        }
        let beyond = self.tiles.values().flatten().next().map(|name| self.directory.join(name.path()));
        let verified = Verified {
            origin: self.snapshot.signed.origin().to_owned(),
            size,
            root: self.snapshot.signed.root().to_string(),
            unsigned: total - size,
            torn_bytes: self.snapshot.segments.last().map_or(0, |segment| segment.torn),
            open_requests: self.open_requests.len() as u64,
            key: self.key,
            since: self.kept.map(Signed::size),
        };
        Ok((verified, beyond))
    }

    /// Which file to name: with the signed root, the records are right and what disagrees with them is wrong.
    fn judge(&mut self, root_holds: bool) -> Result<(), AuditError> {
        let first = self.disagreements.drain(..).next();
        match (root_holds, first) {
            (true, None) => Ok(()),
            (true, Some(found)) => Err(AuditError::tampered(
                found.file,
                format!("was changed: it disagrees with the signed records at {}", found.place),
            )),
            (false, Some(found)) => Err(AuditError::tampered(
                found.records,
                format!(
                    "was changed at {}: the signed root does not hold, and {} has another hash there",
                    found.place,
                    found.file.display()
                ),
            )),
            (false, None) => Err(AuditError::tampered(
                self.directory.join(CHECKPOINT),
                "does not hold: its root is not that of the records; records and tiles were rewritten together",
            )),
        }
    }

    /// Holds every file of this tile against what it has to be; shorter ones, left by a crash, against its beginning.
    fn compare_tile(&mut self, (name, content): &NamedTile) -> Result<(), AuditError> {
        let found = self.tiles.entry((name.kind, name.number)).or_default();
        let (comparable, beyond): (Vec<_>, Vec<_>) =
            std::mem::take(found).into_iter().partition(|file| file.width <= name.width);
        if beyond.is_empty() {
            self.tiles.remove(&(name.kind, name.number));
        } else {
            self.tiles.insert((name.kind, name.number), beyond);
        }
        if name.width == TILE_WIDTH && !comparable.contains(name) && self.is_signed(name) {
            return Err(AuditError::tampered(
                self.directory.join(name.path()),
                "is missing although the signed checkpoint needs it",
            ));
        }
        for file in comparable {
            let path = self.directory.join(file.path());
            let bytes = match fs::read(&path) {
                // A live writer removes partial tiles that it has replaced.
                Err(error) if error.kind() == io::ErrorKind::NotFound && file.width < TILE_WIDTH => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => read_signed(&path)?,
                read => read.at("read", &path)?,
            };
            self.compare(&file, &bytes, content);
        }
        Ok(())
    }

    fn compare(&mut self, file: &TileName, bytes: &[u8], content: &[u8]) {
        let expected = match file.kind {
            Kind::Hashes(_) => {
                usize::try_from(file.width).ok().and_then(|width| content.get(..width * HASH_SIZE))
            }
            Kind::Entries => bundle_prefix(content, file.width),
        };
        if expected == Some(bytes) {
            return;
        }
        let place = bytes.iter().zip(expected.unwrap_or_default()).take_while(|(a, b)| a == b).count();
        let (records, place) = match file.kind {
            Kind::Hashes(level) => {
                let span = TILE_WIDTH.pow(u32::from(level));
                let first = (file.number * TILE_WIDTH + (place / HASH_SIZE) as u64) * span;
                let number = first / TILE_WIDTH;
                let place = if span == 1 {
                    format!("record {first}")
                } else {
                    format!("records {first} to {}", first + span - 1)
                };
                (self.records_file(number), place)
            }
            Kind::Entries => (self.directory.join(file.path()), format!("byte {place}")),
        };
        self.disagreements.push(Disagreement { file: self.directory.join(file.path()), records, place });
    }

    /// The partial tiles that were part of the snapshot, at the signed size.
    fn compare_partials(&mut self, edge: &Edge) {
        let expected = edge.partial_tiles();
        for (name, bytes) in std::mem::take(&mut self.snapshot.partials) {
            if let Some((_, content)) = expected.iter().find(|(tile, _)| *tile == name) {
                self.compare(&name, &bytes, content);
            }
            self.snapshot.partials.push((name, bytes));
        }
    }

    fn compare_logged(&mut self, index: u64, leaf: Hash) {
        if let Some((hash, path)) = self.logged.remove(&index)
            && hash != leaf
        {
            let file = self.directory.join(path);
            let records = self.records_file(index / TILE_WIDTH);
            self.disagreements.push(Disagreement { file, records, place: format!("record {index}") });
        }
    }

    /// The file that the signed records of a bundle are read from.
    fn records_file(&self, number: u64) -> PathBuf {
        let width = crate::integrate::bundle_width(number, self.snapshot.signed.size()).max(1);
        self.directory.join(TileName { kind: Kind::Entries, number, width }.path())
    }

    fn is_signed(&self, tile: &TileName) -> bool {
        let span = match tile.kind {
            Kind::Entries => TILE_WIDTH,
            Kind::Hashes(level) => TILE_WIDTH.saturating_pow(u32::from(level) + 1),
        };
        (tile.number + 1).saturating_mul(span) <= self.snapshot.signed.size()
    }

    fn count_request(&mut self, entry: &[u8]) {
        #[derive(Deserialize)]
        struct Head {
            r#type: String,
            request: Option<String>,
        }
        // What is in an entry is not verified here, only that it is what was written.
        if let Ok(Head { r#type, request: Some(request) }) = serde_json::from_slice(entry) {
            match r#type.as_str() {
                "admit" => drop(self.open_requests.insert(request)),
                "outcome" => drop(self.open_requests.remove(&request)),
                _ => {}
            }
        }
    }
}

fn parse_kept(bytes: &[u8], verifier: &StandardVerifier) -> Result<Signed, AuditError> {
    let signed = Signed::parse(bytes).filter(|signed| signed.is_signed_by(verifier));
    signed.ok_or_else(|| AuditError::Key {
        place: "the kept checkpoint".into(),
        problem: "does not verify: it is no checkpoint, or not of this trail's key",
    })
}

/// The first `width` entries of a bundle.
fn bundle_prefix(bundle: &[u8], width: u64) -> Option<&[u8]> {
    let mut end = 0;
    for _ in 0..width {
        let length = bundle.get(end..end + 2)?;
        end += 2 + usize::from(u16::from_be_bytes(length.try_into().ok()?));
    }
    bundle.get(..end)
}

/// Every file below `tile/`. One that no log would have is tampering.
fn list_tiles(directory: &Path) -> Result<Vec<TileName>, AuditError> {
    let mut names = Vec::new();
    let mut pending = vec![directory.join("tile")];
    while let Some(current) = pending.pop() {
        let listing = match fs::read_dir(&current) {
            // A log without a record has no tiles yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listing => listing.at("list", &current)?,
        };
        for entry in listing {
            let entry = entry.at("list", &current)?;
            let path = entry.path();
            if entry.file_type().at("look at", &path)?.is_dir() {
                pending.push(path);
                continue;
            }
            let name = path.strip_prefix(directory).ok().and_then(TileName::parse);
            names.push(name.ok_or_else(|| AuditError::tampered(&path, "is no tile of this trail"))?);
        }
    }
    Ok(names)
}
