//! # protocol (theory statement to be written by the room's builder)

use crate::config::settings::ServerPreset;
use bailiwick_masking::{Findings, Masker};
use bailiwick_policy::Operation;
use bytes::Bytes;
use http::{Method, StatusCode};

/// One exact method and path that a server preset has.
#[derive(Debug)]
pub struct Endpoint {
    /// stable name for records: `chat`, `completions`, `embeddings`, `models`, …
    pub name: &'static str,
    /// what policy calls it
    pub operation: Operation,
}

/// The endpoint, by exact method and path (never a prefix); `None` is refused with 404 and recorded.
#[must_use]
pub fn find(_server: ServerPreset, _method: &Method, _path: &str) -> Option<&'static Endpoint> {
    unimplemented!()
}

/// A request body, ready for the model.
#[derive(Debug)]
pub struct Request {
    /// masked, identity fields removed (`user`, `safety_identifier`, `metadata.user_id`), else byte for byte
    pub body: Bytes,
    /// the caller asked for a stream
    pub streamed: bool,
    pub findings: Findings,
}

/// Reads, strips and masks a request body.
/// # Errors
/// [`ProtocolError`], never with the body's text in it
pub fn request(_endpoint: &Endpoint, _body: &[u8], _masker: &Masker) -> Result<Request, ProtocolError> {
    unimplemented!()
}

/// An answer on its way to the caller: SSE event by event, JSON whole (bounded).
#[derive(Debug)]
pub struct Answer {}
impl Answer {
    /// `content_type` as the model sent it; an unknown one is an error (fail closed).
    /// # Errors
    /// [`ProtocolError`]
    pub fn new(
        _endpoint: &Endpoint,
        _status: StatusCode,
        _content_type: Option<&str>,
        _masker: Masker,
    ) -> Result<Self, ProtocolError> {
        unimplemented!()
    }
    /// Takes bytes as the network cut them, gives what may go to the caller now (may be empty).
    /// # Errors
    /// [`ProtocolError`]
    pub fn push(&mut self, _bytes: &[u8]) -> Result<Bytes, ProtocolError> {
        unimplemented!()
    }
    /// What was still held, at the end of the model's answer.
    /// # Errors
    /// [`ProtocolError`]
    pub fn finish(&mut self) -> Result<Bytes, ProtocolError> {
        unimplemented!()
    }
    /// What was masked so far.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        unimplemented!()
    }
    /// The bytes to send a caller in the stream's own shape when an error ends it midway (SSE error event); empty for JSON.
    #[must_use]
    pub fn error_event(&self, _error: &ProtocolError, _request_id: &str) -> Bytes {
        unimplemented!()
    }
}

/// What the caller may read; holds no payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ProtocolError {
    pub status: StatusCode,
    /// kebab-case, also the audit reason
    pub code: &'static str,
    pub message: String,
}

/// `{"error": {"message", "type", "code", "param": null, "request_id"}}` (OpenAI's error shape).
#[must_use]
pub fn error_body(_status: StatusCode, _code: &str, _message: &str, _request_id: &str) -> Bytes {
    unimplemented!()
}
