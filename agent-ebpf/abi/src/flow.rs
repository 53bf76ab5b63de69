//! What goes where, and how much: counted where it passes, for each socket and on each CPU.
//!
//! ```text
//!   FLOWS  one array a CPU, a socket's place given by its cookie  ── read every second ──▶ agent
//!             │ another socket takes the place
//!             └─▶ FlowRecord ─▶ OBSERVED ◀─ HeadRecord: the first words of a connection, for the name in them
//! ```
//!
//! A place is written by its own CPU only. Whoever reads it meanwhile knows a torn copy by [`Flow::begun`] and
//! [`Flow::ready`], which differ while the place changes hands; the counters themselves are whole words, and only grow.

use crate::Address;

/// Value of `FLOWS`: one socket's traffic with one other end, as one CPU saw it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flow {
    /// How often the place changed hands; written last when it does.
    pub ready: u64,
    /// The cookie of the socket that has it now; 0 while the place was never taken.
    pub cookie: u64,
    /// The other end.
    pub address: Address,
    /// The policy whose list of scopes `scope` points into.
    pub generation: u32,
    /// Index of the scope.
    pub scope: u32,
    /// The other end's port, in host order.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// [`crate::Reason`] why enforcing would have refused it; 0 where the policy allows it.
    pub reason: u8,
    /// The [`crate::Settings::epoch`] under which the policy last allowed it; 0 where it did not, or was not asked.
    pub epoch: u32,
    /// The epoch under which a packet last showed that `scope` is the socket's own, and not only the calling process's.
    pub own_epoch: u32,
    /// Zero.
    pub padding: u32,
    /// The name of the process that opened it, padded with zeros; all zero on CPUs that saw packets only.
    pub comm: [u8; 16],
    /// System calls that named the other end.
    pub opened: u64,
    /// Bytes sent, IP headers included.
    pub sent_bytes: u64,
    /// Packets sent, as large as the network device takes them (Linux, `Documentation/networking/segmentation-offloads`).
    pub sent_packets: u64,
    /// Bytes received, IP headers included.
    pub received_bytes: u64,
    /// Packets received, as above.
    pub received_packets: u64,
    /// How often the place changed hands; written first when it does.
    pub begun: u64,
}

impl Flow {
    /// Places on each CPU: what flows at the same time; a power of two.
    pub const SLOTS: u32 = 1024;

    /// The place of a socket's traffic. A socket without a connection has other ends, and for each another place.
    #[inline(always)]
    #[must_use]
    pub const fn slot(cookie: u64, other_end: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the last bits are what is wanted")]
        let cookie = cookie as u32;
        (cookie ^ other_end) & (Self::SLOTS - 1)
    }
}

/// What lies in `OBSERVED` about a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlowRecord {
    /// [`FlowRecord::OPENED`] or [`FlowRecord::ENDED`].
    pub kind: u32,
    /// The CPU.
    pub cpu: u32,
    /// Its place there.
    pub slot: u32,
    /// Opened: the thread group, as the initial pid namespace numbers it.
    pub pid: u32,
    /// Opened: the user, as the initial user namespace numbers it.
    pub uid: u32,
    /// Zero.
    pub padding: u32,
    /// As it stood in its place.
    pub flow: Flow,
}

impl FlowRecord {
    /// A process named a destination that it was let go to: the first time in a while.
    pub const OPENED: u32 = 1;
    /// The flow leaves its place to another; these are its last counters there.
    pub const ENDED: u32 = 2;
}

/// Value of `HEADS`: where the two directions of a TCP connection begin (RFC 9293, initial sequence numbers). Each is a word
/// of its own that carries the socket's mark ([`Head::place`]), so that another socket in the same place is never taken for
/// this one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// Of the first byte that is sent.
    pub sent: u64,
    /// Of the first byte that is received.
    pub received: u64,
}

impl Head {
    const SLOT_BITS: u32 = 14;
    /// Places: connections whose first words can be looked at at the same time.
    pub const SLOTS: u32 = 1 << Self::SLOT_BITS;

    /// The place of a connection, by its socket's cookie, and the mark of its words there; none for a cookie that is
    /// zero or too large.
    #[inline(always)]
    #[must_use]
    pub const fn place(cookie: u64) -> Option<(u32, u32)> {
        let rest = cookie >> Self::SLOT_BITS;
        if cookie == 0 || rest >= u32::MAX as u64 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the last bits are what is wanted, and the rest fits"
        )]
        let (slot, rest) = (cookie as u32 & (Self::SLOTS - 1), rest as u32);
        // An empty place has no mark.
        Some((slot, rest + 1))
    }

    /// The word for a sequence number.
    #[inline(always)]
    #[must_use]
    pub const fn word(mark: u32, sequence: u32) -> u64 {
        (mark as u64) << 32 | sequence as u64
    }

    /// The sequence number in a word, if it bears this mark.
    #[inline(always)]
    #[must_use]
    pub const fn sequence(mark: u32, word: u64) -> Option<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "the last half is the number")]
        let sequence = word as u32;
        if word >> 32 == mark as u64 { Some(sequence) } else { None }
    }
}

/// What lies in `OBSERVED` of the first words of a connection, or of a question to a resolver and its answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRecord {
    /// [`HeadRecord::KIND`]
    pub kind: u32,
    /// How many of `bytes` count; the others are whatever lay there.
    pub length: u32,
    /// The socket's cookie.
    pub cookie: u64,
    /// The other end.
    pub address: Address,
    /// The policy whose list of scopes `scope` points into.
    pub generation: u32,
    /// Index of the scope.
    pub scope: u32,
    /// Where the bytes lie in their direction of the connection.
    pub offset: u32,
    /// The other end's port, in host order.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// 1 for what the held socket sent, 0 for what it received.
    pub sent: u8,
    /// The payload, or its beginning.
    pub bytes: [u8; Self::MOST as usize],
}

impl HeadRecord {
    /// Its `kind`.
    pub const KIND: u32 = 3;
    /// Bytes of one packet; a power of two. A ClientHello with a post-quantum key share takes about 1,800.
    pub const MOST: u32 = 2048;
    /// Bytes of what is sent on one connection that are looked at.
    pub const LONGEST: u32 = 16 * 1024;
}

const _: () = {
    assert!(size_of::<Flow>() == 120);
    assert!(size_of::<FlowRecord>() == 144);
    assert!(size_of::<Head>() == 16);
    assert!(size_of::<HeadRecord>() == 48 + HeadRecord::MOST as usize);
    assert!(Flow::SLOTS.is_power_of_two() && HeadRecord::MOST.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_exists() {
        for (cookie, other) in [(0, 0), (u64::MAX, 0), (77, u32::MAX), (1 << 33 | 5, 9)] {
            assert!(Flow::slot(cookie, other) < Flow::SLOTS);
        }
        assert_eq!(Flow::slot(5 + u64::from(Flow::SLOTS), 0), Flow::slot(5, 0));
        assert_ne!(Flow::slot(5, 1), Flow::slot(5, 2));
    }

    #[test]
    fn the_beginning_of_a_connection_is_of_its_socket_alone() {
        let (slot, mark) = Head::place(77).unwrap();
        let word = Head::word(mark, 0);
        assert_eq!(Head::sequence(mark, word), Some(0));
        assert_eq!(Head::sequence(mark, 0), None, "an empty place");
        let (same_slot, other) = Head::place(77 + u64::from(Head::SLOTS)).unwrap();
        assert_eq!(same_slot, slot);
        assert_eq!(Head::sequence(other, word), None);
        assert_eq!(Head::place(0), None);
        assert_eq!(Head::place(u64::MAX), None);
    }
}
