//! Address space cut into runs: from the first address of a run to the next run's first, one value holds.
//!
//! Networks nest; runs do not. [`Runs::of`] flattens the one into the other (the longest network decides) by one sweep
//! over the sorted networks, [`walk`] passes over several tables at once, and [`cover`] makes networks of a range
//! again. A table is two arrays, 8 bytes a run for IPv4 and 20 for IPv6, and a look-up is one binary search.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An address as a number.
pub(crate) trait Bits: Copy + Default + Ord + Debug {
    /// How many bits it has.
    const LENGTH: u8;
    /// All zeros.
    const FIRST: Self;
    /// All ones.
    const LAST: Self;

    /// The one after; `None` after the last.
    fn next(self) -> Option<Self>;
    /// The one before; `None` before the first.
    fn previous(self) -> Option<Self>;
    /// The last address of the network of this length that begins here.
    fn last_of(self, length: u8) -> Self;
    /// How many bits at the end are zero.
    fn zeros_at_end(self) -> u8;
    /// The network of this length that holds it.
    fn network(self, length: u8) -> Option<IpNet>;
}

macro_rules! bits {
    ($integer:ty, $address:ty, $network:ty, $family:path) => {
        impl Bits for $integer {
            const LENGTH: u8 = {
                #[expect(clippy::cast_possible_truncation, reason = "32 or 128")]
                let bits = <$integer>::BITS as u8;
                bits
            };
            const FIRST: Self = 0;
            const LAST: Self = <$integer>::MAX;

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn last_of(self, length: u8) -> Self {
                self | <$integer>::MAX.checked_shr(u32::from(length)).unwrap_or(0)
            }

            fn zeros_at_end(self) -> u8 {
                u8::try_from(self.trailing_zeros()).unwrap_or(Self::LENGTH)
            }

            fn network(self, length: u8) -> Option<IpNet> {
                <$network>::new(<$address>::from_bits(self), length)
                    .ok()
                    .map(|network| $family(network.trunc()))
            }
        }
    };
}
bits!(u32, Ipv4Addr, Ipv4Net, IpNet::V4);
bits!(u128, Ipv6Addr, Ipv6Net, IpNet::V6);

/// What holds in a run: a tag of the table's owner (0: nothing, at most 2^24 - 1) and the length of the network that
/// decided, in four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Value(u32);

impl Value {
    pub(crate) const NONE: Self = Self(0);
    /// The largest tag.
    pub(crate) const LARGEST_TAG: u32 = (1 << 24) - 1;

    pub(crate) fn new(tag: u32, length: u8) -> Self {
        Self((tag.min(Self::LARGEST_TAG) << 8) | u32::from(length))
    }

    pub(crate) fn tag(self) -> u32 {
        self.0 >> 8
    }

    pub(crate) fn length(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

/// A network that says something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<A> {
    /// Its first address; the bits beyond `length` are zero.
    pub(crate) first: A,
    pub(crate) length: u8,
    pub(crate) tag: u32,
}

/// Runs over the whole address space of a family, without gaps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs<A> {
    firsts: Vec<A>,
    values: Vec<Value>,
}

impl<A: Bits> Runs<A> {
    /// Flattens networks: the longest decides. What two say of the same network is what `both` makes of it.
    pub(crate) fn of(mut entries: Vec<Entry<A>>, mut both: impl FnMut(u32, u32) -> u32) -> Self {
        entries.sort_unstable_by_key(|entry| (entry.first, entry.length, entry.tag));
        entries.dedup_by(|later, earlier| {
            let same = later.first == earlier.first && later.length == earlier.length;
            if same && later.tag != earlier.tag {
                earlier.tag = both(earlier.tag, later.tag);
            }
            same
        });
        let mut runs = Self::default();
        runs.set(A::FIRST, Value::NONE);
        // The networks that hold the place where the sweep is: the innermost last.
        let mut open: Vec<(A, Value)> = Vec::new();
        for entry in entries {
            runs.close(&mut open, Some(entry.first));
            let value = Value::new(entry.tag, entry.length);
            runs.set(entry.first, value);
            open.push((entry.first.last_of(entry.length), value));
        }
        runs.close(&mut open, None);
        runs.fit();
        runs
    }

    /// These, and where they say nothing, `below`.
    pub(crate) fn over(&self, below: &Self) -> Self {
        let mut runs = Self::default();
        walk(&[self, below], |first, values| {
            runs.set(first, if values[0] == Value::NONE { values[1] } else { values[0] });
        });
        runs.fit();
        runs
    }

    /// What holds at an address.
    pub(crate) fn at(&self, address: A) -> Value {
        let after = self.firsts.partition_point(|first| *first <= address);
        after.checked_sub(1).map_or(Value::NONE, |index| self.values[index])
    }

    /// How many runs there are.
    pub(crate) fn len(&self) -> usize {
        self.firsts.len()
    }

