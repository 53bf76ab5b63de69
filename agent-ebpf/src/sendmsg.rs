//! sendto(2) and sendmsg(2) with a destination. An IPv6 socket that sends to an IPv4-mapped address arrives at
//! the IPv4 program.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use bailiwick_abi::Hook;

use crate::{connect::towards, sock_addr::Family};

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    towards(&ctx, Family::V4, Hook::SendMessage)
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn sendmsg6(ctx: SockAddrContext) -> i32 {
    towards(&ctx, Family::V6, Hook::SendMessage)
}
