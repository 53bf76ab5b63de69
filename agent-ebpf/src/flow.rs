//! What goes where, and how much; see [`bailiwick_abi::Flow`]. Nothing here decides.
//!
//! A place is written by one CPU, but a packet can arrive in the middle of a system call, on the same CPU: while a place
//! changes hands, whoever comes in between counts nothing there, and that is counted.

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_get_smp_processor_id, bpf_ktime_get_ns,
        generated::{bpf_get_current_comm, bpf_get_socket_cookie},
    },
    programs::{SkBuffContext, SockAddrContext},
};
use bailiwick_abi::{Address, Counter, Flow, FlowRecord, Fold, FoldKey};

use crate::{
    head::DNS_PORT,
    maps::{FLOWS, FOLDED, OBSERVED},
    observed,
    packet::{Ends, TCP, UDP, parse},
    report::{self, Site},
    verdict::{Outcome, by_loopback},
};

/// What is counted, in one word: the programs of Linux 5.10 have small frames and few arguments.
#[derive(Clone, Copy)]
pub(crate) struct Amount(u64);

const RECEIVED: u64 = 1 << 32;
const ALLOWED: u64 = 1 << 33;
const REASON_AT: u32 = 40;

impl Amount {
    /// A packet of this many bytes that was sent.
    #[inline(always)]
    pub(crate) fn sent(bytes: u32) -> Self {
        Self(bytes as u64)
    }

    /// A packet of this many bytes that was received.
    #[inline(always)]
    pub(crate) fn received(bytes: u32) -> Self {
        Self(RECEIVED | bytes as u64)
    }

    /// Though there was a reason to refuse it; 0 for none.
    #[inline(always)]
    pub(crate) fn despite(self, reason: u8) -> Self {
        Self(self.0 | (reason as u64) << REASON_AT)
    }

    /// And the policy allows it: asked again for the same, [`again`] answers.
    #[inline(always)]
    pub(crate) fn allowed(self) -> Self {
        Self(self.0 | ALLOWED)
    }

    #[inline(always)]
    fn is_allowed(self) -> bool {
        self.0 & ALLOWED != 0
    }

    #[inline(always)]
    fn is_received(self) -> bool {
        self.0 & RECEIVED != 0
    }

    #[inline(always)]
    fn reason(self) -> u8 {
        (self.0 >> REASON_AT) as u8
    }
}

/// The cookie of the socket of a system call.
#[inline(always)]
pub(crate) fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the program's context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// What was allowed before under the policy in force, from the same socket to the same end, is allowed and counted again;
/// false where that is not known on this CPU.
///
/// The scope must be the asking one: a socket that was handed on is held to the policy of its slice at the packet, and to that
/// of the process at the call.
#[inline(always)]
pub(crate) fn again(site: &Site<false>, index: u32, ends: &Ends, cookie: u64, amount: Amount) -> bool {
    let Some(flow) = allowed(site, index, ends, cookie, amount) else {
        return false;
    };
    // SAFETY: a live, aligned map value of this CPU's own.
    unsafe {
        if (*flow).cookie != cookie {
            return false;
        }
        (&raw mut (*flow).own_epoch).write_volatile(site.settings.epoch);
        add(flow, amount);
    }
    true
}

/// What is known of a call before the policy is asked: [`Outcome::Again`], counted, where its socket was allowed the same
/// before; [`Outcome::Flow`] where the socket was that had its place before; [`Outcome::Settle`] where nothing is known.
///
/// The verdict is on the slice and the other end, and the same for whichever socket.
#[inline(always)]
pub(crate) fn opened_before(site: &Site<true>, index: u32, ends: &Ends, cookie: u64) -> Outcome {
    let Some(flow) = allowed(site, index, ends, cookie, Amount::sent(0)) else {
        return Outcome::Settle;
    };
    // SAFETY: a live, aligned map value of this CPU's own.
    unsafe {
        if (*flow).cookie != cookie {
            return Outcome::Flow;
        }
        report::increase(&raw mut (*flow).opened, 1);
    }
    Outcome::Again
}

