//! The whole path from header to principal, against a small issuer on loopback.

use super::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NOW: u64 = 1_800_000_000;

/// All that are accepted.
const ALGORITHMS: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

/// A signing key and its JWK.
struct Signer {
    algorithm: &'static str,
    private: Private,
    jwk: Value,
}

enum Private {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn new(kid: &str, algorithm: &'static str) -> Self {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let curve = |signing: &'static EcdsaSigningAlgorithm, crv: &str| {
            let pair = EcdsaKeyPair::generate(signing).unwrap();
            let point = pair.public_key().as_ref();
            let half = (point.len() - 1) / 2;
            let (x, y) = (b64(&point[1..=half]), b64(&point[1 + half..]));
            let jwk = json!({"kty": "EC", "crv": crv, "kid": kid, "x": x, "y": y});
            (Private::Ec(pair), jwk)
        };
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let (n, e) = rsa_components(pair.public_key().as_ref());
            let jwk = json!({"kty": "RSA", "kid": kid, "n": b64(n), "e": b64(e)});
            (Private::Rsa(pair, encoding), jwk)
        };
        let (private, jwk) = match algorithm {
            "ES256" => curve(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            "ES384" => curve(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            "ES512" => curve(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "EdDSA" => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let jwk =
                    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(pair.public_key().as_ref())});
                (Private::Ed(pair), jwk)
            }
            other => panic!("no signer for {other}"),
        };
        Self { algorithm, private, jwk }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Private::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Private::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm, "typ": "at+jwt", "kid": self.jwk["kid"]}), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// Modulus and exponent of a PKCS#1 `RSAPublicKey`, whose lengths here are all below 65536.
fn rsa_components(der: &[u8]) -> (&[u8], &[u8]) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (start, length) = match der[1] {
            0x81 => (3, usize::from(der[2])),
            0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
            short => (2, usize::from(short)),
        };
        (&der[start..start + length], &der[start + length..])
    }
    let (sequence, _) = element(der);
    let (n, rest) = element(sequence);
    let (e, _) = element(rest);
    (n.strip_prefix(&[0]).unwrap_or(n), e)
}

/// Discovery and keys over plain HTTP on loopback.
struct Provider {
    url: String,
    keys: Mutex<Vec<Value>>,
    up: AtomicBool,
    fetches: AtomicUsize,
    claims_to_be: Mutex<Option<String>>,
    /// What it says of opaque tokens (RFC 7662).
    opaque: Mutex<Vec<(&'static str, Value)>>,
    introspections: AtomicUsize,
}

impl Provider {
    async fn start(keys: Vec<Value>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            keys: Mutex::new(keys),
            up: AtomicBool::new(true),
            fetches: AtomicUsize::new(0),
            claims_to_be: Mutex::default(),
            opaque: Mutex::default(),
            introspections: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&provider);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                if !serving.up.load(Ordering::SeqCst) {
                    continue;
                }
                let mut request = Vec::new();
                while !is_whole(&request) {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let body = serving.answer(&String::from_utf8_lossy(&request)).to_string();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _gone = socket.write_all(answer.as_bytes()).await;
            }
        });
        provider
    }

    fn answer(&self, request: &str) -> Value {
        if request.starts_with("GET /keys ") {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            return json!({"keys": *self.keys.lock().unwrap()});
        }
        if request.starts_with("POST /introspect ") {
            self.introspections.fetch_add(1, Ordering::SeqCst);
            // bailiwick:s%2Bcret
            assert!(request.contains("authorization: Basic YmFpbGl3aWNrOnMlMkJjcmV0"), "{request}");
            let (_, form) = request.split_once("\r\n\r\n").unwrap();
            let known = self.opaque.lock().unwrap();
            let found =
                known.iter().find(|(token, _)| form == format!("token_type_hint=access_token&token={token}"));
            return found.map_or_else(|| json!({"active": false}), |(_, says)| says.clone());
        }
        assert!(request.starts_with("GET /.well-known/openid-configuration "), "{request}");
        let issuer = self.claims_to_be.lock().unwrap().clone().unwrap_or_else(|| self.url.clone());
        json!({"issuer": issuer, "jwks_uri": format!("{}/keys", self.url),
            "introspection_endpoint": format!("{}/introspect", self.url)})
    }

    fn issuer(&self) -> Issuer {
        let region = bailiwick_policy::Name::new("eu").unwrap();
        Issuer { leeway: 30, ..Issuer::new(&self.url, "bailiwick", region) }
    }

    fn claims(&self) -> Value {
        json!({"iss": self.url, "sub": "ada", "aud": "bailiwick", "exp": NOW + 300, "groups": ["ml"]})
    }

    fn fetched(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// Whether all of a request has come, its body included.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

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
async fn a_new_key_is_found_and_made_up_key_ids_cost_one_fetch() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let provider = Provider::start(vec![old.jwk.clone()]).await;
    let timing = Timing { debounce: Duration::from_millis(300), ..Timing::default() };
    let authenticator = Arc::new(Authenticator::with_timing(vec![provider.issuer()], timing));
    assert_eq!(code(&authenticator, &old.token(&provider.claims()), NOW).await, "ok");

    *provider.keys.lock().unwrap() = vec![new.jwk.clone()];
    let token = new.token(&provider.claims());
    assert_eq!(code(&authenticator, &token, NOW).await, "key-unknown", "fetched a moment ago");
    tokio::time::sleep(timing.debounce).await;
    let flood: Vec<_> = (0..50)
        .map(|n| {
            let made_up =
                new.token_with(&json!({"alg": "ES256", "kid": format!("x{n}")}), &provider.claims());
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move { code(&authenticator, &made_up, NOW).await })
        })
        .collect();
    for one in flood {
        assert_eq!(one.await.unwrap(), "key-unknown");
    }
    assert_eq!(provider.fetched(), 2, "fifty unknown key ids, one fetch");
    assert_eq!(code(&authenticator, &token, NOW).await, "ok", "the new key is there");
    assert_eq!(
        code(&authenticator, &old.token(&provider.claims()), NOW).await,
        "key-unknown",
        "the old one is gone"
    );
}

