//! A request body: read strictly, stripped of who calls, masked.

use super::rewrite::{Rewriting, rewrite};
use super::shape::{TEXT_PARTS, UNREADABLE};
use super::{Endpoint, ProtocolError};
use bailiwick_masking::json::{self, Document, Kind, Node};
use bailiwick_masking::{Findings, Masker};
use bailiwick_policy::Operation;
use bytes::Bytes;

/// A request body, ready for the model.
pub struct Request {
    /// Masked, identity fields removed or replaced (`user`, `safety_identifier`, `prompt_cache_key`, `metadata.user_id`, those
    /// of the config), the answer's length bounded where that is limited, else byte for byte.
    pub body: Bytes,
    /// The caller asked for a stream.
    pub streamed: bool,
    /// Tokens of the longest answer that it asks for; zero where it does not say.
    pub max_tokens: u64,
    /// What was masked.
    pub findings: Findings,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("body_bytes", &self.body.len())
            .field("streamed", &self.streamed)
            .field("findings", &self.findings)
            .finish()
    }
}

/// Reads, strips and masks a request body. The caller bounds its size.
///
/// # Errors
/// [`ProtocolError`], never with the body's text in it: `body-not-json`, `body-not-an-object`, `duplicate-key`,
/// `stream-not-boolean` (400), `body-not-expected` (400), `max-tokens-exceeded` (413), `content-not-inspectable`,
/// `blocked-by-mask` (422).
pub fn request(
    endpoint: &Endpoint,
    body: &[u8],
    rewriting: &Rewriting<'_>,
    masker: &Masker,
) -> Result<Request, ProtocolError> {
    match endpoint.operation {
        Operation::Models if body.is_empty() => {
            let (body, findings) = (Bytes::new(), Findings::default());
            return Ok(Request { body, streamed: false, max_tokens: 0, findings });
        }
        Operation::Models => {
            return Err(ProtocolError::bad_request(
                "body-not-expected",
                "this endpoint takes no body; send none",
            ));
        }
        Operation::Chat | Operation::Completions | Operation::Embeddings => {}
    }
    let document = json::parse(body).map_err(ProtocolError::of_request)?;
    let root = document.root();
    if !matches!(root.kind, Kind::Object(_)) {
        return Err(ProtocolError::bad_request("body-not-an-object", "the body is JSON, but not an object"));
    }
    let streamed = match root.get("stream").map(|node| &node.kind) {
        Some(Kind::Bool(streamed)) => *streamed,
        None | Some(Kind::Null) => false,
        Some(Kind::Number | Kind::String | Kind::Array(_) | Kind::Object(_)) => {
            return Err(ProtocolError::bad_request(
                "stream-not-boolean",
                "`stream` is neither true nor false",
            ));
        }
    };
    if !masker.is_empty() {
        inspectable(&document)?;
    }
    let (rewritten, max_tokens) = rewrite(&document, endpoint.operation, rewriting)?;
    let mut findings = Findings::default();
    let body = if masker.is_empty() {
        rewritten
    } else {
        masker.json(&rewritten, &mut findings).map_err(ProtocolError::of_request)?
    };
    Ok(Request { body: Bytes::from(body), streamed, max_tokens, findings })
}

/// Everything in it that a model would read is text that can be scanned.
fn inspectable(document: &Document<'_>) -> Result<(), ProtocolError> {
    let root = document.root();
    for name in ["prompt", "input"] {
        if !root.get(name).is_none_or(is_text) {
            return Err(ProtocolError::not_inspectable(
                "the prompt is not text (token ids cannot be masked); send it as a string or an array of strings",
            ));
        }
    }
    if root.members().iter().any(|member| UNREADABLE.contains(&&*member.name)) {
        return Err(ProtocolError::not_inspectable(
            "embeddings, images and audio cannot be masked; send text",
        ));
    }
    for message in root.get("messages").map_or(&[][..], Node::elements) {
        let content = message.get("content");
        let whole = content
            .is_some_and(|content| !matches!(content.kind, Kind::Null | Kind::String | Kind::Array(_)));
        let parts = content.map_or(&[][..], Node::elements);
        let aside = message.members().iter().any(|member| NOT_TEXT.contains(&&*member.name));
        if whole || aside || !parts.iter().all(|part| is_text_part(document, part)) {
            return Err(ProtocolError::not_inspectable(
                "a message has a part that is not text (images, audio and files cannot be masked); send text parts",
            ));
        }
    }
    Ok(())
}

