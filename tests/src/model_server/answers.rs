//! OpenAI's shapes: chat and text completions, whole and streamed, embeddings, models.

use super::Reply;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::iter::Peekable;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Which of the two generating endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Completion,
}

/// What the model says: the last user message again, then the aside.
pub(super) fn text(shape: Shape, asked: &Value, aside: &str) -> String {
    let heard = match shape {
        Shape::Chat => {
            let messages = asked["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
            let last = messages.iter().rev().find(|message| message["role"] == "user");
            last.map(|message| spoken(&message["content"])).unwrap_or_default()
        }
        Shape::Completion => spoken(&asked["prompt"]),
    };
    format!("You said: {heard}{}{aside}", if aside.is_empty() { "" } else { " " })
}

/// Content is a string, or a list of strings or of parts with a text.
fn spoken(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| part["text"].as_str().or(part.as_str()).unwrap_or_default());
            texts.collect::<Vec<_>>().join(" ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// A whole answer.
pub(super) fn whole(shape: Shape, model: &str, asked: &Value, text: &str) -> Value {
    let choice = match shape {
        Shape::Chat => json!({"message": {"role": "assistant", "content": text}}),
        Shape::Completion => json!({"text": text}),
    };
    let mut answer = frame(shape, model, "", choice, Some("stop"));
    answer["usage"] = usage(asked, text);
    answer
}

/// The events of a streamed answer, each with its `data: ` and its empty line, `[DONE]` last. Each is made when it is asked
/// for: most of a long answer is never sent, because its reader is gone.
pub(super) fn events(
    shape: Shape,
    model: &str,
    asked: &Value,
    text: &str,
    piece: usize,
) -> impl Iterator<Item = String> + Send + Sync + use<> {
    let model = model.to_owned();
    let event = move |choice: Value, finish: Option<&str>| frame(shape, &model, ".chunk", choice, finish);
    let delta = move |content: Value| match shape {
        Shape::Chat => json!({"delta": content}),
        Shape::Completion => json!({"text": content.get("content").cloned().unwrap_or_else(|| json!(""))}),
    };
    let first = (shape == Shape::Chat)
        .then(|| event(delta(json!({"role": "assistant", "content": ""})), None))
        .into_iter();
    let finish = event(delta(json!({})), Some("stop"));
    let usage = (asked["stream_options"]["include_usage"] == json!(true)).then(|| {
        let mut last = event(json!({}), None);
        last["choices"] = json!([]);
        last["usage"] = usage(asked, text);
        last
    });
    let (letters, piece): (Vec<char>, usize) = (text.chars().collect(), piece.max(1));
    let pieces = (0..letters.len()).step_by(piece).map(move |start| {
        let end = letters.len().min(start + piece);
        let content = json!({"content": letters[start..end].iter().collect::<String>()});
        event(delta(content), None)
    });
    let events = first.chain(pieces).chain([finish]).chain(usage);
    events.map(|event| format!("data: {event}\n\n")).chain(["data: [DONE]\n\n".to_owned()])
}

/// Sends events as server-sent events, cut every `cut` bytes (0: an event a frame), with a pause between frames.
pub(super) fn stream(
    events: impl Iterator<Item = String> + Send + Sync + 'static,
    cut: usize,
    pause: Duration,
) -> Reply {
    let frames: Frames = if cut == 0 {
        Box::new(events.map(Bytes::from))
    } else {
        let whole: Vec<Bytes> =
            events.collect::<String>().as_bytes().chunks(cut).map(Bytes::copy_from_slice).collect();
        Box::new(whole.into_iter())
    };
    let mut reply = Response::new(Paced { frames: frames.peekable(), pause, waiting: None }.boxed());
    *reply.status_mut() = StatusCode::OK;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

pub(super) fn models(model: &str) -> Value {
    json!({"object": "list", "data": [{"id": model, "object": "model", "created": 0, "owned_by": "testbed"}]})
}

/// A vector a text, made from its length: enough to see that texts arrived.
pub(super) fn embeddings(model: &str, asked: &Value) -> Value {
    let inputs = match &asked["input"] {
        Value::Array(inputs) => inputs.clone(),
        input => vec![input.clone()],
    };
    let vectors: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let length = input.as_str().unwrap_or_default().len();
            json!({"object": "embedding", "index": index, "embedding": [length, 0.5, -0.5]})
        })
        .collect();
    json!({"object": "list", "model": model, "data": vectors, "usage": usage(asked, "")})
}

fn frame(shape: Shape, model: &str, suffix: &str, mut choice: Value, finish: Option<&str>) -> Value {
    let (id, object) = match shape {
        Shape::Chat => ("chatcmpl-1", format!("chat.completion{suffix}")),
        Shape::Completion => ("cmpl-1", "text_completion".to_owned()),
    };
    choice["index"] = json!(0);
    choice["finish_reason"] = json!(finish);
    json!({"id": id, "object": object, "created": 1, "model": model, "choices": [choice]})
}

/// Words stand in for tokens.
fn usage(asked: &Value, text: &str) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let prompt = words(&asked.to_string());
    let completion = words(text);
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

type Frames = Box<dyn Iterator<Item = Bytes> + Send + Sync>;

/// A body that waits before each frame but the first.
struct Paced {
    frames: Peekable<Frames>,
    pause: Duration,
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(waiting) = &mut self.waiting {
            match waiting.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => self.waiting = None,
            }
        }
        let next = self.frames.next();
        if next.is_some() && self.frames.peek().is_some() && !self.pause.is_zero() {
            self.waiting = Some(Box::pin(tokio::time::sleep(self.pause)));
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_says_what_the_whole_answer_says() {
        let asked = json!({"messages": [{"role": "user", "content": "één two"}], "stream_options": {"include_usage": true}});
        let text = text(Shape::Chat, &asked, "Bye.");
        assert_eq!(text, "You said: één two Bye.");
        for piece in 1..9 {
            let events: Vec<String> = events(Shape::Chat, "m", &asked, &text, piece).collect();
            assert_eq!(events.last().unwrap(), "data: [DONE]\n\n");
            let parsed = events.iter().filter_map(|event| {
                serde_json::from_str::<Value>(event.strip_prefix("data: ").unwrap().trim()).ok()
            });
            let said: String = parsed
                .map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned())
                .collect();
            assert_eq!(said, text, "cut every {piece} characters");
        }
    }

    #[test]
    fn content_may_be_a_string_or_parts() {
        let rows = [
            (json!("a b"), "a b", "a string"),
            (json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "a b", "parts"),
            (json!(["a", "b"]), "a b", "prompts"),
            (json!(null), "", "nothing"),
        ];
        for (content, expected, reason) in rows {
            assert_eq!(spoken(&content), expected, "{reason}");
        }
    }
}
