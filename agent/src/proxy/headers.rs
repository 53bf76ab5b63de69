//! Both heads are built anew: what is not named here does not pass, in either direction.

use super::error::{Refusal, Said};
use super::limits::Limits;
use super::request_id::RequestId;
use super::upstream::Question;
use crate::protocol::{Dialect, Form};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};

/// The request's name, for the caller, its support and the auditor.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Asks proxies in front of this one (nginx and its kin) not to collect a stream before passing it on.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The version of Anthropic's API.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// Whether a request's length is plain to see. With both `Transfer-Encoding` and `Content-Length` two readers can
/// disagree about where a request ends (RFC 9112, 6.3 and 11.2), and the HTTP library hides that both were there by
/// dropping one. So chunked requests are refused (411, which RFC 9110, 15.5.12 provides): JSON has a known length.
pub(super) fn has_plain_framing(headers: &HeaderMap) -> bool {
    !headers.contains_key(TRANSFER_ENCODING)
}

/// Whether a head is within bounds: as many fields, and bytes of them, as are accepted. HTTP/1.1's are counted before
/// they are parsed; HTTP/2's here, so that a refusal has words and a record (its library's own has neither).
pub(super) fn fits(headers: &HeaderMap, limits: &Limits) -> bool {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    headers.len() <= limits.headers && bytes <= limits.header_bytes as usize
}

/// Whether a request would go on as a WebSocket (RFC 6455, 4.1), whose messages nobody here could mask or record. Other
/// upgrades may be left unanswered (RFC 9110, 7.8), and are; a client that wants this one is told why it fails.
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let named = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|protocol| {
            let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"websocket")
        })
    };
    headers.get_all(UPGRADE).iter().any(named) || headers.contains_key(SEC_WEBSOCKET_KEY)
}

/// The version of Anthropic's API that a request is written for, if it is a date as those are: the one header of a caller's
/// that a model needs.
pub(super) fn api_version(dialect: Dialect, headers: &HeaderMap) -> Option<HeaderValue> {
    let date = |value: &&HeaderValue| {
        value.len() == 10
            && value.as_bytes().iter().enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    };
    let mut values = headers.get_all(&ANTHROPIC_VERSION).iter();
    match (dialect, values.next(), values.next()) {
        (Dialect::Anthropic, Some(one), None) => Some(one).filter(date).cloned(),
        _ => None,
    }
}

/// The model's request: nothing of the caller's but what `protocol` made of its body. The connection ends with it unless it
/// is `kept`.
pub(super) fn for_model(
    question: &Question,
    host: &HeaderValue,
    authorization: Option<HeaderValue>,
    kept: bool,
) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = question.method.clone();
    *request.uri_mut() = question.path.parse::<Uri>().ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, host.clone());
    let accept = match (question.streamed, question.dialect) {
        (false, _) => JSON,
        (true, Dialect::Ollama) => LINES,
        (true, _) => HeaderValue::from_static("text/event-stream"),
    };
    headers.insert(ACCEPT, accept);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if !kept {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if !question.body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(&question.content_type).ok()?);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(question.body.len()));
    }
    if let Some(version) = &question.version {
        headers.insert(ANTHROPIC_VERSION, version.clone());
    }
    if let Some(mut credential) = authorization {
        credential.set_sensitive(true);
        headers.insert(AUTHORIZATION, credential);
    }
    Some(request)
}

/// Whether the model's answer is encoded, and so cannot be inspected.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let encoded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    headers.get_all(CONTENT_ENCODING).iter().any(encoded)
}