    /// From here on, this value: for callers that go upwards. A run that would begin where it does is replaced.
    fn set(&mut self, first: A, value: Value) {
        if self.firsts.last() == Some(&first) {
            self.firsts.pop();
            self.values.pop();
        }
        if self.values.last() != Some(&value) {
            self.firsts.push(first);
            self.values.push(value);
        }
    }

    /// Closes the networks that end before `next`; all of them when nothing comes.
    fn close(&mut self, open: &mut Vec<(A, Value)>, next: Option<A>) {
        while let Some((last, _)) = open.last().copied() {
            if next.is_some_and(|next| last >= next) {
                return;
            }
            open.pop();
            if let Some(after) = last.next() {
                self.set(after, open.last().map_or(Value::NONE, |(_, value)| *value));
            }
        }
    }

    fn fit(&mut self) {
        self.firsts.shrink_to_fit();
        self.values.shrink_to_fit();
    }
}

/// Passes over several tables at once, upwards: `visit` is given the first address of each stretch in which none of
/// them changes, and what they say there, in the order of the tables.
pub(crate) fn walk<A: Bits>(tables: &[&Runs<A>], mut visit: impl FnMut(A, &[Value])) {
    let mut values = vec![Value::NONE; tables.len()];
    let mut cursors = vec![0_usize; tables.len()];
    let mut first = A::FIRST;
    loop {
        let mut next: Option<A> = None;
        for ((table, cursor), value) in tables.iter().zip(&mut cursors).zip(&mut values) {
            if table.firsts.get(*cursor) == Some(&first) {
                *value = table.values[*cursor];
                *cursor += 1;
            }
            if let Some(begins) = table.firsts.get(*cursor) {
                next = Some(next.map_or(*begins, |next| next.min(*begins)));
            }
        }
        visit(first, &values);
        match next {
            Some(next) => first = next,
            None => return,
        }
    }
}

/// The fewest networks that hold what those of `networks` hold and those of `without` do not.
#[must_use]
pub fn difference(networks: &[IpNet], without: &[IpNet]) -> Vec<IpNet> {
    let mut rest = Vec::new();
    let (one, other) = (entries(networks), entries(without));
    subtract(one.0, other.0, &mut rest);
    subtract(one.1, other.1, &mut rest);
    rest
}

fn subtract<A: Bits>(networks: Vec<Entry<A>>, without: Vec<Entry<A>>, rest: &mut Vec<IpNet>) {
    let (held, taken) = (Runs::of(networks, |one, _| one), Runs::of(without, |one, _| one));
    ranges(
        &[&held, &taken],
        |values| values[0] != Value::NONE && values[1] == Value::NONE,
        |first, last| {
            cover(first, last, rest);
        },
    );
}

/// The entries of both families, with tag 1.
fn entries(networks: &[IpNet]) -> (Vec<Entry<u32>>, Vec<Entry<u128>>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for network in networks.iter().map(IpNet::trunc) {
        let length = network.prefix_len();
        match network {
            IpNet::V4(network) => v4.push(Entry { first: network.addr().to_bits(), length, tag: 1 }),
            IpNet::V6(network) => v6.push(Entry { first: network.addr().to_bits(), length, tag: 1 }),
        }
    }
    (v4, v6)
}

/// Tells `tell` of each range, as long as can be, in which `wanted` likes what the tables say.
pub(crate) fn ranges<A: Bits>(
    tables: &[&Runs<A>],
    wanted: impl Fn(&[Value]) -> bool,
    mut tell: impl FnMut(A, A),
) {
    let mut begun: Option<A> = None;
    walk(tables, |first, values| match (begun, wanted(values)) {
        (None, true) => begun = Some(first),
        (Some(start), false) => {
            if let Some(last) = first.previous() {
                tell(start, last);
            }
            begun = None;
        }
        (Some(_), true) | (None, false) => {}
    });
    if let Some(start) = begun {
        tell(start, A::LAST);
    }
}

