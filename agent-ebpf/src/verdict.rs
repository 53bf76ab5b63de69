//! The one verdict on a destination, for both families and every hook.

use aya_ebpf::{maps::lpm_trie::Key, programs::SkBuffContext};
use bailiwick_abi::{
    Address, DESTINATION_FIXED_BITS, Destination, DestinationKey, Embedded, Kind, Mode, Reason, Scope,
    Settings,
};

use crate::maps::{DESTINATIONS, LOCAL};

/// What becomes of a packet. Decided in a function of its own that hands back no more than this, and the reason in its
/// [`Site`](crate::report::Site): what follows is then verified once, and not once for each way that leads there.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Let pass; the next one is decided again.
    Pass = 0,
    /// Let pass, and the whole connection.
    Allow = 1,
    /// Let pass by the policy, and to be counted: it belongs to what the slice sends to somewhere.
    Flow = 2,
    /// The same, and it is counted already.
    Again = 6,
    /// To be counted and let pass, though the policy was not asked: what answers a flow.
    Answer = 7,
    /// The same, though enforcing would have refused it: what answers such a flow.
    Despite = 5,
    /// Not allowed: what becomes of it, the scope's mode says.
    Settle = 3,
    /// Refused, in every mode.
    Refuse = 4,
}

/// Whether `address` is loopback or one of the host's own.
#[inline(always)]
pub(crate) fn is_local(address: &Address) -> bool {
    // SAFETY: only the presence of the entry is used.
    address.is_loopback() || unsafe { LOCAL.get(address) }.is_some()
}

/// The loopback device has this index in every network namespace.
const LOOPBACK_DEVICE: u32 = 1;

/// Whether the packet travels through the loopback device.
#[inline(always)]
pub(crate) fn by_loopback(ctx: &SkBuffContext) -> bool {
    // SAFETY: the program's context.
    unsafe { core::ptr::read_volatile(&raw const (*ctx.skb.skb).ifindex) == LOOPBACK_DEVICE }
}

/// Whether the scope's policy allows `address` and `port`. A `local` destination needs a named exception, and so does a
/// resolver: behind loopback there are daemons, and behind resolvers hosts, that would carry the traffic under their own name.
///
/// Not inlined, to keep the frames of the programs small: Linux 5.10 rounds each up and allows 512 bytes in all.
#[inline(never)]
pub(crate) fn verdict(
    settings: &Settings,
    scope: &Scope,
    address: &Address,
    port: u16,
    local: bool,
) -> Result<(), Reason> {
    let flags = lookup(*settings, scope, address, port);
    if flags & Destination::EXCEPTION == 0 {
        if local {
            return Err(Reason::LoopbackNotNamed);
        }
        if flags & (Destination::REGION | Destination::PEER) == 0 {
            return Err(Reason::DestinationNotAllowed);
        }
        if asks_a_resolver(scope, port) {
            return Err(Reason::ResolverNotNamed);
        }
    }
    match address.embedded() {
        Embedded::None => Ok(()),
        Embedded::V4(inner) => {
            let flags = lookup(*settings, scope, &inner, port);
            if flags & Destination::EXCEPTION == 0
                && (flags == 0 || is_local(&inner) || asks_a_resolver(scope, port))
            {
                return Err(Reason::DestinationNotAllowed);
            }
            Ok(())
        }
        Embedded::Opaque if flags & Destination::EXCEPTION == 0 => Err(Reason::DestinationNotAllowed),
        Embedded::Opaque => Ok(()),
    }
}

/// Whether what a scope sends to this port is a question that a resolver may carry on to anywhere, so that a region does not
/// allow it: DNS (RFC 1035), and DNS over TLS and QUIC (RFC 7858, RFC 9250). The agent asks the resolvers of its host.
#[inline(always)]
fn asks_a_resolver(scope: &Scope, port: u16) -> bool {
    (port == 53 || port == 853) && scope.kind != Kind::Proxy.tag()
}

/// Whether `address` is a named peer that may connect to `own_port` of the scope.
///
/// Not inlined, for the same reason as the verdict.
#[inline(never)]
pub(crate) fn is_peer(settings: &Settings, scope: &Scope, address: &Address, own_port: u16) -> bool {
    // Peers are other hosts: what is local is inside the slice, or not welcome.
    scope.has_peers != 0
        && own_port != 0
        && own_port != scope.port
        && !is_local(address)
        && at_port(settings, scope, address, own_port) & Destination::PEER != 0
}

/// The mode that applies. A scope whose tags cannot be read is enforced.
#[inline(always)]
pub(crate) fn mode(scope: &Scope) -> Mode {
    Mode::try_from(scope.mode).unwrap_or(Mode::Enforce)
}

/// Whether the scope's own packets are held to its policy.
#[inline(always)]
pub(crate) fn held_at_packets(scope: &Scope) -> bool {
    scope.kind != 0 && scope.kind != Kind::Proxy.tag()
}

/// The flags of the longest network around `address`, of those without a port and of those with this one.
#[inline(always)]
fn lookup(settings: Settings, scope: &Scope, address: &Address, port: u16) -> u32 {
    let mut key = key(&settings, scope, address, 0);
    let mut flags = DESTINATIONS.get(&key).map_or(0, |destination| destination.flags);
    if scope.has_ports != 0 && port != 0 {
        key.data.port = port.to_be();
        flags |= DESTINATIONS.get(&key).map_or(0, |destination| destination.flags);
    }
    flags
}

#[inline(always)]
fn at_port(settings: &Settings, scope: &Scope, address: &Address, port: u16) -> u32 {
    DESTINATIONS.get(key(settings, scope, address, port)).map_or(0, |destination| destination.flags)
}

#[inline(always)]
fn key(settings: &Settings, scope: &Scope, address: &Address, port: u16) -> Key<DestinationKey> {
    Key::new(
        DESTINATION_FIXED_BITS + 128,
        DestinationKey {
            generation: settings.generation.to_be(),
            policy: scope.policy.to_be(),
            port: port.to_be(),
            family: if address.is_v4() { 4 } else { 6 },
            padding: 0,
            address: *address,
        },
    )
}
