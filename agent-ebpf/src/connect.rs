//! connect(2): refused at once, with the name of the process.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use bailiwick_abi::{Hook, Kind, Reason, Scope};

use crate::{
    packet::{Ends, TCP, UDP},
    report::{self, PASS, Site},
    scope,
    sock_addr::{Family, asked, own_port},
    verdict::{is_local, is_peer, verdict},
};

#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    towards(&ctx, Family::V4, Hook::Connect)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    towards(&ctx, Family::V6, Hook::Connect)
}

/// The verdict on a call that names a destination.
#[inline(always)]
pub(crate) fn towards(ctx: &SockAddrContext, family: Family, hook: Hook) -> i32 {
    let settings = scope::settings();
    if settings.generation == 0 {
        return PASS;
    }
    let ends = asked(ctx, family);
    let owner = scope::port_owner(settings, ends.destination_port);
    if owner.is_none() && scope::current_is_stranger(settings) {
        return PASS;
    }
    let (cgroup_id, scope) = scope::of_current(settings);
    let site = Site { hook, settings, cgroup_id };
    if let Some(owner) = owner
        && scope.index != owner
        && !scope::is(&scope, Kind::Proxy)
        && is_local(&ends.destination)
    {
        return report::refuse(&site, owner, Reason::NotProxy, &ends);
    }
    if scope.kind == 0 {
        return PASS;
    }
    let Ok(kind) = Kind::try_from(scope.kind) else {
        return report::refuse(&site, scope.index, Reason::PolicyMissing, &ends);
    };
    let outcome = match kind {
        Kind::Proxy if is_local(&ends.destination) => Ok(()),
        Kind::Proxy | Kind::Model | Kind::Workload => egress(ctx, &site, &scope, &ends),
    };
    report::settle(&site, &scope, outcome, &ends)
}

#[inline(always)]
fn egress(ctx: &SockAddrContext, site: &Site, scope: &Scope, ends: &Ends) -> Result<(), Reason> {
    if ends.protocol != TCP && ends.protocol != UDP {
        return Err(Reason::ProtocolNotAllowed);
    }
    let local = is_local(&ends.destination);
    // Whether a local TCP peer is in the same slice is known when the packet leaves (egress.rs).
    if local && ends.protocol == TCP {
        return Ok(());
    }
    let outcome = verdict(&site.settings, scope, &ends.destination, ends.destination_port, local);
    let answers_a_peer = || {
        scope.has_peers != 0
            && ends.protocol == UDP
            && is_peer(&site.settings, scope, &ends.destination, own_port(ctx))
    };
    if outcome.is_err() && answers_a_peer() { Ok(()) } else { outcome }
}
