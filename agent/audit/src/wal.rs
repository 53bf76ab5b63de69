//! The write-ahead log: segments `wal/<first index, 20 digits>.wal`, each a header and then one frame a commit.
//!
//! ```text
//! header  "bailiwal" | version u32 = 1 | first index u64 | CRC-32C of the 20 bytes before it u32
//! frame   "BWFR" | body length u32 | first index u64 | CRC-32C of the 16 bytes before it and of the body u32 | body
//! body    entries in bundle form: (length u16 | entry)*              all integers big-endian
//! ```
//! A frame is whole or it is nothing: the commit it holds was acknowledged only after the frame was durable. The next frame
//! is begun only after that, so damage with a whole frame behind it is not a torn write.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::Store;
use crate::error::{At, AuditError};
use crate::layout::{push_entry, split_bundle};

/// The directory of the segments.
pub(crate) const DIRECTORY: &str = "wal";

/// A segment that has reached this many bytes is followed by a new one.
pub(crate) const SEGMENT_BYTES: u64 = 4 << 20;

const HEADER_MAGIC: &[u8; 8] = b"bailiwal";
const HEADER_LENGTH: usize = 24;
const VERSION: u32 = 1;
const FRAME_MAGIC: &[u8; 4] = b"BWFR";
const FRAME_HEADER_LENGTH: usize = 20;

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    path: PathBuf,
    length: u64,
}

/// What a segment file holds.
#[derive(Debug)]
pub(crate) struct SegmentContent {
    /// relative to the trail
    pub(crate) path: PathBuf,
    pub(crate) first: u64,
    pub(crate) entries: Vec<Vec<u8>>,
    /// bytes from the start to the end of the last whole frame
    pub(crate) whole: u64,
    /// bytes behind that: a write that was cut off, and so was never acknowledged
    pub(crate) torn: u64,
}

impl SegmentContent {
    /// The index behind its last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

impl Segment {
    /// Begins an empty segment, durably.
    pub(crate) fn create(store: &Store, first: u64) -> Result<Self, AuditError> {
        let relative = segment_path(first);
        let file = store.publish(&relative, &header(first), 0o600)?;
        Ok(Self { file, path: store.path(relative), length: HEADER_LENGTH as u64 })
    }

    /// Goes on with an empty segment that is there already.
    pub(crate) fn reopen(store: &Store, content: &SegmentContent) -> Result<Self, AuditError> {
        let path = store.path(&content.path);
        let file = File::options().append(true).open(&path).at("open", &path)?;
        Ok(Self { file, path, length: content.whole })
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == HEADER_LENGTH as u64
    }

