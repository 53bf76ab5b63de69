//! A JWT in compact form (RFC 7515, 7.1; RFC 7519): read first, believed only after its signature.

use super::error::Fault;
use super::groups;
use super::key::Algorithm;
use super::keys::KeySet;
use crate::config::settings::Issuer;
use bailiwick_policy::Principal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Longest subject that is taken over, in bytes (OpenID Connect Core, 2, allows 255).
const MAX_SUBJECT: usize = 1024;

/// A token whose parts could be read. Nothing in it is to be believed until both `verify_` functions agreed.
pub(super) struct Token<'a> {
    /// `header.claims`, as signed.
    signed: &'a str,
    /// Base64url.
    signature: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
    issuer: String,
    claims: Map<String, Value>,
}

/// What a verified token says.
pub(super) struct Verified {
    pub(super) principal: Principal,
    /// Seconds after the epoch, leeway included.
    pub(super) good_until: u64,
}

impl<'a> Token<'a> {
    /// Reads a token's parts. Algorithm and type are refused here, before any key is touched.
    pub(super) fn parse(text: &'a str) -> Result<Self, Fault> {
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::TokenMalformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::TokenMalformed)?;
        let header = json_object(header)?;
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(Algorithm::from_name)
            .ok_or(Fault::AlgorithmNotAllowed)?;
        if header.contains_key("crit") {
            return Err(Fault::CriticalHeader);
        }
        if !header.get("typ").is_none_or(is_access_token_type) {
            return Err(Fault::TypeNotAllowed);
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(Fault::TokenMalformed),
        };
        let claims = json_object(claims)?;
        let issuer = claims.get("iss").and_then(Value::as_str).ok_or(Fault::IssuerMissing)?.to_owned();
        Ok(Self { signed, signature, algorithm, key_id, issuer, claims })
    }

    /// Whom it claims to be from.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key it claims to be signed with.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether one of the issuer's keys that fit made the signature.
    pub(super) fn verify_signature(&self, keys: &KeySet) -> Result<(), Fault> {
        let mut candidates = keys.candidates(self.key_id(), self.algorithm).peekable();
        if candidates.peek().is_none() {
            return Err(if keys.knows(self.key_id()) { Fault::KeyMismatch } else { Fault::KeyUnknown });
        }
        if candidates.any(|key| key.verifies(self.algorithm, self.signed, self.signature)) {
            Ok(())
        } else {
            Err(Fault::SignatureInvalid)
        }
    }

    /// Checks the claims at `now` (seconds after the epoch) and reads the principal from them.
    pub(super) fn verify_claims(&self, issuer: &Issuer, now: u64) -> Result<Verified, Fault> {
        if !names_audience(self.claims.get("aud"), &issuer.audience) {
            return Err(Fault::AudienceMismatch);
        }
        let good_until = self.time("exp")?.ok_or(Fault::ExpiryMissing)?.saturating_add(issuer.leeway);
        if now >= good_until {
            return Err(Fault::Expired);
        }
        for claim in ["nbf", "iat"] {
            if self.time(claim)?.is_some_and(|from| from > now.saturating_add(issuer.leeway)) {
                return Err(Fault::NotYetValid);
            }
        }
        let principal = Principal {
            issuer: issuer.url.clone(),
            subject: self.subject().ok_or(Fault::SubjectMissing)?,
            groups: groups::read(&self.claims, &issuer.groups_claim)?,
        };
        Ok(Verified { principal, good_until })
    }

    /// A NumericDate (RFC 7519, 2), fractions cut off.
    fn time(&self, claim: &str) -> Result<Option<u64>, Fault> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        if let Some(seconds) = value.as_u64() {
            return Ok(Some(seconds));
        }
        match value.as_f64() {
            Some(seconds) if (0.0..1e15).contains(&seconds) =>
            {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the range was just checked; cutting the fraction off is meant"
                )]
                Ok(Some(seconds as u64))
            }
            Some(_) | None => Err(Fault::TimeUnreadable),
        }
    }

    fn subject(&self) -> Option<String> {
        let text = self.claims.get("sub")?.as_str()?;
        (1..=MAX_SUBJECT).contains(&text.len()).then(|| text.to_owned())
    }
}

fn json_object(part: &str) -> Result<Map<String, Value>, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::TokenMalformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Fault::TokenMalformed)
}

/// `JWT` or `at+jwt` (RFC 9068, 2.1), with or without `application/`; media types ignore case.
fn is_access_token_type(typ: &Value) -> bool {
    typ.as_str().is_some_and(|typ| {
        let typ = typ.to_ascii_lowercase();
        matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
    })
}

/// `aud` is a string or an array of strings (RFC 7519, 4.1.3).
fn names_audience(aud: Option<&Value>, audience: &str) -> bool {
    match aud {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
        Some(_) | None => false,
    }
}
