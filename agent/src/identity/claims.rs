//! What the claims of a token say, once its signature or its issuer has vouched for them (RFC 7519, RFC 9068, RFC 7662).

use super::certificate::Thumbprint;
use super::error::Fault;
use super::groups;
use crate::config::settings::Issuer;
use bailiwick_policy::Principal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest subject that is taken over, in bytes (OpenID Connect Core, 2, allows 255).
const MAX_SUBJECT: usize = 1024;

/// Claims as they are in the token, or as the issuer tells them.
pub(super) type Claims = Map<String, Value>;

/// Whom a token proved, and to whom it is bound.
#[derive(Clone)]
pub(super) struct Proven {
    pub(super) principal: Arc<Principal>,
    /// The certificate that whoever shows the token must have opened the connection with (RFC 8705, 3).
    pub(super) bound_to: Option<Thumbprint>,
}

/// What verified claims say.
pub(super) struct Verified {
    pub(super) proven: Proven,
    /// Seconds after the epoch, leeway included; `None` where nothing says it.
    pub(super) good_until: Option<u64>,
}

/// Checks the claims at `now` (seconds after the epoch) and reads the principal from them.
pub(super) fn verify(claims: &Claims, issuer: &Issuer, now: u64) -> Result<Verified, Fault> {
    if !names_audience(claims.get("aud"), &issuer.audience) {
        return Err(Fault::AudienceMismatch);
    }
    let good_until = time(claims, "exp")?.map(|exp| exp.saturating_add(issuer.leeway));
    if good_until.is_some_and(|good_until| now >= good_until) {
        return Err(Fault::Expired);
    }
    for claim in ["nbf", "iat"] {
        if time(claims, claim)?.is_some_and(|from| from > now.saturating_add(issuer.leeway)) {
            return Err(Fault::NotYetValid);
        }
    }
    if let Some(clients) = &issuer.clients
        && !authorized_party(claims).is_some_and(|party| clients.iter().any(|client| client == party))
    {
        return Err(Fault::ClientNotAllowed);
    }
    let bound_to = binding(claims)?;
    if issuer.bound && bound_to.is_none() {
        return Err(Fault::NotBound);
    }
    let principal = Principal {
        issuer: issuer.url.clone(),
        subject: subject(claims).ok_or(Fault::SubjectMissing)?,
        groups: groups::read(claims, &issuer.groups_claim)?,
        claims: wanted(claims, &issuer.claims),
        certificate: Vec::new(),
    };
    Ok(Verified { proven: Proven { principal: Arc::new(principal), bound_to }, good_until })
}

/// Whether a token that does not say so in its header is not an access token after all. An ID token is for the client that
/// the user signed in to, a refresh token for the issuer, a logout token for whoever keeps the session.
pub(super) fn is_another_kind(claims: &Claims) -> bool {
    // Keycloak says it in `typ`, Cognito in `token_use`.
    match claims.get("typ").or_else(|| claims.get("token_use")).map(Value::as_str) {
        Some(Some(kind)) if kind.eq_ignore_ascii_case("bearer") || kind.eq_ignore_ascii_case("access") => {
            return false;
        }
        Some(Some("DPoP")) => return false,
        Some(_) => return true,
        None => {}
    }
    // Only ID tokens have these (OpenID Connect Core, 3.1.3.6 and 3.3.2.11), and logout tokens that one
    // (OpenID Connect Back-Channel Logout, 2.4).
    ["nonce", "at_hash", "c_hash", "s_hash", "events"].into_iter().any(|claim| claims.contains_key(claim))
}

/// The client that the token was issued to: `azp` (OpenID Connect Core, 2), `client_id` (RFC 9068, RFC 7662), Entra's
/// `appid`, Okta's `cid`.
fn authorized_party(claims: &Claims) -> Option<&str> {
    ["azp", "client_id", "appid", "cid"].into_iter().find_map(|claim| claims.get(claim)?.as_str())
}

