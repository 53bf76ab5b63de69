//! A connection is decided once and remembered by its socket's cookie, for as long as the policy stays as it is.
//!
//! What is remembered holds both ways, because what allows the one way allows the other: the far end is the proxy,
//! inside the slice, a named peer, or where the policy lets the slice send to. Only TCP is remembered: an unconnected
//! socket's next datagram may have another end, and a raw socket's next packet any. A listener is not: there are many
//! senders behind it.

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock,
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock},
    programs::SkBuffContext,
};
use bailiwick_abi::Cache;

use crate::{cache, maps::CONNECTIONS, packet::TCP};

const STATE_SYN_SENT: u32 = 2;
const STATE_LISTEN: u32 = 10;
/// `SOCK_STREAM` of linux/net.h; a raw socket can have TCP's number, too.
const STREAM: u32 = 1;

/// The packet's own socket, if it has one: the one that it came to, or that sent it. No `Option`, because the compiler
/// then moves the state that is not there about, and the verifier refuses a register that nothing was written to.
#[derive(Clone, Copy)]
pub(crate) struct Socket {
    /// Null where there is none.
    socket: *mut bpf_sock,
    /// 0 where there is none.
    state: u32,
}

impl Socket {
    /// The kernel sets it for both packet hooks; without one nothing is remembered.
    #[inline(always)]
    pub(crate) fn of(ctx: &SkBuffContext) -> Self {
        // SAFETY: the program's context; null is checked before it is read.
        unsafe {
            let socket: *mut bpf_sock =
                core::ptr::read_volatile(&raw const (*ctx.skb.skb).__bindgen_anon_2.sk);
            let state =
                if socket.is_null() { 0 } else { core::ptr::read_volatile(&raw const (*socket).state) };
            Self { socket, state }
        }
    }

    /// Whether it can hold a connection of its own: it is there, and no listener.
    #[inline(always)]
    pub(crate) fn is_one_end(self) -> bool {
        !self.socket.is_null() && !self.listens()
    }

    /// Whether it is a listener.
    #[inline(always)]
    pub(crate) fn listens(self) -> bool {
        self.state == STATE_LISTEN
    }

    /// Whether it waits for the first answer: what it opened is not decided yet.
    #[inline(always)]
    pub(crate) fn opens(self) -> bool {
        self.state == STATE_SYN_SENT
    }

    /// Remembers what was found of its connection: [`Cache::ALLOWED`], [`Cache::COUNTED`] or [`Cache::LOOKED_AT`].
    #[inline(always)]
    pub(crate) fn allow(self, cookie: u64, epoch: u32, finding: u32) {
        if !self.is_one_end() {
            return;
        }
        // SAFETY: not null; the result is checked before it is read.
        let is_connection = unsafe {
            let full = bpf_sk_fullsock(self.socket);
            !full.is_null()
                && core::ptr::read_volatile(&raw const (*full).protocol) as u8 == TCP
                && core::ptr::read_volatile(&raw const (*full).type_) == STREAM
        };
        if is_connection && let Some(slot) = Cache::CONNECTIONS.slot(cookie, epoch) {
            cache::remember(&CONNECTIONS, Cache::CONNECTIONS, slot, finding);
        }
    }
}

/// What is known of the socket's connection: nothing (0), [`Cache::ALLOWED`], [`Cache::COUNTED`] or [`Cache::LOOKED_AT`].
#[inline(always)]
pub(crate) fn known(cookie: u64, epoch: u32) -> u32 {
    Cache::CONNECTIONS
        .slot(cookie, epoch)
        .map_or(0, |slot| cache::recall(&CONNECTIONS, Cache::CONNECTIONS, slot))
}

/// What was found of the socket's last connection does not hold for the one that it tries now.
#[inline(always)]
pub(crate) fn forget(cookie: u64, epoch: u32) {
    if let Some(slot) = Cache::CONNECTIONS.slot(cookie, epoch) {
        cache::remember(&CONNECTIONS, Cache::CONNECTIONS, slot, 0);
    }
}

/// Whether what is known of a connection is that the policy allowed where it goes, and not who is at its other end.
#[inline(always)]
pub(crate) fn is_flow(known: u32) -> bool {
    known == Cache::COUNTED || known == Cache::LOOKED_AT
}

/// The cookie of the packet's own socket; 0 where there is none.
#[inline(always)]
pub(crate) fn cookie(ctx: &SkBuffContext) -> u64 {
    // SAFETY: the program's context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}
