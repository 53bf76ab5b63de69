//! # Identity: from a credential to a [`Principal`]
//!
//! A caller shows a bearer token (RFC 6750). This room says who that is, or why it cannot tell.
//!
//! ```text
//!   Authorization: Bearer …
//!        │ credential.rs   exactly one header, scheme Bearer, bounded
//!        ▼
//!   compact JWS ── token.rs: header and claims are read, nothing is believed yet
//!        │   `alg` must be one of ours (never `none`, never HMAC), `typ` that of an access token
//!        │   `iss` picks the configured issuer by exact match, only to choose whose keys to use
//!        ▼
//!   keys.rs ◀── discovery.rs ◀── <issuer>/.well-known/openid-configuration, jwks_uri   (fetch.rs)
//!        │   the key must fit the algorithm: kty, crv, alg, use, key_ops
//!        ▼
//!   signature → aud → exp, nbf, iat (with leeway) → sub → groups.rs
//!        ▼
//!   Principal
//! ```
//!
//! ## What holds
//! - Nothing in a token is believed before its signature is verified; `iss` and `kid` are read before, and
//!   only choose among keys that the operator's issuers publish. Keys that a token brings along or points
//!   to (`jwk`, `jku`, `x5c`, `x5u`) are never looked at.
//! - An algorithm is bound to the key: a key for RS256 verifies no ES256, and a public key is never an HMAC secret.
//! - The audience is required. A token for another service is refused even though it is genuine.
//! - What cannot be read is a denial with its own code: a group list that Entra replaced by a link
//!   (`groups-overage`), a claim of an unknown shape (`groups-unreadable`). A missing claim is no groups.
//! - Issuers are independent: one that is down denies its own callers (`issuer-unavailable`, 503) and nobody
//!   else's. Its last good keys serve on for a day; it recovers by itself.
//! - An unknown key id asks the issuer again, one fetch at a time and at most one in ten seconds, so that key
//!   rotation needs no restart and a flood of made-up key ids no traffic.
//! - No token, subject or claim reaches a log, an error or a `Debug` output.
//!
//! ## What it does not do
//! It keeps no sessions, asks no introspection endpoint (RFC 7662) and follows no revocation: a token is
//! good until it expires, as its issuer said. It decides nothing: groups become rights in `policy`.
//! Opaque access tokens (those of Okta's org authorization server, for one) cannot be verified offline and
//! are refused as malformed; a custom authorization server there issues JWTs.

mod cache;
mod credential;
mod discovery;
mod error;
mod fetch;
mod groups;
mod key;
mod keys;
mod token;

pub use error::AuthenticationError;
pub use keys::Timing;

use crate::config::settings::Issuer;
use bailiwick_policy::Principal;
use cache::TokenCache;
use error::Fault;
use http::HeaderMap;
use keys::KeyStore;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use token::Token;

/// Verifies callers' credentials against the configured issuers.
pub struct Authenticator {
    issuers: Vec<Trusted>,
    cache: TokenCache,
}

/// An issuer and the keys it publishes.
struct Trusted {
    issuer: Issuer,
    keys: Arc<KeyStore>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.issuers.iter().map(|trusted| &trusted.issuer.url)).finish()
    }
}

impl Authenticator {
    /// Does no network I/O: discovery and keys are fetched when first needed, and in the background.
    #[must_use]
    pub fn new(issuers: Vec<Issuer>) -> Self {
        Self::with_timing(issuers, Timing::default())
    }

    /// As [`Self::new`], with other periods for the keys than the default ones.
    #[must_use]
    pub fn with_timing(issuers: Vec<Issuer>, timing: Timing) -> Self {
        let trust = |issuer: Issuer| Trusted { keys: Arc::new(KeyStore::new(&issuer, timing)), issuer };
        Self { issuers: issuers.into_iter().map(trust).collect(), cache: TokenCache::default() }
    }

    /// An authenticator for other issuers that goes on with the keys of those that are unchanged. Tokens that were verified
    /// before are verified anew: what they must hold may have changed.
    #[must_use]
    pub fn with_issuers(&self, issuers: Vec<Issuer>, timing: Timing) -> Self {
        let known = |issuer: &Issuer| self.issuers.iter().find(|trusted| trusted.issuer == *issuer);
        let trust = |issuer: Issuer| {
            let keys = known(&issuer).map_or_else(
                || Arc::new(KeyStore::new(&issuer, timing)),
                |trusted| Arc::clone(&trusted.keys),
            );
            Trusted { keys, issuer }
        };
        Self { issuers: issuers.into_iter().map(trust).collect(), cache: TokenCache::default() }
    }

    /// Fetches every issuer's keys in the background, so that an issuer that cannot be reached is said when the
    /// agent starts and not when the first caller comes. Call it inside a runtime.
    pub fn warm_up(&self) {
        for trusted in &self.issuers {
            let keys = Arc::clone(&trusted.keys);
            // An error has been logged where it happened; callers get their own.
            tokio::spawn(async move { keys.current().await.map(drop) });
        }
    }

    /// Reads `Authorization: Bearer`, verifies signature, issuer, audience, times, and reads the groups.
    ///
    /// # Errors
    /// [`AuthenticationError`], with a status (400, 401, 403 or 503), a kebab-case code and a message;
    /// never the token.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, AuthenticationError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        self.authenticate_at(headers, now).await
    }

    /// As [`Self::authenticate`], at `now` seconds after the epoch.
    async fn authenticate_at(&self, headers: &HeaderMap, now: u64) -> Result<Principal, AuthenticationError> {
        let text = credential::bearer(headers)?;
        let token = Token::parse(text)?;
        let trusted = self
            .issuers
            .iter()
            .find(|trusted| trusted.issuer.url == token.issuer())
            .ok_or(Fault::IssuerUnknown)?;
        let blame = |fault: Fault| fault.told_of(&trusted.issuer.url);

        let keys = trusted.keys.current().await.map_err(blame)?;
        let digest = TokenCache::digest(text);
        if let Some(principal) = self.cache.get(&digest, keys.generation(), now) {
            return Ok(principal);
        }

        let keys = trusted.keys.holding(&token, keys).await.map_err(blame)?;
        token.verify_signature(&keys).map_err(blame)?;
        let verified = token.verify_claims(&trusted.issuer, now).map_err(blame)?;
        self.cache.put(digest, keys.generation(), verified.good_until, now, &verified.principal);
        Ok(verified.principal)
    }
}

/// Reads a token and checks its claims as if its signature had been verified. For fuzzing only: the agent is never
/// built with this.
#[cfg(fuzzing)]
pub fn believe(text: &str, issuer: &Issuer, now: u64) -> Result<Principal, AuthenticationError> {
    let token = Token::parse(text)?;
    Ok(token.verify_claims(issuer, now)?.principal)
}

#[cfg(test)]
mod tests;
