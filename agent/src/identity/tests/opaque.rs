//! Opaque tokens: what their issuer says of them, and for how long that is believed.

use super::*;
use crate::config::settings::Introspection;

/// An issuer that is asked, with what it says.
async fn asked(
    remember: u64,
    says: Vec<(&'static str, Value)>,
) -> (Arc<Provider>, Authenticator, tempfile::TempDir) {
    let provider = Provider::start(vec![Signer::new("k1", "ES256").jwk]).await;
    *provider.opaque.lock().unwrap() = says;
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "s+cret\n").unwrap();
    let introspection = Introspection { endpoint: None, client: "bailiwick".into(), secret, remember };
    let issuer = Issuer { introspection: Some(introspection), ..provider.issuer() };
    let authenticator = Authenticator::new(vec![issuer]);
    authenticator.read_secrets().unwrap();
    (provider, authenticator, directory)
}

#[tokio::test]
async fn an_opaque_token_is_what_its_issuer_says_and_checked_as_any_other() {
    let good = json!({"active": true, "sub": "ada", "aud": "bailiwick", "exp": NOW + 300, "groups": ["ml"]});
    let (provider, authenticator, _directory) = asked(
        30,
        vec![
            ("good", good.clone()),
            ("no-exp", with(&good, json!({"exp": "absent"}))),
            ("client", with(&good, json!({"sub": "absent", "client_id": "batch"}))),
            ("revoked", json!({"active": false})),
            ("half", json!({"sub": "ada", "aud": "bailiwick"})),
            ("word", with(&good, json!({"active": "true"}))),
            ("payroll", with(&good, json!({"aud": "payroll"}))),
            ("nobody", with(&good, json!({"aud": "absent"}))),
            ("late", with(&good, json!({"exp": NOW - 60}))),
            ("alien", with(&good, json!({"iss": "https://login.example.eu"}))),
            ("overage", with(&good, json!({"_claim_names": {"groups": "s"}}))),
            ("bound", with(&good, json!({"cnf": {"x5t#S256": "A".repeat(43)}}))),
        ],
    )
    .await;
    for (token, expected, why) in [
        ("good", "ok", "active, for this service"),
        ("no-exp", "ok", "an end is optional: the answer is remembered shortly"),
        ("client", "ok", "a client's own token"),
        ("revoked", "token-inactive", "revoked"),
        ("unheard", "token-inactive", "made up"),
        ("half", "token-inactive", "an answer that does not say that it is active"),
        ("word", "token-inactive", "true is not \"true\""),
        ("payroll", "audience-mismatch", "for another service"),
        ("nobody", "audience-mismatch", "the audience is required"),
        ("late", "token-expired", "the issuer's clock or its word is wrong"),
        ("alien", "issuer-unknown", "another issuer's, it says"),
        ("overage", "groups-overage", "groups left out"),
        ("bound", "token-binding-mismatch", "bound to a certificate that was not shown"),
    ] {
        assert_eq!(code(&authenticator, token, NOW).await, expected, "{why}");
    }
    let principal = authenticator.authenticate_at(&bearer("client"), None, NOW).await.unwrap();
    assert_eq!((principal.subject.as_str(), principal.issuer.as_str()), ("batch", provider.url.as_str()));
}

#[tokio::test]
async fn an_answer_is_remembered_for_a_short_time_and_a_refusal_too() {
    let good = json!({"active": true, "sub": "ada", "aud": "bailiwick", "exp": NOW + 3000});
    let (provider, authenticator, _directory) = asked(30, vec![("good", good)]).await;
    let questions = || provider.introspections.load(Ordering::SeqCst);
    for now in [NOW, NOW + 1, NOW + 29] {
        assert_eq!(code(&authenticator, "good", now).await, "ok");
    }
    assert_eq!(questions(), 1, "remembered");
    provider.opaque.lock().unwrap().clear();
    assert_eq!(code(&authenticator, "good", NOW + 29).await, "ok", "revoked, and still remembered");
    assert_eq!(code(&authenticator, "good", NOW + 30).await, "token-inactive", "asked again");
    for _ in 0..50 {
        assert_eq!(code(&authenticator, "made-up", NOW).await, "token-inactive");
    }
    assert_eq!(questions(), 3, "fifty times the same made-up token, one question");
}

#[tokio::test]
async fn without_introspection_an_opaque_token_is_refused_with_the_cure() {
    let provider = Provider::start(vec![]).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    let error = authenticator.authenticate_at(&bearer("opaque"), None, NOW).await.unwrap_err();
    assert_eq!(error.code, "token-opaque");
    assert!(
        error.message.contains("JWT access token") && error.message.contains("Okta"),
        "{}",
        error.message
    );
    assert_eq!(provider.introspections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_denies_its_opaque_tokens_only() {
    let (provider, authenticator, directory) = asked(30, vec![]).await;
    provider.up.store(false, Ordering::SeqCst);
    let error = authenticator.authenticate_at(&bearer("opaque"), None, NOW).await.unwrap_err();
    assert_eq!((error.status.as_u16(), error.code), (503, "issuer-unavailable"));
    drop(directory);
    let introspection =
        Introspection { endpoint: None, client: "c".into(), secret: "/nowhere/secret".into(), remember: 0 };
    let unread = Authenticator::new(vec![Issuer { introspection: Some(introspection), ..provider.issuer() }]);
    let error = unread.read_secrets().unwrap_err().to_string();
    assert!(error.contains("/nowhere/secret") && error.contains("[issuer.introspection] secret"), "{error}");
}
