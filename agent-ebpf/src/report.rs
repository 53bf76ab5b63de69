//! Events and counters. Every refusal is counted; events are folded so that a flood cannot hide the rest.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns, generated::bpf_get_current_comm,
};
use bailiwick_abi::{Counter, Event, Fold, FoldKey, Hook, Mode, Reason, Scope, Settings, Verdict};

use crate::{
    maps::{COUNTERS, EVENTS, FOLDED},
    packet::Ends,
    verdict::mode,
};

/// Let pass.
pub(crate) const PASS: i32 = 1;
/// Refuse: EPERM at a system call, a drop at a packet.
pub(crate) const REFUSE: i32 = 0;

/// Where a decision was made, and about whom.
pub(crate) struct Site {
    pub(crate) hook: Hook,
    pub(crate) settings: Settings,
    /// The cgroup of the process or of the socket.
    pub(crate) cgroup_id: u64,
}

/// Refuses, whatever the scope's mode: the guard on the way in.
#[inline(always)]
pub(crate) fn refuse(site: &Site, index: u32, reason: Reason, ends: &Ends) -> i32 {
    count(Counter::Denied(reason));
    event(site, index, Verdict::Deny, reason, ends);
    REFUSE
}

/// Applies the scope's mode to a denial of egress.
#[inline(always)]
pub(crate) fn settle(site: &Site, scope: &Scope, outcome: Result<(), Reason>, ends: &Ends) -> i32 {
    let Err(reason) = outcome else {
        return allow();
    };
    match mode(scope) {
        Mode::Enforce => refuse(site, scope.index, reason, ends),
        Mode::Shadow => {
            count(Counter::WouldDeny(reason));
            event(site, scope.index, Verdict::WouldDeny, reason, ends);
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
fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter.index()) {
        // SAFETY: a live, aligned map value. Atomic, because a packet can arrive in the middle of a system call.
        unsafe { increment(value) };
    }
}

/// Adds one, atomically; core offers no such thing for a target without compare-and-swap.
///
/// # Safety
/// `value` must point to a live, aligned map value.
#[inline(always)]
unsafe fn increment(value: *mut u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("lock *(u64 *)({value} + 0) += {one}", value = in(reg) value, one = in(reg) 1_u64);
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        *value += 1;
    }
}

#[inline(always)]
fn has_process(hook: Hook) -> bool {
    matches!(hook, Hook::Connect | Hook::SendMessage | Hook::Bind)
}

/// Not inlined: one copy per program, and its stack is given back.
#[inline(never)]
fn event(site: &Site, index: u32, verdict: Verdict, reason: Reason, ends: &Ends) {
    let hook = site.hook;
    let pid = if has_process(hook) { (bpf_get_current_pid_tgid() >> 32) as u32 } else { 0 };
    let key = FoldKey {
        address: if matches!(hook, Hook::Ingress) { ends.source } else { ends.destination },
        scope: index,
        actor: if has_process(hook) { pid } else { site.cgroup_id as u32 },
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
                increment(&raw mut (*fold).held);
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
    if has_process(hook) {
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
