//! Every refusal before admission, and its one status, code and message.

use super::body::BodyError;
use super::quota::{Exceeded, Limit};
use super::route::RouteError;
use super::unreadable;
use crate::identity::AuthenticationError;
use crate::protocol::ProtocolError;
use bailiwick_policy::{Denial, DenialReason};
use http::{HeaderValue, StatusCode};

/// Why a request was not admitted. Holds nothing of its payload or credential.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The message's length is given by chunks: see [`super::headers::has_plain_framing`].
    LengthRequired,
    /// The head is larger than is accepted: see [`super::headers::fits`].
    HeadTooLarge,
    /// A WebSocket is asked for: see [`super::headers::asks_for_websocket`].
    WebSocket,
    /// The path leads nowhere.
    Route(RouteError),
    /// The caller is not known.
    Identity(AuthenticationError),
    /// No rule lets the caller do this.
    Policy(Denial),
    /// The caller has used what the rule allows.
    Limit(Exceeded),
    /// The permit's rule names a mask that is not there.
    MaskMissing,
    /// The body cannot be had.
    Body(BodyError),
    /// The body cannot be passed on.
    Protocol(ProtocolError),
    /// No server of the model takes a connection.
    ModelUnavailable {
        /// Seconds after which it is worth trying again.
        retry_after: u64,
    },
    /// The audit trail cannot be written.
    Audit,
}