/// The head of an answer. Of the model's own headers only `Retry-After` passes, in whole seconds.
pub(super) fn for_caller(
    status: StatusCode,
    form: Form,
    id: &RequestId,
    of_model: Option<&HeaderMap>,
) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let (content_type, cache_control) = match form {
        Form::Json | Form::Nothing => (JSON, "no-store"),
        Form::Text(content_type) => (HeaderValue::from_static(content_type), "no-store"),
        Form::Events => (EVENT_STREAM, "no-cache, no-store"),
        Form::Lines => (LINES, "no-cache, no-store"),
    };
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
    if form.is_stream() {
        headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
    if let Some(id) = id.header() {
        headers.insert(X_REQUEST_ID, id);
    }
    let seconds = |value: &&HeaderValue| {
        (1..=6).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_digit)
    };
    if let Some(value) = of_model.and_then(|of_model| of_model.get(RETRY_AFTER)).filter(seconds) {
        headers.insert(RETRY_AFTER, value.clone());
    }
    response
}

/// The head of a refusal.
pub(super) fn for_refusal(refusal: &Refusal, said: &Said, id: &RequestId) -> Response<()> {
    let mut response = for_caller(said.status, Form::Json, id, None);
    if let Some(challenge) = refusal.challenge() {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = refusal.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The type that a model declared, without what it may say besides.
pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    match (values.next(), values.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::Method;

    #[test]
    fn only_the_date_of_an_api_reaches_the_model() {
        for (dialect, values, passes, why) in [
            (Dialect::Anthropic, &["2023-06-01"][..], true, "as it should be"),
            (Dialect::OpenAi, &["2023-06-01"], false, "where it means nothing"),
            (Dialect::Anthropic, &[], false, "none"),
            (Dialect::Anthropic, &["2023-06-01", "2024-06-01"], false, "two"),
            (Dialect::Anthropic, &["alice-2023"], false, "a text of ten letters"),
            (Dialect::Anthropic, &["2023-06-01; alice"], false, "more than a date"),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ANTHROPIC_VERSION, HeaderValue::from_static(value));
            }
            assert_eq!(api_version(dialect, &headers).is_some(), passes, "{why}");
        }
    }

    #[test]
    fn the_models_request_has_these_headers_and_no_other() {
        let host = HeaderValue::from_static("127.0.0.1:8000");
        let credential = HeaderValue::from_static("Bearer secret");
        let question = Question {
            method: Method::POST,
            path: "/v1/chat/completions".into(),
            body: Bytes::from_static(b"{}"),
            content_type: "application/json".into(),
            streamed: true,
            dialect: Dialect::OpenAi,
            version: None,
        };
        let request = for_model(&question, &host, Some(credential), false).unwrap();
        let mut lines: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "accept-encoding: identity",
                "accept: text/event-stream",
                "authorization: Bearer secret",
                "connection: close",
                "content-length: 2",
                "content-type: application/json",
                "host: 127.0.0.1:8000",
            ]
        );
        assert!(!format!("{request:?}").contains("secret"), "the credential is not for logs");
    }

    #[test]
    fn of_the_models_answer_only_a_number_of_seconds_passes() {
        let id = RequestId::new().unwrap();
        let rows = [
            ("120", true, "seconds"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", false, "a date"),
            ("9999999", false, "a season"),
        ];
        for (value, passes, why) in rows {
            let of_model = HeaderMap::from_iter([
                (RETRY_AFTER, HeaderValue::from_str(value).unwrap()),
                (http::header::SERVER, HeaderValue::from_static("uvicorn")),
                (http::header::SET_COOKIE, HeaderValue::from_static("a=b")),
            ]);
            let answer = for_caller(StatusCode::OK, Form::Events, &id, Some(&of_model));
            let names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
            let mut expected = vec!["content-type", "cache-control", "x-accel-buffering", "x-request-id"];
            expected.extend(passes.then_some("retry-after"));
            assert_eq!(names, expected, "{why}");
        }
    }

    #[test]
    fn any_encoding_but_identity_is_one() {
        for (value, encoded) in
            [("identity", false), ("Identity", false), ("gzip", true), ("identity, gzip", true), ("", true)]
        {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(is_encoded(&headers), encoded, "{value:?}");
        }
        assert!(!is_encoded(&HeaderMap::new()));
    }
}
