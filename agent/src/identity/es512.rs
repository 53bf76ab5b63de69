//! ES512 (RFC 7518, 3.4): ECDSA on P-521 with SHA-512, which some providers can be told to sign with.
//!
//! Every other signature is verified by `jsonwebtoken`, which has no such algorithm. This asks the library that
//! `jsonwebtoken` itself stands on, and is to go when it has one.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// An uncompressed point (SEC 1, 2.3.3); one that is not on the curve verifies nothing.
pub(super) struct Point(pub(super) Vec<u8>);

impl Point {
    /// Whether `signature` (base64url of R and S, 66 bytes each) over `signed` was made with its private half.
    pub(super) fn verifies(&self, signed: &str, signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, &self.0)
            .verify(signed.as_bytes(), &signature)
            .is_ok()
    }
}
