//! Why a caller is not known: one table from fault to status, code and message.

use http::StatusCode;

/// Two parts: what the caller may read, and the cause for the log (written where it is known).
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AuthenticationError {
    /// 400, 401, 403 or 503.
    pub status: StatusCode,
    /// Kebab-case; also the audit trail's reason.
    pub code: &'static str,
    /// What is wrong and what to do about it; holds nothing of the token.
    pub message: String,
    /// Who the token says it is from, once the issuer is known to be ours.
    pub issuer: Option<String>,
}

impl AuthenticationError {
    /// A connection's certificate was good when it was opened, and is not any more.
    pub(crate) fn certificate_withdrawn() -> Self {
        Fault::CertificateWithdrawn.into()
    }

    /// A connection was opened without a certificate, before there had to be one.
    pub(crate) fn certificate_missing() -> Self {
        Fault::CertificateMissing.into()
    }
}

/// Everything that can be wrong with a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoCredentials,
    CredentialsAmbiguous,
    SchemeNotBearer,
    TokenTooLarge,
    TokenMalformed,
    TokenOpaque,
    OktaOrgToken,
    CriticalHeader,
    TypeNotAllowed,
    KindNotAllowed,
    AlgorithmNotAllowed,
    IssuerMissing,
    IssuerUnknown,
    IssuerUnavailable,
    IssuerBusy,
    TokenInactive,
    KeyUnknown,
    KeyMismatch,
    SignatureInvalid,
    AudienceMismatch,
    ExpiryMissing,
    TimeUnreadable,
    Expired,
    NotYetValid,
    ClientNotAllowed,
    BindingUnsupported,
    NotBound,
    BindingMismatch,
    CertificateMissing,
    CertificateExpired,
    CertificateWithdrawn,
    CertificateNameless,
    SubjectMissing,
    GroupsOverage,
    GroupsUnreadable,
}

impl Fault {
    /// The error for a caller whose issuer is known to be ours.
    pub(super) fn told_of(self, issuer: &str) -> AuthenticationError {
        AuthenticationError { issuer: Some(issuer.to_owned()), ..self.into() }
    }

