//! The write-ahead log: segments `wal/<first index, 20 digits>.wal`, each a header and then one frame a commit.
//!
//! ```text
//! header  "bailiwal" | version u32 = 1 | first index u64 | CRC-32C of the 20 bytes before it u32
//! frame   "BWFR" | body length u32 | first index u64 | CRC-32C of the 16 bytes before it and of the body u32 | body
//! body    entries in bundle form: (length u16 | entry)*              all integers big-endian
//! ```
//! A frame is whole or it is nothing: the commit it holds was acknowledged only after the frame was durable. The next frame
//! is begun only after that, so damage with a whole frame behind it is not a torn write.
//!
//! A segment that is in the tiles is written over: to sync a file that does not grow costs half, since only its content is to
//! be written. Four zero bytes then end the frames, and behind them lie frames of records before the segment's first one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::disk::{Staged, Store};
use crate::error::{At, AuditError};
use crate::layout::{push_entry, split_bundle};

/// The directory of the segments.
pub(crate) const DIRECTORY: &str = "wal";

/// A segment that has reached this many bytes is followed by a new one, as a rule.
pub(crate) const SEGMENT_BYTES: u64 = 4 << 20;

const HEADER_MAGIC: &[u8; 8] = b"bailiwal";
const HEADER_LENGTH: usize = 24;
const VERSION: u32 = 1;
const FRAME_MAGIC: &[u8; 4] = b"BWFR";
const FRAME_HEADER_LENGTH: usize = 20;
/// What stands where a frame would begin in a segment that is written over.
const END: &[u8; 4] = &[0; 4];

/// Segments that are kept to be written over, at most: [`SEGMENT_BYTES`] each.
const SPARES: usize = 8;

/// How often a file is read again that seems damaged, while it still changes.
const READINGS: usize = 20;

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    path: PathBuf,
    /// of the header and the frames
    length: u64,
    /// of the file, at least: behind the frames, what it held before
    allocated: u64,
}

/// Segments to be written over, under temporary names: nothing else refers to them, and the next start removes them.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<Vec<PathBuf>>);

impl Spares {
    /// How many more may be put.
    pub(crate) fn room(&self) -> usize {
        SPARES.saturating_sub(self.0.lock().unwrap_or_else(PoisonError::into_inner).len())
    }

    pub(crate) fn put(&self, paths: Vec<PathBuf>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
    }

    pub(crate) fn take(&self) -> Option<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
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
    /// bytes behind that, when they are a write that was cut off, and so was never acknowledged
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
        let length = HEADER_LENGTH as u64;
        Ok(Self { file, path: store.path(relative), length, allocated: length })
    }

    /// The same, over a spare one.
    pub(crate) fn write_over(store: &Store, first: u64, spare: PathBuf) -> Result<Self, AuditError> {
        let file = File::options().write(true).open(&spare).at("open", &spare)?;
        let allocated = file.metadata().at("look at", &spare)?.len();
        store.disk().write(&file, &[header(first).as_slice(), END].concat(), 0).at("write", &spare)?;
        let staged = [Staged { file, temporary: spare, target: store.path(segment_path(first)) }];
        store.settle(&staged)?;
        let [Staged { file, target: path, .. }] = staged;
        Ok(Self { file, path, length: HEADER_LENGTH as u64, allocated })
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
        let mut bytes = frame(first, entries);
        let length = self.length + bytes.len() as u64;
        if length < self.allocated {
            bytes.extend_from_slice(END);
        }
        store.disk().write(&self.file, &bytes, self.length).at("write", &self.path)?;
        store.disk().sync_content(&self.file).at("sync", &self.path)?;
        self.length = length;
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
        let content = settled(|| fs::read(&path).at("read", &path), |bytes| scan(&relative, first, bytes))?
            .map_err(|problem| AuditError::tampered(&path, problem))?;
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
        segments.push(content);
    }
    Ok(segments)
}

/// A live writer may write while this reads, a later commit before an earlier one is read: what is damaged is so at a second
/// look, too.
fn settled(
    mut read: impl FnMut() -> Result<Vec<u8>, AuditError>,
    scan: impl Fn(&[u8]) -> Result<SegmentContent, String>,
) -> Result<Result<SegmentContent, String>, AuditError> {
    let mut bytes = read()?;
    for _ in 0..READINGS {
        let scanned = scan(&bytes);
        if scanned.is_ok() {
            return Ok(scanned);
        }
        let again = read()?;
        if again == bytes {
            return Ok(scanned);
        }
        bytes = again;
    }
    Ok(scan(&bytes))
}

/// `wal/<first>.wal`
pub(crate) fn segment_path(first: u64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/{first:020}.wal"))
}

