//! Packets from a socket of a held slice: the verdict on the header that really leaves.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use bailiwick_abi::{Hook, Kind, Mode, Reason, Scope};

use crate::{
    connection::{self, Socket},
    packet::{Ends, TCP, is_plain_tcp, parse},
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
    let socket = Socket::of(&ctx);
    let plain_tcp = is_plain_tcp(&ctx);
    if let Some(socket) = socket
        && plain_tcp
        && !socket.opens()
        && !socket.listens()
        && connection::is_allowed(&ctx, settings.epoch)
    {
        return PASS;
    }
    let (cgroup_id, scope) = scope::of_packet(&settings, ctx.skb.skb);
    if !held_at_packets(&scope) {
        return PASS;
    }
    if mode(&scope) == Mode::Monitor {
        return report::allow();
    }
    // A listener sends nothing but its half of the handshake, without a byte of anybody's, and a model's listener only
    // to those whose first packet was let in.
    if plain_tcp && scope::is(&scope, Kind::Model) && socket.is_some_and(Socket::listens) {
        return PASS;
    }
    let site = Site { hook: Hook::Egress, settings, cgroup_id };
    let mut ends = Ends::UNKNOWN;
    if let Err(reason) = parse(&ctx, &mut ends) {
        return report::settle(&site, &scope, Err(reason), &ends);
    }
    let outcome = decide(&site, &ctx, &scope, &ends);
    if outcome.is_ok()
        && ends.protocol == TCP
        && let Some(socket) = socket
    {
        socket.allow(&ctx, settings.epoch);
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
    let answers_the_proxy = (receiver.is(Kind::Proxy) || (receiver.gone && !ends.opening))
        && ends.protocol == TCP
        && scope.port != 0
        && ends.source_port == scope.port;
    if receiver.index == scope.index || answers_the_proxy {
        return Ok(());
    }
    outcome
}
