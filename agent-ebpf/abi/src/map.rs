//! The maps by name and shape, so that a pinned one can be compared before it is used again.

use crate::{
    Address, Cache, Destination, DestinationKey, Flow, Fold, FoldKey, Head, HeldScope, Membership, NAME_LEN,
    NameKey, PortOwner, Reason, Scope, ScopeKey, Settings,
};

/// What the kernel can be asked about a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// The name of the map and of its pin.
    pub name: &'static str,
    /// `enum bpf_map_type` of linux/bpf.h.
    pub map_type: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries, or bytes of a ring buffer.
    pub max_entries: u32,
}

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const LPM_TRIE: u32 = 11;
const RINGBUF: u32 = 27;

#[expect(clippy::cast_possible_truncation, reason = "keys and values are a few bytes long")]
const fn shape<K, V>(name: &'static str, map_type: u32, max_entries: u32) -> MapShape {
    MapShape {
        name,
        map_type,
        key_size: size_of::<K>() as u32,
        value_size: size_of::<V>() as u32,
        max_entries,
    }
}

/// The current generation and epoch.
pub const SETTINGS: MapShape = shape::<u32, Settings>("SETTINGS", ARRAY, 1);
/// Which cgroups are held to what.
pub const SCOPES: MapShape = shape::<ScopeKey, Scope>("SCOPES", HASH, 4096);
/// The guarded ports.
pub const PORTS: MapShape = shape::<u32, PortOwner>("PORTS", ARRAY, 2 * 65_536);
/// Where each policy allows to go; entries are made when needed, so the number is only a ceiling.
pub const DESTINATIONS: MapShape =
    shape::<(u32, DestinationKey), Destination>("DESTINATIONS", LPM_TRIE, 4_194_304);
/// The host's own addresses.
pub const LOCAL: MapShape = shape::<Address, u32>("LOCAL", HASH, 8192);
/// The scopes' names.
pub const NAMES: MapShape = shape::<NameKey, [u8; NAME_LEN]>("NAMES", HASH, 4096);
/// The same scopes by their index, for those who know it.
pub const HELD: MapShape = shape::<u32, HeldScope>("HELD", ARRAY, 2 * Membership::MOST_SCOPES);
/// Cache: cgroup → scope; see [`Cache::CGROUPS`].
pub const CGROUPS: MapShape = shape::<u32, u64>("CGROUPS", ARRAY, Cache::CGROUPS.slots());
/// Cache: connections that are allowed; see [`Cache::CONNECTIONS`].
pub const CONNECTIONS: MapShape = shape::<u32, u64>("CONNECTIONS", ARRAY, Cache::CONNECTIONS.slots());
/// What was reported lately.
pub const FOLDED: MapShape = shape::<FoldKey, Fold>("FOLDED", LRU_HASH, 16_384);
/// See [`Counter`].
pub const COUNTERS: MapShape = shape::<u32, u64>("COUNTERS", PERCPU_ARRAY, 64);
/// What goes where at the moment, an array for each CPU; see [`Flow`].
pub const FLOWS: MapShape = shape::<u32, Flow>("FLOWS", PERCPU_ARRAY, Flow::SLOTS);
/// The connections whose first words are still to be looked at, by their socket's cookie.
pub const HEADS: MapShape = shape::<u32, Head>("HEADS", ARRAY, Head::SLOTS);
/// [`crate::FlowRecord`] and [`crate::HeadRecord`], told apart by their first word: a buffer of its own, so that what is
/// merely observed never takes the room of what was refused.
pub const OBSERVED: MapShape =
    MapShape { name: "OBSERVED", map_type: RINGBUF, key_size: 0, value_size: 0, max_entries: 4_194_304 };
/// [`crate::Event`] after [`crate::Event`].
pub const EVENTS: MapShape =
    MapShape { name: "EVENTS", map_type: RINGBUF, key_size: 0, value_size: 0, max_entries: 1_048_576 };

/// All of them.
pub const MAPS: &[MapShape] = &[
    SETTINGS,
    SCOPES,
    PORTS,
    DESTINATIONS,
    LOCAL,
    NAMES,
    HELD,
    CGROUPS,
    CONNECTIONS,
    FOLDED,
    COUNTERS,
    EVENTS,
    FLOWS,
    HEADS,
    OBSERVED,
];

/// An entry of `COUNTERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Decided about and allowed.
    Allowed,
    /// Events for which the ring buffer had no room.
    LostEvents,
    /// What was to be said of flows and for which the ring buffer had no room, or that came at a bad moment.
    LostObservations,
    /// Refused for this reason.
    Denied(Reason),
    /// Let pass in shadow mode, though there was this reason.
    WouldDeny(Reason),
}

impl Counter {
    /// Its index.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Allowed => 0,
            Self::LostEvents => 1,
            Self::LostObservations => 2,
            Self::Denied(reason) => 16 + reason as u32,
            Self::WouldDeny(reason) => 32 + reason as u32,
        }
    }
}
