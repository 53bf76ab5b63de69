//! What goes wrong with a request or an answer, in words that the caller may read.

use super::Dialect;
use bailiwick_masking::MaskError;
use bytes::Bytes;
use http::StatusCode;

/// What the caller may read; holds no payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ProtocolError {
    /// The answer's status, where it has not been sent yet.
    pub status: StatusCode,
    /// Kebab-case, also the audit reason.
    pub code: &'static str,
    /// One sentence, with the cure where there is one.
    pub message: String,
}

/// `{"error": {"message", "type", "code", "param": null, "request_id"}}` (OpenAI's error shape).
#[must_use]
pub fn error_body(status: StatusCode, code: &str, message: &str, request_id: &str) -> Bytes {
    let body = serde_json::json!({"error": {
        "message": message,
        "type": error_type(status),
        "code": code,
        "param": null,
        "request_id": request_id,
    }});
    Bytes::from(body.to_string())
}

/// An error in the shape of the dialect that was spoken, so that its clients raise what they should.
#[must_use]
pub fn error_in(dialect: Dialect, status: StatusCode, code: &str, message: &str, request_id: &str) -> Bytes {
    let said = format!("{code}: {message}");
    let body = match dialect {
        Dialect::OpenAi | Dialect::Responses => return error_body(status, code, message, request_id),
        Dialect::Anthropic => serde_json::json!({
            "type": "error",
            "error": {"type": anthropic_type(status), "message": said, "code": code},
            "request_id": request_id,
        }),
        Dialect::Tgi => serde_json::json!({
            "error": said, "error_type": tgi_type(status), "code": code, "request_id": request_id,
        }),
        Dialect::Ollama | Dialect::Kserve => {
            serde_json::json!({"error": said, "code": code, "request_id": request_id})
        }
    };
    Bytes::from(body.to_string())
}

/// The types that Anthropic's clients know.
fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 => "overloaded_error",
        500..=599 => "api_error",
        _ => "invalid_request_error",
    }
}

/// The types that TGI's clients know.
fn tgi_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 | 503 => "overloaded",
        500..=599 => "generation",
        _ => "validation",
    }
}

/// The types that OpenAI's clients know.
fn error_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        500..=599 => "server_error",
        _ => "invalid_request_error",
    }
}

impl ProtocolError {
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    pub(super) fn not_inspectable(message: &'static str) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            code: "content-not-inspectable",
            message: message.into(),
        }
    }

    /// The model's answer is not one that this room can read.
    pub(super) fn answer(message: &'static str) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, code: "answer-not-inspectable", message: message.into() }
    }

    /// Why a request cannot be masked.
    pub(super) fn of_request(error: MaskError) -> Self {
        match error {
            MaskError::Blocked(_) | MaskError::BlockedField => {
                Self::blocked(format!("the request is {error}"))
            }
            MaskError::DuplicateKey => Self::bad_request("duplicate-key", error.to_string()),
            MaskError::Unreadable(_) => {
                Self::bad_request("body-not-json", format!("the body cannot be read: {error}"))
            }
        }
    }

    /// Why an answer cannot be masked.
    pub(super) fn of_answer(error: MaskError) -> Self {
        match error {
            MaskError::Blocked(_) | MaskError::BlockedField => {
                Self::blocked(format!("the answer is {error}"))
            }
            MaskError::DuplicateKey => {
                Self::answer("the model's answer has a JSON object with the same key twice")
            }
            MaskError::Unreadable(_) => Self::answer("the model's answer is not JSON as it should be"),
        }
    }

    fn blocked(message: String) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, code: "blocked-by-mask", message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_shape_that_clients_read() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (413, "invalid_request_error"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "server_error"),
            (502, "server_error"),
        ] {
            let body = error_body(StatusCode::from_u16(status).unwrap(), "some-code", "Say \"why\".", "r-1");
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let expected = serde_json::json!({"error": {
                "message": "Say \"why\".", "type": kind, "code": "some-code", "param": null, "request_id": "r-1",
            }});
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn each_dialect_is_told_in_its_own_shape() {
        for (dialect, status, expected) in [
            (
                Dialect::Anthropic,
                403,
                serde_json::json!({"type": "error", "request_id": "r-1", "error":
                    {"type": "permission_error", "message": "some-code: Why.", "code": "some-code"}}),
            ),
            (
                Dialect::Tgi,
                422,
                serde_json::json!({"error": "some-code: Why.", "error_type": "validation", "code": "some-code",
                    "request_id": "r-1"}),
            ),
            (
                Dialect::Ollama,
                404,
                serde_json::json!({"error": "some-code: Why.", "code": "some-code", "request_id": "r-1"}),
            ),
            (
                Dialect::Kserve,
                502,
                serde_json::json!({"error": "some-code: Why.", "code": "some-code", "request_id": "r-1"}),
            ),
        ] {
            let body = error_in(dialect, StatusCode::from_u16(status).unwrap(), "some-code", "Why.", "r-1");
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), expected);
        }
        let status = StatusCode::FORBIDDEN;
        for dialect in [Dialect::OpenAi, Dialect::Responses] {
            assert_eq!(error_in(dialect, status, "c", "m", "r"), error_body(status, "c", "m", "r"));
        }
        for (status, kind) in [
            (400, "invalid_request_error"),
            (413, "request_too_large"),
            (429, "rate_limit_error"),
            (503, "overloaded_error"),
        ] {
            assert_eq!(anthropic_type(StatusCode::from_u16(status).unwrap()), kind);
        }
    }
}
