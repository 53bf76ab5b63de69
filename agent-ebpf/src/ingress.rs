//! Packets to a socket of a model's slice: the way in. Runs after the socket lookup, for local and remote senders alike.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use bailiwick_abi::{Hook, Kind, Mode, Reason, Scope};

use crate::{
    connection::{self, Socket},
    packet::{Ends, TCP, is_plain_tcp, parse},
    peer,
    report::{self, PASS, Site},
    scope,
    verdict::{by_loopback, is_local, is_peer, mode, verdict},
};

#[cgroup_skb(ingress)]
pub(crate) fn ingress(ctx: SkBuffContext) -> i32 {
    let settings = scope::settings();
    if settings.generation == 0 {
        return PASS;
    }
    let socket = Socket::of(&ctx);
    let listening = socket.is_some_and(Socket::listens);
    if socket.is_some() && !listening && is_plain_tcp(&ctx) && connection::is_allowed(&ctx, settings.epoch) {
        return PASS;
    }
    let (_, scope) = scope::of_packet(&settings, ctx.skb.skb);
    if !scope::is(&scope, Kind::Model) {
        return PASS;
    }
    // Whose act it was is known once the sender is looked up, and only of one on this host.
    let mut site = Site { hook: Hook::Ingress, settings, cgroup_id: 0 };
    let mut ends = Ends::UNKNOWN;
    if let Err(reason) = parse(&ctx, &mut ends) {
        return report::refuse(&site, scope.index, reason, &ends);
    }
    if ends.protocol != TCP {
        return datagram(&mut site, &ctx, &scope, &ends);
    }
    // The end of a handshake whose beginning was decided about. What comes of it knows nothing yet: its first packet is
    // decided about, whichever way that goes.
    if listening && ends.empty && ends.acknowledging {
        return PASS;
    }
    let is_guarded_port = scope.port != 0 && ends.destination_port == scope.port;
    if !is_guarded_port && is_named_peer(&site, &ctx, &scope, &ends) {
        return PASS;
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
    let answers = standing && verdict(&settings, &scope, &ends.source, ends.source_port, local).is_ok();
    if !answers {
        let sender = peer::sender(&settings, &ctx, &ends);
        site.cgroup_id = sender.cgroup_id;
        // The last word of a half that is done: without it, the model's would ask for it again and again.
        if sender.gone && local && ends.empty && !listening {
            return PASS;
        }
        // A connection that stands is the slice's own only on this host; what was accepted from elsewhere before the
        // guard stood, or under a policy that is no longer in force, ends here.
        let inside = sender.index == scope.index && (local || !standing);
        if !inside && !(is_guarded_port && sender.is(Kind::Proxy)) {
            let reason = if is_guarded_port { Reason::NotProxy } else { Reason::Sealed };
            return report::refuse(&site, scope.index, reason, &ends);
        }
    }
    if let Some(socket) = socket {
        socket.allow(&ctx, settings.epoch);
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
        if sender.index == scope.index {
            return PASS;
        }
        site.cgroup_id = sender.cgroup_id;
    }
    report::settle(site, scope, Err(Reason::Sealed), ends)
}
