//! # identity (theory statement to be written by the room's builder)

use crate::config::settings::Issuer;
use bailiwick_policy::Principal;
use http::HeaderMap;

/// Verifies callers' credentials against the configured issuers.
#[derive(Debug)]
pub struct Authenticator {}
impl Authenticator {
    /// Does no network I/O: discovery and keys are fetched when first needed, and in the background.
    #[must_use]
    pub fn new(_issuers: Vec<Issuer>) -> Self {
        unimplemented!()
    }
    /// Reads `Authorization: Bearer`, verifies signature, issuer, audience, times, and reads the groups.
    /// # Errors
    /// [`AuthenticationError`], with a status (401 or 403 or 503), a kebab-case code and a message; never the token
    pub async fn authenticate(&self, _headers: &HeaderMap) -> Result<Principal, AuthenticationError> {
        unimplemented!()
    }
}

/// Two parts: what the caller may read, and the cause for the log.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AuthenticationError {
    pub status: http::StatusCode,
    pub code: &'static str,
    pub message: String,
    /// who the token says it is from, once the issuer is known to be ours
    pub issuer: Option<String>,
}
