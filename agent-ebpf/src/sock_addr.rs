//! What a system call asks for, read from its context once.

use aya_ebpf::{bindings::bpf_sock, programs::SockAddrContext};
use bailiwick_abi::Address;

use crate::packet::{Ends, TCP, UDP};

/// The two families a hook can be compiled for. `user_family` is the caller's word and decides nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The address asked for.
#[inline(always)]
pub(crate) fn asked(ctx: &SockAddrContext, family: Family) -> Ends {
    let raw = ctx.sock_addr;
    // SAFETY: `raw` is the program's context; volatile, because the verifier refuses merged loads of it.
    let (address, port, kind, protocol) = unsafe {
        let address = match family {
            Family::V4 => Address::from_v4(core::ptr::read_volatile(&raw const (*raw).user_ip4)),
            Family::V6 => Address([
                core::ptr::read_volatile(&raw const (*raw).user_ip6[0]),
                core::ptr::read_volatile(&raw const (*raw).user_ip6[1]),
                core::ptr::read_volatile(&raw const (*raw).user_ip6[2]),
                core::ptr::read_volatile(&raw const (*raw).user_ip6[3]),
            ]),
        };
        (
            address,
            core::ptr::read_volatile(&raw const (*raw).user_port),
            core::ptr::read_volatile(&raw const (*raw).type_),
            core::ptr::read_volatile(&raw const (*raw).protocol),
        )
    };
    Ends {
        destination: address,
        destination_port: u16::from_be(port as u16),
        protocol: transport(kind, protocol),
        ..Ends::UNKNOWN
    }
}

/// The port that the socket is bound to; 0 while it is bound to none.
#[inline(always)]
pub(crate) fn own_port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the program's context; the kernel sets the socket for these hooks, and null is checked.
    unsafe {
        let socket: *mut bpf_sock = core::ptr::read_volatile(&raw const (*ctx.sock_addr).__bindgen_anon_1.sk);
        if socket.is_null() { 0 } else { core::ptr::read_volatile(&raw const (*socket).src_port) as u16 }
    }
}

/// MPTCP (262) is TCP on the wire; a number that does not fit the IP header is shown as 255, reserved.
#[inline(always)]
fn transport(kind: u32, protocol: u32) -> u8 {
    const STREAM: u32 = 1;
    const MPTCP: u32 = 262;
    match protocol {
        6 | MPTCP if kind == STREAM => TCP,
        17 => UDP,
        other if other < 255 => other as u8,
        _ => 255,
    }
}
