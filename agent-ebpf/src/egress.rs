//! Packets from a socket: the verdict on the header that really leaves.

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sock,
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use bailiwick_abi::{FlowKey, Hook, Kind, Mode, Reason, Scope};

use crate::{
    maps::FLOWS,
    packet::{Ends, TCP, parse},
    peer,
    report::{self, PASS, Site},
    scope,
    verdict::{by_loopback, held_at_packets, is_local, is_peer, mode, verdict},
};

#[cgroup_skb(egress)]
pub(crate) fn egress(ctx: SkBuffContext) -> i32 {
    let settings = scope::settings();
    if settings.generation == 0 {
        return PASS;
    }
    let (cgroup_id, scope) = scope::of_packet(settings, ctx.skb.skb);
    let stranger = scope.kind == 0;
    if stranger && !is_raw(&ctx) {
        return PASS;
    }
    let site = Site { hook: Hook::Egress, settings, cgroup_id };
    if !held_at_packets(&scope) {
        return unheld(&site, &ctx, stranger);
    }
    if mode(&scope) == Mode::Monitor {
        return report::allow();
    }
    let mut ends = Ends::UNKNOWN;
    if let Err(reason) = parse(&ctx, &mut ends) {
        return report::settle(&site, &scope, Err(reason), &ends);
    }
    let Some(flow) = flow(&ctx, &ends) else {
        let outcome = decide(&site, &ctx, &scope, &ends);
        return report::settle(&site, &scope, outcome, &ends);
    };
    if !ends.opening && remembered(&site, &flow) {
        return PASS;
    }
    let outcome = decide(&site, &ctx, &scope, &ends);
    if outcome.is_ok() {
        let _ = FLOWS.insert(&flow, &settings.epoch, 0);
    }
    report::settle(&site, &scope, outcome, &ends)
}

#[inline(always)]
fn decide(site: &Site, ctx: &SkBuffContext, scope: &Scope, ends: &Ends) -> Result<(), Reason> {
    let local = by_loopback(ctx) || is_local(&ends.destination);
    let outcome = verdict(&site.settings, scope, &ends.destination, ends.destination_port, local);
    if outcome.is_ok() {
        return outcome;
    }
    if !local {
        // What a named peer opened goes on; what the model opens itself was decided above.
        let answers_a_peer =
            !ends.opening && is_peer(&site.settings, scope, &ends.destination, ends.source_port);
        return if answers_a_peer { Ok(()) } else { outcome };
    }
    let receiver = peer::receiver(&site.settings, ctx, ends);
    // What was on its way to a proxy that is no more is refused by the kernel itself, with the reset that ends the
    // model's half as well.
    let answers_the_proxy = (scope::is(&receiver.scope, Kind::Proxy) || (receiver.gone && !ends.opening))
        && ends.protocol == TCP
        && scope.port != 0
        && ends.source_port == scope.port;
    if receiver.scope.index == scope.index || answers_the_proxy {
        return Ok(());
    }
    outcome
}

/// The proxy's own packets are held at its system calls. Here only this is asked: what it sends to a guarded
/// port goes to the model's slice, or not at all; a prompt must not reach an impostor.
///
/// A stranger with a raw socket writes any source: at the far end its packet would pass for one of the proxy's or of
/// the slice's own. Here it is known whose it is.
#[inline(always)]
fn unheld(site: &Site, ctx: &SkBuffContext, stranger: bool) -> i32 {
    let mut ends = Ends::UNKNOWN;
    if parse(ctx, &mut ends).is_err() {
        return PASS;
    }
    if stranger {
        let receiver = peer::receiver(&site.settings, ctx, &ends).scope;
        if scope::is(&receiver, Kind::Model) {
            return report::refuse(site, receiver.index, Reason::Sealed, &ends);
        }
        return PASS;
    }
    if ends.protocol != TCP {
        return PASS;
    }
    let Some(owner) = scope::port_owner(site.settings, ends.destination_port) else {
        return PASS;
    };
    if !is_local(&ends.destination) {
        return PASS;
    }
    let Some(flow) = flow(ctx, &ends) else {
        return PASS;
    };
    if !ends.opening && remembered(site, &flow) {
        return PASS;
    }
    if peer::receiver(&site.settings, ctx, &ends).scope.index != owner {
        return report::refuse(site, owner, Reason::PortReserved, &ends);
    }
    let _ = FLOWS.insert(&flow, &site.settings.epoch, 0);
    PASS
}

/// Whether the packet's socket is a raw one.
#[inline(always)]
fn is_raw(ctx: &SkBuffContext) -> bool {
    const RAW: u32 = 3;
    // SAFETY: the program's context; both pointers are checked before they are used.
    unsafe {
        let socket: *mut bpf_sock = core::ptr::read_volatile(&raw const (*ctx.skb.skb).__bindgen_anon_2.sk);
        if socket.is_null() {
            return false;
        }
        let full = bpf_sk_fullsock(socket);
        !full.is_null() && core::ptr::read_volatile(&raw const (*full).type_) == RAW
    }
}

/// What a verdict on this packet may be remembered under. Only TCP: an unconnected socket's next datagram may
/// meet another receiver.
#[inline(always)]
fn flow(ctx: &SkBuffContext, ends: &Ends) -> Option<FlowKey> {
    if ends.protocol != TCP {
        return None;
    }
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    Some(FlowKey {
        cookie,
        address: ends.destination,
        port: ends.destination_port,
        source_port: ends.source_port,
        padding: 0,
    })
}

#[inline(always)]
fn remembered(site: &Site, flow: &FlowKey) -> bool {
    // SAFETY: four bytes, read once.
    unsafe { FLOWS.get(flow) }.is_some_and(|epoch| *epoch == site.settings.epoch)
}
