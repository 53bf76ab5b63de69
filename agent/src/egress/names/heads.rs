//! The beginnings of streams, put together from the pieces that were captured, in whatever order they came.
//!
//! Bounded three ways: bytes of one stream, streams, bytes of all of them. What is over a bound is forgotten, the oldest
//! first: a name less, never a wrong one. Every byte is zeroized when it is no longer needed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use zeroize::Zeroizing;

/// Bytes of one stream that are looked at.
pub(super) const LONGEST_HEAD: usize = 16 * 1024;
/// Streams that are waited for at once.
const MOST_STREAMS: usize = 4096;
/// Bytes of all of them.
const MOST_BYTES: usize = 8 << 20;
/// Pieces of one stream that wait for what lies before them.
const MOST_WAITING: usize = 64;

/// One direction of one socket.
pub(super) type StreamId = (u64, bool);

/// All streams whose beginning is not understood yet, and those that need not be looked at again.
#[derive(Default)]
pub(super) struct Heads {
    streams: HashMap<StreamId, Head>,
    /// Oldest first; ids that are gone may still stand here.
    order: VecDeque<StreamId>,
    bytes: usize,
}

/// The beginning of one stream.
#[derive(Default)]
struct Head {
    /// From `start` on, without a gap.
    bytes: Zeroizing<Vec<u8>>,
    /// How many bytes of the stream were understood and forgotten.
    start: usize,
    waiting: BTreeMap<usize, Zeroizing<Vec<u8>>>,
    /// How long `bytes` must be before it is worth another look.
    wanted: usize,
    done: bool,
}

/// What became of the bytes that were looked at.
pub(super) enum Looked {
    /// Nothing more is wanted from this stream.
    Done,
    /// Look again when there are this many.
    Again(usize),
    /// So many of them were understood; look at those behind them.
    Taken(usize),
}

impl Heads {
    /// Adds a piece of a stream; when it completes something, lets `look` see the bytes from the first that was not taken yet.
    pub(super) fn add(
        &mut self,
        id: StreamId,
        offset: u32,
        piece: &[u8],
        look: impl FnOnce(&[u8]) -> Looked,
    ) {
        if !self.streams.contains_key(&id) {
            self.make_room();
            self.order.push_back(id);
        }
        let head = self.streams.entry(id).or_default();
        if head.done {
            return;
        }
        let before = head.size();
        head.put(usize::try_from(offset).unwrap_or(usize::MAX), piece);
        if head.bytes.len() >= head.wanted.max(1) {
            match look(&head.bytes) {
                Looked::Done => head.end(),
                Looked::Again(wanted) => head.wanted = wanted,
                Looked::Taken(count) => head.take(count),
            }
        }
        if head.start + head.bytes.len() >= LONGEST_HEAD {
            head.end();
        }
        self.bytes = self.bytes + head.size() - before;
        while self.bytes > MOST_BYTES {
            self.forget_oldest();
        }
    }

    fn make_room(&mut self) {
        while self.streams.len() >= MOST_STREAMS {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front()
            && let Some(head) = self.streams.remove(&oldest)
        {
            self.bytes -= head.size();
        }
    }
}

impl Head {
    fn size(&self) -> usize {
        self.bytes.len() + self.waiting.values().map(|piece| piece.len()).sum::<usize>()
    }

    fn put(&mut self, offset: usize, piece: &[u8]) {
        let end = self.start + self.bytes.len();
        if offset > end {
            if offset < LONGEST_HEAD && self.waiting.len() < MOST_WAITING {
                let piece = &piece[..piece.len().min(LONGEST_HEAD - offset)];
                let longer = self.waiting.get(&offset).is_none_or(|known| known.len() < piece.len());
                if longer {
                    self.waiting.insert(offset, Zeroizing::new(piece.to_vec()));
                }
            }
            return;
        }
        // What was sent before stays as it was: a stream that is sent anew with other bytes changes nothing.
        self.append(piece.get(end - offset..).unwrap_or_default());
        while let Some(entry) = self.waiting.first_entry()
            && *entry.key() <= self.start + self.bytes.len()
        {
            let (offset, piece) = entry.remove_entry();
            let known = self.start + self.bytes.len() - offset;
            self.append(piece.get(known..).unwrap_or_default());
        }
    }