/// Adds to `networks` the fewest that hold exactly the addresses from `first` to `last`.
pub(crate) fn cover<A: Bits>(mut first: A, last: A, networks: &mut Vec<IpNet>) {
    loop {
        // The widest network that begins here and does not reach beyond the last address.
        let mut length = A::LENGTH - first.zeros_at_end().min(A::LENGTH);
        while first.last_of(length) > last {
            length += 1;
        }
        networks.extend(first.network(length));
        match first.last_of(length).next() {
            Some(next) if next <= last => first = next,
            Some(_) | None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(entries: &[(u32, u8, u32)]) -> Runs<u32> {
        let entry =
            |(first, length, tag): &(u32, u8, u32)| Entry { first: *first, length: *length, tag: *tag };
        Runs::of(entries.iter().map(entry).collect(), |_, _| 99)
    }

    #[test]
    fn the_longest_network_decides_and_the_ends_are_exact() {
        let runs = runs(&[
            (0, 0, 1),
            (0x0a00_0000, 8, 2),
            (0x0aff_ff00, 24, 3),
            (u32::MAX, 32, 4),
            (u32::MAX, 32, 5),
        ]);
        for (address, tag, length, reason) in [
            (0, 1, 0, "the first address there is"),
            (0x09ff_ffff, 1, 0, "just before"),
            (0x0a00_0000, 2, 8, "the first of an inner one"),
            (0x0aff_feff, 2, 8, "just before the innermost"),
            (0x0aff_ffff, 3, 24, "two end together"),
            (0x0b00_0000, 1, 0, "just after"),
            (u32::MAX, 99, 32, "two of the same network say different things"),
        ] {
            assert_eq!(
                (runs.at(address).tag(), runs.at(address).length()),
                (tag, length),
                "{address:x}: {reason}"
            );
        }
        assert_eq!(Runs::<u32>::default().at(7), Value::NONE, "an empty table says nothing");
    }

    #[test]
    fn a_range_is_covered_by_the_fewest_networks() {
        for (first, last, expected) in [
            (0_u32, u32::MAX, &["0.0.0.0/0"][..]),
            (0x0a00_0000, 0x0a00_0000, &["10.0.0.0/32"]),
            (0x0a00_0001, 0x0a00_0004, &["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]),
            (u32::MAX - 1, u32::MAX, &["255.255.255.254/31"]),
        ] {
            let mut networks = Vec::new();
            cover(first, last, &mut networks);
            let shown: Vec<String> = networks.iter().map(ToString::to_string).collect();
            assert_eq!(shown, expected, "{first:x}-{last:x}");
        }
        let mut networks = Vec::new();
        cover(0_u128, u128::MAX, &mut networks);
        assert_eq!(networks, ["::/0".parse().unwrap()]);
    }

    /// Few distinct bits, so that networks nest and touch.
    fn entry() -> impl Strategy<Value = Entry<u32>> {
        (0_u32..64, 24_u8..=32, 1_u32..4).prop_map(|(low, length, tag)| {
            let first = 0x0a00_0000 | low;
            Entry { first: first & !u32::MAX.checked_shr(u32::from(length)).unwrap_or(0), length, tag }
        })
    }

    #[test]
    fn a_difference_holds_what_only_the_first_holds() {
        let networks =
            |list: &[&str]| list.iter().map(|network| network.parse().unwrap()).collect::<Vec<IpNet>>();
        for (one, other, rest) in [
            (&["10.0.0.0/8"][..], &["10.0.0.0/9"][..], &["10.128.0.0/9"][..]),
            (&["10.0.0.0/8", "2001:db8::/32"], &["10.0.0.0/8"], &["2001:db8::/32"]),
            (&["10.0.0.0/25", "10.0.0.128/25"], &["11.0.0.0/8"], &["10.0.0.0/24"]),
            (&["10.0.0.0/24"], &["0.0.0.0/0"], &[]),
            (&[], &["::/0"], &[]),
        ] {
            assert_eq!(
                difference(&networks(one), &networks(other)),
                networks(rest),
                "{one:?} without {other:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn flattening_agrees_with_looking_at_every_network(
            entries in prop::collection::vec(entry(), 0..10), low in 0_u32..300,
        ) {
            let address = 0x0a00_0000 + low;
            let holds = |entry: &&Entry<u32>| entry.first <= address && address <= entry.first.last_of(entry.length);
            let longest = entries.iter().filter(holds).map(|entry| entry.length).max();
            let tags: std::collections::BTreeSet<u32> =
                entries.iter().filter(holds).filter(|entry| Some(entry.length) == longest).map(|entry| entry.tag).collect();
            let expected = match tags.len() { 0 => 0, 1 => *tags.first().unwrap(), _ => 99 };
            let value = Runs::of(entries, |_, _| 99).at(address);
            prop_assert_eq!(value.tag(), expected);
            prop_assert_eq!(value.length(), longest.unwrap_or(0));
        }

        #[test]
        fn one_table_over_another_says_what_the_upper_one_says_where_it_does(
            upper in prop::collection::vec(entry(), 0..6), lower in prop::collection::vec(entry(), 0..6), low in 0_u32..300,
        ) {
            let (upper, lower) = (Runs::of(upper, |_, _| 99), Runs::of(lower, |_, _| 99));
            let address = 0x0a00_0000 + low;
            let expected = if upper.at(address) == Value::NONE { lower.at(address) } else { upper.at(address) };
            prop_assert_eq!(upper.over(&lower).at(address), expected);
        }

        #[test]
        fn a_cover_holds_the_range_and_nothing_else(first in any::<u8>(), length in any::<u8>(), probe in any::<u16>()) {
            let (first, probe) = (u32::from(first), u32::from(probe) % 600);
            let last = first + u32::from(length);
            let mut networks = Vec::new();
            cover(first, last, &mut networks);
            let address: std::net::IpAddr = Ipv4Addr::from_bits(probe).into();
            let holding = networks.iter().filter(|network| network.contains(&address)).count();
            prop_assert_eq!(holding, usize::from((first..=last).contains(&probe)));
        }
    }
}
