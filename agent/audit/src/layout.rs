//! Where things are: C2SP tlog-tiles paths below the trail's directory, and the encoding of entry bundles.

use std::path::{Path, PathBuf};

/// Hashes or entries in a full tile (height 8, as C2SP tlog-tiles fixes it).
pub(crate) const TILE_WIDTH: u64 = 256;

/// The signed head.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// What a tile file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// entries, each with a 16-bit big-endian length before it
    Entries,
    /// hashes of the tree's level 8 × this
    Hashes(u8),
}

/// One tile file: which one, and how many of its 256 places are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TileName {
    pub(crate) kind: Kind,
    pub(crate) number: u64,
    /// 1 to 256
    pub(crate) width: u64,
}

impl TileName {
    pub(crate) fn full(kind: Kind, number: u64) -> Self {
        Self { kind, number, width: TILE_WIDTH }
    }

    /// `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`; N in groups of three digits, all but the last with an `x`.
    pub(crate) fn path(&self) -> PathBuf {
        let mut number = format!("{:03}", self.number % 1000);
        let mut rest = self.number / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let kind = match self.kind {
            Kind::Entries => "entries".to_owned(),
            Kind::Hashes(level) => level.to_string(),
        };
        let partial = if self.width == TILE_WIDTH { String::new() } else { format!(".p/{}", self.width) };
        PathBuf::from(format!("tile/{kind}/{number}{partial}"))
    }

    /// The inverse of [`TileName::path`]; `None` for anything it would not have made.
    pub(crate) fn parse(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
        let kind = if kind == "entries" { Kind::Entries } else { Kind::Hashes(kind.parse().ok()?) };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok()?),
            None => (rest, TILE_WIDTH),
        };
        let mut parsed = 0_u64;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            parsed = parsed.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        let name = Self { kind, number: parsed, width };
        (1..=TILE_WIDTH).contains(&width).then_some(())?;
        (name.path() == path).then_some(name)
    }
}

/// Appends one entry in bundle form. The caller has held the entry to [`crate::RECORD_LIMIT`].
pub(crate) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
    debug_assert_eq!(usize::from(length), entry.len(), "entries are limited before they get here");
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
}

/// The entries of a bundle; `None` when the lengths do not add up to it exactly.
pub(crate) fn split_bundle(mut bundle: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry.to_vec());
        bundle = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_those_of_c2sp_tlog_tiles() {
        // (kind, number, width, path, why)
        let rows = [
            (Kind::Hashes(0), 0, 256, "tile/0/000", "the first full tile"),
            (Kind::Hashes(1), 5, 17, "tile/1/005.p/17", "a partial tile"),
            (Kind::Entries, 0, 1, "tile/entries/000.p/1", "a partial bundle"),
            (Kind::Entries, 1_234_067, 256, "tile/entries/x001/x234/067", "the specification's example"),
            (Kind::Hashes(0), 1000, 256, "tile/0/x001/000", "four digits"),
        ];
        for (kind, number, width, path, why) in rows {
            let name = TileName { kind, number, width };
            assert_eq!(name.path(), Path::new(path), "{why}");
            assert_eq!(TileName::parse(Path::new(path)), Some(name), "{why}");
        }
        for path in [
            "tile/0/0",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/x000/001",
            "tile/01/000",
            "x/0/000",
            "tile/0/1000",
        ] {
            assert_eq!(TileName::parse(Path::new(path)), None, "{path} is not a path that is written");
        }
    }

    proptest! {
        #[test]
        fn bundles_give_back_their_entries(entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut bundle = Vec::new();
            for entry in &entries {
                push_entry(&mut bundle, entry);
            }
            prop_assert_eq!(split_bundle(&bundle), Some(entries));
        }
    }
}
