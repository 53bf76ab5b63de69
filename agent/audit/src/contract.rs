//! The interface that the proxy, app and CLI use. Split into files by the room's builder.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the trail lives and what it is called.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// owned by the agent
    pub directory: PathBuf,
    /// C2SP origin line, e.g. `bailiwick/host-name`
    pub origin: String,
}

/// One record: metadata only. Serialised as canonical JSON with `type`, `time` (RFC 3339, UTC, ms).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// A request may go to the model; durable before its first byte does.
    Admit {
        /// ours, also in the response header `x-request-id`
        request: String,
        /// keyed hash
        subject: Pseudonym,
        issuer: String,
        /// that matched
        rule: String,
        model: String,
        operation: String,
        /// keyed hash
        client: Pseudonym,
        client_region: Option<String>,
        streamed: bool,
        request_bytes: u64,
        /// entity → count
        masked: BTreeMap<String, u64>,
        policy: String,
    },
    /// How an admitted request ended; durable before the last byte goes to the caller.
    Outcome {
        request: String,
        /// `complete`, `cancelled`, `upstream-failed`, `blocked`
        outcome: String,
        status: u16,
        response_bytes: u64,
        duration_ms: u64,
        masked: BTreeMap<String, u64>,
        reason: Option<String>,
    },
    /// A request that was refused; nothing went to the model.
    Denied {
        request: String,
        subject: Option<Pseudonym>,
        issuer: Option<String>,
        client: Pseudonym,
        client_region: Option<String>,
        method: String,
        /// the endpoint's name, never the raw path
        endpoint: Option<String>,
        model: Option<String>,
        status: u16,
        /// kebab-case
        reason: String,
        rule: Option<String>,
    },
    /// The kernel refused (or would have refused) a packet or call.
    Violation {
        scope: String,
        hook: String,
        verdict: String,
        reason: String,
        protocol: String,
        source: String,
        destination: String,
        port: u16,
        region: Option<String>,
        process: Option<String>,
        pid: Option<u32>,
        uid: Option<u32>,
        count: u64,
    },
    /// Start, stop, policy change, guard attach and detach, self-test.
    Control {
        /// kebab-case: `start`, `stop`, `policy`, `guard-attached`, `guard-detached`
        event: String,
        detail: BTreeMap<String, String>,
    },
}

/// A keyed hash of personal data (HMAC-SHA-256 under the epoch's key, hex, truncated to 32 digits).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pseudonym(pub String);

/// Where a record landed: its index in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Index(pub u64);

/// The writer; cheap to clone, one thread behind it.
#[derive(Clone, Debug)]
pub struct Log {}

/// Why the trail cannot be written, opened or believed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("{0}")]
    Placeholder(String),
}

impl Log {
    /// Opens or creates the trail, recovering what a crash left.
    /// # Errors
    /// when the directory cannot be used or what is there contradicts the signed checkpoint
    pub fn open(_settings: LogSettings) -> Result<Self, AuditError> {
        unimplemented!()
    }
    /// Durable (fdatasync) when it returns Ok.
    /// # Errors
    /// for good once an fsync failed
    pub async fn append(&self, _record: Record) -> Result<Index, AuditError> {
        unimplemented!()
    }
    /// A keyed hash under this epoch's key.
    #[must_use]
    pub fn pseudonym(&self, _text: &str) -> Pseudonym {
        unimplemented!()
    }
    /// Signs a last checkpoint and stops the writer.
    /// # Errors
    /// as `append`
    pub async fn close(&self) -> Result<(), AuditError> {
        unimplemented!()
    }
}

/// What `verify` found true.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Verified {
    pub origin: String,
    pub size: u64,
    pub root: String,
    pub unsigned: u64,
}

/// Verifies a trail (or a copy of one) against its checkpoint and, where given, a verifier key from elsewhere.
/// # Errors
/// says which file, offset or record does not hold
pub fn verify(_directory: &Path, _verifier_key: Option<&str>) -> Result<Verified, AuditError> {
    unimplemented!()
}

/// Every record in order, as canonical JSON bytes with its index.
/// # Errors
/// unreadable trail
pub fn records(_directory: &Path) -> Result<Vec<(Index, Vec<u8>)>, AuditError> {
    unimplemented!()
}
