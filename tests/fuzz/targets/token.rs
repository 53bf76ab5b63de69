//! Any text as a bearer token: an error with a code and nothing of the token in it, or what its claims say. Signatures
//! are taken for good here, so that the claims are reached.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Mutex;

use bailiwick::config::settings::Issuer;
use bailiwick::identity::believe;
use bailiwick_policy::Name;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;

/// What each code says: always the same, and so nothing of the token.
static MESSAGES: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());

fuzz_target!(|input: (String, Vec<u8>, Vec<u8>, u32)| {
    let (raw, header, claims, now) = input;
    let issuer = Issuer::new("https://i.example", "b", Name::new("eu").expect("a name"));
    let encoded = format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    for token in [&raw, &encoded] {
        match believe(token, &issuer, u64::from(now)) {
            Ok(principal) => {
                assert_eq!(principal.issuer, issuer.url);
                assert!(!principal.subject.is_empty() && principal.subject.len() <= 1024);
            }
            Err(error) => {
                assert!((400..=503).contains(&error.status.as_u16()), "{error}");
                assert!(error.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{error}");
                let mut messages = MESSAGES.lock().expect("messages");
                let known = messages.entry(error.code).or_insert_with(|| error.message.clone());
                assert_eq!(*known, error.message, "the message depends on the token");
            }
        }
    }
});
