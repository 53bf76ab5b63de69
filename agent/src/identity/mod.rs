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
//! - A token that no key here verifies, be its key id unknown or used again for another key, asks the issuer again: one
//!   fetch at a time and at most one in ten seconds, so that key rotation needs no restart and a flood of forgeries no traffic.
//! - No token, subject or claim reaches a log, an error or a `Debug` output.
//!
//! - A token that is bound to a client certificate (RFC 8705) is good on a connection that was opened with it, and on no
//!   other; one that is bound in another way is refused, since it is no bearer token.
//! - What a token proved is remembered by the token's SHA-256 until it expires or its issuer publishes other keys; finding it
//!   takes a shared lock for a moment, and none is held while anything is awaited.
//!
//! An opaque token is asked about where that is configured (introspection.rs); the answer is checked like a token's claims.
//! A client certificate (certificate.rs) is a factor more, which a rule may ask for, or, if the config says so, an identity.
//!
//! ## What it does not do
//! It keeps no sessions and follows no revocation of JWTs: such a token is good until it expires, as its issuer said. It
//! decides nothing: groups become rights in `policy`.

mod cache;
mod certificate;
mod claims;
mod credential;
mod discovery;
mod error;
mod es512;
mod examine;
pub(crate) mod fetch;
mod groups;
mod introspection;
mod key;
mod keys;
pub(crate) mod okta;
mod token;

pub use certificate::ClientCertificate;
pub use credential::Shown;
pub use error::AuthenticationError;
pub use examine::{Examination, Origin};
pub use keys::Timing;

use crate::config::settings::Issuer;
use bailiwick_policy::Principal;
use cache::{Known, TokenCache, TokenDigest};
use claims::Proven;
use error::Fault;
use http::HeaderMap;
use introspection::Introspection;
use keys::KeyStore;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use token::Token;

/// Verifies callers' credentials against the configured issuers.
pub struct Authenticator {
    issuers: Vec<Trusted>,
    cache: TokenCache,
    /// A certificate alone is an identity.
    certificates: bool,
}

