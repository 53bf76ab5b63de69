//! The first words of a connection, and what is asked of resolvers and answered: for the names in them. Nothing here
//! decides, and nothing is kept.
//!
//! What names a server (a ClientHello, the head of an HTTP request) is said before the server says anything. So what a
//! socket sends is looked at until it hears something; what it says to a resolver, and hears from one, always.

use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_skb_load_bytes, maps::ring_buf::RingBufEntry,
    programs::SkBuffContext,
};
use bailiwick_abi::{Address, Counter, Head, HeadRecord};

use crate::{
    maps::{HEADS, OBSERVED},
    observed,
    packet::{Ends, TCP},
    report::{self, Site},
};

pub(crate) const DNS_PORT: u16 = 53;

/// Looks at what is sent. True while there is more to look at, so that the connection is not to be remembered yet.
#[inline(always)]
pub(crate) fn sent(ctx: &SkBuffContext, site: &Site<false>, index: u32, ends: &Ends, cookie: u64) -> bool {
    let asks_a_resolver = ends.destination_port == DNS_PORT;
    if ends.protocol != TCP {
        if asks_a_resolver {
            capture(ctx, site, index, ends, Piece { cookie, offset: 0, sent: true });
        }
        return false;
    }
    if ends.opening() {
        // SYN takes a number of its own; with fast open, data comes with it.
        begin(cookie, ends.sequence.wrapping_add(1));
        if !ends.empty() {
            capture(ctx, site, index, ends, Piece { cookie, offset: 0, sent: true });
        }
        return true;
    }
    let Some(head) = Place::of(cookie) else {
        return false;
    };
    let offset = ends.sequence.wrapping_sub(head.sent);
    if !asks_a_resolver && offset >= HeadRecord::LONGEST && offset < u32::MAX / 2 {
        head.end();
        return false;
    }
    if !ends.empty() {
        capture(ctx, site, index, ends, Piece { cookie, offset, sent: true });
    }
    true
}

/// Looks at what is received. True while there is more to look at.
#[inline(always)]
pub(crate) fn received(
    ctx: &SkBuffContext,
    site: &Site<false>,
    index: u32,
    ends: &Ends,
    cookie: u64,
) -> bool {
    let answers = ends.source_port == DNS_PORT;
    if ends.protocol != TCP {
        if answers {
            capture(ctx, site, index, ends, Piece { cookie, offset: 0, sent: false });
        }
        return false;
    }
    let Some(head) = Place::of(cookie) else {
        return false;
    };
    if ends.empty() {
        return true;
    }
    if !answers {
        head.end();
        return false;
    }
    let first = head.first_received(ends.sequence);
    capture(ctx, site, index, ends, Piece { cookie, offset: ends.sequence.wrapping_sub(first), sent: false });
    true
}

/// From now on, what this socket's connection says first is looked at.
#[inline(always)]
fn begin(cookie: u64, sequence: u32) {
    if let Some((slot, mark)) = Head::place(cookie)
        && let Some(head) = HEADS.get_ptr_mut(slot)
    {
        // SAFETY: a live, aligned map value.
        unsafe {
            (&raw mut (*head).received).write_volatile(0);
            (&raw mut (*head).sent).write_volatile(Head::word(mark, sequence));
        }
    }
}

/// Where it is known how a connection began.
#[derive(Clone, Copy)]
struct Place {
    /// A live, aligned map value.
    head: *mut Head,
    mark: u32,
    /// The first byte that was sent.
    sent: u32,
}

impl Place {
    /// That of a connection whose first words are looked at.
    #[inline(always)]
    fn of(cookie: u64) -> Option<Self> {
        let (slot, mark) = Head::place(cookie)?;
        let head = HEADS.get_ptr_mut(slot)?;
        // SAFETY: a live, aligned map value.
        let sent = Head::sequence(mark, unsafe { (&raw const (*head).sent).read_volatile() })?;
        Some(Self { head, mark, sent })
    }

    /// They are looked at no more.
    #[inline(always)]
    fn end(self) {
        // SAFETY: a live, aligned map value.
        unsafe { (&raw mut (*self.head).sent).write_volatile(0) };
    }

    /// The first byte that was received; the one at hand, if there was none yet.
    #[inline(always)]
    fn first_received(self, now: u32) -> u32 {
        // SAFETY: a live, aligned map value; the packets of one connection come one after the other.
        unsafe {
            let word = &raw mut (*self.head).received;
            Head::sequence(self.mark, word.read_volatile()).unwrap_or_else(|| {
                word.write_volatile(Head::word(self.mark, now));
                now
            })
        }
    }
}

/// Which piece of which stream.
struct Piece {
    cookie: u64,
    offset: u32,
    sent: bool,
}

/// Hands the payload to the agent, or its beginning.
#[inline(always)]
fn capture(ctx: &SkBuffContext, site: &Site<false>, index: u32, ends: &Ends, piece: Piece) {
    let headers = ends.headers as u32;
    let total = ctx.len();
    if total <= headers {
        return;
    }
    let Some(mut entry) = OBSERVED.reserve::<HeadRecord>(0) else {
        report::count(Counter::LostObservations);
        return;
    };
    let (address, port): (&Address, u16) = if piece.sent {
        (&ends.destination, ends.destination_port)
    } else {
        (&ends.source, ends.source_port)
    };
    let record = entry.as_mut_ptr();
    let length = (total - headers).min(HeadRecord::MOST);
    // SAFETY: the entry is as large as the record; by volatile words, as everywhere.
    let taken = unsafe {
        (&raw mut (*record).kind).write_volatile(HeadRecord::KIND);
        (&raw mut (*record).length).write_volatile(length);
        (&raw mut (*record).cookie).write_volatile(piece.cookie);
        let to = (&raw mut (*record).address.0).cast::<u32>();
        to.write_volatile(address.0[0]);
        to.add(1).write_volatile(address.0[1]);
        to.add(2).write_volatile(address.0[2]);
        to.add(3).write_volatile(address.0[3]);
        (&raw mut (*record).generation).write_volatile(site.settings.generation);
        (&raw mut (*record).scope).write_volatile(index);
        (&raw mut (*record).offset).write_volatile(piece.offset);
        (&raw mut (*record).port).write_volatile(port);
        (&raw mut (*record).protocol).write_volatile(ends.protocol);
        (&raw mut (*record).sent).write_volatile(u8::from(piece.sent));
        // The verifier wants to see in the last step that the length is neither zero nor more than there is room for.
        let length = ((length - 1) & (HeadRecord::MOST - 1)) + 1;
        bpf_skb_load_bytes(ctx.as_ptr(), headers, (&raw mut (*record).bytes).cast(), length)
    };
    finish(entry, taken == 0);
}

#[inline(always)]
fn finish(entry: RingBufEntry<HeadRecord>, taken: bool) {
    if taken {
        entry.submit(observed::wakeup(size_of::<HeadRecord>()));
    } else {
        entry.discard(0);
        report::count(Counter::LostObservations);
    }
}
