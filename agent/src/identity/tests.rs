//! The whole path from header to principal, against a small issuer on loopback.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use provider::Provider;
use serde_json::{Value, json};
use signer::Signer;
use std::sync::atomic::Ordering;
use std::time::Duration;

mod bindings;
mod keys;
mod opaque;
mod provider;
mod providers;
mod signer;
mod tokens;

const NOW: u64 = 1_800_000_000;

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap())])
}

async fn code(authenticator: &Authenticator, token: &str, now: u64) -> &'static str {
    match authenticator.authenticate_at(&bearer(token), None, now).await {
        Ok(_) => "ok",
        Err(error) => error.code,
    }
}

fn with(claims: &Value, changes: Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        if value == "absent" {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}
