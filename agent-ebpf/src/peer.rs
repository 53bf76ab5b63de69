//! Who is on the other end of a local packet: a reverse lookup of its socket.

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
    programs::SkBuffContext,
};
use bailiwick_abi::{Scope, Settings};

use crate::{
    packet::{Ends, TCP, UDP},
    scope,
};

/// Which sockets may answer for an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listeners {
    /// A listener counts: the packet is on its way to it.
    Count,
    /// Only a connection counts. A lookup falls back to listeners, and a listener on every address answers for
    /// *any* address: a remote host that sends from the proxy's own listening port would pass for the proxy.
    Refused,
}

const ANY_NETNS_OF_THE_PACKET: u64 = u64::MAX;
const STATE_LISTEN: u32 = 10;
/// The size of the IPv4 arm of `struct bpf_sock_tuple`.
const V4_BYTES: u32 = 12;
/// The size of its IPv6 arm, and of the whole.
const V6_BYTES: u32 = 36;
const _: () = assert!(size_of::<bpf_sock_tuple>() == V6_BYTES as usize);

/// The scope of the socket that sent this packet.
#[inline(always)]
pub(crate) fn sender(settings: &Settings, ctx: &SkBuffContext, ends: &Ends) -> Scope {
    let reversed = Ends {
        source: ends.destination,
        destination: ends.source,
        source_port: ends.destination_port,
        destination_port: ends.source_port,
        ..*ends
    };
    find(settings, ctx, &reversed, Listeners::Refused)
}

/// The scope of the socket that this packet is on its way to.
#[inline(always)]
pub(crate) fn receiver(settings: &Settings, ctx: &SkBuffContext, ends: &Ends) -> Scope {
    find(settings, ctx, ends, Listeners::Count)
}

/// The scope of the socket that a packet with these ends would be delivered to in this network namespace.
/// Not inlined, for the same reason as the verdict.
#[inline(never)]
fn find(settings: &Settings, ctx: &SkBuffContext, ends: &Ends, listeners: Listeners) -> Scope {
    let (mut words, size) = tuple(ends);
    let tuple: *mut bpf_sock_tuple = words.as_mut_ptr().cast();
    let socket: *mut bpf_sock = match ends.protocol {
        // SAFETY: the tuple outlives the call and has the given size; the reference is released below.
        TCP => unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, size, ANY_NETNS_OF_THE_PACKET, 0) },
        UDP => return find_udp(settings, ctx, tuple, size),
        _ => return Scope::NONE,
    };
    if socket.is_null() {
        return Scope::NONE;
    }
    // SAFETY: not null, and held until released.
    let state = unsafe { core::ptr::read_volatile(&raw const (*socket).state) };
    let scope = if listeners == Listeners::Refused && state == STATE_LISTEN {
        Scope::NONE
    } else {
        scope::of_socket(*settings, socket)
    };
    // SAFETY: releases the reference that the lookup took, once.
    unsafe { bpf_sk_release(socket.cast()) };
    scope
}

#[inline(always)]
fn find_udp(settings: &Settings, ctx: &SkBuffContext, tuple: *mut bpf_sock_tuple, size: u32) -> Scope {
    // SAFETY: the tuple outlives the call and has the given size; the reference is released below.
    let socket = unsafe { bpf_sk_lookup_udp(ctx.as_ptr(), tuple, size, ANY_NETNS_OF_THE_PACKET, 0) };
    if socket.is_null() {
        return Scope::NONE;
    }
    let scope = scope::of_socket(*settings, socket);
    // SAFETY: releases the reference that the lookup took, once.
    unsafe { bpf_sk_release(socket.cast()) };
    scope
}

/// The ends as the lookup helpers read them, and how many bytes of that count. Every word is written: a union
/// with unset bytes would be read by the verifier as unset registers.
#[inline(always)]
fn tuple(ends: &Ends) -> ([u32; 9], u32) {
    let ports = u32::from(ends.source_port.to_be()) | u32::from(ends.destination_port.to_be()) << 16;
    let (s, d) = (ends.source.0, ends.destination.0);
    if ends.source.is_v4() {
        ([s[3], d[3], ports, 0, 0, 0, 0, 0, 0], V4_BYTES)
    } else {
        ([s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3], ports], V6_BYTES)
    }
}
