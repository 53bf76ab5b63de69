//! One token: what its header, its signature and its claims decide.

use super::*;

/// All that are accepted.
const ALGORITHMS: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

#[tokio::test]
async fn every_accepted_algorithm_verifies_with_its_own_key() {
    let signers: Vec<_> = ALGORITHMS.into_iter().map(|algorithm| Signer::new(algorithm, algorithm)).collect();
    let provider = Provider::start(signers.iter().map(|signer| signer.jwk.clone()).collect()).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    for signer in &signers {
        let token = signer.token(&provider.claims());
        let principal = authenticator.authenticate_at(&bearer(&token), None, NOW).await.unwrap();
        assert_eq!(principal.subject, "ada", "{}", signer.algorithm);
        assert_eq!(principal.groups, ["ml"]);
        assert_eq!(principal.issuer, provider.url);

        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[9] ^= 1;
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(code(&authenticator, &forged, NOW).await, "signature-invalid", "{}", signer.algorithm);
    }
    assert_eq!(provider.fetched(), 1, "one fetch serves every token");
}

#[tokio::test]
async fn a_modulus_with_a_leading_zero_is_the_same_modulus() {
    let mut signer = Signer::new("k1", "RS256");
    let modulus = URL_SAFE_NO_PAD.decode(signer.jwk["n"].as_str().unwrap()).unwrap();
    signer.jwk["n"] = URL_SAFE_NO_PAD.encode([&[0], modulus.as_slice()].concat()).into();
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    assert_eq!(code(&authenticator, &signer.token(&provider.claims()), NOW).await, "ok");
}

#[tokio::test]
async fn claims_decide_each_with_its_own_code() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    let rows = [
        (json!({}), "ok", "as it should be"),
        (json!({"aud": ["other", "bailiwick"]}), "ok", "an audience among several"),
        (json!({"aud": "other"}), "audience-mismatch", "for another service"),
        (json!({"aud": ["other"]}), "audience-mismatch", "for other services"),
        (json!({"aud": []}), "audience-mismatch", "for nobody"),
        (json!({"aud": {"bailiwick": true}}), "audience-mismatch", "an unreadable audience"),
        (json!({"aud": "bailiwick2"}), "audience-mismatch", "a longer name"),
        (json!({"aud": "absent"}), "audience-mismatch", "no audience at all"),
        (json!({"exp": NOW - 29}), "ok", "expired, within the leeway"),
        (json!({"exp": NOW - 30}), "token-expired", "expired, the leeway used up"),
        (json!({"exp": "absent"}), "token-malformed", "a token for ever"),
        (json!({"exp": "1900000000"}), "token-malformed", "a time as a string"),
        (json!({"exp": -1}), "token-malformed", "a time before 1970"),
        (json!({"exp": (NOW + 300) as f64 + 0.5}), "ok", "NumericDate may have a fraction"),
        (json!({"nbf": NOW + 30}), "ok", "not yet valid, within the leeway"),
        (json!({"nbf": NOW + 31}), "token-not-yet-valid", "not yet valid"),
        (json!({"iat": NOW + 31}), "token-not-yet-valid", "issued in the future"),
        (json!({"nbf": "soon"}), "token-malformed", "an unreadable nbf"),
        (json!({"sub": "absent"}), "token-malformed", "no subject"),
        (json!({"sub": ""}), "token-malformed", "an empty subject"),
        (json!({"sub": 7}), "token-malformed", "a subject that is no string"),
        (json!({"groups": "absent"}), "ok", "no groups is not a fault here: policy decides"),
        (json!({"groups": {"a": 1}}), "groups-unreadable", "a group claim of an unknown shape"),
        (json!({"_claim_names": {"groups": "src1"}}), "groups-overage", "Entra beyond its limit"),
        (json!({"iss": "absent"}), "token-malformed", "no issuer"),
        (json!({"iss": format!("{}/", provider.url)}), "issuer-unknown", "a slash more is another issuer"),
        (json!({"iss": "https://evil.example"}), "issuer-unknown", "somebody else's"),
    ];
    for (changes, expected, why) in rows {
        let token = signer.token(&with(&provider.claims(), changes));
        assert_eq!(code(&authenticator, &token, NOW).await, expected, "{why}");
    }
}

