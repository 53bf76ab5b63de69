//! The fewest prefixes by which a table that goes by the longest match gives every address its verdict.
//!
//! Countries and clouds interleave: written as allowed networks alone, the European Economic Area is 325,000 of them.
//! With holes (a wide network that is allowed, a longer one in it that is not) it is 181,000, and the kernel's trie has
//! half as many nodes. This is the construction of Draves, King, Venkatachary and Zill, "Constructing Optimal IP Routing
//! Tables" (INFOCOM 1999), over a tree that skips levels at which nothing branches:
//!
//! ```text
//!   upwards     each node: the verdicts that it could be given with the fewest entries below it
//!   downwards   the verdict that is inherited, where that is one of them: no entry; another one: an entry
//! ```
//!
//! Invariants: no entry gives 0 but below one that gives something; the verdict of an address is the sum of the flags
//! of all networks that hold it, as in the networks that came in, to the last address.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use bailiwick_abi::Destination;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A network and its flags.
pub(crate) type Claim = (IpNet, u32);

/// The entries for these claims, sorted; one with flags 0 is a hole in the wider one around it.
pub(crate) fn aggregate(claims: &[Claim]) -> Vec<Claim> {
    let mut found = Vec::new();
    for family in [Family::V4, Family::V6] {
        let mut prefixes: Vec<(Prefix, u32)> =
            claims.iter().filter_map(|(network, flags)| Some((family.prefix(*network)?, *flags))).collect();
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 |= later.1;
            }
            same
        });
        let mut tree = Tree { claims: &prefixes, nodes: Vec::new(), entries: Vec::new() };
        let root = tree.build(Prefix::ALL, 0, 0..prefixes.len());
        tree.emit(root, 0);
        tree.entries.sort_unstable();
        let entry = |(prefix, flags)| Some((family.network(prefix)?, flags));
        found.extend(tree.entries.into_iter().filter_map(entry));
    }
    found
}

/// How many nodes the kernel's trie has for entries of one family, sorted: one for each, and one for each place where
/// the ways to two of them part and no entry is.
pub(crate) fn nodes(entries: &[Claim]) -> usize {
    let mut count = 0;
    for family in [Family::V4, Family::V6] {
        // The lengths of the nodes on the way to the entry before.
        let mut way: Vec<u8> = Vec::new();
        let mut before: Option<Prefix> = None;
        for prefix in entries.iter().filter_map(|(network, _)| family.prefix(*network)) {
            if let Some(before) = before {
                let parts = before.common(prefix);
                while way.last().is_some_and(|length| *length > parts) {
                    way.pop();
                }
                if way.last() != Some(&parts) {
                    way.push(parts);
                    count += 1;
                }
            }
            way.push(prefix.length);
            before = Some(prefix);
            count += 1;
        }
    }
    count
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn prefix(self, network: IpNet) -> Option<Prefix> {
        match (self, network) {
            (Self::V4, IpNet::V4(net)) => {
                Some(Prefix { first: u128::from(net.network().to_bits()) << 96, length: net.prefix_len() })
            }
            (Self::V6, IpNet::V6(net)) => {
                Some(Prefix { first: net.network().to_bits(), length: net.prefix_len() })
            }
            (Self::V4, IpNet::V6(_)) | (Self::V6, IpNet::V4(_)) => None,
        }
    }

    fn network(self, Prefix { first, length }: Prefix) -> Option<IpNet> {
        match self {
            Self::V4 => {
                let first = u32::try_from(first >> 96).ok()?;
                Ipv4Net::new(Ipv4Addr::from_bits(first), length).ok().map(IpNet::V4)
            }
            Self::V6 => Ipv6Net::new(Ipv6Addr::from_bits(first), length).ok().map(IpNet::V6),
        }
    }
}

/// The first bits of an address, the highest first; the rest are 0. A wider prefix stands before those inside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    first: u128,
    length: u8,
}

impl Prefix {
    const ALL: Self = Self { first: 0, length: 0 };

    /// How many bits two of them share.
    fn common(self, other: Self) -> u8 {
        let same = u8::try_from((self.first ^ other.first).leading_zeros()).unwrap_or(128);
        same.min(self.length).min(other.length)
    }

    /// Its first bits.
    fn cut(self, length: u8) -> Self {
        let bits = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self { first: self.first & bits, length }
    }

    /// Whether bit `index` is set.
    fn bit(self, index: u8) -> bool {
        self.first & (1 << 127) >> index != 0
    }

    /// The one that differs in its last bit.
    fn sibling(self) -> Self {
        Self { first: self.first ^ (1 << (128 - u32::from(self.length))), length: self.length }
    }
}

/// Verdicts, a bit for each sum of flags.
type Set = u8;

const _: () = assert!(Destination::REGION | Destination::EXCEPTION | Destination::PEER == 7, "eight sums");

fn sum(flags: u32) -> u8 {
    flags.to_le_bytes()[0] & 7
}

fn only(sum: u8) -> Set {
    1 << sum
}

fn either(one: Set, other: Set) -> Set {
    if one & other == 0 { one | other } else { one & other }
}

