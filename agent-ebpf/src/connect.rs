//! connect(2): refused at once, with the name of the process.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use bailiwick_abi::{Hook, Kind, Mode, Reason, Scope};

use crate::{
    flow::{self, Amount},
    packet::{Ends, TCP, UDP},
    report::{self, PASS, Site},
    scope,
    sock_addr::{Family, asked, own_port},
    verdict::{Outcome, is_local, is_peer, mode, verdict},
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
    let mut site = Site::<true> { hook, settings, cgroup_id, reason: Reason::PolicyMissing };
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
    let cookie = flow::cookie(ctx);
    let before = flow::opened_before(&site, scope.index, &ends, cookie);
    if before == Outcome::Again {
        return PASS;
    }
    let local = is_local(&ends.destination);
    let outcome = match kind {
        Kind::Proxy if local => Outcome::Pass,
        _ if before == Outcome::Flow => before,
        Kind::Proxy | Kind::Model | Kind::Workload => egress(ctx, &mut site, &scope, &ends, local),
    };
    // Whether talk inside the host is a flow is known at the packet.
    if !local && (outcome != Outcome::Settle || mode(&scope) != Mode::Enforce) {
        let mut amount = Amount::sent(0);
        if outcome == Outcome::Flow {
            amount = amount.allowed();
        } else if outcome == Outcome::Settle && mode(&scope) == Mode::Shadow {
            amount = amount.despite(site.reason.tag());
        }
        flow::open(&site, scope.index, &ends, cookie, amount);
    }
    report::settle(&site, &scope, outcome, &ends)
}

#[inline(always)]
fn egress(ctx: &SockAddrContext, site: &mut Site<true>, scope: &Scope, ends: &Ends, local: bool) -> Outcome {
    if ends.protocol != TCP && ends.protocol != UDP {
        site.reason = Reason::ProtocolNotAllowed;
        return Outcome::Settle;
    }
    // Whether a local TCP peer is in the same slice is known when the packet leaves (egress.rs).
    if local && ends.protocol == TCP {
        return Outcome::Pass;
    }
    let Err(reason) = verdict(&site.settings, scope, &ends.destination, ends.destination_port, local) else {
        return Outcome::Flow;
    };
    let answers_a_peer = scope.has_peers != 0
        && ends.protocol == UDP
        && is_peer(&site.settings, scope, &ends.destination, own_port(ctx));
    if answers_a_peer {
        return Outcome::Answer;
    }
    site.reason = reason;
    Outcome::Settle
}
