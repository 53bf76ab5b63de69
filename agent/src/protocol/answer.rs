//! An answer on its way to the caller.

use super::grammar::Grammar;
use super::stream::Stream;
use super::{Dialect, ProtocolError, document, error_in};
use bailiwick_masking::{Findings, Masker};
use bytes::Bytes;
use http::StatusCode;

/// The largest answer that is held whole, in bytes.
const LARGEST_DOCUMENT: usize = 64 * 1024 * 1024;

/// An answer on its way to the caller: a stream event by event, JSON and text whole (bounded).
#[derive(Debug)]
pub struct Answer {
    dialect: Dialect,
    masker: Masker,
    findings: Findings,
    form: Form,
    state: State,
}

/// What an answer is made of, by the type that its head declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`
    Json,
    /// `text/event-stream`
    Events,
    /// `application/x-ndjson`
    Lines,
    /// A transcript, or an error of a server's framework.
    Text(&'static str),
    /// None: there must be no body.
    Nothing,
}

impl Form {
    /// By content type; one that cannot be inspected is `None`. Lines of JSON are Ollama's alone.
    #[must_use]
    pub fn of(content_type: Option<&str>, dialect: Dialect) -> Option<Self> {
        let Some(content_type) = content_type else { return Some(Self::Nothing) };
        // Without parameters, in lower case (RFC 9110, 8.3.1).
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match (essence.as_str(), dialect) {
            ("application/json", _) => Some(Self::Json),
            ("text/event-stream", _) => Some(Self::Events),
            ("application/x-ndjson", Dialect::Ollama) => Some(Self::Lines),
            ("text/plain", _) => Some(Self::Text("text/plain; charset=utf-8")),
            ("text/vtt", Dialect::OpenAi) => Some(Self::Text("text/vtt; charset=utf-8")),
            ("application/x-subrip", Dialect::OpenAi) => Some(Self::Text("application/x-subrip")),
            _ => None,
        }
    }

    /// Whether it goes on as it comes.
    #[must_use]
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Events | Self::Lines)
    }
}

/// How its bytes go.
enum State {
    /// Nothing masks: as they come.
    Passing,
    /// JSON or text, until it is whole.
    Document(Vec<u8>),
    /// Events or lines.
    Stream(Box<Stream>),
    /// There must be none: the model named no type.
    Nothing,
    /// It ended, well or not.
    Ended(Option<ProtocolError>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passing => "Passing",
            Self::Document(_) => "Document",
            Self::Stream(_) => "Stream",
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
    pub fn new(content_type: Option<&str>, dialect: Dialect, masker: Masker) -> Result<Self, ProtocolError> {
        let form = Form::of(content_type, dialect).ok_or_else(|| {
            ProtocolError::answer("the model's answer is of a type that cannot be inspected")
        })?;
        let grammar = Grammar::of(dialect);
        let state = match form {
            Form::Nothing => State::Nothing,
            _ if masker.is_empty() => State::Passing,
            Form::Events => State::Stream(Box::new(Stream::events(grammar, masker.clone()))),
            Form::Lines => State::Stream(Box::new(Stream::lines(grammar, masker.clone()))),
            Form::Json | Form::Text(_) => State::Document(Vec::new()),
        };
        Ok(Self { dialect, masker, findings: Findings::default(), form, state })
    }

    /// What it is made of.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Takes bytes as the network cut them, gives what may go to the caller now (may be empty).
    ///
    /// # Errors
    /// `answer-not-inspectable`, `answer-too-large` (502), `blocked-by-mask` (422); the same one ever after.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Bytes, ProtocolError> {
        let result = match &mut self.state {
            State::Passing => Ok(Bytes::copy_from_slice(bytes)),
            State::Document(held) if held.len() + bytes.len() > LARGEST_DOCUMENT => Err(ProtocolError {
                status: StatusCode::BAD_GATEWAY,
                code: "answer-too-large",
                message: "the model's answer is larger than 64 MiB; ask for a stream".into(),
            }),
            State::Document(held) => {
                held.extend_from_slice(bytes);
                Ok(Bytes::new())
            }
            State::Stream(stream) => stream.push(bytes, &mut self.findings).map(Bytes::from),
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
            State::Passing | State::Nothing | State::Ended(None) => Ok(Bytes::new()),
            State::Document(held) => self.whole(held).map(Bytes::from),
            State::Stream(mut stream) => stream.finish(&mut self.findings).map(Bytes::from),
            State::Ended(Some(error)) => Err(error),
        };
        self.kept(result)
    }

