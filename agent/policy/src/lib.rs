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
//!   EgressPolicy ──────────────────────────▶ the networks and exceptions that the kernel enforces
//! ```
//!
//! Invariants: what is not known is denied; the first matching rule decides; a [`Permit`] cannot be
//! made outside this crate, so whoever holds one was authorized by a rule it can name.

pub mod access;
pub mod egress;
pub mod name;
pub mod principal;
pub mod region;

pub use access::{AccessPolicy, AccessRule, Ask, Denial, DenialReason, Operation, Permit, RuleMasks};
pub use egress::{EgressException, EgressPolicy, Mode};
pub use name::{InvalidName, Name};
pub use principal::Principal;
pub use region::{Country, InvalidCountry, Location, Region, RegionTable};
