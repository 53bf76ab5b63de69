//! Packets to a socket of a model's slice: the way in. Runs after the socket lookup, for local and remote senders alike.

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

#[cgroup_skb(ingress)]
pub(crate) fn ingress(ctx: SkBuffContext) -> i32 {
    let settings = scope::settings();
    if settings.generation == 0 {
        return PASS;
    }
    let socket = Socket::of(&ctx);
    let listening = socket.listens();
    let cookie = connection::cookie(&ctx);
    let mut known = 0;
    if socket.is_one_end() && is_plain_tcp(&ctx) {
        known = connection::known(cookie, settings.epoch);
        if known == Cache::ALLOWED
            || (known == Cache::COUNTED || known == Cache::LOOKED_AT && !has_payload(&ctx))
                && flow::more(cookie, settings.generation, Amount::received(ctx.len()))
        {
            return PASS;
        }
    }
    let (_, scope) = scope::of_packet(&settings, ctx.skb.skb);
    if !held_at_packets(&scope) {
        return PASS;
    }
    // Whose act it was is known once the sender is looked up, and only of one on this host.
    let mut site = Site::<false> { hook: Hook::Ingress, settings, cgroup_id: 0, reason: Reason::Sealed };
    let mut ends = Ends::UNKNOWN;
    let by = if listening {
        By::Listener
    } else if connection::is_flow(known) {
        By::Flow
    } else {
        By::Other
    };
    let asked = Asked { cookie, by };
    let outcome = decide(&mut site, &ctx, &scope, &mut ends, &asked);
    let amount = Amount::received(ctx.len());
    let amount = match outcome {
        Outcome::Pass => return PASS,
        Outcome::Refuse => return report::refuse(&site, scope.index, site.reason, &ends),
        Outcome::Settle => return report::settle(&site, &scope, outcome, &ends),
        Outcome::Flow => amount.allowed(),
        Outcome::Despite => amount.despite(site.reason.tag()),
        Outcome::Allow | Outcome::Again | Outcome::Answer => amount,
    };
    let mut finding = Cache::ALLOWED;
    if outcome != Outcome::Allow {
        if outcome != Outcome::Again {
            flow::count(&site, scope.index, &ends, cookie, amount);
        }
        let more = head::received(&ctx, &site, scope.index, &ends, cookie);
        finding = if more { Cache::LOOKED_AT } else { Cache::COUNTED };
    }
    if ends.protocol == TCP {
        socket.allow(cookie, settings.epoch, finding);
    }
    PASS
}

/// What is known of the socket that hears it.
struct Asked {
    cookie: u64,
    by: By,
}

/// What its connection is.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// It is a listener.
    Listener = 0,
    /// Its connection is one that the slice opened to somewhere.
    Flow = 1,
    /// Nothing.
    Other = 2,
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
    let by = asked.by;
    let listening = by == By::Listener;
    let is_model = scope::is(scope, Kind::Model);
    if let Err(reason) = parse(ctx, ends) {
        site.reason = reason;
        // To a workload, the guard on the way in does not apply.
        return if is_model { Outcome::Refuse } else { Outcome::Pass };
    }
    if ends.protocol != TCP {
        return datagram(site, ctx, scope, ends, asked.cookie);
    }
    if !is_model {
        return observe(site, ctx, scope, ends, by);
    }
    // The end of a handshake whose beginning was decided about. What comes of it knows nothing yet: its first packet is
    // decided about, whichever way that goes.
    if listening && ends.empty() && ends.acknowledging() {
        return Outcome::Pass;
    }
    let is_guarded_port = scope.port != 0 && ends.destination_port == scope.port;
    if !is_guarded_port && is_named_peer(site, ctx, scope, ends) {
        return Outcome::Pass;
    }
    // The end of a connection whose other half is gone: the proxy was killed, and nobody is left to be asked about.
    // Refused, the model would go on sending into the void for as long as TCP retries.
    if ends.reset() && !listening {
        return Outcome::Pass;
    }
    let standing = !is_guarded_port && !listening;
    // Where egress is not enforced, what the slice opened itself cannot be told.
    if standing && mode(scope) != Mode::Enforce {
        return observe(site, ctx, scope, ends, by);
    }
    // Under the policy in force, it was allowed when it was opened.
    if standing && by == By::Flow {
        return Outcome::Answer;
    }
    let local = is_local(&ends.source);
    if standing && verdict(&site.settings, scope, &ends.source, ends.source_port, local).is_ok() {
        return Outcome::Flow;
    }
    by_sender(site, ctx, scope, ends, listening)
}