    /// What was masked so far.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    fn whole(&mut self, held: Vec<u8>) -> Result<Vec<u8>, ProtocolError> {
        match self.form {
            Form::Text(_) => document::text(&held, &self.masker, &mut self.findings),
            Form::Json | Form::Events | Form::Lines | Form::Nothing => {
                let grammar = Grammar::of(self.dialect);
                let masked = document::json(&held, grammar, &self.masker, &mut self.findings)?;
                Ok(masked.unwrap_or(held))
            }
        }
    }

    fn kept(&mut self, result: Result<Bytes, ProtocolError>) -> Result<Bytes, ProtocolError> {
        if let Err(error) = &result {
            self.state = State::Ended(Some(error.clone()));
        }
        result
    }
}

/// The event or line that tells an error within a stream, in its own shape; empty where it is no stream.
#[must_use]
pub fn error_event(dialect: Dialect, form: Form, error: &ProtocolError, request_id: &str) -> Bytes {
    let body = error_in(dialect, error.status, error.code, &error.message, request_id);
    // Anthropic's clients go by the event's name.
    let name: &[u8] = match dialect {
        Dialect::Anthropic | Dialect::Responses => b"event: error\n",
        Dialect::OpenAi | Dialect::Ollama | Dialect::Tgi | Dialect::Kserve => b"",
    };
    match form {
        Form::Events => Bytes::from([name, b"data: ", &body, b"\n\n"].concat()),
        Form::Lines => Bytes::from([&*body, b"\n"].concat()),
        Form::Json | Form::Text(_) | Form::Nothing => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_masking::{Action, Entity, Mask};
    use std::sync::Arc;

    fn answer(content_type: Option<&str>, action: Option<Action>) -> Result<Answer, ProtocolError> {
        let masks = action.map(|action| Arc::new(Mask::new(Entity::ALL, &[], action, [7; 32]).unwrap()));
        Answer::new(content_type, Dialect::OpenAi, Masker { masks: masks.into_iter().collect() })
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
            ["text/html", "application/x-ndjson", "application/jsonx", "", "text/css", "image/png"]
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
        assert_eq!(passing.push(b"lice@").unwrap(), "lice@");
        assert!(passing.finish().unwrap().is_empty());
    }

    #[test]
    fn an_error_within_a_stream_has_the_shape_of_the_stream() {
        let error = ProtocolError::answer("x");
        for (dialect, form, begins) in [
            (Dialect::OpenAi, Form::Events, "data: {\"error\":{"),
            (Dialect::Responses, Form::Events, "event: error\ndata: {\"error\":{"),
            (Dialect::Anthropic, Form::Events, "event: error\ndata: {"),
            (Dialect::Ollama, Form::Lines, "{"),
            (Dialect::Tgi, Form::Events, "data: {"),
            (Dialect::OpenAi, Form::Json, ""),
        ] {
            let told = error_event(dialect, form, &error, "r");
            assert!(told.starts_with(begins.as_bytes()), "{dialect:?}: {told:?}");
            assert_eq!(told.is_empty(), begins.is_empty());
        }
    }

    #[test]
    fn too_large_a_document_is_refused() {
        let mut answer = answer(Some("application/json"), Some(Action::Redact)).unwrap();
        let piece = vec![b' '; 1024 * 1024];
        let error = (0..=64).find_map(|_| answer.push(&piece).err()).unwrap();
        assert_eq!((error.status.as_u16(), error.code), (502, "answer-too-large"));
    }
}
