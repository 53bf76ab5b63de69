//! Events and counters. Every refusal is counted; events are folded so that a flood cannot hide the rest.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns, generated::bpf_get_current_comm,
};
use bailiwick_abi::{Counter, Event, Fold, FoldKey, Hook, Mode, Reason, Scope, Settings, Verdict};

use crate::{
    maps::{COUNTERS, EVENTS, FOLDED},
    packet::Ends,
    verdict::{Outcome, mode},
};

/// Let pass.
pub(crate) const PASS: i32 = 1;
/// Refuse: EPERM at a system call, a drop at a packet.
pub(crate) const REFUSE: i32 = 0;

/// Where a decision was made, and about whom. `CALL` says that it is a system call of the process that acts; the programs
/// of packet hooks may not even contain a question for the process.
///
/// In this order, because of a byte that does not begin a word the verifier does not remember what was written there: what
/// follows is verified once, and not once for each reason.
#[repr(C)]
pub(crate) struct Site<const CALL: bool> {
    pub(crate) settings: Settings,
    /// The cgroup of the process or of the socket.
    pub(crate) cgroup_id: u64,
    pub(crate) hook: Hook,
    /// Why, of a packet that is not allowed, or would not be.
    pub(crate) reason: Reason,
}

/// Refuses, whatever the scope's mode: the guard on the way in.
#[inline(always)]
pub(crate) fn refuse<const CALL: bool>(site: &Site<CALL>, index: u32, reason: Reason, ends: &Ends) -> i32 {
    count(Counter::Denied(reason));
    event(site, index, Verdict::Deny, reason, ends);
    REFUSE
}

/// Applies the scope's mode to a denial of egress.
#[inline(always)]
pub(crate) fn settle<const CALL: bool>(
    site: &Site<CALL>,
    scope: &Scope,
    outcome: Outcome,
    ends: &Ends,
) -> i32 {
    match outcome {
        Outcome::Again => return PASS,
        Outcome::Pass | Outcome::Allow | Outcome::Flow | Outcome::Answer | Outcome::Despite => {
            return allow();
        }
        Outcome::Refuse => return refuse(site, scope.index, site.reason, ends),
        Outcome::Settle => {}
    }
    match mode(scope) {
        Mode::Enforce => refuse(site, scope.index, site.reason, ends),
        Mode::Shadow => {
            count(Counter::WouldDeny(site.reason));
            event(site, scope.index, Verdict::WouldDeny, site.reason, ends);
            PASS
        }
        Mode::Monitor => allow(),
    }
}

/// Counts and lets pass what was decided about.
#[inline(always)]
pub(crate) fn allow() -> i32 {
    count(Counter::Allowed);
    PASS
}

#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: a live, aligned map value. Atomic, because a packet can arrive in the middle of a system call.
        unsafe { increase(value, 1) };
    }
}

/// Adds, atomically; core offers no such thing for a target without compare-and-swap.
///
/// # Safety
/// `value` must point to a live, aligned map value.
#[inline(always)]
pub(crate) unsafe fn increase(value: *mut u64, by: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("lock *(u64 *)({value} + 0) += {by}", value = in(reg) value, by = in(reg) by);
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        *value += by;
    }
}

/// Not inlined: one copy per program, and its stack is given back.
#[inline(never)]
fn event<const CALL: bool>(site: &Site<CALL>, index: u32, verdict: Verdict, reason: Reason, ends: &Ends) {
    let hook = site.hook;
    let pid = if CALL { (bpf_get_current_pid_tgid() >> 32) as u32 } else { 0 };
    let key = FoldKey {
        address: if matches!(hook, Hook::Ingress) { ends.source } else { ends.destination },
        scope: index,
        actor: if CALL { pid } else { site.cgroup_id as u32 },
        port: ends.destination_port,
        protocol: ends.protocol,
        reason: reason.tag(),
        hook: hook.tag(),
        verdict: verdict.tag(),
        padding: 0,
    };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut held = 0;
    if let Some(fold) = FOLDED.get_ptr_mut(&key) {
        // SAFETY: a live, aligned map value. Two CPUs may both hand one over; the worst is a fold that is off by
        // one, while COUNTERS stays exact.
        unsafe {
            if now.wrapping_sub((*fold).reported) < Fold::INTERVAL {
                increase(&raw mut (*fold).held, 1);
                return;
            }
            held = (*fold).held;
        }
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count(Counter::LostEvents);
        return;
    };
    let mut comm = MaybeUninit::<[u64; 2]>::uninit();
    // SAFETY: in bounds. By volatile words, because clearing it otherwise becomes a call, and with that call the
    // frames add up to more than 512 bytes.
    unsafe {
        comm.as_mut_ptr().cast::<u64>().write_volatile(0);
        comm.as_mut_ptr().cast::<u64>().add(1).write_volatile(0);
    }
    let mut uid = 0;
    if CALL {
        uid = bpf_get_current_uid_gid() as u32;
        // SAFETY: sixteen writable bytes. A failure leaves zeros, which say that the name is not known.
        unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), 16) };
    }
    entry.write(Event {
        cgroup_id: site.cgroup_id,
        count: held + 1,
        source: ends.source,
        destination: ends.destination,
        generation: site.settings.generation,
        scope: index,
        pid,
        uid,
        source_port: ends.source_port,
        destination_port: ends.destination_port,
        hook: hook.tag(),
        verdict: verdict.tag(),
        reason: reason.tag(),
        protocol: ends.protocol,
        // SAFETY: written above, and sixteen bytes are sixteen bytes.
        comm: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(comm.assume_init()) },
    });
    entry.submit(0);
    let _ = FOLDED.insert(&key, &Fold { reported: now, held: 0 }, 0);
}
