//! What the programs report.

use crate::Address;

/// One refusal, or would-be refusal, as it lies in the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose act it was: the cgroup of the process (connect, sendmsg, bind) or of the socket that sent the packet;
    /// 0 for a packet whose sender is not known here.
    pub cgroup_id: u64,
    /// How many identical events this one stands for, itself included.
    pub count: u64,
    /// [`Address::UNSPECIFIED`] where the hook does not know it.
    pub source: Address,
    /// Where to; for bind the address asked for.
    pub destination: Address,
    /// The policy whose list of scopes `scope` points into.
    pub generation: u32,
    /// Index of the scope; [`crate::NO_SCOPE`] for none.
    pub scope: u32,
    /// The thread group, as the initial pid namespace numbers it; 0 at packet hooks.
    pub pid: u32,
    /// The user, as the initial user namespace numbers it.
    pub uid: u32,
    /// Host order.
    pub source_port: u16,
    /// Host order.
    pub destination_port: u16,
    /// [`crate::Hook`]
    pub hook: u8,
    /// [`crate::Verdict`]
    pub verdict: u8,
    /// [`crate::Reason`]
    pub reason: u8,
    /// IANA protocol number.
    pub protocol: u8,
    /// The process's name (prctl(2), PR_SET_NAME), padded with zeros; all zero at packet hooks.
    pub comm: [u8; 16],
}

/// Key of `FOLDED`: what makes two events the same one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FoldKey {
    /// The far end: the destination, or the source of a packet that came in.
    pub address: Address,
    /// [`Event::scope`]
    pub scope: u32,
    /// [`Event::pid`]; at packet hooks the low half of [`Event::cgroup_id`], so that one sender's flood does not
    /// hide another.
    pub actor: u32,
    /// The destination port.
    pub port: u16,
    /// [`Event::protocol`]
    pub protocol: u8,
    /// [`Event::reason`]
    pub reason: u8,
    /// [`Event::hook`]
    pub hook: u8,
    /// [`Event::verdict`]
    pub verdict: u8,
    /// Zero.
    pub padding: u16,
}

/// Value of `FOLDED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fold {
    /// When the last event of this kind was handed over, in nanoseconds of the monotonic clock.
    pub reported: u64,
    /// How many came since and are not handed over yet.
    pub held: u64,
}

impl Fold {
    /// At most one event of a kind is handed over in this time, in nanoseconds.
    pub const INTERVAL: u64 = 1_000_000_000;
}

const _: () = {
    assert!(size_of::<Event>() == 88);
    assert!(align_of::<Event>() == 8);
    assert!(size_of::<FoldKey>() == 32);
    assert!(size_of::<Fold>() == 16);
};
