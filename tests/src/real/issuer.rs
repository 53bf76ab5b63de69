//! oidc-provider as the OIDC issuer: discovery, JWKS, and access tokens (RFC 9068) by client credentials (RFC 6749,
//! 4.4) with a `groups` claim. What kind of token it issues is chosen by the caller's resource indicator (RFC 8707).

use std::net::SocketAddr;
use std::path::Path;

use super::{Launch, Real};

/// The audience of tokens meant for Bailiwick.
pub const AUDIENCE: &str = "bailiwick";

/// How to run the issuer.
#[derive(Clone, Debug)]
pub struct Issuer<'a> {
    /// the `iss` claim, an https URL that leads to `listen`
    pub url: &'a str,
    /// where it listens
    pub listen: SocketAddr,
    /// PEM, with the issuer's name in it
    pub certificate: &'a Path,
    /// PEM
    pub key: &'a Path,
}

/// The tokens that it issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// for a member of `ml-analysts`, signed with RS256
    Valid,
    /// the same, signed with ES256
    ValidEs256,
    /// the same, signed with EdDSA
    ValidEdDsa,
    /// for a member of `interns`
    OtherGroup,
    /// with the audience of some other service
    OtherAudience,
    /// expired an hour ago
    Expired,
}

/// A request to the token endpoint (`{issuer}/token`, POST, `application/x-www-form-urlencoded`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// for HTTP Basic authentication
    pub client: &'static str,
    /// for HTTP Basic authentication; no secret but in a test
    pub secret: &'static str,
    /// the form
    pub body: &'static str,
}

impl TokenKind {
    /// What to send to the token endpoint. The answer is JSON with the token as `access_token`.
    #[must_use]
    pub fn request(self) -> TokenRequest {
        let analyst = |body| TokenRequest { client: "analyst", secret: "analyst-secret", body };
        match self {
            Self::Valid => analyst("grant_type=client_credentials&resource=urn:bailiwick"),
            Self::ValidEs256 => analyst("grant_type=client_credentials&resource=urn:bailiwick:es256"),
            Self::ValidEdDsa => analyst("grant_type=client_credentials&resource=urn:bailiwick:eddsa"),
            Self::OtherAudience => {
                analyst("grant_type=client_credentials&resource=urn:bailiwick:other-audience")
            }
            Self::Expired => analyst("grant_type=client_credentials&resource=urn:bailiwick:expired"),
            Self::OtherGroup => TokenRequest {
                client: "intern",
                secret: "intern-secret",
                body: "grant_type=client_credentials&resource=urn:bailiwick",
            },
        }
    }
}

impl Real {
    /// The command line of the issuer. It prints `ready` and its URL when it listens.
    #[must_use]
    pub fn issuer(&self, issuer: &Issuer<'_>) -> Launch {
        let script = self.directory().join("issuer/provider.mjs");
        Launch::new(&self.node)
            .arguments([script.display().to_string()])
            .variable("ISSUER", issuer.url)
            .variable("LISTEN_HOST", issuer.listen.ip().to_string())
            .variable("LISTEN_PORT", issuer.listen.port().to_string())
            .variable("TLS_CERTIFICATE", issuer.certificate.display().to_string())
            .variable("TLS_KEY", issuer.key.display().to_string())
            .variable("NODE_ENV", "production")
    }
}
