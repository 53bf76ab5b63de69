//! # Policy: pure decisions
//!
//! Given who is calling (a [`Principal`]), what they ask for ([`Ask`]) and where an address lies
//! ([`Location`]), this crate answers. It does no I/O, has no clock and no async, and imports nothing
//! of ours, so that every answer can be replayed from its inputs by a test or by an auditor.
//!
//! ```text
//!   Principal ─┐
//!   Ask ───────┼─▶ AccessPolicy::authorize ─▶ Permit (names the rule)  |  Denial (names the reason)
//!   Location ──┘
//!   IpAddr ──────▶ RegionTable::locate      ─▶ Location::Known(region, network) | Location::Unknown
//!   regions ─────▶ RegionTable::networks_of ─▶ EgressPolicy: the networks and exceptions that the kernel enforces
//! ```
//!
//! Invariants: what is not known is denied; the first matching rule decides; a [`Permit`] cannot be
//! made outside this crate, so whoever holds one was authorized by a rule it can name; an address is in
//! [`RegionTable::networks_of`] a set of regions if and only if [`RegionTable::locate`] puts it in one of
//! them, so that the kernel and the proxy cannot disagree about where an address lies.
//!
//! What it does not do: it knows no country of an address. A region's countries are kept for a dataset to
//! be joined with; until then only pinned networks are known, and everything else is unknown.

pub mod access;
pub mod country;
pub mod egress;
pub mod name;
pub mod principal;
pub mod region;
pub mod rule;
pub mod schedule;

pub use access::{AccessPolicy, Ask, Denial, DenialReason, Operation, Permit};
pub use country::{Country, CountryGroup, InvalidCountry};
pub use egress::{EgressException, EgressPolicy, Mode};
pub use name::{InvalidName, Name};
pub use principal::Principal;
pub use region::{Location, Region, RegionTable};
pub use rule::{AccessRule, CertificateName, ClaimCondition, ClaimedCountry, RuleLimits, RuleMasks};
pub use schedule::{InvalidSchedule, Schedule, Weekday};
