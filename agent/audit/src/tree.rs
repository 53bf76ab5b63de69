//! The Merkle tree (RFC 6962, section 2.1) as its right edge: for each tile level the hashes of its last, unfinished tile.
//!
//! That is all that appending and computing the root need, at most 256 hashes a level, however long the log is.

use tlog_tiles::{EMPTY_HASH, HASH_SIZE, Hash, Tile, node_hash};

use crate::layout::{Kind, TILE_WIDTH, TileName};

/// The right edge of the tree over the first [`Edge::size`] entries.
#[derive(Clone, Default)]
pub(crate) struct Edge {
    size: u64,
    /// level → the hashes of the unfinished tile, 32 bytes each, always fewer than 256
    levels: Vec<Vec<u8>>,
}

/// A tile's name and its content.
pub(crate) type NamedTile = (TileName, Vec<u8>);

impl Edge {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf hash; returns the hash tiles that it completed, lowest level first.
    pub(crate) fn push(&mut self, leaf: Hash) -> Vec<NamedTile> {
        let mut completed = Vec::new();
        let mut hash = leaf;
        self.size += 1;
        let mut filled = self.size;
        for level in 0_u8..8 {
            let position = usize::from(level);
            if self.levels.len() == position {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[position];
            hashes.extend_from_slice(&hash.0);
            if !filled.is_multiple_of(TILE_WIDTH) {
                break;
            }
            filled /= TILE_WIDTH;
            let tile = std::mem::take(hashes);
            hash = Tile::subtree_hash(&tile);
            completed.push((TileName::full(Kind::Hashes(level), filled - 1), tile));
        }
        completed
    }

    /// The unfinished tiles at this size, lowest level first.
    pub(crate) fn partial_tiles(&self) -> Vec<NamedTile> {
        partial_names(self.size)
            .into_iter()
            .filter_map(|name| match name.kind {
                Kind::Entries => None,
                Kind::Hashes(level) => Some((name, self.levels.get(usize::from(level))?.clone())),
            })
            .collect()
    }

    /// Rebuilds the edge from the contents of [`Edge::partial_tiles`]; `None` when a tile is missing or of a wrong length.
    pub(crate) fn from_partial_tiles(size: u64, tiles: &[NamedTile]) -> Option<Self> {
        let mut edge = Self { size, levels: Vec::new() };
        for level in 0_u8..8 {
            if size >> (8 * u32::from(level)) == 0 {
                break;
            }
            let wanted = partial_names(size).into_iter().find(|name| name.kind == Kind::Hashes(level));
            let hashes = match wanted {
                None => Vec::new(),
                Some(wanted) => tiles.iter().find(|(name, _)| *name == wanted)?.1.clone(),
            };
            let width = wanted.map_or(0, |name| name.width);
            if usize::try_from(width).ok()? * HASH_SIZE != hashes.len() {
                return None;
            }
            edge.levels.push(hashes);
        }
        Some(edge)
    }

    /// The tree's root.
    pub(crate) fn root(&self) -> Hash {
        // The perfect subtrees that the tree falls into, the largest (leftmost) first.
        let mut subtrees = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                let leaves = rest.len() / HASH_SIZE;
                let (subtree, after) = rest.split_at((1 << leaves.ilog2()) * HASH_SIZE);
                subtrees.push(Tile::subtree_hash(subtree));
                rest = after;
            }
        }
        let folded = subtrees.into_iter().rev().reduce(|right, left| node_hash(left, right));
        folded.unwrap_or(EMPTY_HASH)
    }
}

/// The names of the unfinished hash tiles of a log of this size.
pub(crate) fn partial_names(size: u64) -> Vec<TileName> {
    let mut names = Vec::new();
    let mut filled = size;
    for level in 0_u8..8 {
        if !filled.is_multiple_of(TILE_WIDTH) {
            let (number, width) = (filled / TILE_WIDTH, filled % TILE_WIDTH);
            names.push(TileName { kind: Kind::Hashes(level), number, width });
        }
        filled /= TILE_WIDTH;
    }
    names
}

/// The name of the unfinished entry bundle of a log of this size, when there is one.
pub(crate) fn partial_bundle(size: u64) -> Option<TileName> {
    let (number, width) = (size / TILE_WIDTH, size % TILE_WIDTH);
    (width != 0).then_some(TileName { kind: Kind::Entries, number, width })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tlog_tiles::{HashReader, record_hash, stored_hashes, tree_hash};

    #[derive(Default)]
    struct Reference(RefCell<Vec<Hash>>);

    impl HashReader for Reference {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
            let stored = self.0.borrow();
            Ok(indexes.iter().map(|i| stored[usize::try_from(*i).unwrap()]).collect())
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962_at_every_size_and_survives_reloading() {
        let (mut edge, reference) = (Edge::default(), Reference::default());
        assert_eq!(edge.root(), EMPTY_HASH);
        for n in 0..70_000_u64 {
            let entry = n.to_be_bytes();
            let new = stored_hashes(n, &entry, &reference).unwrap();
            reference.0.borrow_mut().extend(new);
            let tiles = edge.push(record_hash(&entry));
            let expected = Tile::new_tiles(8, n, n + 1).into_iter().filter(|t| t.width() == 256).count();
            assert_eq!(tiles.len(), expected, "full tiles completed by entry {n}");
            let dense = n < 600 || (65_500..65_600).contains(&n);
            if dense {
                assert_eq!(edge.root(), tree_hash(n + 1, &reference).unwrap(), "root at size {}", n + 1);
                let reloaded = Edge::from_partial_tiles(n + 1, &edge.partial_tiles()).unwrap();
                assert_eq!(reloaded.root(), edge.root(), "reloaded at size {}", n + 1);
            }
        }
    }
}
