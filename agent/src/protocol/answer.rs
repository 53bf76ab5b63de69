//! An answer on its way to the caller.

use super::stream::{OPAQUE_ANSWER, Stream, is_opaque, silence_within};
use super::{ProtocolError, error_body};
use bailiwick_masking::json::{self, Edits};
use bailiwick_masking::{Findings, Masker};
use bytes::Bytes;
use http::StatusCode;

/// The largest answer that is held whole, in bytes.
const LARGEST_DOCUMENT: usize = 64 * 1024 * 1024;

/// An answer on its way to the caller: SSE event by event, JSON whole (bounded).
#[derive(Debug)]
pub struct Answer {
    masker: Masker,
    findings: Findings,
    events: bool,
    state: State,
}

/// How its bytes go.
enum State {
    /// Nothing masks: as they come. `mid_line` tells whether the last one did not end a line.
    Passing { mid_line: bool },
    /// JSON, until it is whole.
    Document(Vec<u8>),
    /// Server-sent events.
    Events(Box<Stream>),
    /// There must be none: the model named no type.
    Nothing,
    /// It ended, well or not.
    Ended(Option<ProtocolError>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passing { .. } => "Passing",
            Self::Document(_) => "Document",
            Self::Events(_) => "Events",
            Self::Nothing => "Nothing",
            Self::Ended(_) => "Ended",
        })
    }
}

impl Answer {
    /// `content_type` as the model sent it; an unknown one is an error (fail closed). An answer without a type may have no
    /// body. The status does not matter: error answers are read as closely as others.
    ///
    /// # Errors
    /// `answer-not-inspectable` (502)
    pub fn new(content_type: Option<&str>, masker: Masker) -> Result<Self, ProtocolError> {
        let essence = content_type.map(essence);
        let events = essence.as_deref() == Some("text/event-stream");
        let state = match essence.as_deref() {
            Some("text/event-stream" | "application/json") if masker.is_empty() => {
                State::Passing { mid_line: false }
            }
            Some("text/event-stream") => State::Events(Box::new(Stream::new(masker.clone()))),
            Some("application/json") => State::Document(Vec::new()),
            None => State::Nothing,
            Some(_) => {
                return Err(ProtocolError::answer(
                    "the model's answer is neither application/json nor text/event-stream",
                ));
            }
        };
        Ok(Self { masker, findings: Findings::default(), events, state })
    }

    /// Takes bytes as the network cut them, gives what may go to the caller now (may be empty).
    ///
    /// # Errors
    /// `answer-not-inspectable`, `answer-too-large` (502), `blocked-by-mask` (422); the same one ever after.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Bytes, ProtocolError> {
        let result = match &mut self.state {
            State::Passing { mid_line } => {
                if let Some(last) = bytes.last() {
                    *mid_line = !matches!(last, b'\n' | b'\r');
                }
                Ok(Bytes::copy_from_slice(bytes))
            }
            State::Document(held) if held.len() + bytes.len() > LARGEST_DOCUMENT => Err(ProtocolError {
                status: StatusCode::BAD_GATEWAY,
                code: "answer-too-large",
                message: "the model's answer is larger than 64 MiB; ask for a stream".into(),
            }),
            State::Document(held) => {
                held.extend_from_slice(bytes);
                Ok(Bytes::new())
            }
            State::Events(stream) => stream.push(bytes, &mut self.findings).map(Bytes::from),
            State::Nothing if bytes.is_empty() => Ok(Bytes::new()),
            State::Nothing => Err(ProtocolError::answer("the model's answer has a body but no content type")),
            State::Ended(Some(error)) => Err(error.clone()),
            State::Ended(None) => Err(ProtocolError::answer("the model's answer goes on after its end")),
        };
        self.kept(result)
    }

    /// What was still held, at the end of the model's answer.
    ///
    /// # Errors
    /// As [`Answer::push`]; an answer that ends within a document or an event is `answer-not-inspectable`.
    pub fn finish(&mut self) -> Result<Bytes, ProtocolError> {
        let result = match std::mem::replace(&mut self.state, State::Ended(None)) {
            State::Passing { .. } | State::Nothing | State::Ended(None) => Ok(Bytes::new()),
            State::Document(held) => document(&held, &self.masker, &mut self.findings).map(Bytes::from),
            State::Events(mut stream) => stream.finish(&mut self.findings).map(Bytes::from),
            State::Ended(Some(error)) => Err(error),
        };
        self.kept(result)
    }

    /// What was masked so far.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The bytes to send a caller in the stream's own shape when an error ends it midway (SSE error event); empty for JSON.
    #[must_use]
    pub fn error_event(&self, error: &ProtocolError, request_id: &str) -> Bytes {
        if !self.events {
            return Bytes::new();
        }
        let body = error_body(error.status, error.code, &error.message, request_id);
        // What is masked goes on by whole events; what passes may have stopped within a line.
        let before: &[u8] = match self.state {
            State::Passing { mid_line: true } => b"\n\n",
            State::Passing { mid_line: false } => b"\n",
            State::Document(_) | State::Events(_) | State::Nothing | State::Ended(_) => b"",
        };
        Bytes::from([before, b"data: ", &body, b"\n\n"].concat())
    }

    fn kept(&mut self, result: Result<Bytes, ProtocolError>) -> Result<Bytes, ProtocolError> {
        if let Err(error) = &result {
            self.state = State::Ended(Some(error.clone()));
        }
        result
    }
}