/// The place of the socket and the other end, if it stands and is of the same slice and end, whichever its socket, and the
/// policy in force allowed that.
#[inline(always)]
fn allowed<const CALL: bool>(
    site: &Site<CALL>,
    index: u32,
    ends: &Ends,
    cookie: u64,
    amount: Amount,
) -> Option<*mut Flow> {
    let (address, port) = other_end(ends, amount);
    let flow = FLOWS.get_ptr_mut(slot(ends, cookie, address, port))?;
    // SAFETY: a live, aligned map value of this CPU's own.
    let is_allowed = unsafe {
        cookie != 0
            && (*flow).begun == (&raw const (*flow).ready).read_volatile()
            && (*flow).epoch == site.settings.epoch
            && (*flow).reason == 0
            && is_between(flow, index, ends, address, port)
    };
    if is_allowed { Some(flow) } else { None }
}

/// The same of a datagram that leaves, before it is known whose socket sent it; a packet of the same flow has shown it.
///
/// Not inlined, to keep the frames of the programs small: Linux 5.10 rounds each up and allows 512 bytes in all.
#[inline(never)]
pub(crate) fn datagram_again(ctx: &SkBuffContext, epoch: u32, cookie: u64) -> bool {
    let mut ends = Ends::UNKNOWN;
    // What is said to a resolver is looked at each time, and a receiver on this host asked about each time.
    if parse(ctx, &mut ends).is_err()
        || ends.protocol != UDP
        || ends.destination_port == DNS_PORT
        || by_loopback(ctx)
    {
        return false;
    }
    let (address, port) = (&ends.destination, ends.destination_port);
    let Some(flow) = FLOWS.get_ptr_mut(slot(&ends, cookie, address, port)) else {
        return false;
    };
    // SAFETY: a live, aligned map value of this CPU's own.
    unsafe {
        if (*flow).begun != (&raw const (*flow).ready).read_volatile()
            || (*flow).epoch != epoch
            || (*flow).own_epoch != epoch
            || (*flow).reason != 0
            || (*flow).cookie != cookie
            || cookie == 0
            || !is_between(flow, (*flow).scope, &ends, address, port)
        {
            return false;
        }
        add(flow, Amount::sent(ctx.len()));
    }
    true
}

/// Of what is sent, the destination; of what is received, the source.
#[inline(always)]
fn other_end(ends: &Ends, amount: Amount) -> (&Address, u16) {
    if amount.is_received() {
        (&ends.source, ends.source_port)
    } else {
        (&ends.destination, ends.destination_port)
    }
}

#[inline(always)]
fn slot(ends: &Ends, cookie: u64, address: &Address, port: u16) -> u32 {
    Flow::slot(cookie, if ends.protocol == TCP { 0 } else { address.0[3] ^ (port as u32) << 3 })
}

/// Whether the place is of this slice and this other end, whichever its socket.
///
/// # Safety
/// `flow` must point to a live, aligned map value.
#[inline(always)]
unsafe fn is_between(flow: *const Flow, index: u32, ends: &Ends, address: &Address, port: u16) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        (*flow).scope == index
            && (*flow).port == port
            && (*flow).protocol == ends.protocol
            && is_equal(&raw const (*flow).address.0, &address.0)
    }
}

/// A packet more of a connection that is counted already; false where its place is another's, or not there.
#[inline(always)]
pub(crate) fn more(cookie: u64, generation: u32, amount: Amount) -> bool {
    let Some(flow) = FLOWS.get_ptr_mut(Flow::slot(cookie, 0)) else {
        return false;
    };
    // SAFETY: a live, aligned map value of this CPU's own.
    unsafe {
        if (*flow).cookie != cookie
            || (*flow).generation != generation
            || (*flow).begun != (&raw const (*flow).ready).read_volatile()
        {
            return false;
        }
        add(flow, amount);
    }
    true
}

/// # Safety
/// `flow` must point to a live, aligned map value.
#[inline(always)]
unsafe fn add(flow: *mut Flow, amount: Amount) {
    // SAFETY: the caller's promise. Atomic, because a packet can arrive in the middle.
    unsafe {
        if amount.is_received() {
            report::increase(&raw mut (*flow).received_bytes, amount.0 as u32 as u64);
            report::increase(&raw mut (*flow).received_packets, 1);
        } else {
            report::increase(&raw mut (*flow).sent_bytes, amount.0 as u32 as u64);
            report::increase(&raw mut (*flow).sent_packets, 1);
        }
    }
}

