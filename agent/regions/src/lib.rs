//! # Regions: published ranges and country tables, read, checked and kept
//!
//! ```text
//!   file ─▶ detect ─▶ format/KIND ─▶ Reading ─▶ Dataset (policy)      bytes in, claims out; no I/O
//!                                       │
//!   directory/NAME.json ◀── Store::import: temporary, fsync, rename   the one commit
//!   directory/NAME-SHA256.data          │
//!                     Store::load ──────┴────▶ Vec<Dataset> ─▶ RegionTable::with_datasets
//! ```
//!
//! A crate of its own, because the policy crate does no I/O and knows no formats, while the agent, its command line and
//! the bench all need both: what a file means is decided in one place. What is kept is the file as it was published,
//! byte for byte, so that its SHA-256 is the one that anybody else gets; it is read again at every start.
//!
//! | kind | file | region → country |
//! |---|---|---|
//! | `aws` | `ip-ranges.json` | `network_border_group`, else `region`; `GLOBAL` is none |
//! | `gcp` | `cloud.json` | `scope`; `global` is none |
//! | `azure` | `ServiceTags_*.json` | `properties.region`; a tag without one gives way to one with; Front Door is anycast |
//! | `oracle` | `public_ip_ranges.json` | `regions[].region` |
//! | `cloudflare` | a network a line | anycast, all of it |
//! | `mmdb` | a table of countries | `country_code`, `country.iso_code` or `country` |
//!
//! Invariants:
//! - A file is used whole or not at all. What is wrong with it is said with its place: line, column, byte or the path
//!   of the value, and a cure.
//! - An import replaces by one rename, so that a crash, a full disk or a reader sees the old dataset or the new one.
//! - What is kept is checked against its SHA-256 whenever it is loaded. A damaged dataset is an error, never a smaller
//!   dataset.
//! - A region that [`cloud`] does not list is in no country; the network stays in the dataset and is denied.
//!
//! What it does not do: fetch anything. Files come from the operator, who knows the way to them; nor does it decide
//! what an address's place means ([`bailiwick_policy::RegionTable`] does).

pub mod cloud;
mod error;
mod format;
mod freshness;
mod store;

pub use error::{FormatError, Spot, StoreError};
pub use format::{Kind, Reading, detect, read};
pub use freshness::{age_in_days, today};
pub use store::{DatedBy, Imported, Kept, Metadata, Prepared, Store};
