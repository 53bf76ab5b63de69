//! Opaque tokens: the issuer is asked what they are (RFC 7662).
//!
//! A token without a readable part says nothing of its issuer, and shown to another one it is given away; so one issuer
//! at most is asked, which the config compiler sees to. Its answer is remembered for a short time, so that a token that
//! is revoked is good for that long at most. Strangers can make up tokens: those refused are remembered too, and few are
//! asked for at once.

use super::cache::TokenDigest;
use super::claims::{self, Claims, Verified};
use super::error::Fault;
use super::fetch::{self, Client, FetchError, Transport};
use super::keys::KeyStore;
use crate::config::settings::{Introspection as Settings, Issuer};
use crate::secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Questions to the issuer at once; who comes then is told to come again.
const AT_ONCE: usize = 64;
/// How long a refused token is refused without asking again, and how many are remembered.
const REFUSED_FOR: Duration = Duration::from_secs(10);
const REFUSED_AT_MOST: usize = 4096;

/// Asks one issuer.
pub(super) struct Introspection {
    settings: Settings,
    issuer: Issuer,
    /// `Basic …`; read once, before the first caller.
    credential: OnceLock<Zeroizing<String>>,
    client: OnceCell<Client>,
    places: Arc<Semaphore>,
    refused: Mutex<HashMap<TokenDigest, Instant>>,
}

/// Why there is no answer; for the log.
#[derive(Debug, thiserror::Error)]
enum IntrospectionError {
    #[error("its secret was not read")]
    NoSecret,
    #[error("no endpoint is configured, and discovery names none that may be asked: set endpoint")]
    NoEndpoint,
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("the answer is not the JSON object that RFC 7662 describes")]
    Unreadable,
}

impl Introspection {
    /// Of an issuer that has it configured.
    pub(super) fn of(issuer: &Issuer) -> Option<Self> {
        let settings = issuer.introspection.clone()?;
        Some(Self {
            settings,
            issuer: issuer.clone(),
            credential: OnceLock::new(),
            client: OnceCell::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            refused: Mutex::default(),
        })
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// names the file that holds no usable secret
    pub(super) fn read_secret(&self) -> io::Result<()> {
        let secret = secret::read(
            &self.settings.secret,
            "the secret for introspection",
            "[issuer.introspection] secret",
        )?;
        // RFC 6749, 2.3.1: both are form-encoded first.
        let mut pair = Zeroizing::new(String::new());
        form_encode(&self.settings.client, &mut pair);
        pair.push(':');
        form_encode(&secret, &mut pair);
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        let _already = self.credential.set(Zeroizing::new(format!("Basic {}", encoded.as_str())));
        Ok(())
    }

    /// What the issuer says of a token, checked as any token's claims are, and good for as long as it may be remembered.
    pub(super) async fn ask(
        &self,
        token: &str,
        digest: &TokenDigest,
        keys: &Arc<KeyStore>,
        now: u64,
    ) -> Result<Verified, Fault> {
        if self.was_refused(digest) {
            return Err(Fault::TokenInactive);
        }
        let _place = self.places.try_acquire().map_err(|_| Fault::IssuerBusy)?;
        let claims = self.exchange(token, keys).await.map_err(|cause| {
            tracing::warn!("issuer {}: a token could not be introspected: {cause}", self.issuer.url);
            Fault::IssuerUnavailable
        })?;
        if claims.get("active") != Some(&Value::Bool(true)) {
            self.refuse(*digest);
            return Err(Fault::TokenInactive);
        }
        if claims.get("iss").is_some_and(|iss| iss.as_str() != Some(&self.issuer.url)) {
            return Err(Fault::IssuerUnknown);
        }
        let mut verified = claims::verify(&claims, &self.issuer, now)?;
        let remembered = now.saturating_add(self.settings.remember);
        verified.good_until = Some(verified.good_until.map_or(remembered, |until| until.min(remembered)));
        Ok(verified)
    }

    async fn exchange(&self, token: &str, keys: &Arc<KeyStore>) -> Result<Claims, IntrospectionError> {
        let credential = self.credential.get().ok_or(IntrospectionError::NoSecret)?;
        let (url, transport) = self.endpoint(keys).await.ok_or(IntrospectionError::NoEndpoint)?;
        let client =
            self.client.get_or_try_init(|| fetch::client(transport, self.issuer.ca.as_deref())).await?;
        let mut form = String::from("token_type_hint=access_token&token=");
        form_encode(token, &mut form);
        let mut request = Request::new(form.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url;
        let mut authorization =
            HeaderValue::from_str(credential).map_err(|_| IntrospectionError::NoSecret)?;
        authorization.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let answer = fetch::send(client, request).await?;
        serde_json::from_slice(&answer).map_err(|_| IntrospectionError::Unreadable)
    }

    async fn endpoint(&self, keys: &Arc<KeyStore>) -> Option<(Uri, Transport)> {
        if let Some(endpoint) = &self.settings.endpoint {
            return super::discovery::classify(endpoint);
        }
        keys.current().await.ok()?.introspection()
    }

    fn was_refused(&self, digest: &TokenDigest) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(digest).is_some_and(|since| since.elapsed() < REFUSED_FOR)
    }

    fn refuse(&self, digest: TokenDigest) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REFUSED_AT_MOST {
            refused.retain(|_, since| since.elapsed() < REFUSED_FOR);
        }
        // Full of others: this one is asked about again, which costs a question and no harm.
        if refused.len() < REFUSED_AT_MOST {
            refused.insert(digest, Instant::now());
        }
    }
}

/// application/x-www-form-urlencoded (WHATWG URL, 5.2).
fn form_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                into.push(char::from(byte))
            }
            b' ' => into.push('+'),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(into, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_one_value_whatever_is_in_it() {
        let mut encoded = String::new();
        form_encode("a-1._*&token=x%+ é", &mut encoded);
        assert_eq!(encoded, "a-1._*%26token%3Dx%25%2B+%C3%A9");
    }
}