/// The confirmation method (RFC 7800). One that is not checked here must not be ignored: a token that is bound to a key
/// would be a bearer token.
fn binding(claims: &Claims) -> Result<Option<Thumbprint>, Fault> {
    let Some(confirmation) = claims.get("cnf") else { return Ok(None) };
    let members = confirmation.as_object().ok_or(Fault::BindingUnsupported)?;
    let thumbprint = members.get("x5t#S256").and_then(Value::as_str).filter(|_| members.len() == 1);
    let bytes = thumbprint.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(|bytes| Some(Thumbprint(bytes))).ok_or(Fault::BindingUnsupported)
}

/// The claims that rules ask for. One that cannot be read is left out, so that no rule that asks for it matches.
fn wanted(claims: &Claims, paths: &[String]) -> BTreeMap<String, Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let read = |path: &String| {
        let values = match groups::find(claims, path).ok()?? {
            Value::Array(many) => many.iter().map(text).collect::<Option<Vec<_>>>()?,
            one => vec![text(one)?],
        };
        Some((path.clone(), values))
    };
    paths.iter().filter_map(read).collect()
}

/// A NumericDate (RFC 7519, 2), fractions cut off.
fn time(claims: &Claims, claim: &str) -> Result<Option<u64>, Fault> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
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

/// `sub`; a token that a client got for itself may have only its `client_id` (RFC 7662, 2.2).
fn subject(claims: &Claims) -> Option<String> {
    let text = match claims.get("sub") {
        Some(subject) => subject.as_str()?,
        None => claims.get("client_id")?.as_str()?,
    };
    (1..=MAX_SUBJECT).contains(&text.len()).then(|| text.to_owned())
}

/// `aud` is a string or an array of strings (RFC 7519, 4.1.3).
fn names_audience(aud: Option<&Value>, audience: &str) -> bool {
    match aud {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_id_token_is_told_from_an_access_token() {
        for (value, another, why) in [
            (json!({"scope": "openid"}), false, "nothing speaks against it"),
            (json!({"nonce": "n"}), true, "what only an ID token has"),
            (json!({"at_hash": "h"}), true, "the same"),
            (json!({"events": {}}), true, "a logout token"),
            (json!({"typ": "ID"}), true, "Keycloak's ID token"),
            (json!({"typ": "Refresh"}), true, "Keycloak's refresh token"),
            (
                json!({"typ": "Bearer", "nonce": "n"}),
                false,
                "Keycloak's access token, which had a nonce before 24",
            ),
            (json!({"token_use": "id"}), true, "Cognito's ID token"),
            (json!({"token_use": "access"}), false, "Cognito's access token"),
            (json!({"typ": 7}), true, "an unreadable kind"),
        ] {
            assert_eq!(is_another_kind(&claims(value)), another, "{why}");
        }
    }

    #[test]
    fn a_binding_is_checked_or_refused_never_ignored() {
        let print = URL_SAFE_NO_PAD.encode([7; 32]);
        for (value, expected, why) in [
            (json!({}), Ok(None), "a bearer token"),
            (json!({"cnf": {"x5t#S256": print}}), Ok(Some(Thumbprint([7; 32]))), "bound to a certificate"),
            (json!({"cnf": {"jkt": print}}), Err(Fault::BindingUnsupported), "DPoP"),
            (json!({"cnf": {"jkt": print, "x5t#S256": print}}), Err(Fault::BindingUnsupported), "both"),
            (json!({"cnf": {"x5t#S256": "AAAA"}}), Err(Fault::BindingUnsupported), "no SHA-256"),
            (json!({"cnf": {}}), Err(Fault::BindingUnsupported), "to nothing"),
            (json!({"cnf": null}), Err(Fault::BindingUnsupported), "unreadable"),
        ] {
            assert_eq!(binding(&claims(value)), expected, "{why}");
        }
    }

    #[test]
    fn a_claim_that_cannot_be_read_is_not_there() {
        let paths = ["a", "b.c", "n", "l", "o", "mixed", "gone"].map(str::to_owned);
        let found = wanted(
            &claims(
                json!({"a": "1", "b": {"c": ["x", "y"]}, "n": 7, "l": true, "o": {}, "mixed": ["a", {}]}),
            ),
            &paths,
        );
        let expected = [("a", vec!["1"]), ("b.c", vec!["x", "y"]), ("l", vec!["true"]), ("n", vec!["7"])];
        let found: Vec<_> = found
            .iter()
            .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        assert_eq!(found, expected);
    }
}
