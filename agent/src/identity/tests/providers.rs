//! What providers do that a standard does not say: their kinds of tokens, their clients.

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
