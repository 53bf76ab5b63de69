//! Why the trail cannot be opened, written, read or believed.

use std::io;
use std::path::{Path, PathBuf};

/// Every way this crate fails. Each text names the place and what to do next; none carries a record's content.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The origin cannot be the name of a signed-note key.
    #[error(
        "the audit origin `{origin}` is not usable as a key name; use a short schema-less URL such as \
         `bailiwick/host-name`, without spaces, `+` or control characters"
    )]
    Origin {
        /// what the settings said
        origin: String,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}; check the disk, its free space and the owner of the audit directory", path.display())]
    Io {
        /// a verb, e.g. `write`
        action: &'static str,
        /// where
        path: PathBuf,
        /// what the system said
        source: io::Error,
    },
    /// Another process writes this trail.
    #[error("{} is locked by another writer; a trail has exactly one: stop the other agent or give this one its own directory", path.display())]
    Locked {
        /// the lock file
        path: PathBuf,
    },
    /// There is no trail here.
    #[error("{} holds no audit trail (no `checkpoint`); give the directory of the agent's [audit] section", path.display())]
    NotATrail {
        /// where a trail was looked for
        path: PathBuf,
    },
    /// The trail exists, its signing key does not.
    #[error("{} is missing although the trail has been signed with it; restore the key, or move the trail aside to begin a new one", path.display())]
    KeyMissing {
        /// where the key should be
        path: PathBuf,
    },
    /// A key file or key text is not what it should be. Never says what it holds.
    #[error("the key in {place} {problem}; restore it from a copy")]
    Key {
        /// the file, or `the given verifier key`
        place: String,
        /// what is wrong, without the key
        problem: &'static str,
    },
    /// A private key is readable by others than its owner.
    #[error("{} has mode {mode:o}: others can read it; run `chmod 600` on it and consider the key known", path.display())]
    KeyExposed {
        /// the key file
        path: PathBuf,
        /// its permission bits
        mode: u32,
    },
    /// One record is too large for an entry bundle; the trail is unharmed.
    #[error(
        "a record of {bytes} bytes is larger than the {limit} that an entry may have; it was not written"
    )]
    TooLarge {
        /// its encoded length
        bytes: usize,
        /// the longest allowed
        limit: usize,
    },
    /// A record could not be encoded; the trail is unharmed.
    #[error("a record cannot be encoded as JSON; it was not written")]
    Encoding,
    /// A write or fsync failed once; what is on the disk is unknown, so nothing more is accepted.
    #[error(
        "the audit trail stopped for good: {cause}; nothing more is recorded until the agent restarts, which recovers what is durable"
    )]
    Failed {
        /// the first failure
        cause: String,
    },
    /// The disk did not answer in time. The record may or may not become durable.
    #[error(
        "the audit trail did not confirm within {seconds} s; the disk may hang: check it (the record may still be written)"
    )]
    TimedOut {
        /// how long was waited
        seconds: u64,
    },
    /// The trail was closed.
    #[error("the audit trail is closed; the agent is stopping")]
    Closed,
    /// What is on the disk is less than what was signed.
    #[error(
        "the trail was signed at {signed} records but {} supports only {found}: records are lost or removed; \
         restore the directory from a copy, or keep it as evidence and begin a new one", path.display()
    )]
    Shrunk {
        /// records covered by the last signature
        signed: u64,
        /// records found
        found: u64,
        /// the file that ends too early
        path: PathBuf,
    },
    /// A file of the trail is not what was written.
    #[error("{} {problem}; keep the directory as evidence and compare it with a copy kept elsewhere", path.display())]
    Tampered {
        /// the file
        path: PathBuf,
        /// what does not hold, and for which record or byte where that is known
        problem: String,
    },
}

impl AuditError {
    /// Whether this says that the trail is not what was written (rather than that it cannot be used or read).
    #[must_use]
    pub fn is_tampering(&self) -> bool {
        match self {
            Self::Shrunk { .. } | Self::Tampered { .. } => true,
            Self::Origin { .. }
            | Self::Io { .. }
            | Self::Locked { .. }
            | Self::NotATrail { .. }
            | Self::KeyMissing { .. }
            | Self::Key { .. }
            | Self::KeyExposed { .. }
            | Self::TooLarge { .. }
            | Self::Encoding
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Closed => false,
        }
    }

    pub(crate) fn tampered(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Tampered { path: path.into(), problem: problem.into() }
    }
}

/// Adds the action and the path to an I/O result.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, AuditError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, AuditError> {
        self.map_err(|source| AuditError::Io { action, path: path.to_path_buf(), source })
    }
}
