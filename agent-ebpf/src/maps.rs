//! Every map; names, shapes and meanings are in `bailiwick_abi`.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use bailiwick_abi::{
    Address, Destination, DestinationKey, Flow, Fold, FoldKey, Head, HeldScope, NAME_LEN, NameKey, PortOwner,
    Scope, ScopeKey, Settings,
};

#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(bailiwick_abi::SETTINGS.max_entries, 0);

#[map]
pub(crate) static SCOPES: HashMap<ScopeKey, Scope> =
    HashMap::with_max_entries(bailiwick_abi::SCOPES.max_entries, 0);

#[map]
pub(crate) static PORTS: Array<PortOwner> = Array::with_max_entries(bailiwick_abi::PORTS.max_entries, 0);

#[map]
pub(crate) static DESTINATIONS: LpmTrie<DestinationKey, Destination> =
    LpmTrie::with_max_entries(bailiwick_abi::DESTINATIONS.max_entries, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static LOCAL: HashMap<Address, u32> =
    HashMap::with_max_entries(bailiwick_abi::LOCAL.max_entries, 0);

/// Only the agent reads it.
#[map]
pub(crate) static NAMES: HashMap<NameKey, [u8; NAME_LEN]> =
    HashMap::with_max_entries(bailiwick_abi::NAMES.max_entries, 0);

#[map]
pub(crate) static HELD: Array<HeldScope> = Array::with_max_entries(bailiwick_abi::HELD.max_entries, 0);

#[map]
pub(crate) static CGROUPS: Array<u64> = Array::with_max_entries(bailiwick_abi::CGROUPS.max_entries, 0);

#[map]
pub(crate) static CONNECTIONS: Array<u64> =
    Array::with_max_entries(bailiwick_abi::CONNECTIONS.max_entries, 0);

#[map]
pub(crate) static FOLDED: LruHashMap<FoldKey, Fold> =
    LruHashMap::with_max_entries(bailiwick_abi::FOLDED.max_entries, 0);

#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(bailiwick_abi::COUNTERS.max_entries, 0);

#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(bailiwick_abi::EVENTS.max_entries, 0);

#[map]
pub(crate) static FLOWS: PerCpuArray<Flow> =
    PerCpuArray::with_max_entries(bailiwick_abi::FLOWS.max_entries, 0);

#[map]
pub(crate) static HEADS: Array<Head> = Array::with_max_entries(bailiwick_abi::HEADS.max_entries, 0);

#[map]
pub(crate) static OBSERVED: RingBuf = RingBuf::with_byte_size(bailiwick_abi::OBSERVED.max_entries, 0);