/// Counts a packet between the socket and its other end.
///
/// Not inlined, to keep the frames of the programs small: Linux 5.10 rounds each up and allows 512 bytes in all.
#[inline(never)]
pub(crate) fn count(site: &Site<false>, index: u32, ends: &Ends, cookie: u64, amount: Amount) {
    if let Some((flow, _)) = place(site, index, ends, cookie, amount, None) {
        // SAFETY: a live, aligned map value.
        unsafe { add(flow, amount) };
    }
}

/// Counts a system call that names the other end. Apart from the packets: their programs may not ask for the process.
#[inline(never)]
pub(crate) fn open(site: &Site<true>, index: u32, ends: &Ends, cookie: u64, amount: Amount) {
    let mut opener: Opener = [0; 2];
    // SAFETY: sixteen bytes are writable; a failure leaves zeros, which say that it is not known.
    unsafe { bpf_get_current_comm(opener.as_mut_ptr().cast(), size_of::<Opener>() as u32) };
    let Some((flow, slot)) = place(site, index, ends, cookie, amount, Some(&opener)) else {
        return;
    };
    // SAFETY: a live, aligned map value.
    unsafe {
        let comm = (&raw mut (*flow).comm).cast::<u64>();
        comm.write_volatile(opener[0]);
        comm.add(1).write_volatile(opener[1]);
        report::increase(&raw mut (*flow).opened, 1);
        if is_news(site, index, ends) {
            let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
            tell(flow, slot, FlowRecord::OPENED, pid, bpf_get_current_uid_gid() as u32);
        }
    }
}

/// [`Flow::comm`], by words.
type Opener = [u64; 2];

/// The place on this CPU of what passes between the socket and its other end; it may be another's until now.
///
/// What the same opener opens to the same other end next goes on with the counters of the one before: it is one flow to
/// whoever reads them, and thousands of short connections are told of once.
#[inline(always)]
fn place<const CALL: bool>(
    site: &Site<CALL>,
    index: u32,
    ends: &Ends,
    cookie: u64,
    amount: Amount,
    opener: Option<&Opener>,
) -> Option<(*mut Flow, u32)> {
    if cookie == 0 {
        return None;
    }
    let (address, port) = other_end(ends, amount);
    let slot = slot(ends, cookie, address, port);
    let flow = FLOWS.get_ptr_mut(slot)?;
    // SAFETY: a live, aligned map value of this CPU's own.
    unsafe {
        if (*flow).begun != (&raw const (*flow).ready).read_volatile() {
            report::count(Counter::LostObservations);
            return None;
        }
        let is_alike = (*flow).generation == site.settings.generation
            && (*flow).reason == amount.reason()
            && is_between(flow, index, ends, address, port);
        if !is_alike || (*flow).cookie != cookie {
            if is_alike && opener.is_some_and(|opener| is_of(flow, opener)) {
                // What was allowed to the one before is not yet allowed to this one, also if a packet comes in between.
                (&raw mut (*flow).ready).write_volatile((*flow).begun.wrapping_sub(1));
                (&raw mut (*flow).epoch).write_volatile(0);
                (&raw mut (*flow).own_epoch).write_volatile(0);
                (&raw mut (*flow).cookie).write_volatile(cookie);
                (&raw mut (*flow).ready).write_volatile((*flow).begun);
            } else {
                begin(flow, slot, site.settings.generation, cookie);
                let to = (&raw mut (*flow).address.0).cast::<u32>();
                to.write_volatile(address.0[0]);
                to.add(1).write_volatile(address.0[1]);
                to.add(2).write_volatile(address.0[2]);
                to.add(3).write_volatile(address.0[3]);
                (&raw mut (*flow).scope).write_volatile(index);
                (&raw mut (*flow).port).write_volatile(port);
                (&raw mut (*flow).protocol).write_volatile(ends.protocol);
                (&raw mut (*flow).reason).write_volatile(amount.reason());
                (&raw mut (*flow).ready).write_volatile((*flow).begun);
            }
        }
        if amount.is_allowed() {
            (&raw mut (*flow).epoch).write_volatile(site.settings.epoch);
        }
        if !CALL {
            (&raw mut (*flow).own_epoch).write_volatile(site.settings.epoch);
        }
    }
    Some((flow, slot))
}

