//! Who is calling, as proven by a credential.

/// A caller whose credential was verified. Made by `identity`, read by [`crate::AccessPolicy`].
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// The issuer's URL, exactly as in the token's `iss` (RFC 7519, 4.1.1).
    pub issuer: String,
    /// The issuer's name for the caller (`sub`, RFC 7519, 4.1.2). Personal data: it reaches the audit
    /// trail only as a keyed hash.
    pub subject: String,
    /// The groups that the issuer vouches for, in the token's order.
    pub groups: Vec<String>,
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Principal").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
