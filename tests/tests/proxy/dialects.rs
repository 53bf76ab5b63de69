//! What is asked in each dialect: masked wherever text stands, without who asks, and refused in the dialect's own shape.

use crate::model::{Step, whole};
use crate::world::{CREDENTIAL, World, limits, name};
use bailiwick::config::settings::{ServerPreset, Settings};
use bailiwick_policy::{AccessPolicy, AccessRule, RuleMasks};
use bailiwick_tests::caller::{Answer, Protocol, json_request};
use bailiwick_tests::issuer::Wish;
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::sync::Arc;

/// Stands for personal data in a body.
const MARK: &str = "@@";
const ADDRESS: &str = "alice@example.com";
/// Who asks, as the body says it.
const WHO: &str = "employee-4711";

fn good() -> Vec<Step> {
    whole("200 OK", "application/json", r#"{"ok":true}"#)
}

/// A world whose model is such a server.
async fn world(server: ServerPreset, change: impl FnOnce(&mut Settings)) -> World {
    World::adjusted(good(), limits(), |settings, _| {
        let model = settings.models.get_mut(&name("llama")).unwrap();
        Arc::get_mut(model).unwrap().server = server;
        change(settings);
    })
    .await
}

/// Nothing is masked.
pub(crate) fn bare(settings: &mut Settings) {
    let mut rules: Vec<AccessRule> = settings.access.rules().iter().map(|rule| (**rule).clone()).collect();
    rules[0].masks = RuleMasks::default();
    settings.access = AccessPolicy::new(rules);
}

async fn post(world: &World, path: &str, body: &Value) -> Answer {
    let request = json_request(&world.url(&format!("/llama{path}")), Some(&world.token()), body).unwrap();
    world.send(Protocol::Http1, request).await
}

fn form(world: &World, path: &str, body: &'static str) -> Request<Bytes> {
    Request::post(world.url(&format!("/llama{path}")))
        .header("authorization", format!("Bearer {}", world.token()))
        .header("content-type", "multipart/form-data; boundary=----b7")
        .body(Bytes::from_static(body.as_bytes()))
        .unwrap()
}

const AUDIO: &str = "------b7\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
    Content-Type: audio/wav\r\n\r\nRIFF alice@example.com\r\n\
    ------b7\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n------b7--\r\n";

/// Path and body of each place that a dialect has text in; members that say who asks are in all of them.
fn asked() -> Vec<(ServerPreset, &'static str, Value)> {
    use ServerPreset::{LlamaCpp, Ollama, OpenAi, Tgi, Triton, Vllm};
    let parts = json!([{"type": "text", "text": MARK}]);
    vec![
        (
            OpenAi,
            "/v1/chat/completions",
            json!({"messages": [{"role": "system", "content": MARK}, {"role": "user", "content": parts, "name": MARK},
                {"role": "assistant", "content": null, "refusal": MARK, "reasoning_content": MARK,
                    "tool_calls": [{"function": {"name": "f", "arguments": format!("{{\"to\":\"{MARK}\"}}")}}]},
                {"role": "tool", "content": MARK}],
                "tools": [{"type": "function", "function": {"name": "f", "description": MARK}}], "stop": [MARK]}),
        ),
        (LlamaCpp, "/v1/completions", json!({"prompt": [MARK, MARK], "suffix": MARK, "grammar": MARK})),
        (OpenAi, "/v1/embeddings", json!({"input": [MARK]})),
        (OpenAi, "/v1/images/generations", json!({"prompt": MARK})),
        (Vllm, "/rerank", json!({"query": MARK, "documents": [MARK, {"text": MARK}, {"content": parts}]})),
        (Vllm, "/v1/score", json!({"text_1": MARK, "text_2": [MARK]})),
        (
            Vllm,
            "/v1/responses",
            json!({"instructions": MARK, "input": [{"role": "user", "content": [{"type": "input_text", "text": MARK}]},
                {"type": "function_call", "arguments": format!("{{\"to\":\"{MARK}\"}}")},
                {"type": "function_call_output", "output": MARK},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": MARK}]}]}),
        ),
        (
            Vllm,
            "/v1/messages",
            json!({"system": parts, "messages": [{"role": "user", "content": MARK},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": MARK},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"to": MARK, MARK: [MARK]}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": parts}]}],
                "tools": [{"name": "f", "description": MARK, "input_schema": {"title": MARK}}]}),
        ),
        (Vllm, "/v1/messages/count_tokens", json!({"system": MARK, "messages": []})),
        (
            Ollama,
            "/api/chat",
            json!({"messages": [{"role": "user", "content": MARK}, {"role": "assistant", "thinking": MARK,
                "tool_calls": [{"function": {"name": "f", "arguments": {"to": MARK}}}]}], "format": {"title": MARK}}),
        ),
        (Ollama, "/api/generate", json!({"prompt": MARK, "system": MARK, "template": MARK, "suffix": MARK})),
        (Ollama, "/api/embed", json!({"input": [MARK]})),
        (Ollama, "/api/embeddings", json!({"prompt": MARK})),
        (Ollama, "/api/show", json!({"model": "m", "system": MARK})),
        (Tgi, "/generate", json!({"inputs": MARK, "parameters": {"stop": [MARK]}})),
        (Tgi, "/generate_stream", json!({"inputs": MARK})),
        (
            Triton,
            "/v2/models/m/infer",
            json!({"inputs": [{"name": "t", "shape": [1, 2], "datatype": "BYTES", "data": [[MARK, MARK]]}],
                "parameters": {"p": MARK}}),
        ),
        (Triton, "/v2/models/m/versions/1/generate", json!({"text_input": MARK, "parameters": {"p": MARK}})),
    ]
}

#[tokio::test]
async fn place_9_text_arrives_masked_and_who_asks_does_not_arrive() {
    for (server, path, mut body) in asked() {
        let world = world(server, |_| {}).await;
        for member in ["user", "safety_identifier", "prompt_cache_key"] {
            body[member] = json!(WHO);
        }
        body["metadata"] = json!({"user_id": WHO, "note": MARK});
        let marks = body.to_string().matches(MARK).count();
        let body: Value = serde_json::from_str(&body.to_string().replace(MARK, ADDRESS)).unwrap();
        let answer = post(&world, path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
        let [seen] = &world.model.seen()[..] else { panic!("{path}: asked once") };
        assert!(seen.head.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{path}: {}", seen.head);
        assert!(!seen.body.contains("alice") && !seen.body.contains(WHO), "{path}: {}", seen.body);
        assert_eq!(seen.body.matches("[email]").count(), marks, "{path}: each of them: {}", seen.body);
        let records = world.recorded("outcome", 1).await;
        assert_eq!(records.len(), 1, "{path}");
        let disk = world.everything_on_disk();
        assert!(!disk.contains("alice") && !disk.contains(WHO), "{path}: in the trail");
    }
}

#[tokio::test]
async fn a_form_passes_byte_for_byte_or_not_at_all() {
    const PATH: &str = "/v1/audio/transcriptions";
    let open = world(ServerPreset::Vllm, bare).await;
    assert_eq!(open.send(Protocol::Http1, form(&open, PATH, AUDIO)).await.status, 200);
    let [seen] = &open.model.seen()[..] else { panic!("asked once") };
    assert_eq!(seen.body, AUDIO);
    assert!(seen.head.contains("content-type: multipart/form-data; boundary=----b7\r\n"), "{}", seen.head);

    let masked = world(ServerPreset::Vllm, |_| {}).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let answer = masked.send(protocol, form(&masked, PATH, AUDIO)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["code"]),
            (422, &json!("content-not-inspectable"))
        );
    }
    let smuggled = "------b7\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nx\n------b7\n\
        Content-Disposition: form-data; name=\"prompt\"\n\nalice@example.com\r\n------b7--\r\n";
    let answer = masked.send(Protocol::Http1, form(&masked, PATH, smuggled)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (400, &json!("multipart-malformed"))
    );
    let answer = masked.send(Protocol::Http1, form(&masked, "/v1/chat/completions", AUDIO)).await;
    assert_eq!(answer.status, 415, "a form where none is expected");
    assert_eq!(masked.model.connections(), 0);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_shape_of_what_was_called() {
    use ServerPreset::{Ollama, Tgi, Triton, Vllm};
    let ask = |server, path: &'static str, body: Value| async move {
        let world = world(server, |_| {}).await;
        let answer = post(&world, path, &body).await;
        assert_eq!(world.model.connections(), 0, "{path}");
        let denied = world.recorded("denied", 1).await;
        (answer.status.as_u16(), answer.json(), denied[0]["reason"].clone())
    };
    let (status, told, reason) =
        ask(Vllm, "/v1/messages", json!({"messages": [{"content": [{"type": "image"}]}]})).await;
    assert_eq!(
        (status, &told["type"], &told["error"]["type"]),
        (422, &json!("error"), &json!("invalid_request_error"))
    );
    assert!(told["error"]["message"].as_str().unwrap().starts_with("content-not-inspectable: "), "{told}");
    assert!(told["request_id"].is_string() && reason == "content-not-inspectable", "{told}");
    for (server, path, body, status, code) in [
        (Ollama, "/api/chat", json!({"model": "gpt-oss:120b-cloud"}), 403, "cloud-model"),
        (
            Ollama,
            "/api/chat",
            json!({"messages": [{"content": "x", "images": ["AAAA"]}]}),
            422,
            "content-not-inspectable",
        ),
        (Ollama, "/api/pull", json!({"model": "x"}), 404, "endpoint-unknown"),
        (Ollama, "/api/delete", json!({"model": "x"}), 404, "endpoint-unknown"),
        (Tgi, "/generate", json!({"inputs": "![](https://192.0.2.1/)"}), 403, "remote-content-not-allowed"),
        (
            Triton,
            "/v2/models/m/infer",
            json!({"inputs": [{"datatype": "INT64", "data": [1, 2]}]}),
            422,
            "content-not-inspectable",
        ),
        (Triton, "/v2/models/4111111111111111/infer", json!({"inputs": []}), 422, "content-not-inspectable"),
        (Triton, "/v2/repository/models/m/load", json!({}), 404, "endpoint-unknown"),
    ] {
        let (found, told, reason) = ask(server, path, body).await;
        assert_eq!(found, status, "{path}: {told}");
        assert!(told["error"].as_str().is_some_and(|said| said.starts_with(code)), "{path}: {told}");
        assert_eq!(told["error_type"].is_string(), server == Tgi, "{path}: {told}");
        assert_eq!(reason, code, "{path}");
    }
    for (server, path, body, status, code) in [
        (Vllm, "/v1/responses", json!({"previous_response_id": "resp_1"}), 400, "state-not-kept"),
        (Vllm, "/v1/load_lora_adapter", json!({"lora_path": "/x"}), 404, "endpoint-unknown"),
        (Vllm, "/pause", json!({}), 404, "endpoint-unknown"),
        (Vllm, "/invocations", json!({"prompt": "x"}), 404, "endpoint-unknown"),
        (
            Vllm,
            "/v1/chat/completions",
            json!({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "http://192.0.2.1/"}}]}]}),
            403,
            "remote-content-not-allowed",
        ),
    ] {
        let (found, told, reason) = ask(server, path, body).await;
        assert_eq!(
            (found, &told["error"]["code"], reason),
            (status, &json!(code), json!(code)),
            "{path}: {told}"
        );
    }
}

