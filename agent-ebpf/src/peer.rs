//! Who is on the other end of a local packet: a reverse lookup of its socket.

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
    programs::SkBuffContext,
};
use bailiwick_abi::{Kind, NO_SCOPE, Settings};

use crate::{
    packet::{Ends, TCP, UDP},
    scope,
};

/// Whose socket is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The one that the packet is on its way to; a listener counts.
    Receiver,
    /// The one that sent it. Only a connection counts: a lookup falls back to listeners, and a listener on every
    /// address answers for *any* address, so that a remote host that sends from the proxy's own listening port
    /// would pass for the proxy.
    Sender,
}

/// Who a lookup found.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    /// The cgroup of its socket; 0 when it has none.
    pub(crate) cgroup_id: u64,
    /// [`Scope::index`]
    pub(crate) index: u32,
    /// [`Scope::kind`]
    kind: u32,
    /// There is no socket, or one in TIME_WAIT: whatever is sent to it, nobody can read.
    pub(crate) gone: bool,
}

impl Peer {
    pub(crate) const NOBODY: Self = Self { cgroup_id: 0, index: NO_SCOPE, kind: 0, gone: true };

    #[inline(always)]
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind.tag() as u32
    }

    /// # Safety
    /// `socket` must be a reference that the caller holds.
    #[inline(always)]
    unsafe fn behind(settings: Settings, socket: *mut bpf_sock, gone: bool) -> Self {
        let (cgroup_id, scope) = scope::of_socket(settings, socket);
        Self { cgroup_id, index: scope.index, kind: u32::from(scope.kind), gone }
    }
}

const ANY_NETNS_OF_THE_PACKET: u64 = u64::MAX;
const STATE_TIME_WAIT: u32 = 6;
const STATE_LISTEN: u32 = 10;
/// The size of the IPv4 arm of `struct bpf_sock_tuple`.
const V4_BYTES: u32 = 12;
/// The size of its IPv6 arm, and of the whole.
const V6_BYTES: u32 = 36;
const _: () = assert!(size_of::<bpf_sock_tuple>() == V6_BYTES as usize);

/// The socket that sent this packet, if it is of this namespace.
#[inline(always)]
pub(crate) fn sender(settings: &Settings, ctx: &SkBuffContext, ends: &Ends) -> Peer {
    find(settings, ctx, ends, End::Sender)
}

/// The socket that this packet is on its way to, if it is of this namespace.
#[inline(always)]
pub(crate) fn receiver(settings: &Settings, ctx: &SkBuffContext, ends: &Ends) -> Peer {
    find(settings, ctx, ends, End::Receiver)
}

/// The socket at one end of this packet, in this network namespace.
/// Not inlined, for the same reason as the verdict.
#[inline(never)]
fn find(settings: &Settings, ctx: &SkBuffContext, ends: &Ends, end: End) -> Peer {
    let (mut words, size) = tuple(ends, end);
    let tuple: *mut bpf_sock_tuple = words.as_mut_ptr().cast();
    let socket: *mut bpf_sock = match ends.protocol {
        // SAFETY: the tuple outlives the call and has the given size; the reference is released below.
        TCP => unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, size, ANY_NETNS_OF_THE_PACKET, 0) },
        UDP => return find_udp(settings, ctx, tuple, size),
        _ => return Peer::NOBODY,
    };
    if socket.is_null() {
        return Peer::NOBODY;
    }
    // SAFETY: not null, and held until released.
    let state = unsafe { core::ptr::read_volatile(&raw const (*socket).state) };
    let found = if end == End::Sender && state == STATE_LISTEN {
        Peer::NOBODY
    } else {
        // SAFETY: held until released.
        unsafe { Peer::behind(*settings, socket, state == STATE_TIME_WAIT) }
    };
    // SAFETY: releases the reference that the lookup took, once.
    unsafe { bpf_sk_release(socket.cast()) };
    found
}

#[inline(always)]
fn find_udp(settings: &Settings, ctx: &SkBuffContext, tuple: *mut bpf_sock_tuple, size: u32) -> Peer {
    // SAFETY: the tuple outlives the call and has the given size; the reference is released below.
    let socket = unsafe { bpf_sk_lookup_udp(ctx.as_ptr(), tuple, size, ANY_NETNS_OF_THE_PACKET, 0) };
    if socket.is_null() {
        return Peer::NOBODY;
    }
    // SAFETY: held until released, once.
    unsafe {
        let found = Peer::behind(*settings, socket, false);
        bpf_sk_release(socket.cast());
        found
    }
}

/// The ends as the lookup helpers read them, and how many bytes of that count. Every word is written: a union
/// with unset bytes would be read by the verifier as unset registers.
#[inline(always)]
fn tuple(ends: &Ends, end: End) -> ([u32; 9], u32) {
    let (near, far) = (ends.destination_port.to_be(), ends.source_port.to_be());
    let ((s, from), (d, to)) = match end {
        End::Receiver => ((&ends.source.0, far), (&ends.destination.0, near)),
        End::Sender => ((&ends.destination.0, near), (&ends.source.0, far)),
    };
    let ports = u32::from(from) | u32::from(to) << 16;
    if ends.source.is_v4() {
        ([s[3], d[3], ports, 0, 0, 0, 0, 0, 0], V4_BYTES)
    } else {
        ([s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3], ports], V6_BYTES)
    }
}
