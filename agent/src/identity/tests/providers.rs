//! What providers do that a standard does not say: their kinds of tokens, their clients, their bad days.

use super::*;

#[tokio::test]
async fn an_id_token_is_no_access_token() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    let plain = json!({"alg": "ES256", "kid": "k1", "typ": "JWT"});
    let said = json!({"alg": "ES256", "kid": "k1", "typ": "at+jwt"});
    for (header, changes, expected, why) in [
        (&plain, json!({}), "ok", "nothing speaks against it"),
        (&plain, json!({"nonce": "n"}), "token-type-not-allowed", "an ID token"),
        (&plain, json!({"at_hash": "h"}), "token-type-not-allowed", "an ID token"),
        (&plain, json!({"typ": "ID"}), "token-type-not-allowed", "Keycloak's"),
        (&plain, json!({"token_use": "id"}), "token-type-not-allowed", "Cognito's"),
        (&plain, json!({"typ": "Bearer", "nonce": "n"}), "ok", "Keycloak's access token"),
        (&said, json!({"nonce": "n"}), "ok", "the header says what it is"),
    ] {
        let token = signer.token_with(header, &with(&provider.claims(), changes));
        assert_eq!(code(&authenticator, &token, NOW).await, expected, "{why}");
    }
    let strict = Authenticator::new(vec![Issuer { strict_type: true, ..provider.issuer() }]);
    let token = signer.token_with(&plain, &provider.claims());
    assert_eq!(code(&strict, &token, NOW).await, "token-type-not-allowed", "the config asks for at+jwt");
    assert_eq!(code(&strict, &signer.token_with(&said, &provider.claims()), NOW).await, "ok");
}

#[tokio::test]
async fn a_token_of_another_client_is_refused_where_the_config_names_clients() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let clients = Some(vec!["chat-ui".to_owned()]);
    let authenticator = Authenticator::new(vec![Issuer { clients, ..provider.issuer() }]);
    for (changes, expected, why) in [
        (json!({"azp": "chat-ui"}), "ok", "the authorized party"),
        (json!({"client_id": "chat-ui"}), "ok", "as RFC 9068 names it"),
        (json!({"appid": "chat-ui"}), "ok", "as Entra's first version does"),
        (
            json!({"azp": "other", "client_id": "chat-ui"}),
            "client-not-allowed",
            "the first that is there counts",
        ),
        (json!({"azp": "other"}), "client-not-allowed", "another"),
        (json!({"azp": 7}), "client-not-allowed", "unreadable"),
        (json!({}), "client-not-allowed", "none"),
    ] {
        let token = signer.token(&with(&provider.claims(), changes));
        assert_eq!(code(&authenticator, &token, NOW).await, expected, "{why}");
    }
}

#[tokio::test]
async fn okta_s_org_server_is_recognised_and_explained() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    let okta = json!({"iss": "https://dev-1.okta.com", "cid": "c", "uid": "u", "ver": 1});
    let token = signer.token(&with(&provider.claims(), okta));
    let error = authenticator.authenticate_at(&bearer(&token), None, NOW).await.unwrap_err();
    assert_eq!(error.code, "okta-org-token");
    assert!(error.message.contains("custom authorization server"), "it says what to do: {}", error.message);
    let custom = json!({"iss": "https://dev-1.okta.com/oauth2/default", "cid": "c", "uid": "u", "ver": 1});
    let token = signer.token(&with(&provider.claims(), custom));
    assert_eq!(
        code(&authenticator, &token, NOW).await,
        "issuer-unknown",
        "a custom server that is not configured"
    );
}

#[tokio::test]
async fn claims_that_rules_ask_for_are_read_and_no_other() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let claims = vec!["department".to_owned()];
    let authenticator = Authenticator::new(vec![Issuer { claims, ..provider.issuer() }]);
    let token =
        signer.token(&with(&provider.claims(), json!({"department": "research", "email": "ada@example.eu"})));
    let principal = authenticator.authenticate_at(&bearer(&token), None, NOW).await.unwrap();
    assert_eq!(principal.claims.len(), 1);
    assert_eq!(principal.claims["department"], ["research"]);
}

#[tokio::test]
async fn a_withdrawn_key_drops_the_tokens_it_signed_though_nobody_calls() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let provider = Provider::start(vec![old.jwk.clone(), new.jwk.clone()]).await;
    let timing = Timing { refresh_after: Duration::from_millis(150), ..Timing::default() };
    let authenticator = Authenticator::with_timing(
        vec![provider.issuer()],
        Timing { retry: Duration::from_millis(20), ..timing },
    );
    authenticator.warm_up();
    let (by_old, by_new) = (old.token(&provider.claims()), new.token(&provider.claims()));
    assert_eq!(code(&authenticator, &by_old, NOW).await, "ok");
    assert_eq!(code(&authenticator, &by_new, NOW).await, "ok");
    *provider.keys.lock().unwrap() = vec![new.jwk.clone()];
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(
        code(&authenticator, &by_old, NOW).await,
        "key-unknown",
        "remembered, and dropped with its key"
    );
    assert_eq!(code(&authenticator, &by_new, NOW).await, "ok");
}

#[tokio::test]
async fn an_issuer_that_was_down_at_the_start_is_found_without_a_caller() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    provider.up.store(false, Ordering::SeqCst);
    let timing = Timing { retry: Duration::from_millis(20), ..Timing::default() };
    let authenticator = Authenticator::with_timing(vec![provider.issuer()], timing);
    authenticator.warm_up();
    authenticator.warm_up();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(provider.fetched(), 0);
    provider.up.store(true, Ordering::SeqCst);
    for _ in 0..200 {
        if provider.fetched() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(provider.fetched(), 1, "once, however often it was told to");
    drop(authenticator);
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_an_issuer_that_changed_in_other_ways() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let before = Authenticator::new(vec![provider.issuer()]);
    let token = signer.token(&provider.claims());
    assert_eq!(code(&before, &token, NOW).await, "ok");
    let after = before
        .with_issuers(vec![Issuer { audience: "another".into(), ..provider.issuer() }], Timing::default());
    assert_eq!(code(&after, &token, NOW).await, "audience-mismatch", "what was remembered is not believed");
    assert_eq!(provider.fetched(), 1, "the keys are the same");
}
