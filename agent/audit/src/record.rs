//! What is recorded: metadata about requests and about the agent, never what was said.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::canonical;
use crate::error::AuditError;

/// The schema number that every record carries as `v`.
pub const SCHEMA: u64 = 1;

/// The longest encoded record in bytes: an entry bundle has a 16-bit length (C2SP tlog-tiles).
pub const RECORD_LIMIT: usize = u16::MAX as usize;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// One record: metadata only. Written as canonical JSON with `type`, `v` ([`SCHEMA`]) and `time` (RFC 3339, UTC,
/// milliseconds, of the call to append); absent fields are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Record {
    /// A request may go to the model; durable before its first byte does.
    Admit {
        /// ours, also in the response header `x-request-id`
        request: String,
        /// who calls, as a keyed hash
        subject: Pseudonym,
        /// who vouched for the caller
        issuer: String,
        /// the access rule that matched
        rule: String,
        /// the model's configured name
        model: String,
        /// what is asked of the model, e.g. `chat`
        operation: String,
        /// the caller's address, as a keyed hash
        client: Pseudonym,
        /// the region of the caller's address, where known
        #[serde(skip_serializing_if = "Option::is_none")]
        client_region: Option<String>,
        /// whether the answer is a stream
        streamed: bool,
        /// length of the request's body
        request_bytes: u64,
        /// entity → how many were masked in the request
        masked: BTreeMap<String, u64>,
        /// the policy's fingerprint
        policy: String,
        /// the server of the model that gets it; absent where none does, and in trails of before there were several
        #[serde(skip_serializing_if = "Option::is_none")]
        upstream: Option<String>,
    },
    /// How an admitted request ended; durable before the last byte goes to the caller.
    Outcome {
        /// as in its `Admit`
        request: String,
        /// `complete`, `cancelled`, `upstream-failed`, `blocked`
        outcome: String,
        /// HTTP status sent to the caller
        status: u16,
        /// length of the answer's body
        response_bytes: u64,
        /// from admission to the end, in milliseconds
        duration_ms: u64,
        /// entity → how many were masked in the answer
        masked: BTreeMap<String, u64>,
        /// why, where it did not complete; kebab-case
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A request that was refused; nothing went to the model.
    Denied {
        /// ours
        request: String,
        /// who calls, where the credential could be believed
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<Pseudonym>,
        /// whose the credential is or, without a `subject`, claims to be: only ever one of the configured issuers
        #[serde(skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// the caller's address, as a keyed hash
        client: Pseudonym,
        /// the region of the caller's address, where known
        #[serde(skip_serializing_if = "Option::is_none")]
        client_region: Option<String>,
        /// HTTP method
        method: String,
        /// the endpoint's name, never the raw path
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
        /// the model's configured name, where one was asked for
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// HTTP status sent to the caller
        status: u16,
        /// kebab-case
        reason: String,
        /// the rule that refused, where one did
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
    },
    /// The kernel refused (or would have refused) a packet or call.
    Violation {
        /// the model or workload
        scope: String,
        /// the kernel hook
        hook: String,
        /// `deny`, `would-deny`
        verdict: String,
        /// kebab-case
        reason: String,
        /// `tcp`, `udp`, …
        protocol: String,
        /// local address
        source: String,
        /// remote address
        destination: String,
        /// remote port
        port: u16,
        /// by what name the destination was reached, as it may be written down
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// the region of the destination, where known
        #[serde(skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// its country, ISO 3166-1 alpha-2, where known
        #[serde(skip_serializing_if = "Option::is_none")]
        country: Option<String>,
        /// what put it there, in the config's words, or why it is nowhere
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// the datasets that say so, with their dates
        #[serde(skip_serializing_if = "Option::is_none")]
        dataset: Option<String>,
        /// the process's name
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<String>,
        /// its executable, where it could be read
        #[serde(skip_serializing_if = "Option::is_none")]
        executable: Option<String>,
        /// its systemd unit
        #[serde(skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// the process's id
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        /// the process's user
        #[serde(skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// how many of the kind this record stands for
        count: u64,
    },
    /// Start, stop, policy change, guard attach and detach, refusals that were counted, self-test.
    Control {
        /// kebab-case: `start`, `stop`, `policy`, `guard-attached`, `guard-detached`, `slice-changed`, `gap-begin`,
        /// `gap-end`, `watch-gap`, `foreign-program`, `denials-counted` (reason → how many, beyond a rate), …
        event: String,
        /// what belongs to the event
        detail: BTreeMap<String, String>,
    },
}

/// A keyed hash of personal data: `<epoch>-<32 hex digits>`, HMAC-SHA-256 under the epoch's key, truncated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pseudonym(pub String);

/// Where a record landed: its index in the log, dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Record {
    /// The bytes that become the log's entry.
    pub(crate) fn encode(&self, time: OffsetDateTime) -> Result<Vec<u8>, AuditError> {
        let mut value = serde_json::to_value(self).map_err(|_| AuditError::Encoding)?;
        let fields = value.as_object_mut().ok_or(AuditError::Encoding)?;
        fields.insert("v".into(), SCHEMA.into());
        let time = time.to_offset(time::UtcOffset::UTC).format(TIME).map_err(|_| AuditError::Encoding)?;
        fields.insert("time".into(), time.into());
        let bytes = canonical::to_bytes(&value);
        if bytes.len() > RECORD_LIMIT {
            return Err(AuditError::TooLarge { bytes: bytes.len(), limit: RECORD_LIMIT });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_record_is_canonical_json_with_type_schema_and_time() {
        let record = Record::Outcome {
            request: "r-1".into(),
            outcome: "complete".into(),
            status: 200,
            response_bytes: 7,
            duration_ms: 3,
            masked: BTreeMap::from([("iban".into(), 2), ("email".into(), 1)]),
            reason: None,
        };
        let bytes = record.encode(datetime!(2026-01-02 03:04:05.678901 +02:00)).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"duration_ms":3,"masked":{"email":1,"iban":2},"outcome":"complete","request":"r-1","response_bytes":7,"status":200,"time":"2026-01-02T01:04:05.678Z","type":"outcome","v":1}"#
        );
    }

    #[test]
    fn a_record_beyond_the_16_bit_length_is_refused() {
        let record = Record::Control { event: "x".repeat(RECORD_LIMIT), detail: BTreeMap::new() };
        let refused = record.encode(datetime!(2026-01-02 03:04:05 UTC));
        assert!(matches!(refused, Err(AuditError::TooLarge { limit: RECORD_LIMIT, .. })));
    }
}
