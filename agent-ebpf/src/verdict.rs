//! The one verdict on a destination, for both families and every hook.

use aya_ebpf::maps::lpm_trie::Key;
use bailiwick_abi::{
    Address, DESTINATION_FIXED_BITS, Destination, DestinationKey, Embedded, Kind, Mode, Reason, Scope,
    Settings,
};

use crate::maps::{DESTINATIONS, LOCAL};

/// Whether `address` is loopback or one of the host's own.
#[inline(always)]
pub(crate) fn is_local(address: &Address) -> bool {
    // SAFETY: only the presence of the entry is used.
    address.is_loopback() || unsafe { LOCAL.get(address) }.is_some()
}

/// Whether the scope's policy allows `address` and `port`. A `local` destination needs a named exception: behind
/// loopback there are daemons that would carry the traffic under their own name.
#[inline(always)]
pub(crate) fn verdict(
    settings: Settings,
    scope: &Scope,
    address: &Address,
    port: u16,
    local: bool,
) -> Result<(), Reason> {
    let flags = lookup(settings, scope, address, port);
    if flags & Destination::EXCEPTION == 0 {
        if local {
            return Err(Reason::LoopbackNotNamed);
        }
        if flags & Destination::REGION == 0 {
            return Err(Reason::DestinationNotAllowed);
        }
    }
    match address.embedded() {
        Embedded::None => Ok(()),
        Embedded::V4(inner) => {
            let flags = lookup(settings, scope, &inner, port);
            if flags & Destination::EXCEPTION == 0 && (flags == 0 || is_local(&inner)) {
                return Err(Reason::DestinationNotAllowed);
            }
            Ok(())
        }
        Embedded::Opaque if flags & Destination::EXCEPTION == 0 => Err(Reason::DestinationNotAllowed),
        Embedded::Opaque => Ok(()),
    }
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

#[inline(always)]
fn lookup(settings: Settings, scope: &Scope, address: &Address, port: u16) -> u32 {
    let family = if address.is_v4() { 4 } else { 6 };
    let mut key = Key::new(
        DESTINATION_FIXED_BITS + 128,
        DestinationKey {
            generation: settings.generation.to_be(),
            policy: scope.policy.to_be(),
            port: 0,
            family,
            padding: 0,
            address: *address,
        },
    );
    let mut flags = DESTINATIONS.get(&key).map_or(0, |destination| destination.flags);
    if scope.has_ports != 0 && port != 0 {
        key.data.port = port.to_be();
        flags |= DESTINATIONS.get(&key).map_or(0, |destination| destination.flags);
    }
    flags
}
