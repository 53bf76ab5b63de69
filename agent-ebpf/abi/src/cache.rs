//! Caches in arrays: a finding about a number, in one word.
//!
//! ```text
//!   word  | the number without its last bits | the epoch of the finding | the finding |
//!   slot    the number's last bits
//! ```
//!
//! A word is read and written at once, so that nobody sees one half of a finding and another half of the next. It is exact:
//! another number in the same slot takes the place of the one before, and is never taken for it. A number that does
//! not fit is not remembered.

/// How a cache is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    slot_bits: u32,
    finding_bits: u32,
}

/// Where something is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The index into the array.
    pub index: u32,
    /// The word without the finding.
    word: u64,
}

const EPOCH_BITS: u32 = 32;

impl Cache {
    /// Of `CGROUPS`: the scope of a cgroup, by its id; see [`Membership`].
    pub const CGROUPS: Self = Self { slot_bits: 14, finding_bits: 12 };
    /// Of `CONNECTIONS`: those that are allowed, by their socket's cookie, which the host gives to one socket only
    /// (Linux commit cd48bdda4fb8, 5.4). The finding is [`Cache::ALLOWED`], [`Cache::COUNTED`] or [`Cache::LOOKED_AT`].
    pub const CONNECTIONS: Self = Self { slot_bits: 18, finding_bits: 2 };
    /// The connection is allowed, and part of no flow that is counted.
    pub const ALLOWED: u32 = 1;
    /// The connection is allowed, and its packets are counted in `FLOWS`.
    pub const COUNTED: u32 = 2;
    /// The same, and its first words are still looked at (`HEADS`).
    pub const LOOKED_AT: u32 = 3;

    /// Entries of its array.
    #[must_use]
    pub const fn slots(self) -> u32 {
        1 << self.slot_bits
    }

    /// Where the number is remembered, under an epoch; none for a number that is zero or too large.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self, number: u64, epoch: u32) -> Option<Slot> {
        let rest = number >> self.slot_bits;
        if number == 0 || rest >> (u64::BITS - EPOCH_BITS - self.finding_bits) != 0 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the last bits are what is wanted")]
        let index = number as u32 & (self.slots() - 1);
        Some(Slot { index, word: (rest << EPOCH_BITS | epoch as u64) << self.finding_bits })
    }

    /// The finding in a word that stands there; zero where it is of another number or epoch, or none.
    #[inline(always)]
    #[must_use]
    pub const fn finding(self, slot: Slot, found: u64) -> u32 {
        if (found ^ slot.word) >> self.finding_bits != 0 {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the last bits are what is wanted")]
        let last = found as u32;
        last & ((1 << self.finding_bits) - 1)
    }

    /// The word that says so. A finding is not zero, or it could not be told from an empty slot.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, slot: Slot, finding: u32) -> u64 {
        slot.word | finding as u64 & ((1 << self.finding_bits) - 1)
    }
}

/// What `CGROUPS` remembers of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is in no scope.
    Stranger,
    /// It is in the scope with this [`crate::Scope::index`].
    Member(u32),
}

impl Membership {
    /// Scopes that a policy may have: what fits into a finding.
    pub const MOST_SCOPES: u32 = (1 << Cache::CGROUPS.finding_bits) - 2;

    /// As a finding; none for an index beyond [`Membership::MOST_SCOPES`].
    #[inline(always)]
    #[must_use]
    pub const fn finding(self) -> Option<u32> {
        match self {
            Self::Stranger => Some(1),
            Self::Member(index) if index < Self::MOST_SCOPES => Some(index + 2),
            Self::Member(_) => None,
        }
    }

    /// What a finding says; none for zero.
    #[inline(always)]
    #[must_use]
    pub const fn of(finding: u32) -> Option<Self> {
        match finding {
            0 => None,
            1 => Some(Self::Stranger),
            more => Some(Self::Member(more - 2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_of_its_number_and_epoch_alone() {
        for cache in [Cache::CGROUPS, Cache::CONNECTIONS] {
            let slot = cache.slot(77, 5).unwrap();
            let word = cache.word(slot, 1);
            assert_eq!(cache.finding(slot, word), 1);
            assert_eq!(cache.finding(slot, 0), 0, "an empty slot");
            let same_slot = 77 + u64::from(cache.slots());
            for (number, epoch) in [(77, 6), (77, 4), (same_slot, 5), (same_slot, 6), (77 << 14, 5)] {
                assert_eq!(cache.finding(cache.slot(number, epoch).unwrap(), word), 0, "{number} {epoch}");
            }
            assert_eq!(cache.slot(same_slot, 5).unwrap().index, slot.index);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_remembered() {
        for (cache, bits) in [(Cache::CGROUPS, 34), (Cache::CONNECTIONS, 48)] {
            assert_eq!(cache.slot(0, 5), None);
            assert_eq!(cache.slot(1 << bits, 5), None);
            assert_eq!(cache.slot(u64::MAX, 5), None);
            let largest = cache.slot((1 << bits) - 1, u32::MAX).unwrap();
            assert_eq!(cache.finding(largest, cache.word(largest, 1)), 1);
        }
        assert_eq!(Membership::Member(Membership::MOST_SCOPES).finding(), None);
    }

    #[test]
    fn an_empty_slot_says_nothing_even_under_epoch_zero() {
        let slot = Cache::CGROUPS.slot(5, 0).unwrap();
        assert_eq!(Membership::of(Cache::CGROUPS.finding(slot, 0)), None);
    }

    #[test]
    fn memberships_come_back() {
        for membership in
            [Membership::Stranger, Membership::Member(0), Membership::Member(Membership::MOST_SCOPES - 1)]
        {
            let finding = membership.finding().unwrap();
            let slot = Cache::CGROUPS.slot(1234, 9).unwrap();
            let found = Cache::CGROUPS.finding(slot, Cache::CGROUPS.word(slot, finding));
            assert_eq!(Membership::of(found), Some(membership));
        }
    }
}
