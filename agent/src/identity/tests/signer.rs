//! Keys that sign with every algorithm that is accepted.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A signing key and its JWK.
pub(super) struct Signer {
    pub(super) algorithm: &'static str,
    private: Private,
    pub(super) jwk: Value,
}

enum Private {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn new(kid: &str, algorithm: &'static str) -> Self {
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

    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm, "typ": "at+jwt", "kid": self.jwk["kid"]}), claims)
    }

    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
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
