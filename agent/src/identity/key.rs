//! One public key of an issuer, bound to the algorithms it may verify (RFC 7517, RFC 7518).

use super::es512;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
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

    /// What `jsonwebtoken` calls it; it has no ES512.
    fn implementation(self) -> Option<jsonwebtoken::Algorithm> {
        Some(match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Ps384 => jsonwebtoken::Algorithm::PS384,
            Self::Ps512 => jsonwebtoken::Algorithm::PS512,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::Es512 => return None,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        })
    }
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

/// The public half, as its verifier takes it.
enum Public {
    /// RSA keys of less than 2048 bits or more than 8192 verify nothing there.
    Jwt(DecodingKey),
    P521(es512::Point),
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
                let (n, e) = (integer(jwk.n.as_deref())?, integer(jwk.e.as_deref())?);
                (Public::Jwt(DecodingKey::from_rsa_raw_components(&n, &e)), RSA)
            }
            ("EC", Some("P-256")) => {
                (Public::Jwt(DecodingKey::from_ec_der(&point(jwk, 32)?)), &[Algorithm::Es256])
            }
            ("EC", Some("P-384")) => {
                (Public::Jwt(DecodingKey::from_ec_der(&point(jwk, 48)?)), &[Algorithm::Es384])
            }
            ("EC", Some("P-521")) => (Public::P521(es512::Point(point(jwk, 66)?)), &[Algorithm::Es512]),
            ("OKP", Some("Ed25519")) => {
                let x = decode(jwk.x.as_deref()).filter(|x| x.len() == 32)?;
                (Public::Jwt(DecodingKey::from_ed_der(&x)), &[Algorithm::EdDsa])
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
        match (&self.public, algorithm.implementation()) {
            (Public::Jwt(key), Some(algorithm)) => {
                jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, algorithm).unwrap_or(false)
            }
            (Public::P521(point), None) => point.verifies(signed, signature),
            // `fits` keeps a key to the algorithms of its type.
            (Public::Jwt(_), None) | (Public::P521(_), Some(_)) => false,
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
fn point(jwk: &Jwk, size: usize) -> Option<Vec<u8>> {
    let x = decode(jwk.x.as_deref()).filter(|x| x.len() == size)?;
    let y = decode(jwk.y.as_deref()).filter(|y| y.len() == size)?;
    Some([&[4], x.as_slice(), y.as_slice()].concat())
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
