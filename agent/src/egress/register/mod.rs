//! # The register: who went where, how often, and how much
//!
//! ```text
//!   refusals, openings, counters ──▶ Pending ── once a second ──▶ Store ──▶ register.sqlite ──▶ Reader
//!                                    one entry a flow             one transaction              bailiwick egress, suggest
//! ```
//!
//! A flow is a workload, a process, a protocol, an address, a port and a verdict; everything else about it is counted or
//! replaced by what was seen last. The file is SQLite in WAL mode, because it is read by others while it is written, and
//! comes through a SIGKILL at any moment with all transactions before the last one: at most the last second is lost.
//!
//! Invariants:
//! - Metadata only: addresses, counters, times, and names as they may be shown ([`super::names`]).
//! - Bounded: [`Bounds`] rows of flows that were allowed, and as many of violations; the oldest of one kind make room for new
//!   ones of the same kind, so that no allowed flow ever displaces a violation. What is displaced is added to the remainder
//!   of its workload, region and verdict: the sums stay true.
//! - The agent's memory does not grow with the register. What cannot be written waits in [`Pending`], which is bounded the same
//!   way.
//! - It is for the agent alone (mode 0600), and lies beside its other state.
//!
//! What it does not do: it is no evidence. Every violation is in the audit trail besides, signed; the register is neither
//! needed nor asked for a verdict. A flow that was reached by several names shows the last.

mod flow;
mod pending;
mod read;
mod store;

pub use flow::{Deed, Flow, FlowKey, Seen};
pub use pending::Pending;
pub use read::{Filter, Lookups, Reader, Remainder, Row, Suspect, instant};
pub use store::{Bounds, Store};

use std::path::{Path, PathBuf};

/// The file's name in the state directory.
const FILE: &str = "register.sqlite";

/// Why the register cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// SQLite says so.
    #[error("the register {}: {cause}", path.display())]
    Sqlite {
        /// Its file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        cause: rusqlite::Error,
    },
    /// The file system says so.
    #[error("the register {}: {cause}", path.display())]
    File {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// It was written by another version of the agent.
    #[error("the register {} has schema {found}, and this program knows {known}", path.display())]
    Schema {
        /// Its file.
        path: PathBuf,
        /// What it has.
        found: i64,
        /// What this program writes.
        known: i64,
    },
    /// There is none.
    #[error("there is no register at {}: the agent makes it when it first starts", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
}

impl RegisterError {
    /// Whether the file itself is damaged, so that nothing can be read from it any more.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite { cause, .. } => matches!(
                cause.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
            ),
            Self::File { .. } | Self::Schema { .. } | Self::Missing { .. } => false,
        }
    }
}

/// Where the register is on this host.
#[must_use]
pub fn path() -> PathBuf {
    crate::state::directory().join(FILE)
}

fn sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> RegisterError {
    move |cause| RegisterError::Sqlite { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests;
