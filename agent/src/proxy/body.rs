//! A request's body: checked before it is read, read whole and bounded.

use crate::protocol::BodyForm;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The room for bodies is counted in pieces of this many bytes.
const UNIT: usize = 1024;

/// Why there is no body to work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// Beyond `max_body`, of the proxy or of the rule.
    #[error(
        "the body is larger than {limit} bytes: send less, or have the limit raised ([proxy] max_body, or the access rule's)"
    )]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// Cannot be inspected as it is.
    #[error("the body is encoded (Content-Encoding): send it as it is")]
    Encoded,
    /// Not one that can be inspected.
    #[error("the body's type is not application/json")]
    NotJson,
    /// The same, where a form is expected.
    #[error("the body's type is not multipart/form-data")]
    NotForm,
    /// Tensors after the JSON (`KServe`'s binary data extension).
    #[error(
        "the body has binary data after its JSON (Inference-Header-Content-Length): send tensors as JSON"
    )]
    Binary,
    /// On a method that has none.
    #[error("this endpoint takes no body")]
    Unexpected,
    /// Ended early or against the protocol.
    #[error("the body broke off")]
    Incomplete,
    /// Silent for too long.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The bodies of other requests take all the memory that there is for bodies.
    #[error("too many large requests are under way: try again shortly")]
    NoRoom,
}

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<'a> {
    /// Bytes.
    pub(super) limit: u64,
    /// Longest wait for each piece.
    pub(super) idle: Duration,
    /// For all bodies together; see [`room`].
    pub(super) room: &'a Arc<Semaphore>,
}

/// Held for as long as a body is.
#[derive(Debug, Default)]
pub(super) struct Room(Option<OwnedSemaphorePermit>);

/// Room for that many bytes.
pub(super) fn room(bytes: u64) -> Arc<Semaphore> {
    let units = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(UNIT);
    Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)))
}

impl Room {
    /// Grows to hold `bytes`; nobody waits for room, since those who have some may be waiting for more.
    fn grow(&mut self, bytes: usize, all: &Arc<Semaphore>) -> Result<(), BodyError> {
        let held = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(bytes.div_ceil(UNIT).saturating_sub(held)).map_err(|_| BodyError::NoRoom)?;
        let more = Arc::clone(all).try_acquire_many_owned(more).map_err(|_| BodyError::NoRoom)?;
        match &mut self.0 {
            Some(permit) => permit.merge(more),
            none @ None => *none = Some(more),
        }
        Ok(())
    }
}

/// Reads a body within its bounds. What the head says is checked first, so that a client that waits for
/// `100 Continue` is told before it sends anything.
pub(super) async fn read<B>(
    form: BodyForm,
    headers: &HeaderMap,
    mut body: B,
    bounds: Bounds<'_>,
) -> Result<(Bytes, Room), BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let limit = check_head(form, headers, bounds.limit)?;
    let declared = declared(headers).and_then(|length| usize::try_from(length).ok());
    let (mut read, mut room) = (Vec::new(), Room::default());
    loop {
        match tokio::time::timeout(bounds.idle, body.frame()).await {
            Err(_) => return Err(BodyError::TooSlow),
            Ok(None) => return Ok((Bytes::from(read), room)),
            Ok(Some(Err(_))) => return Err(BodyError::Incomplete),
            // Trailers are dropped: nothing of them would be passed on.
            Ok(Some(Ok(frame))) => {
                let Ok(piece) = frame.into_data() else { continue };
                if (read.len() + piece.len()) as u64 > limit {
                    return Err(if limit == 0 {
                        BodyError::Unexpected
                    } else {
                        BodyError::TooLarge { limit }
                    });
                }
                room.grow(read.len() + piece.len(), bounds.room)?;
                reserve(&mut read, piece.len(), declared);
                read.extend_from_slice(&piece);
            }
        }
    }
}

