//! What was found before, under the policy in force; see [`bailiwick_abi::Cache`].

use aya_ebpf::maps::Array;
use bailiwick_abi::{Cache, Slot};

/// The finding that is remembered; zero for none.
#[inline(always)]
pub(crate) fn recall(words: &Array<u64>, cache: Cache, slot: Slot) -> u32 {
    // SAFETY: a live, aligned map value of one word.
    words.get_ptr(slot.index).map_or(0, |word| cache.finding(slot, unsafe { word.read_volatile() }))
}

/// Remembers a finding, in the place of whatever was remembered there.
#[inline(always)]
pub(crate) fn remember(words: &Array<u64>, cache: Cache, slot: Slot, finding: u32) {
    if let Some(word) = words.get_ptr_mut(slot.index) {
        // SAFETY: a live, aligned map value of one word.
        unsafe { word.write_volatile(cache.word(slot, finding)) };
    }
}
