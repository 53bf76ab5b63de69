//! Packets to a socket: the way in. Runs after the socket lookup, for local and remote senders alike.

use aya_ebpf::{
    EbpfContext, bindings::bpf_sock, helpers::generated::bpf_get_socket_cookie, macros::cgroup_skb,
    programs::SkBuffContext,
};
use bailiwick_abi::{Hook, Kind, Mode, Reason, Scope};

use crate::{
    maps::ADMITTED,
    packet::{Ends, TCP, parse},
    peer,
    report::{self, PASS, Site},
    scope,
    verdict::{by_loopback, is_local, is_peer, mode, verdict},
};

const STATE_LISTEN: u32 = 10;

#[cgroup_skb(ingress)]
pub(crate) fn ingress(ctx: SkBuffContext) -> i32 {
    let settings = scope::settings();
    if settings.generation == 0 {
        return PASS;
    }
    let (_, scope) = scope::of_packet(settings, ctx.skb.skb);
    // Whose act it was is known once the sender is looked up, and only of one on this host.
    let mut site = Site { hook: Hook::Ingress, settings, cgroup_id: 0 };
    let (listening, port) = receiving(&ctx);
    if !scope::is(&scope, Kind::Model) {
        // A listener on a guarded port outside the model's slice: an impostor, or the model's own slice before
        // the agent has seen it. Either way the port stays shut.
        if !listening {
            return PASS;
        }
        let Some(owner) = scope::port_owner(settings, port) else {
            return PASS;
        };
        let mut ends = Ends::UNKNOWN;
        let reason = parse(&ctx, &mut ends).err().unwrap_or(Reason::NotProxy);
        return report::refuse(&site, owner, reason, &ends);
    }
    let mut ends = Ends::UNKNOWN;
    if let Err(reason) = parse(&ctx, &mut ends) {
        return report::refuse(&site, scope.index, reason, &ends);
    }
    if ends.protocol != TCP {
        return datagram(&mut site, &ctx, &scope, &ends);
    }
    let is_guarded_port = scope.port != 0 && ends.destination_port == scope.port;
    if !is_guarded_port && is_named_peer(&site, &ctx, &scope, &ends) {
        return PASS;
    }
    // A connection is asked about once. Its late packets come from a socket in TIME_WAIT, which has no cgroup.
    // A listener is asked about every time: behind its cookie there are many senders.
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if !listening {
        // SAFETY: four bytes, read once.
        if let Some(epoch) = unsafe { ADMITTED.get(&cookie) }
            && *epoch == settings.epoch
        {
            return PASS;
        }
    }
    // The end of a connection whose other half is gone: the proxy was killed, and nobody is left to be asked about.
    // Refused, the model would go on sending into the void for as long as TCP retries.
    if ends.reset && !listening {
        return PASS;
    }
    let standing = !is_guarded_port && !listening;
    // Where egress is not enforced, what the slice opened itself cannot be told.
    if standing && mode(&scope) != Mode::Enforce {
        return PASS;
    }
    let local = is_local(&ends.source);
    if standing && verdict(&settings, &scope, &ends.source, ends.source_port, local).is_ok() {
        let _ = ADMITTED.insert(&cookie, &settings.epoch, 0);
        return PASS;
    }
    let sender = peer::sender(&settings, &ctx, &ends);
    site.cgroup_id = sender.cgroup_id;
    let sender = sender.scope;
    // A connection that stands is the slice's own only on this host; what was accepted from elsewhere before the
    // guard stood, or under a policy that is no longer in force, ends here.
    let inside = sender.index == scope.index && (local || !standing);
    if !inside && !(is_guarded_port && scope::is(&sender, Kind::Proxy)) {
        let reason = if is_guarded_port { Reason::NotProxy } else { Reason::Sealed };
        return report::refuse(&site, scope.index, reason, &ends);
    }
    if !listening {
        let _ = ADMITTED.insert(&cookie, &settings.epoch, 0);
    }
    PASS
}

/// Whether a host that the config names sent this to a port that it names. Through the loopback device every
/// source is forged.
#[inline(always)]
fn is_named_peer(site: &Site, ctx: &SkBuffContext, scope: &Scope, ends: &Ends) -> bool {
    scope.has_peers != 0
        && !by_loopback(ctx)
        && is_peer(&site.settings, scope, &ends.source, ends.destination_port)
}

/// Answers from where the model may send to, named peers, and talk inside the slice; never to the guarded port.
#[inline(always)]
fn datagram(site: &mut Site, ctx: &SkBuffContext, scope: &Scope, ends: &Ends) -> i32 {
    if scope.port != 0 && ends.destination_port == scope.port {
        return report::refuse(site, scope.index, Reason::NotProxy, ends);
    }
    if mode(scope) == Mode::Monitor || is_named_peer(site, ctx, scope, ends) {
        return PASS;
    }
    let local = is_local(&ends.source);
    if verdict(&site.settings, scope, &ends.source, ends.source_port, local).is_ok() {
        return PASS;
    }
    // Only a local address is asked about: a listener on every address would answer for a remote one.
    if local {
        let sender = peer::sender(&site.settings, ctx, ends);
        if sender.scope.index == scope.index {
            return PASS;
        }
        site.cgroup_id = sender.cgroup_id;
    }
    report::settle(site, scope, Err(Reason::Sealed), ends)
}

/// Whether the receiving socket is a TCP listener, and its port.
#[inline(always)]
fn receiving(ctx: &SkBuffContext) -> (bool, u16) {
    // SAFETY: the program's context; the kernel sets the socket for this hook, and null is checked.
    unsafe {
        let socket: *mut bpf_sock = core::ptr::read_volatile(&raw const (*ctx.skb.skb).__bindgen_anon_2.sk);
        if socket.is_null() {
            return (false, 0);
        }
        let state = core::ptr::read_volatile(&raw const (*socket).state);
        let port = core::ptr::read_volatile(&raw const (*socket).src_port);
        (state == STATE_LISTEN, port as u16)
    }
}