/// Small, since there is more than one for each claim: of its prefix it has the length, and a claim that begins alike.
#[derive(Clone, Copy)]
struct Node {
    claim: u32,
    length: u8,
    /// The verdict of the addresses here of which nothing below says more.
    own: u8,
    set: Set,
    below: Below,
}

#[derive(Clone, Copy)]
enum Below {
    Nothing,
    /// On one side, so many levels down; on the other sides `own` holds.
    One(u32),
    Both(u32, u32),
}

struct Tree<'a> {
    /// Sorted.
    claims: &'a [(Prefix, u32)],
    nodes: Vec<Node>,
    entries: Vec<(Prefix, u32)>,
}

impl Tree<'_> {
    /// The node of a prefix, with all claims about it and what is inside it; `around` is what those around it say.
    fn build(&mut self, prefix: Prefix, around: u8, mut range: Range<usize>) -> u32 {
        let (begin, mut own) = (range.start, around);
        if let Some((first, flags)) = self.claims.get(begin).filter(|_| !range.is_empty())
            && *first == prefix
        {
            own |= sum(*flags);
            range.start += 1;
        }
        if u32::from(own) & Destination::EXCEPTION != 0 {
            // An exception opens what a region does, and more.
            own &= !sum(Destination::REGION);
        }
        let inside = &self.claims[range.clone()];
        let (set, below) = match (inside.first(), inside.last()) {
            (Some((first, _)), Some((last, _))) => {
                // Sorted: what the first and the last share, all do.
                let (first, last, parts) = (*first, *last, first.common(*last));
                if parts > prefix.length {
                    let child = self.build(first.cut(parts), own, range);
                    let set = match parts - prefix.length {
                        1 => either(self.node(child).set, only(own)),
                        // Whatever the child is given: two levels up, only `own` has the fewest.
                        _ => only(own),
                    };
                    (set, Below::One(child))
                } else {
                    let half = inside.partition_point(|(claim, _)| !claim.bit(prefix.length));
                    let half = range.start + half;
                    let low = self.build(first.cut(parts + 1), own, range.start..half);
                    let high = self.build(last.cut(parts + 1), own, half..range.end);
                    (either(self.node(low).set, self.node(high).set), Below::Both(low, high))
                }
            }
            _ => (only(own), Below::Nothing),
        };
        self.nodes.push(Node { claim: number(begin), length: prefix.length, own, set, below });
        number(self.nodes.len() - 1)
    }

    fn node(&self, index: u32) -> Node {
        self.nodes[index as usize]
    }

    fn prefix(&self, node: Node) -> Prefix {
        // Without any claim there is the root alone.
        self.claims.get(node.claim as usize).map_or(Prefix::ALL, |(claim, _)| claim.cut(node.length))
    }

    fn emit(&mut self, index: u32, inherited: u8) {
        let node = self.node(index);
        let given = if node.set & only(inherited) != 0 {
            inherited
        } else {
            let given = if node.set & only(node.own) != 0 {
                node.own
            } else {
                node.set.trailing_zeros().to_le_bytes()[0]
            };
            self.entries.push((self.prefix(node), u32::from(given)));
            given
        };
        match node.below {
            Below::Nothing => {}
            Below::One(child) => {
                if given != node.own {
                    // One level down: further, `own` would have been the only choice.
                    let sibling = self.prefix(self.node(child)).sibling();
                    self.entries.push((sibling, u32::from(node.own)));
                }
                self.emit(child, given);
            }
            Below::Both(low, high) => {
                self.emit(low, given);
                self.emit(high, given);
            }
        }
    }
}

