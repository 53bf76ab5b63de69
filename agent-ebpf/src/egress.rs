//! Packets from a socket of a held slice: the verdict on the header that really leaves.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use bailiwick_abi::{Cache, Hook, Kind, Mode, Reason, Scope};

use crate::{
    connection::{self, Socket},
    flow::{self, Amount},
    head,
    packet::{Ends, TCP, is_plain_tcp, parse},
    peer,
    report::{self, PASS, Site},
    scope,
    verdict::{Outcome, by_loopback, held_at_packets, is_local, is_peer, mode, verdict},
};

#[cgroup_skb(egress)]
pub(crate) fn egress(ctx: SkBuffContext) -> i32 {
    let settings = scope::settings();
    if settings.generation == 0 {
        return PASS;
    }
    let socket = Socket::of(&ctx);
    let plain_tcp = is_plain_tcp(&ctx);
    let cookie = connection::cookie(&ctx);
    if let Some(socket) = socket
        && plain_tcp
        && !socket.opens()
        && !socket.listens()
    {
        let known = connection::known(cookie, settings.epoch);
        if known == Cache::ALLOWED
            || known == Cache::COUNTED && flow::more(cookie, settings.generation, Amount::sent(ctx.len()))
        {
            return PASS;
        }
    }
    let (cgroup_id, scope) = scope::of_packet(&settings, ctx.skb.skb);
    if !held_at_packets(&scope) {
        return PASS;
    }
    // A listener sends nothing but its half of the handshake, without a byte of anybody's, and a model's listener only
    // to those whose first packet was let in.
    if plain_tcp && scope::is(&scope, Kind::Model) && socket.is_some_and(Socket::listens) {
        return PASS;
    }
    let mut site = Site::<false> { hook: Hook::Egress, settings, cgroup_id, reason: Reason::PolicyMissing };
    let mut ends = Ends::UNKNOWN;
    let outcome = decide(&mut site, &ctx, &scope, &mut ends);
    let is_flow = outcome == Outcome::Flow || outcome == Outcome::Settle && mode(&scope) == Mode::Shadow;
    if is_flow {
        let despite = if outcome == Outcome::Flow { 0 } else { site.reason.tag() };
        flow::count(&site, scope.index, &ends, cookie, Amount::sent(ctx.len()).despite(despite));
        if head::sent(&ctx, &site, scope.index, &ends, cookie) {
            return report::settle(&site, &scope, outcome, &ends);
        }
    }
    if (is_flow || outcome != Outcome::Settle)
        && ends.protocol == TCP
        && let Some(socket) = socket
    {
        let finding = if is_flow { Cache::COUNTED } else { Cache::ALLOWED };
        socket.allow(cookie, settings.epoch, finding);
    }
    report::settle(&site, &scope, outcome, &ends)
}

/// Not inlined, see [`Outcome`].
#[inline(never)]
fn decide(site: &mut Site<false>, ctx: &SkBuffContext, scope: &Scope, ends: &mut Ends) -> Outcome {
    if let Err(reason) = parse(ctx, ends) {
        site.reason = reason;
        return Outcome::Settle;
    }
    let local = by_loopback(ctx) || is_local(&ends.destination);
    if mode(scope) == Mode::Monitor {
        // Nothing is decided; what leaves the host is a flow.
        return if local { Outcome::Pass } else { Outcome::Flow };
    }
    let Err(reason) = verdict(&site.settings, scope, &ends.destination, ends.destination_port, local) else {
        return Outcome::Flow;
    };
    site.reason = reason;
    if !local {
        // What a named peer opened goes on; what the model opens itself was decided above.
        let answers_a_peer =
            !ends.opening() && is_peer(&site.settings, scope, &ends.destination, ends.source_port);
        return if answers_a_peer { Outcome::Allow } else { Outcome::Settle };
    }
    let receiver = peer::receiver(&site.settings, ctx, ends);
    // What was on its way to a proxy that is no more is refused by the kernel itself, with the reset that ends the
    // model's half as well.
    let answers_the_proxy = (receiver.is(Kind::Proxy) || (receiver.gone && !ends.opening()))
        && ends.protocol == TCP
        && scope.port != 0
        && ends.source_port == scope.port;
    if receiver.index == scope.index || answers_the_proxy { Outcome::Allow } else { Outcome::Settle }
}