/// An issuer, the keys it publishes, and how to ask it about opaque tokens.
struct Trusted {
    issuer: Issuer,
    keys: Arc<KeyStore>,
    introspection: Option<Introspection>,
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
        Self::over(issuers, |issuer| Arc::new(KeyStore::new(issuer, timing)))
    }

    /// An authenticator for other issuers that goes on with the keys of those that are unchanged. Tokens that were verified
    /// before are verified anew: what they must hold may have changed.
    #[must_use]
    pub fn with_issuers(&self, issuers: Vec<Issuer>, timing: Timing) -> Self {
        Self::over(issuers, |issuer| {
            let known = self.issuers.iter().find(|trusted| trusted.keys.serves(issuer));
            known.map_or_else(|| Arc::new(KeyStore::new(issuer, timing)), |trusted| Arc::clone(&trusted.keys))
        })
    }

    fn over(issuers: Vec<Issuer>, keys: impl Fn(&Issuer) -> Arc<KeyStore>) -> Self {
        let trust = |issuer: Issuer| Trusted {
            keys: keys(&issuer),
            introspection: Introspection::of(&issuer),
            issuer,
        };
        Self {
            issuers: issuers.into_iter().map(trust).collect(),
            cache: TokenCache::default(),
            certificates: false,
        }
    }

    /// The same, taking a client certificate alone for an identity, or not.
    #[must_use]
    pub fn taking_certificates(self, certificates: bool) -> Self {
        Self { certificates, ..self }
    }

    /// Reads the secrets that it needs.
    ///
    /// # Errors
    /// names the file that holds no usable secret
    pub fn read_secrets(&self) -> io::Result<()> {
        self.issuers
            .iter()
            .filter_map(|trusted| trusted.introspection.as_ref())
            .try_for_each(Introspection::read_secret)
    }

    /// Each issuer, and how long ago its keys were fetched; `None` where there are none yet.
    #[must_use]
    pub fn key_ages(&self) -> Vec<(String, Option<Duration>)> {
        self.issuers.iter().map(|trusted| (trusted.issuer.url.clone(), trusted.keys.age())).collect()
    }

    /// Keeps every issuer's keys fetched in the background, so that an issuer that cannot be reached is said when the
    /// agent starts and not when the first caller comes. Call it inside a runtime.
    pub fn warm_up(&self) {
        for trusted in &self.issuers {
            trusted.keys.keep_fresh();
        }
    }

    /// Reads `Authorization: Bearer`, verifies signature, issuer, audience, times, and reads the groups. `certificate` is
    /// the one that the connection was opened with.
    ///
    /// # Errors
    /// [`AuthenticationError`], with a status (400, 401, 403 or 503), a kebab-case code and a message;
    /// never the token.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        shown: Shown,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Arc<Principal>, AuthenticationError> {
        self.judge(credential::token(headers, shown), certificate, now()).await
    }

    /// As [`Self::authenticate`] with a token, at `now` seconds after the epoch.
    #[cfg(test)]
    async fn authenticate_at(
        &self,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
        now: u64,
    ) -> Result<Arc<Principal>, AuthenticationError> {
        self.judge(credential::token(headers, Shown::Token), certificate, now).await
    }

    /// Who has shown this, at `now` seconds after the epoch.
    async fn judge(
        &self,
        text: Result<&str, Fault>,
        certificate: Option<&ClientCertificate>,
        now: u64,
    ) -> Result<Arc<Principal>, AuthenticationError> {
        if certificate.is_some_and(|certificate| now >= certificate.good_until) {
            return Err(Fault::CertificateExpired.into());
        }
        let text = match text {
            Ok(text) => text,
            Err(Fault::NoCredentials) if self.certificates && certificate.is_some() => {
                return Ok(by_certificate(certificate)?);
            }
            Err(fault) => return Err(fault.into()),
        };
        bind(self.prove(text, now).await?, certificate)
    }

    /// What a token proves, whoever shows it.
    async fn prove(&self, text: &str, now: u64) -> Result<Proven, AuthenticationError> {
        // One that was proven before is not even read again.
        let digest = TokenCache::digest(text);
        if let Some(known) = self.cache.get(&digest, now)
            && self.still_vouches(&known).await?
        {
            return Ok(known.proven);
        }
        let token = match Token::parse(text) {
            Ok(token) => token,
            Err(Fault::TokenOpaque) => return Box::pin(self.ask_about(text, digest, now)).await,
            Err(fault) => return Err(fault.into()),
        };
        let (issuer, trusted) = self.issuer_of(&token)?;
        let blame = |fault: Fault| match fault {
            Fault::KeyUnknown | Fault::SignatureInvalid | Fault::AudienceMismatch
                if okta::is_org_server(&trusted.issuer.url) =>
            {
                Fault::OktaOrgToken.told_of(&trusted.issuer.url)
            }
            fault => fault.told_of(&trusted.issuer.url),
        };

        let keys = trusted.keys.current().await.map_err(blame)?;
        let keys = trusted.keys.verify(&token, keys).await.map_err(blame)?;
        let verified = token.verify_claims(&trusted.issuer, now).map_err(blame)?;
        let known = Known { proven: verified.proven, issuer, generation: Some(keys.generation()) };
        self.cache.put(digest, verified.good_until.unwrap_or(now), now, known.clone());
        Ok(known.proven)
    }

    /// Whether the keys that verified a token still are those of its issuer, and may serve.
    async fn still_vouches(&self, known: &Known) -> Result<bool, AuthenticationError> {
        let (Some(trusted), Some(generation)) = (self.issuers.get(known.issuer), known.generation) else {
            // No key vouches for a token that its issuer was asked about.
            return Ok(known.generation.is_none());
        };
        let keys = trusted.keys.current().await;
        Ok(keys.map_err(|fault| fault.told_of(&trusted.issuer.url))?.generation() == generation)
    }

    /// The issuer that a token claims to be from.
    fn issuer_of(&self, token: &Token<'_>) -> Result<(usize, &Trusted), Fault> {
        let mut issuers = self.issuers.iter().enumerate();
        let found = issuers.find(|(_, trusted)| trusted.issuer.url == token.issuer());
        found.ok_or_else(|| {
            if okta::is_org_token(token.issuer(), token.claims()) {
                Fault::OktaOrgToken
            } else {
                Fault::IssuerUnknown
            }
        })
    }

    /// What an opaque token proves: its issuer says it.
    async fn ask_about(
        &self,
        text: &str,
        digest: TokenDigest,
        now: u64,
    ) -> Result<Proven, AuthenticationError> {
        let mut issuers = self.issuers.iter().enumerate();
        let asked = issuers.find_map(|(at, trusted)| Some((at, trusted, trusted.introspection.as_ref()?)));
        let (issuer, trusted, introspection) = asked.ok_or(Fault::TokenOpaque)?;
        let verified = introspection
            .ask(text, &digest, &trusted.keys, now)
            .await
            .map_err(|fault| fault.told_of(&trusted.issuer.url))?;
        let known = Known { proven: verified.proven, issuer, generation: None };
        self.cache.put(digest, verified.good_until.unwrap_or(now), now, known.clone());
        Ok(known.proven)
    }
}

/// The principal with its certificate, if the token may be used with that.
fn bind(
    Proven { principal, bound_to }: Proven,
    certificate: Option<&ClientCertificate>,
) -> Result<Arc<Principal>, AuthenticationError> {
    if bound_to.is_some() && certificate.map(|shown| shown.thumbprint) != bound_to {
        return Err(Fault::BindingMismatch.told_of(&principal.issuer));
    }
    Ok(match certificate {
        None => principal,
        Some(shown) => Arc::new(Principal { certificate: shown.names.clone(), ..(*principal).clone() }),
    })
}

/// Whom a certificate names, where that is enough.
fn by_certificate(certificate: Option<&ClientCertificate>) -> Result<Arc<Principal>, Fault> {
    let certificate = certificate.ok_or(Fault::CertificateMissing)?;
    Ok(Arc::new(Principal {
        issuer: Principal::BY_CERTIFICATE.to_owned(),
        subject: certificate.subject().ok_or(Fault::CertificateNameless)?.to_owned(),
        certificate: certificate.names.clone(),
        ..Principal::default()
    }))
}

/// Seconds after the epoch; before it, zero, at which no token is valid yet.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Reads a token and checks its claims as if its signature had been verified. For fuzzing only: the agent is never
/// built with this.
#[cfg(fuzzing)]
pub fn believe(text: &str, issuer: &Issuer, now: u64) -> Result<Arc<Principal>, AuthenticationError> {
    let token = Token::parse(text)?;
    Ok(token.verify_claims(issuer, now)?.proven.principal)
}

/// Reads what an issuer publishes, as if it had been fetched, and tells what would be fetched then. For fuzzing only.
#[cfg(fuzzing)]
pub fn published(document: &[u8], keys: &[u8], issuer: &str) -> Option<Vec<String>> {
    // An error here is for the log alone.
    let _unusable = keys::parse(keys);
    discovery::endpoints(document, issuer)
}

#[cfg(test)]
mod tests;