/// Memory for `more` bytes. It grows by half, so that what is declared and never comes costs nothing, and at the last to what is
/// declared, so that a large body takes no more than it is long.
fn reserve(read: &mut Vec<u8>, more: usize, declared: Option<usize>) {
    let needed = read.len() + more;
    if needed > read.capacity() {
        let ahead = needed + needed / 2;
        let enough =
            declared.filter(|declared| *declared >= needed).map_or(ahead, |declared| declared.min(ahead));
        read.reserve_exact(enough - read.len());
    }
}

/// What the head says that the body is long, in bytes.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// The bound that applies: zero for an endpoint without a body.
fn check_head(form: BodyForm, headers: &HeaderMap, limit: u64) -> Result<u64, BodyError> {
    let encoded = |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(encoded) {
        return Err(BodyError::Encoded);
    }
    if headers.contains_key("inference-header-content-length") {
        return Err(BodyError::Binary);
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let only = match (types.next(), types.next()) {
        (Some(one), None) => one.as_bytes(),
        _ => &[],
    };
    match form {
        BodyForm::Empty => return Ok(0),
        BodyForm::Json if is_json(only) => {}
        BodyForm::Json => return Err(BodyError::NotJson),
        BodyForm::Multipart if is_form(only) => {}
        BodyForm::Multipart => return Err(BodyError::NotForm),
    }
    match declared(headers) {
        Some(length) if length > limit => Err(BodyError::TooLarge { limit }),
        Some(_) | None => Ok(limit),
    }
}

/// `application/json`, with no charset or with the only one that JSON has (RFC 8259, 8.1).
fn is_json(content_type: &[u8]) -> bool {
    if content_type == b"application/json" {
        return true;
    }
    let Ok(text) = std::str::from_utf8(content_type) else { return false };
    let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
    parts.next().as_deref() == Some("application/json")
        && parts.all(|parameter| matches!(parameter.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\""))
}

/// `multipart/form-data`; whose boundary it names is for `protocol` to judge.
fn is_form(content_type: &[u8]) -> bool {
    const FORM: &[u8] = b"multipart/form-data;";
    content_type.get(..FORM.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(FORM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http_body_util::Full;

    async fn outcome(
        form: BodyForm,
        headers: &[(http::HeaderName, &'static str)],
        body: &'static str,
    ) -> Result<Bytes, BodyError> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect::<Vec<_>>();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        let bounds = Bounds { limit: 8, idle: Duration::from_secs(1), room: &room(8) };
        let body = Full::new(Bytes::from_static(body.as_bytes()));
        read(form, &map, body, bounds).await.map(|(body, _)| body)
    }

    #[tokio::test]
    async fn only_a_plain_json_body_within_the_bound_is_read() {
        const JSON: (http::HeaderName, &str) = (CONTENT_TYPE, "application/json");
        let too_large = Err(BodyError::TooLarge { limit: 8 });
        let rows = [
            (BodyForm::Json, vec![JSON], "{\"a\":1}", Ok("{\"a\":1}"), "as it should be"),
            (
                BodyForm::Json,
                vec![(CONTENT_TYPE, "Application/JSON; charset=UTF-8")],
                "{}",
                Ok("{}"),
                "types ignore case",
            ),
            (BodyForm::Json, vec![JSON, (CONTENT_ENCODING, "identity")], "{}", Ok("{}"), "not encoded"),
            (BodyForm::Json, vec![JSON], "{\"a\": 10}", too_large, "one byte too many"),
            (BodyForm::Json, vec![JSON, (CONTENT_LENGTH, "9")], "", too_large, "refused by its head alone"),
            (
                BodyForm::Json,
                vec![JSON, (CONTENT_ENCODING, "gzip")],
                "{}",
                Err(BodyError::Encoded),
                "cannot be inspected",
            ),
            (
                BodyForm::Json,
                vec![JSON, (CONTENT_ENCODING, "identity"), (CONTENT_ENCODING, "br")],
                "{}",
                Err(BodyError::Encoded),
                "encoded in the second line",
            ),
            (BodyForm::Json, vec![], "{}", Err(BodyError::NotJson), "no type"),
            (
                BodyForm::Json,
                vec![(CONTENT_TYPE, "text/plain")],
                "{}",
                Err(BodyError::NotJson),
                "another type",
            ),
            (
                BodyForm::Json,
                vec![JSON, (CONTENT_TYPE, "text/plain")],
                "{}",
                Err(BodyError::NotJson),
                "two types",
            ),
            (
                BodyForm::Json,
                vec![(CONTENT_TYPE, "application/json; charset=utf-16")],
                "{}",
                Err(BodyError::NotJson),
                "another charset",
            ),
            (
                BodyForm::Json,
                vec![(CONTENT_TYPE, "application/jsonp")],
                "{}",
                Err(BodyError::NotJson),
                "a longer name",
            ),
            (
                BodyForm::Json,
                vec![JSON, (http::HeaderName::from_static("inference-header-content-length"), "2")],
                "{}",
                Err(BodyError::Binary),
                "tensors after the JSON",
            ),
            (
                BodyForm::Multipart,
                vec![(CONTENT_TYPE, "Multipart/form-data; boundary=b")],
                "--b--",
                Ok("--b--"),
                "a form",
            ),
            (BodyForm::Multipart, vec![JSON], "{}", Err(BodyError::NotForm), "no form"),
            (
                BodyForm::Json,
                vec![(CONTENT_TYPE, "multipart/form-data; boundary=b")],
                "--b--",
                Err(BodyError::NotJson),
                "a form where none is expected",
            ),
            (BodyForm::Empty, vec![], "", Ok(""), "no body on GET"),
            (BodyForm::Empty, vec![JSON], "{}", Err(BodyError::Unexpected), "a body on GET"),
        ];
        for (form, headers, body, expected, why) in rows {
            assert_eq!(outcome(form, &headers, body).await, expected.map(Bytes::from), "{why}");
        }
    }

    #[test]
    fn memory_grows_with_what_comes_and_ends_at_what_is_declared() {
        const PIECE: usize = 16 << 10;
        const LENGTH: usize = 50 << 20;
        for (declared, most, why) in [
            (Some(LENGTH), LENGTH, "declared"),
            (None, LENGTH + LENGTH / 2, "not declared"),
            (Some(1), LENGTH + LENGTH / 2, "declared less"),
        ] {
            let (mut read, mut moves) = (Vec::new(), 0);
            while read.len() < LENGTH {
                let before = read.capacity();
                reserve(&mut read, PIECE, declared);
                assert!(read.capacity() <= (read.len() + PIECE) * 3 / 2, "{why}: ahead of what came");
                moves += usize::from(read.capacity() != before);
                read.resize(read.len() + PIECE, 0);
            }
            assert!(read.capacity() <= most && moves < 24, "{why}: {} bytes, {moves} moves", read.capacity());
        }
    }

    #[tokio::test]
    async fn a_silent_sender_is_not_waited_for() {
        struct Silent;
        impl Body for Silent {
            type Data = Bytes;
            type Error = std::convert::Infallible;
            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
                std::task::Poll::Pending
            }
        }
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let bounds = Bounds { limit: 8, idle: Duration::from_millis(10), room: &room(8) };
        let read = read(BodyForm::Json, &headers, Silent, bounds).await;
        assert_eq!(read.unwrap_err(), BodyError::TooSlow);
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded() {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let all = room(2 * UNIT as u64);
        let bounds = Bounds { limit: 1 << 20, idle: Duration::from_secs(1), room: &all };
        let ask =
            |bytes: usize| read(BodyForm::Json, &headers, Full::new(Bytes::from(vec![b' '; bytes])), bounds);
        let (_, first) = ask(UNIT + 1).await.unwrap();
        assert_eq!(ask(1).await.unwrap_err(), BodyError::NoRoom, "the first one is still there");
        drop(first);
        assert!(ask(2 * UNIT).await.is_ok(), "it is gone");
        assert_eq!(ask(2 * UNIT + 1).await.unwrap_err(), BodyError::NoRoom, "more than there ever is");
        assert_eq!(all.available_permits(), 2, "and nothing of it stays taken");
    }
}