    /// Status, code and message. RFC 6750, 3.1: 401 for what a new token may cure; 403 for what it may not.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
        match self {
            Self::NoCredentials => (
                UNAUTHORIZED,
                "no-credentials",
                "there is no credential: send 'Authorization: Bearer <access token>'",
            ),
            Self::CredentialsAmbiguous => (
                StatusCode::BAD_REQUEST,
                "credentials-ambiguous",
                "there is more than one credential (Authorization, or x-api-key): send exactly one",
            ),
            Self::SchemeNotBearer => (
                UNAUTHORIZED,
                "no-credentials",
                "the Authorization scheme is not Bearer: send 'Authorization: Bearer <access token>'",
            ),
            Self::TokenTooLarge => (
                UNAUTHORIZED,
                "token-malformed",
                "the token is larger than 16 KiB: ask the issuer for fewer claims",
            ),
            Self::TokenMalformed => (
                UNAUTHORIZED,
                "token-malformed",
                "the token is not a signed JWT (RFC 7519), though it begins like one",
            ),
            Self::TokenOpaque => (
                UNAUTHORIZED,
                "token-opaque",
                "the token is opaque: ask the issuer for a JWT access token (with Okta, from a custom authorization server, …/oauth2/…), or have [issuer.introspection] configured",
            ),
            Self::OktaOrgToken => (
                UNAUTHORIZED,
                "okta-org-token",
                "the token is from Okta's org authorization server: only Okta can verify it, and it carries no groups; ask a custom authorization server (…/oauth2/default) for one",
            ),
            Self::CriticalHeader => (
                UNAUTHORIZED,
                "token-malformed",
                "the token has critical header parameters that are not understood here (RFC 7515, 4.1.11)",
            ),
            Self::TypeNotAllowed => (
                UNAUTHORIZED,
                "token-type-not-allowed",
                "the token's 'typ' is not that of an access token: it may be absent, JWT or at+jwt (RFC 9068)",
            ),
            Self::KindNotAllowed => (
                UNAUTHORIZED,
                "token-type-not-allowed",
                "the token is no access token, or does not say that it is one: send the access token, not the ID token",
            ),
            Self::AlgorithmNotAllowed => (
                UNAUTHORIZED,
                "algorithm-not-allowed",
                "the token's algorithm is not accepted: use RS, PS or ES with 256, 384 or 512, or EdDSA",
            ),
            Self::IssuerMissing => (UNAUTHORIZED, "token-malformed", "the token has no readable 'iss' claim"),
            Self::IssuerUnknown => (
                UNAUTHORIZED,
                "issuer-unknown",
                "the token's issuer is not configured here: 'iss' must equal an issuer's url exactly",
            ),
            Self::IssuerUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "issuer-unavailable",
                "the issuer's keys cannot be had at the moment: try again shortly",
            ),
            Self::IssuerBusy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "issuer-busy",
                "too many opaque tokens wait for the issuer's word: try again shortly",
            ),
            Self::TokenInactive => (
                UNAUTHORIZED,
                "token-inactive",
                "the issuer says that the token is not active: it is unknown, revoked or has expired",
            ),
            Self::KeyUnknown => (
                UNAUTHORIZED,
                "key-unknown",
                "the issuer publishes no key with the token's 'kid': get a new token",
            ),
            Self::KeyMismatch => (
                UNAUTHORIZED,
                "algorithm-not-allowed",
                "the token's algorithm does not fit the key that its 'kid' names",
            ),
            Self::SignatureInvalid => (
                UNAUTHORIZED,
                "signature-invalid",
                "the token's signature does not verify with the issuer's key",
            ),
            Self::AudienceMismatch => (
                UNAUTHORIZED,
                "audience-mismatch",
                "the token is for another service: ask the issuer for one with this service's audience",
            ),
            Self::ExpiryMissing => (UNAUTHORIZED, "token-malformed", "the token has no 'exp' claim"),
            Self::TimeUnreadable => (
                UNAUTHORIZED,
                "token-malformed",
                "a time in the token ('exp', 'nbf' or 'iat') is not a NumericDate",
            ),
            Self::Expired => (UNAUTHORIZED, "token-expired", "the token has expired: get a new one"),
            Self::NotYetValid => (
                UNAUTHORIZED,
                "token-not-yet-valid",
                "the token is from the future ('nbf' or 'iat'): check both clocks",
            ),
            Self::ClientNotAllowed => (
                StatusCode::FORBIDDEN,
                "client-not-allowed",
                "the token was issued to a client ('azp' or 'client_id') whose tokens are not accepted here",
            ),
            Self::BindingUnsupported => (
                UNAUTHORIZED,
                "token-binding-not-supported",
                "the token is bound to a key ('cnf') in a way that cannot be checked here: only x5t#S256 can (RFC 8705)",
            ),
            Self::NotBound => (
                UNAUTHORIZED,
                "token-not-bound",
                "the token is not bound to a client certificate ('cnf' with x5t#S256, RFC 8705), and has to be",
            ),
            Self::BindingMismatch => (
                UNAUTHORIZED,
                "token-binding-mismatch",
                "the token is bound to a client certificate that this connection was not opened with (RFC 8705)",
            ),
            Self::CertificateMissing => (
                UNAUTHORIZED,
                "certificate-missing",
                "a client certificate is needed: open the connection with one",
            ),
            Self::CertificateExpired => (
                UNAUTHORIZED,
                "certificate-expired",
                "the client certificate has expired since the connection was opened: connect with a new one",
            ),
            Self::CertificateWithdrawn => (
                UNAUTHORIZED,
                "certificate-withdrawn",
                "the client certificate is not accepted any more: it was revoked, its revocation list has expired, or its authority is not trusted now",
            ),
            Self::CertificateNameless => (
                UNAUTHORIZED,
                "certificate-nameless",
                "the client certificate has no name to go by: it needs a URI or DNS name as subject alternative name",
            ),
            Self::SubjectMissing => {
                (UNAUTHORIZED, "token-malformed", "the token has no readable 'sub' claim")
            }
            Self::GroupsOverage => (
                StatusCode::FORBIDDEN,
                "groups-overage",
                "the issuer left the groups out because there are too many: have it emit only groups assigned to the application, or app roles",
            ),
            Self::GroupsUnreadable => (
                StatusCode::FORBIDDEN,
                "groups-unreadable",
                "the token's group claim is neither a string nor a list of strings",
            ),
        }
    }
}

impl From<Fault> for AuthenticationError {
    fn from(fault: Fault) -> Self {
        let (status, code, message) = fault.row();
        Self { status, code, message: message.to_owned(), issuer: None }
    }
}
