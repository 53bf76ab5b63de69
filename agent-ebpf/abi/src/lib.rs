//! # ABI: what the eBPF programs and the agent both mean by a byte
//!
//! ```text
//!   agent/kernel ── writes ──▶ SETTINGS SCOPES HELD PORTS DESTINATIONS LOCAL NAMES ── read by ──▶ agent-ebpf
//!   agent/kernel ◀── reads ─── EVENTS OBSERVED FLOWS COUNTERS ◀── written by ──────────────────── agent-ebpf
//! ```
//!
//! Both sides are compiled from this crate, but at different times: a pinned map outlives the agent that made
//! it. So every type here is `repr(C)` with fixed-width fields and explicit padding, its size is asserted at
//! compile time, and a change to any of them raises [`SCHEMA`], which is part of the pins' path. Old and new
//! programs then never share a map.
//!
//! Policy is keyed by *generation*: a new policy is written beside the old one under the next number, and one
//! write to [`Settings`] switches everything at once. [`Settings::epoch`] moves on each change of any kind and
//! is what caches in the kernel are checked against.
//!
//! Addresses are [`Address`]: sixteen bytes, IPv4 as IPv4-mapped IPv6, so that one verdict serves both. What
//! an address *is* (loopback, a tunnel around an IPv4 address) is decided here, where it can be tested without
//! a kernel.
//!
//! Tags (`kind`, `mode`, `hook`, `verdict`, `reason`) travel as `u8` and are decoded with `TryFrom`; a tag that
//! is not known is an error, never a default.
#![no_std]

mod address;
mod cache;
mod event;
mod flow;
mod keys;
mod map;
mod tags;

pub use address::{Address, Embedded};
pub use cache::{Cache, Membership, Slot};
pub use event::{Event, Fold, FoldKey};
pub use flow::{Flow, FlowRecord, Head, HeadRecord};
pub use keys::{
    DESTINATION_FIXED_BITS, Destination, DestinationKey, HeldScope, NameKey, PortOwner, Scope, ScopeKey,
    Settings,
};
pub use map::{
    CGROUPS, CONNECTIONS, COUNTERS, Counter, DESTINATIONS, EVENTS, FLOWS, FOLDED, HEADS, HELD, LOCAL, MAPS,
    MapShape, NAMES, OBSERVED, PORTS, SCOPES, SETTINGS,
};
pub use tags::{Hook, Kind, Mode, Reason, UnknownTag, Verdict};

/// The version of everything in this crate; pins of different schemas never mix.
pub const SCHEMA: u32 = 6;

/// The scope index that means "none".
pub const NO_SCOPE: u32 = u32::MAX;

/// How deep below the kernel's cgroup root a scope may lie; the programs look at no more levels.
pub const MAX_DEPTH: u32 = 10;

/// The longest scope name, in bytes; the rest of the array is zero.
pub const NAME_LEN: usize = 64;