/// A TCP packet to a slice where nothing is decided on the way in.
#[inline(never)]
fn observe(site: &mut Site<false>, ctx: &SkBuffContext, scope: &Scope, ends: &Ends, by: By) -> Outcome {
    if by != By::Flow {
        return Outcome::Pass;
    }
    if mode(scope) != Mode::Shadow {
        return Outcome::Answer;
    }
    let local = by_loopback(ctx) || is_local(&ends.source);
    match verdict(&site.settings, scope, &ends.source, ends.source_port, local) {
        Ok(()) => Outcome::Flow,
        Err(reason) => {
            site.reason = reason;
            Outcome::Despite
        }
    }
}

/// The verdict that depends on who sent it.
///
/// Not inlined, and what the caller knows is found again: for each combination of what it still holds, the verifier goes
/// through the lookup once more.
#[inline(never)]
fn by_sender(
    site: &mut Site<false>,
    ctx: &SkBuffContext,
    scope: &Scope,
    ends: &Ends,
    listening: bool,
) -> Outcome {
    let sender = peer::sender(&site.settings, ctx, ends);
    site.cgroup_id = sender.cgroup_id;
    let local = is_local(&ends.source);
    let is_guarded_port = scope.port != 0 && ends.destination_port == scope.port;
    let standing = !is_guarded_port && !listening;
    // The last word of a half that is done: without it, the model's would ask for it again and again.
    if sender.gone && local && ends.empty() && !listening {
        return Outcome::Pass;
    }
    // A connection that stands is the slice's own only on this host; what was accepted from elsewhere before the guard
    // stood, or under a policy that is no longer in force, ends here.
    let inside = sender.index == scope.index && (local || !standing);
    if inside || is_guarded_port && sender.is(Kind::Proxy) {
        return Outcome::Allow;
    }
    site.reason = if is_guarded_port { Reason::NotProxy } else { Reason::Sealed };
    Outcome::Refuse
}

/// Whether a host that the config names sent this to a port that it names. Through the loopback device every
/// source is forged.
#[inline(always)]
fn is_named_peer(site: &Site<false>, ctx: &SkBuffContext, scope: &Scope, ends: &Ends) -> bool {
    scope.has_peers != 0
        && !by_loopback(ctx)
        && is_peer(&site.settings, scope, &ends.source, ends.destination_port)
}

/// Answers from where the slice may send to, named peers, and talk inside the slice; never to the guarded port.
///
/// Not inlined, to keep the frames of the programs small: Linux 5.10 rounds each up and allows 512 bytes in all.
#[inline(never)]
fn datagram(site: &mut Site<false>, ctx: &SkBuffContext, scope: &Scope, ends: &Ends, cookie: u64) -> Outcome {
    let is_model = scope::is(scope, Kind::Model);
    if is_model && scope.port != 0 && ends.destination_port == scope.port {
        site.reason = Reason::NotProxy;
        return Outcome::Refuse;
    }
    if !by_loopback(ctx) && flow::again(site, scope.index, ends, cookie, Amount::received(ctx.len())) {
        return Outcome::Again;
    }
    let local = is_local(&ends.source);
    if mode(scope) == Mode::Monitor {
        return if local { Outcome::Pass } else { Outcome::Flow };
    }
    if is_model && is_named_peer(site, ctx, scope, ends) {
        return Outcome::Pass;
    }
    if verdict(&site.settings, scope, &ends.source, ends.source_port, local).is_ok() {
        return Outcome::Flow;
    }
    if !is_model {
        return Outcome::Pass;
    }
    // Only a local address is asked about: a listener on every address would answer for a remote one.
    if local {
        let sender = peer::sender(&site.settings, ctx, ends);
        if sender.index == scope.index {
            return Outcome::Pass;
        }
        site.cgroup_id = sender.cgroup_id;
    }
    Outcome::Settle
}
