//! Requests of the OpenAI dialect, and what all dialects have in common.

use super::*;
use crate::config::settings::{IdentityFields, ServerPreset};
use crate::protocol::find;
use bailiwick_masking::{Action, Entity, Mask};
use bailiwick_policy::Principal;
use http::Method;
use std::sync::Arc;

fn post(server: ServerPreset, path: &str) -> &'static Endpoint {
    find(server, &Method::POST, path).unwrap()
}

fn chat() -> &'static Endpoint {
    post(ServerPreset::Vllm, "/v1/chat/completions")
}

fn masker(action: Action) -> Masker {
    let fields = ["$.metadata.customer_id".to_owned()];
    Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &fields, action, [7; 32]).unwrap())] }
}

/// As for a caller of a rule without limits.
fn request(endpoint: &Endpoint, body: &[u8], masker: &Masker) -> Result<Request, ProtocolError> {
    let (identity, caller) = (IdentityFields::default(), Principal::default());
    let rewriting = Rewriting { fetch_urls: true, ..Rewriting::new(ServerPreset::Vllm, &identity, &caller) };
    super::request(endpoint, None, &Bytes::copy_from_slice(body), &rewriting, masker)
}

fn sent(body: &str, masker: &Masker) -> String {
    String::from_utf8(request(chat(), body.as_bytes(), masker).unwrap().body.to_vec()).unwrap()
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
    let request = request(chat(), body.as_bytes(), &masker(Action::Redact)).unwrap();
    assert_eq!(request.body, masked);
    assert_eq!(request.findings.fields, 1);
    assert_eq!(request.findings.entities.values().sum::<u64>(), 4);
    assert!(!format!("{request:?}").contains("iban\":\""));
}

#[test]
fn streams_are_seen() {
    for (body, streamed) in [(r#"{"stream":true}"#, true), (r#"{"stream":false}"#, false), ("{}", false)] {
        assert_eq!(request(chat(), body.as_bytes(), &Masker::default()).unwrap().streamed, streamed);
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
            let error = request(chat(), body.as_bytes(), &masker).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (status, code), "{body}");
        }
    }
    let error = request(chat(), br#"{"a":"x alice@example.com"}"#, &masker(Action::Block)).unwrap_err();
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
        let error = request(chat(), body.as_bytes(), &masker(Action::Redact)).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (422, "content-not-inspectable"), "{body}");
        assert!(
            request(chat(), body.as_bytes(), &Masker::default()).is_ok(),
            "no mask, no inspection: {body}"
        );
    }
    for body in [
        r#"{"prompt":"x"}"#,
        r#"{"prompt":["x","y"]}"#,
        r#"{"input":null}"#,
        r#"{"messages":[{"content":null}]}"#,
    ] {
        assert!(request(chat(), body.as_bytes(), &masker(Action::Redact)).is_ok(), "{body}");
    }
}

#[test]
fn the_list_of_models_takes_no_body() {
    let models = find(ServerPreset::Vllm, &Method::GET, "/v1/models").unwrap();
    assert!(request(models, b"", &masker(Action::Redact)).unwrap().body.is_empty());
    assert_eq!(request(models, b"{}", &Masker::default()).unwrap_err().code, "body-not-expected");
}

#[test]
fn streams_are_seen_in_every_dialect() {
    use ServerPreset::{Ollama, Tgi, Triton, Vllm};
    for (server, path, absent, yes, no) in [
        (Vllm, "/v1/completions", false, true, false),
        (Vllm, "/v1/responses", false, true, false),
        (Vllm, "/v1/messages", false, true, false),
        (Vllm, "/v1/messages/count_tokens", false, false, false),
        (Vllm, "/v1/embeddings", false, false, false),
        (Ollama, "/api/chat", true, true, false),
        (Ollama, "/api/generate", true, true, false),
        (Ollama, "/api/embed", false, false, false),
        (Ollama, "/api/show", false, false, false),
        (Ollama, "/v1/chat/completions", false, true, false),
        (Tgi, "/generate", false, false, false),
        (Tgi, "/generate_stream", true, true, true),
        (Triton, "/v2/models/m/generate", false, false, false),
        (Triton, "/v2/models/m/generate_stream", true, true, true),
    ] {
        for (body, streamed) in [
            ("{}", absent),
            (r#"{"stream":null}"#, absent),
            (r#"{"stream":true}"#, yes),
            (r#"{"stream":false}"#, no),
        ] {
            let found = request(post(server, path), body.as_bytes(), &Masker::default()).unwrap();
            assert_eq!(found.streamed, streamed, "{path} {body}");
        }
    }
}

#[test]
fn a_key_is_spelled_in_one_way() {
    for (body, code) in [
        (r#"{"Stream":false}"#, "key-misspelled"),
        (r#"{"\u017ftream":false}"#, "key-misspelled"),
        (r#"{"OPTIONS":{}}"#, "key-misspelled"),
        (r#"{"model":"a","Model":"b:cloud"}"#, "duplicate-key"),
        (r#"{"keep_alive":1,"\u212aeep_alive":2}"#, "duplicate-key"),
    ] {
        let endpoint = post(ServerPreset::Ollama, "/api/chat");
        let error = request(endpoint, body.as_bytes(), &Masker::default()).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (400, code), "{body}");
    }
}

#[test]
fn a_name_in_a_path_holds_nothing_that_is_masked() {
    for (path, clean) in [
        ("/v2/models/llama-3.1_8b/versions/1/infer", true),
        ("/v1/chat/completions", true),
        ("/v2/models/4111111111111111/infer", false),
        ("/v1/models/DE89370400440532013000", false),
    ] {
        assert_eq!(scan_path(path, &masker(Action::Redact)).is_ok(), clean, "{path}");
        assert!(scan_path(path, &Masker::default()).is_ok());
    }
    let error = scan_path("/v2/models/4111111111111111/infer", &masker(Action::Block)).unwrap_err();
    assert!(error.code == "blocked-by-mask" && !error.to_string().contains("4111"));
}