#[tokio::test]
async fn headers_decide_before_any_key_is_touched() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    let rows = [
        (json!({"alg": "none"}), "algorithm-not-allowed", "unsigned"),
        (json!({"alg": "HS256", "kid": "k1"}), "algorithm-not-allowed", "the public key as an HMAC secret"),
        (json!({"kid": "k1"}), "algorithm-not-allowed", "no algorithm"),
        (json!({"alg": ["ES256"], "kid": "k1"}), "algorithm-not-allowed", "an unreadable algorithm"),
        (
            json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"}),
            "token-type-not-allowed",
            "a logout token",
        ),
        (json!({"alg": "ES256", "kid": "k1", "typ": 1}), "token-type-not-allowed", "an unreadable type"),
        (
            json!({"alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false}),
            "token-malformed",
            "a critical extension",
        ),
        (json!({"alg": "ES256", "kid": 1}), "token-malformed", "an unreadable kid"),
    ];
    for (header, expected, why) in rows {
        let token = signer.token_with(&header, &provider.claims());
        assert_eq!(code(&authenticator, &token, NOW).await, expected, "{why}");
    }
    assert_eq!(provider.fetched(), 0, "none of them cost the issuer a request");

    let rows = [
        (json!({"alg": "ES256"}), "ok", "no kid: the keys that fit are tried"),
        (json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}), "ok", "typ JWT"),
        (json!({"alg": "ES256", "kid": "k1", "typ": "application/AT+JWT"}), "ok", "types ignore case"),
        (json!({"alg": "RS256", "kid": "k1"}), "algorithm-not-allowed", "the key is not for that algorithm"),
        (
            json!({"alg": "ES256", "kid": "k1", "jwk": Signer::new("k1", "ES256").jwk}),
            "ok",
            "a key brought along is ignored",
        ),
    ];
    for (header, expected, why) in rows {
        let token = signer.token_with(&header, &provider.claims());
        assert_eq!(code(&authenticator, &token, NOW).await, expected, "{why}");
    }
    let stranger = Signer::new("k1", "ES256");
    let header = json!({"alg": "ES256", "kid": "k1", "jwk": stranger.jwk});
    let token = stranger.token_with(&header, &provider.claims());
    assert_eq!(code(&authenticator, &token, NOW).await, "signature-invalid", "signed with the key it brings");
    for (text, why) in [
        ("a.b", "two parts"),
        ("a.b.c", "not base64url of JSON"),
        ("a.b.c.d.e", "five parts that are none of JWE"),
        ("..", "empty parts"),
        ("opaque", "a reference"),
    ] {
        assert_eq!(code(&authenticator, text, NOW).await, "token-opaque", "{why}");
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    let encrypted = URL_SAFE_NO_PAD.encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#);
    for (text, expected, why) in [
        (header.clone(), "token-malformed", "a header alone"),
        (format!("{header}.e30"), "token-malformed", "two parts"),
        (format!("{header}.b.c"), "token-malformed", "claims that are none"),
        (format!("{encrypted}.b.c.d.e"), "algorithm-not-allowed", "an encrypted token"),
    ] {
        assert_eq!(code(&authenticator, &text, NOW).await, expected, "{why}");
    }
}

#[tokio::test]
async fn a_verified_token_is_remembered_until_it_expires() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    let token = signer.token(&provider.claims());
    for now in [NOW, NOW + 1, NOW + 329] {
        assert_eq!(code(&authenticator, &token, now).await, "ok");
    }
    assert_eq!(code(&authenticator, &token, NOW + 330).await, "token-expired");
    assert!(!format!("{authenticator:?}").contains("ada"));
}
