//! Who is on the other end of a local packet: a reverse lookup of its socket.

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
    programs::SkBuffContext,
};
use bailiwick_abi::{Address, Scope, Settings};

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

/// The scope of the socket that sent this packet.
#[inline(always)]
pub(crate) fn sender(settings: Settings, ctx: &SkBuffContext, ends: &Ends) -> Scope {
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
pub(crate) fn receiver(settings: Settings, ctx: &SkBuffContext, ends: &Ends) -> Scope {
    find(settings, ctx, ends, Listeners::Count)
}

/// The scope of the socket that a packet with these ends would be delivered to in this network namespace.
#[inline(always)]
fn find(settings: Settings, ctx: &SkBuffContext, ends: &Ends, listeners: Listeners) -> Scope {
    let (mut tuple, size) = tuple(&ends.source, &ends.destination, ends.source_port, ends.destination_port);
    let socket: *mut bpf_sock = match ends.protocol {
        // SAFETY: the tuple outlives the call and has the given size; the reference is released below.
        TCP => unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), &mut tuple, size, ANY_NETNS_OF_THE_PACKET, 0) },
        UDP => return find_udp(settings, ctx, &mut tuple, size),
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
        scope::of_socket(settings, socket)
    };
    // SAFETY: releases the reference that the lookup took, once.
    unsafe { bpf_sk_release(socket.cast()) };
    scope
}

#[inline(always)]
fn find_udp(settings: Settings, ctx: &SkBuffContext, tuple: &mut bpf_sock_tuple, size: u32) -> Scope {
    // SAFETY: the tuple outlives the call and has the given size; the reference is released below.
    let socket = unsafe { bpf_sk_lookup_udp(ctx.as_ptr(), tuple, size, ANY_NETNS_OF_THE_PACKET, 0) };
    if socket.is_null() {
        return Scope::NONE;
    }
    let scope = scope::of_socket(settings, socket);
    // SAFETY: releases the reference that the lookup took, once.
    unsafe { bpf_sk_release(socket.cast()) };
    scope
}

#[inline(always)]
fn tuple(
    source: &Address,
    destination: &Address,
    source_port: u16,
    destination_port: u16,
) -> (bpf_sock_tuple, u32) {
    let (sport, dport) = (source_port.to_be(), destination_port.to_be());
    if source.is_v4() {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: source.0[3],
            daddr: destination.0[3],
            sport,
            dport,
        };
        let tuple = bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv4 } };
        (tuple, size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>() as u32)
    } else {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: source.0,
            daddr: destination.0,
            sport,
            dport,
        };
        let tuple = bpf_sock_tuple { __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv6 } };
        (tuple, size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>() as u32)
    }
}
