//! bind(2): nobody outside the model's slice takes a guarded port, on any address, in either family, so that
//! the proxy cannot be handed to an impostor.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use bailiwick_abi::{Hook, Reason};

use crate::{
    report::{self, PASS, Site},
    scope,
    sock_addr::{Family, asked},
};

#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4(ctx: SockAddrContext) -> i32 {
    claim(&ctx, Family::V4)
}

#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6(ctx: SockAddrContext) -> i32 {
    claim(&ctx, Family::V6)
}

#[inline(always)]
fn claim(ctx: &SockAddrContext, family: Family) -> i32 {
    let settings = scope::settings();
    if settings.generation == 0 {
        return PASS;
    }
    let ends = asked(ctx, family);
    let Some(owner) = scope::port_owner(settings, ends.destination_port) else {
        return PASS;
    };
    let (cgroup_id, scope) = scope::of_current(settings);
    if scope.index == owner {
        return PASS;
    }
    report::refuse(
        &Site::<true> { hook: Hook::Bind, settings, cgroup_id, reason: Reason::PolicyMissing },
        owner,
        Reason::PortReserved,
        &ends,
    )
}