#[tokio::test]
async fn anthropic_s_clients_show_their_token_as_a_key_and_nobody_else_does() {
    let world = world(ServerPreset::Vllm, |_| {}).await;
    let token = world.token();
    let other = world.token_of(&Wish { groups: Some(vec!["sales".into()]), ..Wish::default() });
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let mut request =
            json_request(&world.url(&format!("/llama{path}")), None, &json!({"messages": []})).unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        world.send(Protocol::Http1, request)
    };
    let bearer = format!("Bearer {token}");
    let version = ("anthropic-version", "2023-06-01");
    for (path, headers, status, why) in [
        (
            "/v1/messages",
            vec![("x-api-key", token.as_str()), version, ("anthropic-beta", "b")],
            200,
            "as a key",
        ),
        ("/v1/messages?beta=true", vec![("authorization", bearer.as_str())], 200, "as a token"),
        ("/v1/messages", vec![("authorization", bearer.as_str()), ("x-api-key", &token)], 200, "as both"),
        ("/v1/messages", vec![("authorization", bearer.as_str()), ("x-api-key", &other)], 400, "two of them"),
        ("/v1/messages", vec![("x-api-key", other.as_str())], 403, "another caller's"),
        ("/v1/messages", vec![("x-api-key", "sk-ant-x")], 401, "no token at all"),
        ("/v1/chat/completions", vec![("x-api-key", token.as_str())], 401, "on another path"),
    ] {
        let answer = ask(path, &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{why}: {}", answer.json());
        if path.starts_with("/v1/messages") && status != 200 {
            assert_eq!(answer.json()["type"], "error", "{why}");
        }
    }
    let seen = world.model.seen();
    assert_eq!(seen.len(), 3);
    assert!(
        seen[1].head.starts_with("POST /v1/messages HTTP/1.1\r\n"),
        "without the query: {}",
        seen[1].head
    );
    let sent = seen[0].header_names();
    assert!(
        sent.contains(&"anthropic-version".to_owned()) && !sent.contains(&"anthropic-beta".to_owned()),
        "{sent:?}"
    );
    assert!(!seen.iter().any(|seen| seen.header_names().contains(&"x-api-key".to_owned())));
    assert!(seen.iter().all(|seen| seen.head.contains(CREDENTIAL) && !seen.head.contains(&token)));
}

#[tokio::test]
async fn a_single_model_needs_no_name_in_any_dialect() {
    for (server, path) in [
        (ServerPreset::Ollama, "/api/chat"),
        (ServerPreset::Tgi, "/generate"),
        (ServerPreset::Triton, "/v2/models/m/infer"),
        (ServerPreset::Vllm, "/rerank"),
        (ServerPreset::Vllm, "/v1/responses"),
    ] {
        let world = world(server, |_| {}).await;
        let body = if path.ends_with("infer") { json!({"inputs": []}) } else { json!({"query": "x"}) };
        let request = json_request(&world.url(path), Some(&world.token()), &body).unwrap();
        assert_eq!(world.send(Protocol::Http2, request).await.status, 200, "{path}");
        assert!(world.model.seen()[0].head.starts_with(&format!("POST {path} ")), "{path}");
    }
    let world = world(ServerPreset::Ollama, |_| {}).await;
    for path in ["/api/tags", "/api/version", "/llama/api/ps"] {
        let request = Request::get(world.url(path))
            .header("authorization", format!("Bearer {}", world.token()))
            .body(Bytes::new())
            .unwrap();
        assert_eq!(world.send(Protocol::Http1, request).await.status, 200, "{path}");
    }
}