/// Tells what a place counted, and clears it for another; it is ready when the caller says so.
///
/// # Safety
/// `flow` must point to a live, aligned map value.
#[inline(always)]
unsafe fn begin(flow: *mut Flow, slot: u32, generation: u32, cookie: u64) {
    // SAFETY: the caller's promise. By volatile words, because clearing it otherwise becomes a call.
    unsafe {
        if (*flow).cookie != 0 {
            tell(flow, slot, FlowRecord::ENDED, 0, 0);
        }
        (&raw mut (*flow).begun).write_volatile((*flow).begun + 1);
        (&raw mut (*flow).cookie).write_volatile(cookie);
        (&raw mut (*flow).generation).write_volatile(generation);
        (&raw mut (*flow).epoch).write_volatile(0);
        (&raw mut (*flow).own_epoch).write_volatile(0);
        (&raw mut (*flow).padding).write_volatile(0);
        let comm = (&raw mut (*flow).comm).cast::<u64>();
        comm.write_volatile(0);
        comm.add(1).write_volatile(0);
        (&raw mut (*flow).opened).write_volatile(0);
        (&raw mut (*flow).sent_bytes).write_volatile(0);
        (&raw mut (*flow).sent_packets).write_volatile(0);
        (&raw mut (*flow).received_bytes).write_volatile(0);
        (&raw mut (*flow).received_packets).write_volatile(0);
    }
}

/// # Safety
/// `flow` must point to a live, aligned map value.
#[inline(always)]
unsafe fn is_of(flow: *const Flow, opener: &Opener) -> bool {
    // SAFETY: the caller's promise. Word by word, because comparing arrays becomes a call.
    unsafe {
        let comm = (&raw const (*flow).comm).cast::<u64>();
        opener[0] != 0 && comm.read_volatile() == opener[0] && comm.add(1).read_volatile() == opener[1]
    }
}

/// # Safety
/// `one` must point to a live, aligned map value.
#[inline(always)]
unsafe fn is_equal(one: *const [u32; 4], other: &[u32; 4]) -> bool {
    // SAFETY: the caller's promise. Word by word, because comparing arrays becomes a call.
    unsafe {
        (*one)[0] == other[0] && (*one)[1] == other[1] && (*one)[2] == other[2] && (*one)[3] == other[3]
    }
}

/// Whether this process was not yet told of with this destination, lately.
#[inline(always)]
fn is_news(site: &Site<true>, index: u32, ends: &Ends) -> bool {
    let key = FoldKey {
        address: ends.destination,
        scope: index,
        actor: (bpf_get_current_pid_tgid() >> 32) as u32,
        port: ends.destination_port,
        protocol: ends.protocol,
        reason: 0,
        hook: site.hook.tag(),
        verdict: 0,
        padding: 0,
    };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(fold) = FOLDED.get_ptr(&key) {
        // SAFETY: a live, aligned map value.
        if now.wrapping_sub(unsafe { (*fold).reported }) < Fold::INTERVAL {
            return false;
        }
    }
    let _ = FOLDED.insert(&key, &Fold { reported: now, held: 0 }, 0);
    true
}

/// # Safety
/// `flow` must point to a live, aligned map value.
#[inline(always)]
unsafe fn tell(flow: *const Flow, slot: u32, kind: u32, pid: u32, uid: u32) {
    let Some(mut entry) = OBSERVED.reserve::<FlowRecord>(0) else {
        report::count(Counter::LostObservations);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is as large as the record, and the caller promises the flow. By volatile words, because copying
    // it otherwise becomes a call.
    unsafe {
        (&raw mut (*record).kind).write_volatile(kind);
        (&raw mut (*record).cpu).write_volatile(bpf_get_smp_processor_id() as u32);
        (&raw mut (*record).slot).write_volatile(slot);
        (&raw mut (*record).pid).write_volatile(pid);
        (&raw mut (*record).uid).write_volatile(uid);
        (&raw mut (*record).padding).write_volatile(0);
        let (from, to) = (flow.cast::<u64>(), (&raw mut (*record).flow).cast::<u64>());
        let mut word = 0;
        while word < size_of::<Flow>() / 8 {
            to.add(word).write_volatile(from.add(word).read_volatile());
            word += 1;
        }
    }
    // Of what was opened the process may soon be gone; the rest can wait.
    entry.submit(if kind == FlowRecord::OPENED { 0 } else { observed::wakeup(size_of::<FlowRecord>()) });
}
