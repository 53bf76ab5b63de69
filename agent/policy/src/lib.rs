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
//!   IpAddr ──────▶ RegionTable::locate      ─▶ Location: Pinned | Country | Unplaced, with its evidence
//!   regions ─────▶ RegionTable::networks_of ─▶ EgressPolicy: the networks and exceptions that the kernel enforces
//!                        ▲
//!   Dataset(s) ──────────┘  what providers and country tables say, flattened into runs of addresses
//! ```
//!
//! Who is asked where an address lies, in this order: the networks that the operator pinned, the longest of them;
//! the providers' published ranges; the tables of countries; nobody. Special-purpose addresses are placed by pins
//! alone. Anycast, global, region-less and unknown addresses, and those that two sources put in different places, lie
//! in no region, each for a reason of its own ([`Unplaced`]).
//!
//! Invariants: what is not known is denied; the first matching rule decides; a [`Permit`] cannot be
//! made outside this crate, so whoever holds one was authorized by a rule it can name; an address is in
//! [`RegionTable::networks_of`] a set of regions if and only if [`RegionTable::locate`] puts it in one of
//! them, so that the kernel and the proxy cannot disagree about where an address lies.
//!
//! What it does not do: it reads no file. Which formats there are, and what their words mean, is the business of
//! `bailiwick-regions`; here a [`Dataset`] is networks with claims. Without one a region's countries hold no address.

pub mod access;
pub mod country;
pub mod dataset;
pub mod egress;
mod interval;
pub mod location;
pub mod name;
pub mod principal;
pub mod region;
pub mod rule;
pub mod schedule;

pub use access::{AccessPolicy, Ask, Denial, DenialReason, Operation, Permit};
pub use country::{Country, CountryGroup, InvalidCountry};
pub use dataset::{Change, Claim, ClaimId, Dataset, DatasetBuilder, DatasetInfo, Evidence, Origin, Place};
pub use egress::{EgressException, EgressPolicy, Mode};
pub use interval::difference;
pub use location::{Location, Unplaced};
pub use name::{InvalidName, Name};
pub use principal::Principal;
pub use region::{Region, RegionTable};
pub use rule::{AccessRule, CertificateName, ClaimCondition, ClaimedCountry, RuleLimits, RuleMasks};
pub use schedule::{InvalidSchedule, Schedule, Weekday};