#[tokio::test]
async fn a_provider_that_is_down_denies_its_own_callers_and_recovers() {
    let signer = Signer::new("k1", "ES256");
    let (down, up) =
        (Provider::start(vec![signer.jwk.clone()]).await, Provider::start(vec![signer.jwk.clone()]).await);
    down.up.store(false, Ordering::SeqCst);
    let timing = Timing { retry: Duration::from_millis(50), ..Timing::default() };
    let authenticator = Authenticator::with_timing(vec![down.issuer(), up.issuer()], timing);
    let token = signer.token(&down.claims());
    let error = authenticator.authenticate_at(&bearer(&token), None, NOW).await.unwrap_err();
    assert_eq!((error.status.as_u16(), error.code), (503, "issuer-unavailable"));
    assert_eq!(error.issuer.as_deref(), Some(down.url.as_str()));
    assert_eq!(
        code(&authenticator, &signer.token(&up.claims()), NOW).await,
        "ok",
        "the other issuer's callers"
    );
    down.up.store(true, Ordering::SeqCst);
    tokio::time::sleep(timing.retry).await;
    assert_eq!(code(&authenticator, &token, NOW).await, "ok", "recovered by itself");
}

#[tokio::test]
async fn last_good_keys_serve_while_the_provider_is_down_but_not_for_ever() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let timing = Timing {
        refresh_after: Duration::from_millis(100),
        serve_until: Duration::from_millis(800),
        debounce: Duration::from_millis(50),
        retry: Duration::from_millis(50),
    };
    let authenticator = Authenticator::with_timing(vec![provider.issuer()], timing);
    let token = signer.token(&provider.claims());
    assert_eq!(code(&authenticator, &token, NOW).await, "ok");
    tokio::time::sleep(timing.refresh_after).await;
    assert_eq!(code(&authenticator, &token, NOW).await, "ok");
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(provider.fetched(), 2, "refreshed in the background, on use");
    provider.up.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(code(&authenticator, &token, NOW).await, "ok", "the last good keys serve");
    tokio::time::sleep(timing.serve_until).await;
    assert_eq!(code(&authenticator, &token, NOW).await, "issuer-unavailable", "too old, cached token or not");
}

#[tokio::test]
async fn a_provider_that_speaks_for_another_issuer_is_not_believed() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    *provider.claims_to_be.lock().unwrap() = Some("https://login.example.eu".into());
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    assert_eq!(code(&authenticator, &signer.token(&provider.claims()), NOW).await, "issuer-unavailable");
    assert_eq!(provider.fetched(), 0, "its keys were not even asked for");
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

mod bindings;
mod opaque;
mod providers;
