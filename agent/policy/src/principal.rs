//! Who is calling, as proven by a credential.

/// A caller whose credential was verified. Made by `identity`, read by [`crate::AccessPolicy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The issuer's URL, exactly as in the token's `iss` (RFC 7519, 4.1.1).
    pub issuer: String,
    /// The issuer's name for the caller (`sub`, RFC 7519, 4.1.2). Personal data: it reaches the audit
    /// trail only as a keyed hash.
    pub subject: String,
    /// The groups that the issuer vouches for, in the token's order.
    pub groups: Vec<String>,
    /// The token's own id (`jti`), where it has one.
    pub token_id: Option<String>,
}
