//! The official clients of three APIs, in Python and JavaScript, unchanged: they stream, call tools, raise what they should,
//! wait as they are told, and a user who leaves stops the model. The model is scripted, so that what it says is known to
//! the byte; llama.cpp's own server is asked through the openai client in the story with real players.

use crate::model::{Step, chat, chunk, stream, stream_end, stream_head, whole};
use crate::world::{World, limits};
use bailiwick::config::settings::{ServerPreset, Settings};
use bailiwick_tests::issuer::Wish;
use bailiwick_tests::real::speaker::{Call, Language, Scene, Told};
use bailiwick_tests::real::{self, Real};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;
use tokio::time::timeout;

const CLIENTS: [(Language, &str); 6] = [
    (Language::Python, "openai"),
    (Language::Python, "anthropic"),
    (Language::Python, "ollama"),
    (Language::JavaScript, "openai"),
    (Language::JavaScript, "anthropic"),
    (Language::JavaScript, "ollama"),
];
const ADDRESS: &str = "alice@example.com";
const PIECES: [&str; 3] = ["write to ali", "ce@example.c", "om today"];
/// An interpreter starts within this, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that plays its scene; it ends when dropped.
struct Playing {
    child: Child,
    input: Option<ChildStdin>,
}

impl Playing {
    fn start(world: &World, (language, api): (Language, &str), scene: &str, token: &str) -> Self {
        let real: Real = real::installed()
            .expect("the real counterparts are not installed: run `cargo xtask setup --real`");
        let (base_url, authority) = (world.url(""), world.directory.path().join("ca.pem"));
        let prompt = format!("I am {ADDRESS}");
        let scene = Scene {
            language,
            api,
            scene,
            base_url: &base_url,
            authority: &authority,
            token,
            prompt: &prompt,
        };
        let mut command = real.speak(&scene).command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        Self { child, input }
    }

    /// Lets it end, and tells what its user saw.
    async fn told(mut self) -> Told {
        drop(self.input.take());
        let mut output = self.child.stdout.take().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).map(|_| text)
        });
        let text = timeout(PATIENCE, read).await.expect("the client does not end").unwrap().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

async fn world(api: &str, script: Vec<Step>) -> World {
    let server = if api == "ollama" { ServerPreset::Ollama } else { ServerPreset::Vllm };
    // A ping would find out too that a caller has left; it must not be needed.
    let change = |settings: &mut Settings, _: &Path| {
        settings.proxy.ping = Duration::from_secs(60);
        let model = settings.models.values_mut().next().and_then(std::sync::Arc::get_mut).unwrap();
        model.server = server;
    };
    World::adjusted(script, limits(), change).await
}

async fn play(world: &World, client: (Language, &str), scene: &str) -> Told {
    Playing::start(world, client, scene, &world.token()).told().await
}

fn message(content: &Value) -> Vec<Step> {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "echo", "content": content,
        "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 1},
    });
    whole("200 OK", "application/json", &body.to_string())
}

fn line(message: &Value, done: bool) -> String {
    json!({"model": "echo", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done})
        .to_string()
}

fn says(api: &str, text: &str) -> Vec<Step> {
    match api {
        "openai" => chat(text),
        "anthropic" => message(&json!([{"type": "text", "text": text}])),
        _ => {
            let body = line(&json!({"role": "assistant", "content": text}), true);
            whole("200 OK", "application/json", &body)
        }
    }
}

fn calls(api: &str) -> Vec<Step> {
    let city = json!({"city": "Bonn"});
    match api {
        "openai" => {
            let function = json!({"name": "weather", "arguments": city.to_string()});
            let body = json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "echo",
                "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant",
                    "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}}],
            });
            whole("200 OK", "application/json", &body.to_string())
        }
        "anthropic" => message(&json!([{"type": "tool_use", "id": "c1", "name": "weather", "input": city}])),
        _ => {
            let call = json!({"function": {"name": "weather", "arguments": city}});
            let message = json!({"role": "assistant", "content": "", "tool_calls": [call]});
            whole("200 OK", "application/json", &line(&message, true))
        }
    }
}

/// The beginning of a stream, and its pieces.
fn streamed(api: &str, pieces: &[&str]) -> Vec<Step> {
    match api {
        "openai" => {
            let mut steps = stream(pieces, 7, Duration::ZERO);
            // Without its end and the end of the chunks: who needs them adds them.
            steps.retain(|step| !matches!(step, Step::Pause(_)));
            steps
        }
        "anthropic" => {
            let event = |value: Value| {
                chunk(format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap()).as_bytes())
            };
            let start = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "echo", "content": [],
                "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 1}});
            let block = json!({"type": "text", "text": ""});
            let mut steps = vec![
                stream_head(),
                event(json!({"type": "message_start", "message": start})),
                event(json!({"type": "content_block_start", "index": 0, "content_block": block})),
            ];
            steps.extend(pieces.iter().map(|piece| {
                let delta = json!({"type": "text_delta", "text": piece});
                event(json!({"type": "content_block_delta", "index": 0, "delta": delta}))
            }));
            let end = json!({"stop_reason": "end_turn", "stop_sequence": null});
            steps.extend([
                event(json!({"type": "content_block_stop", "index": 0})),
                event(json!({"type": "message_delta", "delta": end, "usage": {"output_tokens": 3}})),
                event(json!({"type": "message_stop"})),
                stream_end(),
            ]);
            steps
        }
        _ => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
            let said = |text: &str, done| {
                chunk((line(&json!({"role": "assistant", "content": text}), done) + "\n").as_bytes())
            };
            let mut steps = vec![Step::Send(head.into())];
            steps.extend(pieces.iter().map(|piece| said(piece, false)));
            steps.extend([said("", true), stream_end()]);
            steps
        }
    }
}

