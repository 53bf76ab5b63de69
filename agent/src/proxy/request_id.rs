//! A request's name: the same in the answer's header, in error bodies and in the audit trail.

use http::HeaderValue;
use std::fmt;

/// 128 random bits as 32 hex digits. Ours alone: what a caller sends as an id is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(String);

impl RequestId {
    /// A new one; `None` when the system has no randomness to give.
    pub(super) fn new() -> Option<Self> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).ok()?;
        Some(Self(format!("{:032x}", u128::from_be_bytes(bits))))
    }

    /// As text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As a header's value.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
