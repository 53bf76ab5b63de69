//! Signing keys and their public halves as JSON Web Keys (RFC 7517, RFC 8037).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Map, Value, json};

/// A signature algorithm (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// Why a key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be made.
    #[error("a test signing key cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("a test signing key cannot be used: {0}")]
    Use(#[from] jsonwebtoken::errors::Error),
    /// Its public half cannot be written.
    #[error("a test key set cannot be written: {0}")]
    Write(#[from] serde_json::Error),
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// Its name in a token's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn as_header(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// A key pair under its key id.
pub(super) struct SigningKey {
    pub(super) algorithm: Algorithm,
    pub(super) id: String,
    private: EncodingKey,
    public: Value,
    public_pem: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    pub(super) fn new(algorithm: Algorithm, id: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(match algorithm {
            Algorithm::Rs256 => &rcgen::PKCS_RSA_SHA256,
            Algorithm::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::EdDsa => &rcgen::PKCS_ED25519,
        })?;
        let pem = pair.serialize_pem();
        let (private, mut public) = match algorithm {
            Algorithm::Rs256 => {
                let private = EncodingKey::from_rsa_pem(pem.as_bytes())?;
                let public = serde_json::to_value(Jwk::from_encoding_key(&private, algorithm.as_header())?)?;
                (private, public)
            }
            Algorithm::Es256 => {
                let private = EncodingKey::from_ec_pem(pem.as_bytes())?;
                let public = serde_json::to_value(Jwk::from_encoding_key(&private, algorithm.as_header())?)?;
                (private, public)
            }
            Algorithm::EdDsa => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
                let public = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
                (EncodingKey::from_ed_der(&pair.serialize_der()), public)
            }
        };
        public["kid"] = json!(id);
        public["use"] = json!("sig");
        public["alg"] = json!(algorithm.name());
        Ok(Self { algorithm, id: id.to_owned(), private, public, public_pem: pair.public_key_pem() })
    }

    pub(super) fn public(&self) -> &Value {
        &self.public
    }

    pub(super) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    pub(super) fn sign(&self, claims: &Map<String, Value>) -> Result<String, KeyError> {
        let mut header = Header::new(self.algorithm.as_header());
        header.kid = Some(self.id.clone());
        Ok(jsonwebtoken::encode(&header, claims, &self.private)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

    #[test]
    fn what_is_signed_verifies_with_the_published_key_and_no_other() {
        for algorithm in Algorithm::ALL {
            let (key, other) =
                (SigningKey::new(algorithm, "a").unwrap(), SigningKey::new(algorithm, "a").unwrap());
            let claims = json!({"sub": "x", "exp": 4_102_444_800_u64});
            let token = key.sign(claims.as_object().unwrap()).unwrap();
            assert_eq!(decode_header(&token).unwrap().kid.as_deref(), Some("a"));
            let verify = |key: &SigningKey| {
                let public: Jwk = serde_json::from_value(key.public().clone()).unwrap();
                let public = DecodingKey::from_jwk(&public).unwrap();
                decode::<Value>(&token, &public, &Validation::new(algorithm.as_header()))
            };
            assert_eq!(verify(&key).unwrap().claims["sub"], "x", "{algorithm:?}");
            assert!(verify(&other).is_err(), "{algorithm:?}: another key must not verify it");
        }
    }
}