#[tokio::test]
async fn official_clients_get_answers_streams_and_calls_of_tools_masked_as_the_rule_says() {
    for client in CLIENTS {
        let api = client.1;
        let world_of_answers = world(api, says(api, &PIECES.concat())).await;
        let plain = play(&world_of_answers, client, "plain").await;
        let text = plain.text.clone().unwrap_or_else(|| panic!("{client:?}: {plain:?}"));
        assert!(text.starts_with("write to ") && text.ends_with(" today"), "{client:?}: {text}");
        assert!(!text.contains(ADDRESS), "{client:?}: {text}");
        let seen = world_of_answers.model.seen();
        assert!(
            seen.iter().all(|seen| !seen.body.contains(ADDRESS) && seen.body.contains("I am ")),
            "{seen:?}"
        );

        let world_of_streams = world(api, streamed(api, &PIECES)).await;
        let streamed = play(&world_of_streams, client, "stream").await;
        assert_eq!(streamed.text, Some(text), "{client:?}: {streamed:?}");

        let world_of_tools = world(api, calls(api)).await;
        let told = play(&world_of_tools, client, "tools").await;
        let call = Call { name: "weather".into(), arguments: json!({"city": "Bonn"}) };
        assert_eq!(told.tools, [call], "{client:?}: {told:?}");
    }
}

#[tokio::test]
async fn official_clients_raise_what_they_should_when_they_are_refused() {
    for client in CLIENTS {
        let world = world(client.1, says(client.1, "hello")).await;
        let sales = world.token_of(&Wish { groups: Some(vec!["sales".into()]), ..Wish::default() });
        for (token, status, class) in
            [(sales.as_str(), 403, "PermissionDeniedError"), ("not-a-token", 401, "AuthenticationError")]
        {
            let told = Playing::start(&world, client, "plain", token).told().await;
            assert_eq!(told.status, Some(status), "{client:?}: {told:?}");
            let class = if client.1 == "ollama" { "ResponseError" } else { class };
            assert_eq!(told.exception.as_deref(), Some(class), "{client:?}: {told:?}");
            assert!(told.message.is_some_and(|message| message.len() > 20), "{client:?}: a reason");
        }
        assert_eq!(world.model.connections(), 0, "{client:?}");
    }
}

#[tokio::test]
async fn official_clients_wait_as_a_429_tells_them_and_try_again() {
    let body = r#"{"error":{"message":"busy","type":"rate_limit_error","code":"busy"}}"#;
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for client in CLIENTS {
        let world = world(client.1, vec![Step::Send(answer.clone().into())]).await;
        let told = play(&world, client, "retry").await;
        assert_eq!(told.status, Some(429), "{client:?}: {told:?}");
        // Ollama's clients never try again by themselves.
        let tries = if client.1 == "ollama" { 1 } else { 3 };
        assert_eq!(world.model.seen().len(), tries, "{client:?}: {told:?}");
        assert!(told.elapsed_ms >= 1000 * (tries as u64 - 1), "{client:?}: waits as told: {told:?}");
    }
}

#[tokio::test]
async fn a_user_of_an_official_client_who_leaves_stops_the_model() {
    for client in CLIENTS {
        let mut begun = streamed(client.1, &["one two three four five six seven eight nine ten "; 4]);
        // What ends the stream does not come.
        begun.truncate(begun.len() - if client.1 == "anthropic" { 4 } else { 2 });
        begun.push(Step::Hang);
        for (scene, script) in [("leave", begun), ("impatient", vec![Step::Hang])] {
            let world = world(client.1, script).await;
            let playing = Playing::start(&world, client, scene, &world.token());
            timeout(PATIENCE, world.model.reached(1)).await.unwrap_or_else(|_| panic!("{client:?}: {scene}"));
            // The client's process is alive: what ends the request is its user's having left.
            timeout(Duration::from_secs(4), world.model.closed(1))
                .await
                .unwrap_or_else(|_| panic!("{client:?}, {scene}: the model goes on"));
            let outcome = world.recorded("outcome", 1).await.pop().unwrap();
            assert_eq!(outcome["reason"], "caller-left", "{client:?}, {scene}");
            let told = playing.told().await;
            assert_eq!(told.exception.is_some(), scene == "impatient", "{client:?}, {scene}: {told:?}");
        }
    }
}