fn scan(path: &Path, first: u64, bytes: &[u8]) -> Result<SegmentContent, String> {
    if bytes.get(..HEADER_LENGTH) != Some(&header(first)) {
        return Err(format!("does not begin with the header of a segment that starts at record {first}"));
    }
    let mut content = SegmentContent {
        path: path.to_owned(),
        first,
        entries: Vec::new(),
        whole: HEADER_LENGTH as u64,
        torn: 0,
    };
    let mut offset = HEADER_LENGTH;
    while offset < bytes.len() {
        let Some((index, entries, length)) = parse_frame(&bytes[offset..]) else {
            // Not one of those that were there before.
            let later = (offset + 1..bytes.len())
                .find(|later| parse_frame(&bytes[*later..]).is_some_and(|(index, ..)| index >= first));
            if let Some(later) = later {
                return Err(format!(
                    "is damaged between bytes {offset} and {later} (record {} and behind): whole commits follow, so this is not an interrupted write",
                    content.end()
                ));
            }
            if !bytes[offset..].starts_with(END) {
                content.torn = (bytes.len() - offset) as u64;
            }
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
            let content = scan(&segment_path(7), 7, &bytes[..cut]).unwrap();
            assert_eq!(
                (content.end(), content.whole, content.torn),
                (9, second as u64, (cut - second) as u64),
                "cut at {cut}"
            );
        }
        assert_eq!(scan(&segment_path(7), 7, &bytes).unwrap().end(), 10);
    }

    #[test]
    fn damage_before_a_whole_commit_is_not_a_torn_tail() {
        let frames = [frame(7, &[b"one".to_vec(), b"two".to_vec()]), frame(9, &[b"three".to_vec()])];
        let bytes = segment(&frames);
        let second = HEADER_LENGTH + frames[0].len();
        for place in 0..second {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x20;
            assert!(scan(&segment_path(7), 7, &damaged).is_err(), "byte {place}");
        }
        for place in second..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x20;
            let content = scan(&segment_path(7), 7, &damaged).unwrap();
            assert_eq!(
                (content.end(), content.torn),
                (9, frames[1].len() as u64),
                "byte {place} of the last commit"
            );
        }
    }

    /// A segment from record 7 on, over one from record 1 on that is longer.
    fn written_over(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = header(1).to_vec();
        for index in 1..7_u8 {
            bytes.extend_from_slice(&frame(index.into(), &[vec![b'a' + index; 640]]));
        }
        let new = [segment(frames), END.to_vec()].concat();
        bytes[..new.len()].copy_from_slice(&new);
        bytes
    }

    #[test]
    fn what_a_segment_held_before_is_not_read() {
        let frames = [frame(7, &[b"one".to_vec(), b"two".to_vec()]), frame(9, &[b"three".to_vec()])];
        for count in 0..=2 {
            let content = scan(&segment_path(7), 7, &written_over(&frames[..count])).unwrap();
            let end = [7, 9, 10][count];
            assert_eq!((content.end(), content.torn), (end, 0), "{count} frames");
        }
        let bytes = written_over(&frames);
        let (second, end) = (HEADER_LENGTH + frames[0].len(), segment(&frames).len());
        for place in 0..second {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x20;
            assert!(scan(&segment_path(7), 7, &damaged).is_err(), "byte {place}");
        }
        let mut without_first = bytes.clone();
        without_first[HEADER_LENGTH..second].fill(0);
        assert!(scan(&segment_path(7), 7, &without_first).is_err(), "nor do zeros hide a whole commit");
        for place in second..end + END.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x20;
            let content = scan(&segment_path(7), 7, &damaged).unwrap();
            assert_eq!(content.end(), if place < end { 9 } else { 10 }, "byte {place}");
            assert!(content.torn > 0, "byte {place}");
        }
    }

    #[test]
    fn what_is_written_while_it_is_read_is_read_again_and_damage_is_not_waited_for() {
        let frames = [frame(7, &[b"one".to_vec(), b"two".to_vec()]), frame(9, &[b"three".to_vec()])];
        let whole = written_over(&frames);
        let mut hole = whole.clone();
        hole[HEADER_LENGTH..HEADER_LENGTH + frames[0].len()].fill(0);
        let scan = |bytes: &[u8]| scan(&segment_path(7), 7, bytes);
        let mut readings = vec![whole, hole.clone()];
        let content = settled(|| Ok(readings.pop().unwrap()), scan).unwrap().unwrap();
        assert_eq!(content.end(), 10);
        let mut readings = 0;
        let read = || {
            readings += 1;
            Ok(hole.clone())
        };
        settled(read, scan).unwrap().unwrap_err();
        assert_eq!(readings, 2);
    }

    #[test]
    fn whichever_sectors_of_the_last_commit_a_crash_left_out_the_others_are_there() {
        const SECTOR: usize = 512;
        let first = frame(7, &[vec![b'x'; 300], b"two".to_vec()]);
        let (before, after) = (
            written_over(std::slice::from_ref(&first)),
            written_over(&[first.clone(), frame(9, &[vec![b'y'; 2500]])]),
        );
        let changed: Vec<usize> = (0..before.len().div_ceil(SECTOR))
            .filter(|sector| {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(before.len());
                before[range.clone()] != after[range]
            })
            .collect();
        assert!((5..10).contains(&changed.len()), "{changed:?}");
        for written in 0..1_u32 << changed.len() {
            let mut bytes = before.clone();
            for (_, sector) in changed.iter().enumerate().filter(|(bit, _)| written & (1 << bit) != 0) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(before.len());
                bytes[range.clone()].copy_from_slice(&after[range]);
            }
            let content = scan(&segment_path(7), 7, &bytes)
                .unwrap_or_else(|problem| panic!("sectors {written:b}: {problem}"));
            let whole = content.end() == 10;
            assert!(whole || content.end() == 9, "sectors {written:b}: {}", content.end());
            assert!(whole || written + 1 < 1 << changed.len(), "everything was written");
        }
    }
}