    /// Appends one frame; durable (`fdatasync`) on return.
    pub(crate) fn commit(
        &mut self,
        store: &Store,
        first: u64,
        entries: &[Vec<u8>],
    ) -> Result<(), AuditError> {
        let bytes = frame(first, entries);
        store.disk().write(&mut self.file, &bytes).at("write", &self.path)?;
        store.disk().sync_content(&self.file).at("sync", &self.path)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// All segments in order, each going on where the one before ended. Only the last may have a torn tail.
pub(crate) fn read_all(root: &Path) -> Result<Vec<SegmentContent>, AuditError> {
    let directory = root.join(DIRECTORY);
    let mut firsts = Vec::new();
    match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        listing => {
            for entry in listing.at("list", &directory)? {
                let path = entry.at("list", &directory)?.path();
                let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let first = name.parse().ok().filter(|first| root.join(segment_path(*first)) == path);
                firsts
                    .push(first.ok_or_else(|| {
                        AuditError::tampered(&path, "is no segment of the write-ahead log")
                    })?);
            }
        }
    }
    firsts.sort_unstable();
    let mut segments: Vec<SegmentContent> = Vec::new();
    for first in firsts {
        let relative = segment_path(first);
        let path = root.join(&relative);
        let bytes = fs::read(&path).at("read", &path)?;
        if let Some(previous) = segments.last() {
            let (torn, end) = (previous.torn, previous.end());
            let previous = root.join(&previous.path);
            if torn > 0 {
                return Err(AuditError::tampered(
                    previous,
                    format!("is damaged {torn} bytes before its end, behind record {end}"),
                ));
            }
            if end != first {
                return Err(AuditError::tampered(
                    previous,
                    format!("ends before record {end}, the next segment begins at record {first}"),
                ));
            }
        }
        let content = scan(relative, first, &bytes).map_err(|problem| AuditError::tampered(path, problem))?;
        segments.push(content);
    }
    Ok(segments)
}

/// `wal/<first>.wal`
pub(crate) fn segment_path(first: u64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/{first:020}.wal"))
}

fn scan(path: PathBuf, first: u64, bytes: &[u8]) -> Result<SegmentContent, String> {
    if bytes.get(..HEADER_LENGTH) != Some(&header(first)) {
        return Err(format!("does not begin with the header of a segment that starts at record {first}"));
    }
    let mut content =
        SegmentContent { path, first, entries: Vec::new(), whole: HEADER_LENGTH as u64, torn: 0 };
    let mut offset = HEADER_LENGTH;
    while offset < bytes.len() {
        let Some((index, entries, length)) = parse_frame(&bytes[offset..]) else {
            let later = (offset + 1..bytes.len()).find(|later| parse_frame(&bytes[*later..]).is_some());
            if let Some(later) = later {
                return Err(format!(
                    "is damaged between bytes {offset} and {later} (record {} and behind): whole commits follow, so this is not an interrupted write",
                    content.end()
                ));
            }
            content.torn = (bytes.len() - offset) as u64;
            return Ok(content);
        };
        if index != content.end() {
            return Err(format!(
                "has record {index} at byte {offset}, where record {} belongs",
                content.end()
            ));
        }
        content.entries.extend(entries);
        offset += length;
        content.whole = offset as u64;
    }
    Ok(content)
}

fn header(first: u64) -> [u8; HEADER_LENGTH] {
    let mut header = [0; HEADER_LENGTH];
    header[..8].copy_from_slice(HEADER_MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_be_bytes());
    header[12..20].copy_from_slice(&first.to_be_bytes());
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_be_bytes());
    header
}

fn frame(first: u64, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in entries {
        push_entry(&mut body, entry);
    }
    // A batch is held far below 4 GiB by the committer.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(FRAME_HEADER_LENGTH + body.len());
    frame.extend_from_slice(FRAME_MAGIC);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&first.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame), &body);
    frame.extend_from_slice(&crc.to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// The frame at the start of these bytes, when it is whole: its first index, its entries, its length.
fn parse_frame(bytes: &[u8]) -> Option<(u64, Vec<Vec<u8>>, usize)> {
    let rest = bytes.strip_prefix(FRAME_MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let found = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), body);
    (found == u32::from_be_bytes(*crc)).then_some(())?;
    Some((u64::from_be_bytes(*first), split_bundle(body)?, FRAME_HEADER_LENGTH + body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = header(7).to_vec();
        frames.iter().for_each(|frame| bytes.extend_from_slice(frame));
        bytes
    }

    #[test]
    fn a_tail_torn_at_any_byte_costs_the_last_commit_only() {
        let frames = [frame(7, &[b"one".to_vec(), b"two".to_vec()]), frame(9, &[b"three".to_vec()])];
        let bytes = segment(&frames);
        let second = HEADER_LENGTH + frames[0].len();
        for cut in second..bytes.len() {
            let content = scan(segment_path(7), 7, &bytes[..cut]).unwrap();
            assert_eq!(
                (content.end(), content.whole, content.torn),
                (9, second as u64, (cut - second) as u64),
                "cut at {cut}"
            );
        }
        assert_eq!(scan(segment_path(7), 7, &bytes).unwrap().end(), 10);
    }

    #[test]
    fn damage_before_a_whole_commit_is_not_a_torn_tail() {
        let frames = [frame(7, &[b"one".to_vec(), b"two".to_vec()]), frame(9, &[b"three".to_vec()])];
        let bytes = segment(&frames);
        let second = HEADER_LENGTH + frames[0].len();
        for place in 0..second {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x20;
            assert!(scan(segment_path(7), 7, &damaged).is_err(), "byte {place}");
        }
        for place in second..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x20;
            let content = scan(segment_path(7), 7, &damaged).unwrap();
            assert_eq!(
                (content.end(), content.torn),
                (9, frames[1].len() as u64),
                "byte {place} of the last commit"
            );
        }
    }
}
