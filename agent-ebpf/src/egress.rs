//! Packets from a socket of a held slice: the verdict on the header that really leaves.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};
use bailiwick_abi::{Cache, Hook, Kind, Mode, Reason, Scope};

use crate::{
    connection::{self, Socket},
    flow::{self, Amount},
    head,
    packet::{Ends, TCP, has_payload, is_plain_tcp, parse},
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
    let mut known = 0;
    if plain_tcp && socket.is_one_end() && !socket.opens() {
        known = connection::known(cookie, settings.epoch);
        if known == Cache::ALLOWED
            || (known == Cache::COUNTED || known == Cache::LOOKED_AT && !has_payload(&ctx))
                && flow::more(cookie, settings.generation, Amount::sent(ctx.len()))
        {
            return PASS;
        }
    }
    if !plain_tcp && flow::datagram_again(&ctx, settings.epoch, cookie) {
        return PASS;
    }
    let (cgroup_id, scope) = scope::of_packet(&settings, ctx.skb.skb);
    if !held_at_packets(&scope) {
        return PASS;
    }
    // A listener sends nothing but its half of the handshake, without a byte of anybody's, and a model's listener only
    // to those whose first packet was let in.
    if plain_tcp && scope::is(&scope, Kind::Model) && socket.listens() {
        return PASS;
    }
    let mut site = Site::<false> { hook: Hook::Egress, settings, cgroup_id, reason: Reason::PolicyMissing };
    let mut ends = Ends::UNKNOWN;
    let asked = Asked { cookie, known };
    let outcome = decide(&mut site, &ctx, &scope, &mut ends, &asked);
    if outcome == Outcome::Again && ends.protocol != TCP && ends.destination_port != head::DNS_PORT {
        return PASS;
    }
    let mut finding = Cache::ALLOWED;
    let is_despite = outcome == Outcome::Settle && mode(&scope) == Mode::Shadow;
    if is_despite || outcome == Outcome::Flow || outcome == Outcome::Again {
        let amount = Amount::sent(ctx.len());
        if outcome != Outcome::Again {
            let amount = if is_despite { amount.despite(site.reason.tag()) } else { amount.allowed() };
            flow::count(&site, scope.index, &ends, cookie, amount);
        }
        let more = head::sent(&ctx, &site, scope.index, &ends, cookie);
        finding = if more { Cache::LOOKED_AT } else { Cache::COUNTED };
    } else if outcome == Outcome::Settle {
        if socket.opens() {
            connection::forget(cookie, settings.epoch);
        }
        return report::settle(&site, &scope, outcome, &ends);
    }
    if ends.protocol == TCP {
        socket.allow(cookie, settings.epoch, finding);
    }
    report::settle(&site, &scope, outcome, &ends)
}

/// What is known of the packet's socket.
struct Asked {
    cookie: u64,
    /// What is known of its connection.
    known: u32,
}

/// Not inlined, see [`Outcome`].
#[inline(never)]
fn decide(
    site: &mut Site<false>,
    ctx: &SkBuffContext,
    scope: &Scope,
    ends: &mut Ends,
    asked: &Asked,
) -> Outcome {
    if let Err(reason) = parse(ctx, ends) {
        site.reason = reason;
        return Outcome::Settle;
    }
    // In shadow mode, a connection is remembered that the policy does not allow.
    if connection::is_flow(asked.known) && mode(scope) != Mode::Shadow {
        return Outcome::Flow;
    }
    if !by_loopback(ctx) && flow::again(site, scope.index, ends, asked.cookie, Amount::sent(ctx.len())) {
        return Outcome::Again;
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