/// Claims and nodes are counted in `u32`: memory would end before.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    const R: u32 = Destination::REGION;
    const E: u32 = Destination::EXCEPTION;

    fn claims(list: &[(&str, u32)]) -> Vec<Claim> {
        list.iter().map(|(network, flags)| (network.parse().unwrap(), *flags)).collect()
    }

    #[test]
    fn a_hole_is_one_entry_and_neighbours_are_one() {
        for (given, expected, reason) in [
            (&[("192.0.2.0/25", R), ("192.0.2.128/25", R)][..], &[("192.0.2.0/24", R)][..], "neighbours"),
            (&[("192.0.2.0/24", R), ("192.0.2.64/26", R)], &[("192.0.2.0/24", R)], "one inside another"),
            (
                &[("192.0.2.0/26", R), ("192.0.2.64/27", R), ("192.0.2.128/25", R)],
                &[("192.0.2.0/24", R), ("192.0.2.96/27", 0)],
                "three networks are one with a hole",
            ),
            (&[("192.0.2.0/25", R), ("192.0.2.0/24", E)], &[("192.0.2.0/24", E)], "a region in an exception"),
            (
                &[("192.0.2.0/24", R), ("192.0.2.0/25", E)],
                &[("192.0.2.0/24", R), ("192.0.2.0/25", E)],
                "an exception in a region",
            ),
            (&[("0.0.0.0/0", R)], &[("0.0.0.0/0", R)], "everything"),
            (&[("::/0", R), ("192.0.2.0/24", R)], &[("192.0.2.0/24", R), ("::/0", R)], "families are apart"),
            (&[("192.0.2.7/32", R), ("192.0.2.6/32", R)], &[("192.0.2.6/31", R)], "single addresses"),
            (&[], &[], "nothing"),
        ] {
            assert_eq!(aggregate(&claims(given)), claims(expected), "{reason}");
        }
    }

    #[test]
    fn nodes_are_counted_as_the_kernels_trie_makes_them() {
        for (entries, expected, reason) in [
            (&["192.0.2.0/24"][..], 1, "a leaf"),
            (&["192.0.2.0/24", "192.0.2.0/26"], 2, "one below another"),
            (&["192.0.2.0/26", "192.0.2.64/26"], 3, "a node where they part"),
            (&["192.0.2.0/24", "192.0.2.0/26", "192.0.2.64/26"], 4, "below an entry"),
            (&["192.0.2.0/25", "192.0.2.0/26", "192.0.2.64/26"], 3, "where they part is an entry"),
            (&["192.0.2.0/26", "192.0.2.64/26", "192.0.2.128/26"], 5, "two such places"),
            (&["192.0.2.0/24", "2001:db8::/32"], 2, "families have no way in common"),
        ] {
            let entries: Vec<Claim> = entries.iter().map(|network| (network.parse().unwrap(), R)).collect();
            assert_eq!(nodes(&entries), expected, "{reason}");
        }
    }

    /// Few distinct bits, so that networks nest, touch and coincide often.
    fn crowded() -> impl Strategy<Value = Claim> {
        let v4 = (0_u32..16, 24_u8..=32).prop_map(|(low, length)| {
            IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(0xcb00_7100 | low << 2), length).unwrap().trunc())
        });
        let v6 = (0_u128..16, 120_u8..=128).prop_map(|(low, length)| {
            let first = (0x2001_0db8 << 96) | low << 2;
            IpNet::V6(Ipv6Net::new(Ipv6Addr::from_bits(first), length).unwrap().trunc())
        });
        (prop_oneof![v4, v6], prop::sample::select(vec![R, E]))
    }

    /// By looking at every network.
    fn by_the_claims(claims: &[Claim], address: IpAddr) -> u32 {
        let sum =
            claims.iter().filter(|(net, _)| net.contains(&address)).fold(0, |sum, (_, flag)| sum | flag);
        if sum & E == 0 { sum } else { sum & !R }
    }

    /// As the kernel does: the longest that holds the address.
    fn by_the_longest(entries: &[Claim], address: IpAddr) -> u32 {
        let holding = entries.iter().filter(|(net, _)| net.contains(&address));
        holding.max_by_key(|(net, _)| net.prefix_len()).map_or(0, |(_, flags)| *flags)
    }

    /// The fewest entries, by trying every verdict at every node down to the last bit.
    fn fewest(
        claims: &[Claim],
        first: u32,
        length: u8,
        memo: &mut BTreeMap<(u32, u8, u32), usize>,
        given: u32,
    ) -> usize {
        let key = (first, length, given);
        if let Some(known) = memo.get(&key) {
            return *known;
        }
        let inside = |given: u32, memo: &mut BTreeMap<_, _>| {
            if length == 32 {
                let wanted = by_the_claims(claims, Ipv4Addr::from_bits(first).into());
                return if wanted == given { 0 } else { 1000 };
            }
            let high = first | 1 << (31 - length);
            fewest(claims, first, length + 1, memo, given) + fewest(claims, high, length + 1, memo, given)
        };
        let least = inside(given, memo);
        let least = [0, R, E].into_iter().map(|other| 1 + inside(other, memo)).fold(least, usize::min);
        memo.insert(key, least);
        least
    }

    proptest! {
        #[test]
        fn every_address_keeps_its_verdict(claims in prop::collection::vec(crowded(), 0..12)) {
            let entries = aggregate(&claims);
            let low = (0..256_u32).map(|low| IpAddr::from(Ipv4Addr::from_bits(0xcb00_7100 | low)));
            let high = (0..256_u128).map(|low| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | low)));
            for address in low.chain(high).chain(["203.0.112.255", "203.0.114.0", "0.0.0.0", "::"].map(|a| a.parse().unwrap())) {
                prop_assert_eq!(by_the_longest(&entries, address), by_the_claims(&claims, address), "{}: {:?}", address, entries);
            }
            let mut sorted = entries.clone();
            sorted.sort_unstable_by_key(|(network, _)| *network);
            prop_assert_eq!(sorted, entries, "sorted, and each network once");
        }

        #[test]
        fn there_is_no_smaller_table(claims in prop::collection::vec(crowded(), 0..8)) {
            let v4: Vec<Claim> = claims.into_iter().filter(|(net, _)| net.addr().is_ipv4()).collect();
            // All of them lie in one /24, which is tried with everything that could be inherited: nothing is.
            let least = fewest(&v4, 0xcb00_7100, 24, &mut BTreeMap::new(), 0);
            prop_assert_eq!(aggregate(&v4).len(), least);
        }
    }
}