/// `null`, a string, or an array of strings.
fn is_text(node: &Node<'_>) -> bool {
    match &node.kind {
        Kind::Null | Kind::String => true,
        Kind::Array(elements) => elements.iter().all(|element| matches!(element.kind, Kind::String)),
        Kind::Bool(_) | Kind::Number | Kind::Object(_) => false,
    }
}

/// A string, or an object of a type that is text; a type that is not known may be anything.
fn is_text_part(document: &Document<'_>, part: &Node<'_>) -> bool {
    match part.kind {
        Kind::String => true,
        Kind::Object(_) => {
            let kind = part.get("type").and_then(|kind| document.text(kind));
            let members = part.members();
            let known = kind.is_some_and(|kind| TEXT_PARTS.contains(&&*kind));
            known && !members.iter().any(|member| NOT_TEXT.contains(&&*member.name))
        }
        Kind::Null | Kind::Bool(_) | Kind::Number | Kind::Array(_) => false,
    }
}

/// Members that make a part something else, whatever it says it is.
const NOT_TEXT: &[&str] =
    &["image_url", "input_image", "images", "input_audio", "audio", "audio_url", "video_url", "file"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::IdentityFields;
    use crate::protocol::Dialect;
    use bailiwick_masking::{Action, Entity, Mask};
    use bailiwick_policy::Principal;
    use std::sync::Arc;

    const CHAT: Endpoint = Endpoint { name: "chat", operation: Operation::Chat, dialect: Dialect::OpenAi };

    fn masker(action: Action) -> Masker {
        let fields = ["$.metadata.customer_id".to_owned()];
        Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &fields, action, [7; 32]).unwrap())] }
    }

    /// As for a caller of a rule without limits.
    fn request(endpoint: &Endpoint, body: &[u8], masker: &Masker) -> Result<Request, ProtocolError> {
        let (identity, caller) = (IdentityFields::default(), Principal::default());
        let rewriting = Rewriting { identity: &identity, caller: &caller, max_tokens: None };
        super::request(endpoint, body, &rewriting, masker)
    }

    fn sent(body: &str, masker: &Masker) -> String {
        String::from_utf8(request(&CHAT, body.as_bytes(), masker).unwrap().body.to_vec()).unwrap()
    }

    #[test]
    fn who_calls_is_taken_out_and_the_rest_stays() {
        for (body, expected) in [
            (r#"{"user":"a","model":"m"}"#, r#"{"model":"m"}"#),
            (r#"{"model":"m","user":"a"}"#, r#"{"model":"m"}"#),
            (r#"{ "a" : 1 , "user" : "x" , "b" : 2 }"#, r#"{ "a" : 1 , "b" : 2 }"#),
            (r#"{"user":"x","safety_identifier":"y"}"#, "{}"),
            (r#"{"User":"x","prompt_cache_key":"y"}"#, "{}"),
            (r#"{"user":"x","a":1,"safety_identifier":"y"}"#, r#"{"a":1}"#),
            (r#"{"a":1,"user":"x","safety_identifier":"y","b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"user":"x","safety_identifier":"y","b":2}"#, r#"{"b":2}"#),
            (r#"{"metadata":{"user_id":"x","k":"v"}}"#, r#"{"metadata":{"k":"v"}}"#),
            (r#"{"metadata":{"k":"v","user_id":{"a":[1]}},"user":null}"#, r#"{"metadata":{"k":"v"}}"#),
            (r#"{"us\u0065r":"x","a":1}"#, r#"{"a":1}"#),
            (
                r#"{"messages":[{"role":"user","user":"kept"}]}"#,
                r#"{"messages":[{"role":"user","user":"kept"}]}"#,
            ),
            (r#"{"stream_options":{"include_usage":true}}"#, r#"{"stream_options":{"include_usage":true}}"#),
        ] {
            assert_eq!(sent(body, &Masker::default()), expected);
            assert_eq!(sent(body, &masker(Action::Redact)), expected);
            assert!(serde_json::from_str::<serde_json::Value>(expected).is_ok());
        }
    }

    #[test]
    fn text_is_masked_wherever_it_stands() {
        let body = r#"{"messages":[{"role":"user","content":"I am alice@example.com"},
            {"role":"user","content":[{"type":"text","text":"4111 1111 1111 1111"}]},
            {"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"to\":\"bob@example.com\"}"}}]}],
            "tools":[{"description":"DE89370400440532013000"}],"metadata":{"customer_id":42}}"#;
        let masked = r#"{"messages":[{"role":"user","content":"I am [email]"},
            {"role":"user","content":[{"type":"text","text":"[card]"}]},
            {"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"to\":\"[email]\"}"}}]}],
            "tools":[{"description":"[iban]"}],"metadata":{"customer_id":"[masked]"}}"#;
        let request = request(&CHAT, body.as_bytes(), &masker(Action::Redact)).unwrap();
        assert_eq!(request.body, masked);
        assert_eq!(request.findings.fields, 1);
        assert_eq!(request.findings.entities.values().sum::<u64>(), 4);
        assert!(!format!("{request:?}").contains("iban\":\""));
    }

    #[test]
    fn streams_are_seen() {
        for (body, streamed) in [(r#"{"stream":true}"#, true), (r#"{"stream":false}"#, false), ("{}", false)]
        {
            assert_eq!(request(&CHAT, body.as_bytes(), &Masker::default()).unwrap().streamed, streamed);
        }
    }

    #[test]
    fn bad_bodies_are_refused() {
        for (body, status, code) in [
            ("", 400, "body-not-json"),
            ("{", 400, "body-not-json"),
            ("model=m", 400, "body-not-json"),
            (r#"{"a":"\ud800"}"#, 400, "body-not-json"),
            ("[]", 400, "body-not-an-object"),
            (r#"{"a":1,"a":2}"#, 400, "duplicate-key"),
            (r#"{"user":1,"us\u0065r":2}"#, 400, "duplicate-key"),
            (r#"{"stream":"true"}"#, 400, "stream-not-boolean"),
        ] {
            for masker in [Masker::default(), masker(Action::Redact)] {
                let error = request(&CHAT, body.as_bytes(), &masker).unwrap_err();
                assert_eq!((error.status.as_u16(), error.code), (status, code), "{body}");
            }
        }
        let error = request(&CHAT, br#"{"a":"x alice@example.com"}"#, &masker(Action::Block)).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (422, "blocked-by-mask"));
        assert!(!error.to_string().contains("alice"));
    }

    #[test]
    fn what_cannot_be_scanned_is_refused_where_a_mask_applies() {
        for body in [
            r#"{"prompt":[9906,1917]}"#,
            r#"{"prompt":[[9906,1917]]}"#,
            r#"{"prompt":["text",[1]]}"#,
            r#"{"prompt":{"prompt_string":"x","multimodal_data":["…"]}}"#,
            r#"{"input":[1,2]}"#,
            r#"{"prompt_embeds":"AAAA"}"#,
            r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://192.0.2.1/x"}}]}]}"#,
            r#"{"messages":[{"content":[{"type":"text","text":"x"},{"type":"input_audio","input_audio":{}}]}]}"#,
            r#"{"messages":[{"content":[{"type":"file","file":{}}]}]}"#,
            r#"{"messages":[{"content":[{"type":"text","image_url":"x"}]}]}"#,
            r#"{"messages":[{"content":[{"type":"something new"}]}]}"#,
            r#"{"messages":[{"content":[{"text":"no type"}]}]}"#,
            r#"{"messages":[{"content":[1]}]}"#,
            r#"{"messages":[{"content":{"type":"image_url"}}]}"#,
            r#"{"messages":[{"content":"x","images":["AAAA"]}]}"#,
        ] {
            let error = request(&CHAT, body.as_bytes(), &masker(Action::Redact)).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (422, "content-not-inspectable"), "{body}");
            assert!(
                request(&CHAT, body.as_bytes(), &Masker::default()).is_ok(),
                "no mask, no inspection: {body}"
            );
        }
        for body in [
            r#"{"prompt":"x"}"#,
            r#"{"prompt":["x","y"]}"#,
            r#"{"input":null}"#,
            r#"{"messages":[{"content":null}]}"#,
        ] {
            assert!(request(&CHAT, body.as_bytes(), &masker(Action::Redact)).is_ok(), "{body}");
        }
    }

    #[test]
    fn the_list_of_models_takes_no_body() {
        let models = Endpoint { name: "models", operation: Operation::Models, dialect: Dialect::OpenAi };
        assert!(request(&models, b"", &masker(Action::Redact)).unwrap().body.is_empty());
        assert_eq!(request(&models, b"{}", &Masker::default()).unwrap_err().code, "body-not-expected");
    }
}