/// The media type without parameters, in lower case (RFC 9110, 8.3.1).
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A whole JSON answer.
fn document(bytes: &[u8], masker: &Masker, findings: &mut Findings) -> Result<Vec<u8>, ProtocolError> {
    let read = json::parse(bytes).map_err(ProtocolError::of_answer)?;
    if read.root().get("choices").is_some_and(is_opaque) {
        return Err(ProtocolError::answer(OPAQUE_ANSWER));
    }
    let mut edits = Edits::default();
    silence_within(read.root(), &mut edits);
    let silenced = edits.apply(bytes);
    masker.json(&silenced, findings).map_err(ProtocolError::of_answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_masking::{Action, Entity, Mask};
    use std::sync::Arc;

    fn answer(content_type: Option<&str>, action: Option<Action>) -> Result<Answer, ProtocolError> {
        let masks = action.map(|action| Arc::new(Mask::new(Entity::ALL, &[], action, [7; 32]).unwrap()));
        Answer::new(content_type, Masker { masks: masks.into_iter().collect() })
    }

    fn whole(body: &str, action: Action) -> Result<String, ProtocolError> {
        let mut answer = answer(Some("application/json; charset=utf-8"), Some(action))?;
        for byte in body.as_bytes() {
            assert!(answer.push(&[*byte])?.is_empty(), "nothing goes before it is whole");
        }
        answer.finish().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn documents_are_masked_whole() {
        for (body, masked, why) in [
            (
                r#"{"choices":[{"message":{"content":"a@b.io"}},{"message":{"content":"c@d.io","refusal":null}}]}"#,
                r#"{"choices":[{"message":{"content":"[email]"}},{"message":{"content":"[email]","refusal":null}}]}"#,
                "every choice",
            ),
            (
                r#"{"choices":[{"logprobs":{"content":[{"token":"al"}]},"text":"x"}], "prompt_logprobs": null}"#,
                r#"{"choices":[{"logprobs":null,"text":"x"}], "prompt_logprobs": null}"#,
                "log probabilities spell the text out",
            ),
            (
                r#"{"choices":[{"token_ids":[1,2]}]}"#,
                r#"{"choices":[{"token_ids":null}]}"#,
                "so do token ids",
            ),
            (
                r#"{"data":[{"embedding":[0.4111111111111111,-1e-5]}]}"#,
                r#"{"data":[{"embedding":[0.4111111111111111,-1e-5]}]}"#,
                "vectors stay",
            ),
            (r#"{"error":{"message":"no a@b.io"}}"#, r#"{"error":{"message":"no [email]"}}"#, "errors"),
        ] {
            assert_eq!(whole(body, Action::Redact).as_deref(), Ok(masked), "{why}");
        }
        assert_eq!(whole(r#"{"a":"x@y.io"}"#, Action::Block).unwrap_err().code, "blocked-by-mask");
        for body in ["", "{", "<html>", "{\"a\":1,\"a\":2}"] {
            let error = whole(body, Action::Redact).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (502, "answer-not-inspectable"));
        }
    }

    #[test]
    fn only_known_types_are_read() {
        for content_type in
            ["text/html", "application/x-ndjson", "application/jsonx", "", "text/plain", "image/png"]
        {
            for action in [None, Some(Action::Redact)] {
                let error = answer(Some(content_type), action).unwrap_err();
                assert_eq!(
                    (error.status.as_u16(), error.code),
                    (502, "answer-not-inspectable"),
                    "{content_type}"
                );
            }
        }
        let mut nothing = answer(None, Some(Action::Redact)).unwrap();
        assert_eq!(nothing.push(b"").unwrap(), "");
        assert_eq!(nothing.push(b"x").unwrap_err().code, "answer-not-inspectable");
        assert_eq!(nothing.finish().unwrap_err().code, "answer-not-inspectable", "an error stays");
        assert!(answer(None, None).unwrap().finish().unwrap().is_empty());
        assert!(answer(Some("Text/Event-Stream;charset=utf-8"), Some(Action::Redact)).is_ok());
    }

    #[test]
    fn without_masks_bytes_pass_as_they_come() {
        let mut passing = answer(Some("text/event-stream"), None).unwrap();
        assert_eq!(passing.push(b"data: {\"a").unwrap(), "data: {\"a");
        let error = ProtocolError::answer("x");
        assert!(passing.error_event(&error, "r").starts_with(b"\n\ndata: {"));
        assert_eq!(passing.push(b"lice@").unwrap(), "lice@");
        assert!(passing.finish().unwrap().is_empty());
        assert!(answer(Some("application/json"), None).unwrap().error_event(&error, "r").is_empty());
    }

    #[test]
    fn too_large_a_document_is_refused() {
        let mut answer = answer(Some("application/json"), Some(Action::Redact)).unwrap();
        let piece = vec![b' '; 1024 * 1024];
        let error = (0..=64).find_map(|_| answer.push(&piece).err()).unwrap();
        assert_eq!((error.status.as_u16(), error.code), (502, "answer-too-large"));
    }
}
