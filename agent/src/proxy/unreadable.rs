//! Requests that never become one. The HTTP library answers a head that it cannot read by itself, with an empty
//! body and before anybody is asked; here that answer gets the API's own error shape and a request id, and the
//! trail gets a record under the same id.

use super::error::Said;
use super::request_id::RequestId;
use crate::protocol;
use bytes::{Buf, Bytes};
use http::StatusCode;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What is said of a head that cannot be read, by the status that the library chose.
pub(super) fn said(status: StatusCode) -> Said {
    let (code, message) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ("head-too-large", "the request's head is larger, or has more fields, than is accepted")
        }
        StatusCode::URI_TOO_LONG => ("path-too-long", "the path is longer than any that leads somewhere"),
        _ => ("request-malformed", "the request's head cannot be read (RFC 9112)"),
    };
    Said { status, code, message: message.to_owned() }
}

/// A connection whose bare refusals are put into words.
#[derive(Debug)]
pub(super) struct Worded<I> {
    io: I,
    id: Option<RequestId>,
    worded: Option<Rewritten>,
}

#[derive(Debug)]
struct Rewritten {
    answer: Bytes,
    /// How many bytes of the library's own it stands for.
    replaces: usize,
}

impl<I> Worded<I> {
    /// Around `io`; `id` names the one request of this connection that may turn out to be unreadable.
    pub(super) fn new(io: I, id: Option<RequestId>) -> Self {
        Self { io, id, worded: None }
    }
}

impl<I: Read + Unpin> Read for Worded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for Worded<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.worded.is_none() {
            this.worded = this.id.as_ref().and_then(|id| reword(bytes, id));
        }
        let Some(rewritten) = &mut this.worded else {
            return Pin::new(&mut this.io).poll_write(cx, bytes);
        };
        while rewritten.answer.has_remaining() {
            match ready!(Pin::new(&mut this.io).poll_write(cx, &rewritten.answer))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => rewritten.answer.advance(written),
            }
        }
        let replaces = rewritten.replaces;
        this.worded = None;
        Poll::Ready(Ok(replaces))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices.iter().find(|slice| !slice.is_empty()) {
            Some(first) if self.worded.is_some() || is_bare_refusal(first) => self.poll_write(cx, first),
            Some(_) | None => Pin::new(&mut self.io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Whether these bytes are a whole refusal with an empty body. The proxy itself writes none: each of its
/// refusals has a body.
fn is_bare_refusal(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 4")
        && bytes.ends_with(b"\r\n\r\n")
        && bytes.windows(19).any(|window| window == b"content-length: 0\r\n")
}

fn reword(bytes: &[u8], id: &RequestId) -> Option<Rewritten> {
    if !is_bare_refusal(bytes) {
        return None;
    }
    let status = StatusCode::from_bytes(bytes.get(9..12)?).ok()?;
    let said = said(status);
    let body = protocol::error_body(said.status, said.code, &said.message, id.as_str());
    let reason = status.canonical_reason().unwrap_or("Refused");
    let head = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        body.len(),
    );
    let answer = [head.as_bytes(), &body].concat().into();
    Some(Rewritten { answer, replaces: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_refusal_with_an_empty_body_is_put_into_words() {
        let id = RequestId::new().unwrap();
        let rows: &[(&[u8], Option<&str>, &str)] = &[
            (
                b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n",
                Some("request-malformed"),
                "a head that cannot be read",
            ),
            (
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n",
                Some("head-too-large"),
                "a head that is too large",
            ),
            (b"HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\n\r\n", Some("path-too-long"), "a path"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None, "no refusal"),
            (
                b"HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n",
                None,
                "has its words already",
            ),
            (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n", None, "not whole"),
            (b"data: HTTP/1.1 400 content-length: 0\r\n\r\n", None, "a payload that looks like one"),
        ];
        for (bytes, code, why) in rows {
            let rewritten = reword(bytes, &id);
            assert_eq!(rewritten.is_some(), code.is_some(), "{why}");
            let (Some(rewritten), Some(code)) = (rewritten, code) else { continue };
            assert_eq!(rewritten.replaces, bytes.len(), "{why}");
            let text = String::from_utf8(rewritten.answer.to_vec()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())), "{why}: {head}");
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["code"], *code, "{why}");
            assert_eq!(body["error"]["request_id"], id.as_str(), "{why}");
        }
    }
}
