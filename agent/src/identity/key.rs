//! One public key of an issuer, bound to the algorithms it may verify (RFC 7517, RFC 7518).

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::fmt;

/// The algorithms that are accepted. There is no `none` and no HMAC here, so none can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// Those of one RSA key that says nothing of its use.
const RSA: &[Algorithm] = &[
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

impl Algorithm {
    const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// By its registered name (RFC 7518, 3.1; RFC 8037, 3.1; RFC 9864 names EdDSA with this curve `Ed25519`); exact case.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.names().contains(&name))
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Rs256 => &["RS256"],
            Self::Rs384 => &["RS384"],
            Self::Rs512 => &["RS512"],
            Self::Ps256 => &["PS256"],
            Self::Ps384 => &["PS384"],
            Self::Ps512 => &["PS512"],
            Self::Es256 => &["ES256"],
            Self::Es384 => &["ES384"],
            Self::Es512 => &["ES512"],
            Self::EdDsa => &["EdDSA", "Ed25519"],
        }
    }

    fn verification(self) -> Verification {
        match self {
            Self::Rs256 => Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Verification::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Verification::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 => Verification::Curve(&signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Verification::Curve(&signature::ECDSA_P384_SHA384_FIXED),
            Self::Es512 => Verification::Curve(&signature::ECDSA_P521_SHA512_FIXED),
            Self::EdDsa => Verification::Curve(&signature::ED25519),
        }
    }
}

/// How a signature is verified. RSA keys of less than 2048 bits verify nothing.
enum Verification {
    Rsa(&'static RsaParameters),
    Curve(&'static dyn VerificationAlgorithm),
}

/// A JWK as published. Members that are not named here are ignored (RFC 7517, 4).
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A key that can verify signatures.
pub(super) struct Key {
    pub(super) id: Option<String>,
    algorithms: Vec<Algorithm>,
    public: Public,
}

/// The public half, as its verification takes it.
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point, or an Ed25519 key.
    Curve(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// `None` for a key that is not for verifying signatures, or not with an algorithm of ours.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|name| name == "verify"));
        if !for_signatures {
            return None;
        }
        let (public, by_type): (_, &[Algorithm]) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", None) => {
                (Public::Rsa { n: integer(jwk.n.as_deref())?, e: integer(jwk.e.as_deref())? }, RSA)
            }
            ("EC", Some("P-256")) => (point(jwk, 32)?, &[Algorithm::Es256]),
            ("EC", Some("P-384")) => (point(jwk, 48)?, &[Algorithm::Es384]),
            ("EC", Some("P-521")) => (point(jwk, 66)?, &[Algorithm::Es512]),
            ("OKP", Some("Ed25519")) => {
                let x = decode(jwk.x.as_deref()).filter(|x| x.len() == 32)?;
                (Public::Curve(x), &[Algorithm::EdDsa])
            }
            _ => return None,
        };
        let declared = |algorithm: &Algorithm| {
            jwk.alg.as_deref().is_none_or(|declared| Algorithm::from_name(declared) == Some(*algorithm))
        };
        let algorithms: Vec<_> = by_type.iter().copied().filter(declared).collect();
        (!algorithms.is_empty()).then(|| Self { id: jwk.kid.clone(), algorithms, public })
    }

    /// Whether this key may verify `algorithm` at all.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether `signature` (base64url) over `signed` was made with this key's private half.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let signed = signed.as_bytes();
        match (&self.public, algorithm.verification()) {
            (Public::Rsa { n, e }, Verification::Rsa(parameters)) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, &signature).is_ok()
            }
            (Public::Curve(key), Verification::Curve(algorithm)) => {
                UnparsedPublicKey::new(algorithm, key).verify(signed, &signature).is_ok()
            }
            // `fits` keeps a key to the algorithms of its type.
            (Public::Rsa { .. }, Verification::Curve(_)) | (Public::Curve(_), Verification::Rsa(_)) => false,
        }
    }
}

fn decode(part: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part?).ok().filter(|bytes| !bytes.is_empty())
}

/// A Base64urlUInt (RFC 7518, 2), without the leading zeros that some publish against it.
fn integer(part: Option<&str>) -> Option<Vec<u8>> {
    let bytes = decode(part)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Some(bytes[zeros..].to_vec()).filter(|bytes| !bytes.is_empty())
}

/// An uncompressed point (SEC 1, 2.3.3), coordinates of exactly `size` bytes (RFC 7518, 6.2.1.2).
fn point(jwk: &Jwk, size: usize) -> Option<Public> {
    let x = decode(jwk.x.as_deref()).filter(|x| x.len() == size)?;
    let y = decode(jwk.y.as_deref()).filter(|y| y.len() == size)?;
    Some(Public::Curve([&[4], x.as_slice(), y.as_slice()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn key(jwk: Value) -> Option<Key> {
        Key::from_jwk(&serde_json::from_value(jwk).unwrap())
    }

    #[test]
    fn a_key_verifies_only_what_it_was_published_for() {
        let coordinate = URL_SAFE_NO_PAD.encode([7; 32]);
        let rows: &[(Value, &[Algorithm], &str)] = &[
            (json!({"kty": "RSA", "n": "qqqq", "e": "AQAB"}), RSA, "an RSA key with no alg"),
            (
                json!({"kty": "RSA", "n": "qqqq", "e": "AQAB", "alg": "PS256"}),
                &[Algorithm::Ps256],
                "alg narrows",
            ),
            (json!({"kty": "RSA", "n": "qqqq", "e": "AQAB", "alg": "ES256"}), &[], "alg contradicts kty"),
            (
                json!({"kty": "RSA", "n": "qqqq", "e": "AQAB", "alg": "HS256"}),
                &[],
                "a public key is no HMAC secret",
            ),
            (json!({"kty": "RSA", "n": "qqqq", "e": "AQAB", "use": "enc"}), &[], "for encryption"),
            (json!({"kty": "RSA", "n": "qqqq", "e": "AQAB", "key_ops": ["wrapKey"]}), &[], "for wrapping"),
            (json!({"kty": "oct", "k": "AAAA"}), &[], "a shared secret"),
            (
                json!({"kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate}),
                &[Algorithm::Es256],
                "P-256",
            ),
            (
                json!({"kty": "EC", "crv": "P-384", "x": coordinate, "y": coordinate}),
                &[],
                "P-384 with short coordinates",
            ),
            (
                json!({"kty": "EC", "crv": "secp256k1", "x": coordinate, "y": coordinate}),
                &[],
                "another curve",
            ),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": coordinate}), &[Algorithm::EdDsa], "Ed25519"),
            (json!({"kty": "OKP", "crv": "X25519", "x": coordinate}), &[], "for key agreement"),
        ];
        for (jwk, expected, why) in rows {
            let found = key(jwk.clone()).map_or_else(Vec::new, |key| key.algorithms);
            assert_eq!(found, *expected, "{why}");
        }
    }

    #[test]
    fn no_name_of_none_or_hmac_is_an_algorithm() {
        for name in
            ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "rs256", "ES256K", "RS256 "]
        {
            assert_eq!(Algorithm::from_name(name), None, "{name:?}");
        }
    }
}