/// What a refusal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) status: StatusCode,
    /// Kebab-case; also the audit trail's reason.
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    /// The one table.
    pub(super) fn say(&self) -> Said {
        let said = |status, code, message: &str| Said { status, code, message: message.to_owned() };
        match self {
            Self::LengthRequired => said(
                StatusCode::LENGTH_REQUIRED,
                "length-required",
                "a request with Transfer-Encoding is not accepted: send Content-Length",
            ),
            Self::HeadTooLarge => unreadable::said(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::WebSocket => said(
                StatusCode::BAD_REQUEST,
                "websocket-not-accepted",
                "a WebSocket (as for realtime sessions) cannot be inspected: ask over plain HTTP, with \"stream\": true for a stream",
            ),
            Self::Route(error) => match error {
                RouteError::NotCanonical => said(
                    StatusCode::BAD_REQUEST,
                    "path-not-canonical",
                    "the path may hold letters, digits, '-', '_', '.' and single slashes: nothing encoded, no '.' or '..' segments",
                ),
                RouteError::Query => said(
                    StatusCode::BAD_REQUEST,
                    "query-not-accepted",
                    "no endpoint takes a query: leave it out",
                ),
                RouteError::ModelUnknown => said(
                    StatusCode::NOT_FOUND,
                    "model-unknown",
                    "no model has the name that the path begins with: use /<model>/ and the path as the model's server has it",
                ),
                RouteError::ModelNotNamed => said(
                    StatusCode::NOT_FOUND,
                    "model-not-named",
                    "there is not exactly one model here: name it in the path, before what the model's server has (/<model>/v1/…)",
                ),
                RouteError::EndpointUnknown => said(
                    StatusCode::NOT_FOUND,
                    "endpoint-unknown",
                    "the model has no such method and path, or none that can be inspected",
                ),
            },
            Self::Identity(error) => said(error.status, error.code, &error.message),
            Self::Policy(denial) => {
                let (code, message) = match denial.reason {
                    DenialReason::ModelNotOpened => ("model-not-opened", "no access rule opens this model"),
                    DenialReason::IssuerNotAllowed => {
                        ("issuer-not-allowed", "no access rule for this model trusts the caller's issuer")
                    }
                    DenialReason::SubjectNotAllowed => {
                        ("subject-not-allowed", "the access rules for this model name other callers")
                    }
                    DenialReason::ClaimNotAllowed => (
                        "claim-not-allowed",
                        "the caller's token has not the claims that this model asks for",
                    ),
                    DenialReason::CertificateNotAllowed => (
                        "certificate-not-allowed",
                        "this model asks for a client certificate of another name, or for one at all",
                    ),
                    DenialReason::TimeNotAllowed => {
                        ("time-not-allowed", "the caller may use this model, but not at this time")
                    }
                    DenialReason::GroupNotAllowed => {
                        ("group-not-allowed", "none of the caller's groups may use this model")
                    }
                    DenialReason::CallerRegionNotAllowed => {
                        ("caller-region-not-allowed", "the caller is in no region that may use this model")
                    }
                    DenialReason::OperationNotAllowed => {
                        ("operation-not-allowed", "the caller may use this model, but not for this operation")
                    }
                };
                said(StatusCode::FORBIDDEN, code, message)
            }
            Self::Limit(exceeded) => {
                let (code, message) = match exceeded.what {
                    Limit::Requests => ("request-limit", "too many requests in a minute"),
                    Limit::Streams => ("stream-limit", "too many streams at once"),
                    Limit::TokensPerMinute => ("token-limit", "too many tokens in a minute"),
                    Limit::TokensPerDay => ("daily-token-limit", "the day's tokens are used up"),
                    Limit::Callers => ("caller-limit", "too many callers are being counted"),
                };
                let message = format!("{message}: try again in {} s", exceeded.retry_after);
                Said { status: StatusCode::TOO_MANY_REQUESTS, code, message }
            }
            Self::MaskMissing => said(
                StatusCode::INTERNAL_SERVER_ERROR,
                "mask-missing",
                "the access rule names a mask that is not configured: run 'bailiwick check'",
            ),
            Self::Body(error) => {
                let (status, code) = match error {
                    BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
                    BodyError::Encoded => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding-not-accepted"),
                    BodyError::Binary => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding-not-accepted"),
                    BodyError::NotJson | BodyError::NotForm => {
                        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type-not-accepted")
                    }
                    BodyError::Unexpected => (StatusCode::BAD_REQUEST, "body-not-expected"),
                    BodyError::Incomplete => (StatusCode::BAD_REQUEST, "body-incomplete"),
                    BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body-too-slow"),
                    BodyError::NoRoom => (StatusCode::SERVICE_UNAVAILABLE, "no-room"),
                };
                said(status, code, &error.to_string())
            }
            Self::Protocol(error) => said(error.status, error.code, &error.message),
            Self::ModelUnavailable { .. } => said(
                StatusCode::SERVICE_UNAVAILABLE,
                "model-unavailable",
                "no server of the model can be reached at the moment: nothing was sent, try again shortly",
            ),
            Self::Audit => said(
                StatusCode::SERVICE_UNAVAILABLE,
                "audit-unavailable",
                "requests are served only while they can be recorded: the audit trail cannot be written",
            ),
        }
    }

    /// Seconds after which it is worth trying again.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Limit(exceeded) => Some(exceeded.retry_after),
            Self::ModelUnavailable { retry_after } => Some(*retry_after),
            Self::Identity(error) if error.status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            Self::Identity(_)
            | Self::LengthRequired
            | Self::HeadTooLarge
            | Self::WebSocket
            | Self::Route(_)
            | Self::Policy(_)
            | Self::MaskMissing
            | Self::Body(_)
            | Self::Protocol(_)
            | Self::Audit => None,
        }
    }

    /// The challenge that a 401 carries (RFC 6750, 3): no `error` where there was no credential at all.
    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        let Self::Identity(error) = self else { return None };
        if error.status != StatusCode::UNAUTHORIZED {
            return None;
        }
        if error.code == "no-credentials" {
            return Some(HeaderValue::from_static(r#"Bearer realm="bailiwick""#));
        }
        // The message is ours and holds no quote; were that to change, the bare challenge still stands.
        let description = error.message.replace(['"', '\\'], "'");
        let full = format!(
            r#"Bearer realm="bailiwick", error="invalid_token", error_description="{}: {description}""#,
            error.code
        );
        HeaderValue::from_str(&full).ok().or(Some(HeaderValue::from_static(r#"Bearer realm="bailiwick""#)))
    }
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Self {
        Self::Route(error)
    }
}

impl From<AuthenticationError> for Refusal {
    fn from(error: AuthenticationError) -> Self {
        Self::Identity(error)
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Policy(denial)
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        Self::Limit(exceeded)
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<ProtocolError> for Refusal {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(status: StatusCode, code: &'static str) -> Refusal {
        Refusal::Identity(AuthenticationError {
            status,
            code,
            message: "a \"quoted\" word".into(),
            issuer: None,
        })
    }

    #[test]
    fn only_a_401_challenges_and_says_no_more_than_rfc_6750_asks() {
        let bare = identity(StatusCode::UNAUTHORIZED, "no-credentials").challenge().unwrap();
        assert_eq!(bare, r#"Bearer realm="bailiwick""#);
        let full = identity(StatusCode::UNAUTHORIZED, "token-expired").challenge().unwrap();
        assert_eq!(
            full,
            r#"Bearer realm="bailiwick", error="invalid_token", error_description="token-expired: a 'quoted' word""#
        );
        assert_eq!(identity(StatusCode::FORBIDDEN, "groups-overage").challenge(), None);
        assert_eq!(Refusal::LengthRequired.challenge(), None);
    }
}
