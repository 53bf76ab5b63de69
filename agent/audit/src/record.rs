//! What is recorded: metadata about requests and about the agent, never what was said.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::error::AuditError;
use crate::{canonical, fields};

/// The schema number that every record carries as `v`.
pub const SCHEMA: u64 = 1;

/// The longest encoded record in bytes: an entry bundle has a 16-bit length (C2SP tlog-tiles).
pub const RECORD_LIMIT: usize = u16::MAX as usize;

/// One record: metadata only. Written as canonical JSON with `type`, `v` ([`SCHEMA`]) and `time` (RFC 3339, UTC,
/// milliseconds, of the call to append); absent fields are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        reason: Option<String>,
    },
    /// A request that was refused; nothing went to the model.
    Denied {
        /// ours
        request: String,
        /// who calls, where the credential could be believed
        subject: Option<Pseudonym>,
        /// whose the credential is or, without a `subject`, claims to be: only ever one of the configured issuers
        issuer: Option<String>,
        /// the caller's address, as a keyed hash
        client: Pseudonym,
        /// the region of the caller's address, where known
        client_region: Option<String>,
        /// HTTP method
        method: String,
        /// the endpoint's name, never the raw path
        endpoint: Option<String>,
        /// the model's configured name, where one was asked for
        model: Option<String>,
        /// HTTP status sent to the caller
        status: u16,
        /// kebab-case
        reason: String,
        /// the rule that refused, where one did
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
        name: Option<String>,
        /// the region of the destination, where known
        region: Option<String>,
        /// its country, ISO 3166-1 alpha-2, where known
        country: Option<String>,
        /// what put it there, in the config's words, or why it is nowhere
        rule: Option<String>,
        /// the datasets that say so, with their dates
        dataset: Option<String>,
        /// the process's name
        process: Option<String>,
        /// its executable, where it could be read
        executable: Option<String>,
        /// its systemd unit
        unit: Option<String>,
        /// the process's id
        pid: Option<u32>,
        /// the process's user
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonym(pub String);

/// Where a record landed: its index in the log, dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Record {
    /// The bytes that become the log's entry.
    pub(crate) fn encode(&self, time: OffsetDateTime) -> Result<Vec<u8>, AuditError> {
        let bytes = canonical::to_bytes(self.fields(&fields::rfc3339(time)));
        let bytes = bytes.map_err(|_| AuditError::Encoding)?;
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
    fn an_entry_has_what_the_record_has_and_nothing_absent() {
        let hash = |text: &str| Pseudonym(text.into());
        let admit = Record::Admit {
            request: "r-1".into(),
            subject: hash("1-s"),
            issuer: "https://i.example".into(),
            rule: "all".into(),
            model: "llama".into(),
            operation: "chat".into(),
            client: hash("1-c"),
            client_region: Some("eu".into()),
            streamed: true,
            request_bytes: 9,
            masked: BTreeMap::new(),
            policy: "p".into(),
            upstream: None,
        };
        let denied = Record::Denied {
            request: "r-2".into(),
            subject: None,
            issuer: None,
            client: hash("1-c"),
            client_region: None,
            method: "POST".into(),
            endpoint: Some("chat".into()),
            model: None,
            status: 403,
            reason: "no-credentials".into(),
            rule: None,
        };
        let violation = Record::Violation {
            scope: "llama".into(),
            hook: "connect4".into(),
            verdict: "deny".into(),
            reason: "region".into(),
            protocol: "tcp".into(),
            source: "192.0.2.1".into(),
            destination: "192.0.2.2".into(),
            port: 443,
            name: None,
            region: None,
            country: Some("FR".into()),
            rule: None,
            dataset: None,
            process: Some("\"x\"".into()),
            executable: None,
            unit: None,
            pid: Some(7),
            uid: None,
            count: 2,
        };
        let control =
            Record::Control { event: "start".into(), detail: BTreeMap::from([("b".into(), "2".into())]) };
        let rows = [
            (
                admit,
                r#"{"client":"1-c","client_region":"eu","issuer":"https://i.example","masked":{},"model":"llama","operation":"chat","policy":"p","request":"r-1","request_bytes":9,"rule":"all","streamed":true,"subject":"1-s","time":"2026-01-02T03:04:05.000Z","type":"admit","v":1}"#,
            ),
            (
                denied,
                r#"{"client":"1-c","endpoint":"chat","method":"POST","reason":"no-credentials","request":"r-2","status":403,"time":"2026-01-02T03:04:05.000Z","type":"denied","v":1}"#,
            ),
            (
                violation,
                r#"{"count":2,"country":"FR","destination":"192.0.2.2","hook":"connect4","pid":7,"port":443,"process":"\"x\"","protocol":"tcp","reason":"region","scope":"llama","source":"192.0.2.1","time":"2026-01-02T03:04:05.000Z","type":"violation","v":1,"verdict":"deny"}"#,
            ),
            (
                control,
                r#"{"detail":{"b":"2"},"event":"start","time":"2026-01-02T03:04:05.000Z","type":"control","v":1}"#,
            ),
        ];
        for (record, expected) in rows {
            let time = datetime!(2026-01-02 03:04:05 UTC);
            assert_eq!(String::from_utf8(record.encode(time).unwrap()).unwrap(), expected);
            let text = fields::rfc3339(time);
            assert!(record.fields(&text).is_sorted_by_key(|(name, _)| *name), "{expected}");
        }
    }

    #[test]
    fn a_record_beyond_the_16_bit_length_is_refused() {
        let record = Record::Control { event: "x".repeat(RECORD_LIMIT), detail: BTreeMap::new() };
        let refused = record.encode(datetime!(2026-01-02 03:04:05 UTC));
        assert!(matches!(refused, Err(AuditError::TooLarge { limit: RECORD_LIMIT, .. })));
    }
}