    /// A vector that grew by itself would leave its old bytes behind.
    fn append(&mut self, piece: &[u8]) {
        let room = LONGEST_HEAD.saturating_sub(self.start + self.bytes.len());
        let piece = &piece[..piece.len().min(room)];
        if self.bytes.capacity() < self.bytes.len() + piece.len() {
            let longer = (2 * (self.bytes.len() + piece.len())).min(LONGEST_HEAD);
            let mut grown = Zeroizing::new(Vec::with_capacity(longer));
            grown.extend_from_slice(&self.bytes);
            self.bytes = grown;
        }
        self.bytes.extend_from_slice(piece);
    }

    fn take(&mut self, count: usize) {
        self.bytes = Zeroizing::new(self.bytes.get(count..).unwrap_or_default().to_vec());
        self.start += count;
        self.wanted = 0;
    }

    fn end(&mut self) {
        *self = Self { done: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(heads: &mut Heads, id: StreamId, pieces: &[(u32, &[u8])], length: usize) -> Option<Vec<u8>> {
        let mut seen = None;
        for (offset, piece) in pieces {
            heads.add(id, *offset, piece, |bytes| {
                if bytes.len() < length {
                    return Looked::Again(length);
                }
                seen = Some(bytes.to_vec());
                Looked::Done
            });
        }
        seen
    }

    #[test]
    fn what_was_sent_first_counts_and_gaps_are_waited_for() {
        let mut heads = Heads::default();
        let pieces: [(u32, &[u8]); 4] = [(4, b"efgh"), (0, b"ab"), (0, b"XXcd"), (4, b"ZZ")];
        assert_eq!(whole(&mut heads, (1, true), &pieces, 8).as_deref(), Some(b"abcdefgh".as_slice()));
        assert_eq!(whole(&mut heads, (2, true), &[(1, b"b")], 2), None, "its beginning never came");
        assert_eq!(whole(&mut heads, (1, true), &[(0, b"again")], 1), None, "once is enough");
    }

    #[test]
    fn what_was_taken_is_not_seen_again() {
        let mut heads = Heads::default();
        let mut seen = Vec::new();
        for (offset, piece) in [(0, b"ab"), (2, b"cd"), (0, b"ab")] {
            heads.add((1, false), offset, piece, |bytes| {
                seen.push(bytes.to_vec());
                Looked::Taken(bytes.len())
            });
        }
        assert_eq!(seen, [b"ab", b"cd"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut heads = Heads::default();
        let piece = vec![0; LONGEST_HEAD - 1];
        for socket in 0..2000 {
            heads.add((socket, true), 0, &piece, |_| Looked::Again(usize::MAX));
        }
        assert!(heads.bytes <= MOST_BYTES, "{}", heads.bytes);
        for socket in 0..10_000 {
            heads.add((socket, false), 9, b"late", |_| Looked::Done);
        }
        assert!(heads.streams.len() <= MOST_STREAMS && heads.order.len() <= MOST_STREAMS);
        heads.add((1, true), 0, &vec![0; 1 << 20], |_| Looked::Again(usize::MAX));
        assert!(heads.streams[&(1, true)].done, "longer than anything that is looked at");
    }

    proptest! {
        #[test]
        fn any_cut_in_any_order_gives_the_same_bytes(
            cuts in prop::collection::vec(1_usize..9, 1..12),
            order in any::<prop::sample::Index>(),
            seed in any::<u64>(),
        ) {
            let length: usize = cuts.iter().sum();
            let stream: Vec<u8> = (0..length).map(|at| u8::try_from(at).unwrap()).collect();
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in &cuts {
                pieces.push((u32::try_from(at).unwrap(), &stream[at..at + cut]));
                at += cut;
            }
            // Some order of them, and one twice.
            pieces.sort_by_key(|(offset, _)| u64::from(*offset).wrapping_mul(seed | 1).rotate_left(7));
            pieces.push(pieces[order.index(pieces.len())]);
            prop_assert_eq!(whole(&mut Heads::default(), (1, true), &pieces, length), Some(stream.clone()));
        }
    }
}
