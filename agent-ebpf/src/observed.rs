//! When whoever reads `OBSERVED` is woken.
//!
//! Waking is by far the dearest part of an observation: an interrupt that the CPU sends to itself, some microseconds on
//! bare metal and twenty in a virtual machine, where a connection takes fifty. So a record lies there until the reader
//! comes by itself, which it does many times a second, or until there is much to read.

use bailiwick_abi::HeadRecord;

use crate::maps::OBSERVED;

/// `BPF_RB_NO_WAKEUP`, `BPF_RB_FORCE_WAKEUP` and `BPF_RB_PROD_POS` of linux/bpf.h.
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const PRODUCED: u64 = 3;
/// Before each record, which begins at a multiple of it.
const HEADER: u64 = 8;
/// The reader is woken each time that so many bytes have been written; a small part of what there is room for.
const MUCH: u64 = 256 * 1024;
const _: () = assert!(
    MUCH.is_power_of_two()
        && MUCH * 8 <= bailiwick_abi::OBSERVED.max_entries as u64
        && MUCH > size_of::<HeadRecord>() as u64
);

/// The flags to submit a record of this size with, after it was reserved.
///
/// Where two CPUs reserve at the same time, one of them may take the other's step for its own, and nobody is woken: the
/// reader comes by itself, or at the next step.
#[inline(always)]
pub(crate) fn wakeup(size: usize) -> u64 {
    let produced = OBSERVED.query(PRODUCED);
    let before = produced.wrapping_sub((HEADER + size as u64).next_multiple_of(HEADER));
    if (produced ^ before) & !(MUCH - 1) == 0 { NO_WAKEUP } else { FORCE_WAKEUP }
}
