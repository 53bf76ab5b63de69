//! Who is calling, as proven by a credential.

use std::collections::BTreeMap;

/// A caller whose credential was verified. Made by `identity`, read by [`crate::AccessPolicy`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The issuer's URL, exactly as in the token's `iss` (RFC 7519, 4.1.1), or [`Principal::BY_CERTIFICATE`].
    pub issuer: String,
    /// The issuer's name for the caller (`sub`, RFC 7519, 4.1.2). Personal data: it reaches the audit
    /// trail only as a keyed hash.
    pub subject: String,
    /// The groups that the issuer vouches for, in the token's order.
    pub groups: Vec<String>,
    /// The claims that a rule asks for, and no other: each with its values as text.
    pub claims: BTreeMap<String, Vec<String>>,
    /// The names in the client certificate that the connection was opened with: URIs (a SPIFFE id is one) and
    /// DNS names. Empty without a certificate.
    pub certificate: Vec<String>,
}

impl Principal {
    /// The issuer of those who prove themselves by a client certificate alone. No URL, so that no token can claim it.
    pub const BY_CERTIFICATE: &'static str = "client-certificate";
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Principal").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
