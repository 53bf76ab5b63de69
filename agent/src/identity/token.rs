//! A JWT in compact form (RFC 7515, 7.1; RFC 7519): read first, believed only after its signature.

use super::claims::{self, Claims, Verified};
use super::error::Fault;
use super::key::Algorithm;
use super::keys::KeySet;
use crate::config::settings::Issuer;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// A token whose parts could be read. Nothing in it is to be believed until both `verify_` functions agreed.
pub(super) struct Token<'a> {
    /// `header.claims`, as signed.
    signed: &'a str,
    /// Base64url.
    signature: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
    issuer: String,
    claims: Claims,
    /// Its header says so; otherwise the claims may say that it is something else.
    is_access_token: bool,
}

impl<'a> Token<'a> {
    /// Reads a token's parts. Algorithm and type are refused here, before any key is touched.
    pub(super) fn parse(text: &'a str) -> Result<Self, Fault> {
        // What does not begin like a JWT is a reference that only its issuer can resolve.
        let header =
            json_object(text.split('.').next().unwrap_or_default()).map_err(|_| Fault::TokenOpaque)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::TokenMalformed)?;
        let (_, claims) = signed.split_once('.').ok_or(Fault::TokenMalformed)?;
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(Algorithm::from_name)
            .ok_or(Fault::AlgorithmNotAllowed)?;
        if header.contains_key("crit") {
            return Err(Fault::CriticalHeader);
        }
        let is_access_token = match header.get("typ").map(media_type) {
            None => false,
            Some(Some(typ)) if typ == "jwt" => false,
            Some(Some(typ)) if typ == "at+jwt" => true,
            Some(_) => return Err(Fault::TypeNotAllowed),
        };
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(Fault::TokenMalformed),
        };
        let claims = json_object(claims)?;
        let issuer = claims.get("iss").and_then(Value::as_str).ok_or(Fault::IssuerMissing)?.to_owned();
        Ok(Self { signed, signature, algorithm, key_id, issuer, claims, is_access_token })
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
        if !self.is_access_token && (issuer.strict_type || claims::is_another_kind(&self.claims)) {
            return Err(Fault::KindNotAllowed);
        }
        let verified = claims::verify(&self.claims, issuer, now)?;
        if verified.good_until.is_none() {
            return Err(Fault::ExpiryMissing);
        }
        Ok(verified)
    }

    /// Everything it claims.
    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }
}

fn json_object(part: &str) -> Result<Claims, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::TokenMalformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Fault::TokenMalformed)
}

/// `typ` with or without `application/` (RFC 7515, 4.1.9); media types ignore case.
fn media_type(typ: &Value) -> Option<String> {
    let typ = typ.as_str()?.to_ascii_lowercase();
    Some(typ.strip_prefix("application/").unwrap_or(&typ).to_owned())
}
