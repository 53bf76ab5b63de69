//! What is answered in each dialect, streamed and whole: masked wherever a value was cut, without a header of the model's,
//! counted by the model's own word, and failing in the dialect's own shape.

use crate::dialects::bare;
use crate::model::{Step, chunk, stream_end, whole};
use crate::world::{World, limits, name};
use bailiwick::config::settings::{ServerPreset, Settings};
use bailiwick_policy::{AccessPolicy, AccessRule, RuleLimits};
use bailiwick_tests::caller::{Answer, Protocol, json_request};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A value in two pieces.
const PIECES: [&str; 2] = ["alice@exa", "mple.com"];
const EVENTS: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

/// How one endpoint streams.
struct Spoken {
    server: ServerPreset,
    path: &'static str,
    asked: Value,
    content_type: &'static str,
    /// Before the pieces.
    begin: &'static str,
    /// Around one piece, which stands at `@`.
    piece: &'static str,
    /// After the pieces; tells 100000 tokens, where the dialect tells any.
    end: &'static str,
    /// What only the end has.
    last: &'static str,
    tells: bool,
}

fn spoken() -> Vec<Spoken> {
    use ServerPreset::{LlamaCpp, Ollama, OpenAi, Tgi, Triton, Vllm};
    let chat = json!({"stream": true, "messages": [{"role": "user", "content": "x"}]});
    let row = |server, path, asked: &Value, begin, piece, end, last| Spoken {
        server,
        path,
        asked: asked.clone(),
        content_type: EVENTS,
        begin,
        piece,
        end,
        last,
        tells: true,
    };
    let responses_end = concat!(
        "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"output_index\":0,\"content_index\":0,\"text\":\"alice@example.com\",\"sequence_number\":3}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":4,\"response\":{\"output\":[{\"content\":[{\"type\":\"output_text\",\"text\":\"alice@example.com\"}]}],\"usage\":{\"input_tokens\":1,\"output_tokens\":99999,\"total_tokens\":100000}}}\n\n",
    );
    let messages_end = concat!(
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":99999}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let chat_end = "data: {\"choices\":[],\"usage\":{\"total_tokens\":100000}}\n\ndata: [DONE]\n\n";
    let chat_piece =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@\"},\"finish_reason\":null}]}\n\n";
    let mut all = vec![
        row(Tgi, "/v1/chat/completions", &chat, "", chat_piece, chat_end, "[DONE]"),
        row(Ollama, "/v1/chat/completions", &chat, "", chat_piece, chat_end, "[DONE]"),
        row(
            LlamaCpp,
            "/v1/completions",
            &json!({"stream": true, "prompt": "x"}),
            "",
            "data: {\"choices\":[{\"index\":0,\"text\":\"@\",\"logprobs\":{\"tokens\":[\"alice@example.com\"]}}]}\n\n",
            chat_end,
            "[DONE]",
        ),
        row(
            Vllm,
            "/v1/responses",
            &json!({"stream": true, "input": "x"}),
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"output\":[]}}\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"@\",\"sequence_number\":1}\n\n",
            responses_end,
            "response.completed",
        ),
        row(
            Vllm,
            "/v1/messages",
            &json!({"stream": true, "max_tokens": 9, "messages": []}),
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":0}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"@\"}}\n\n",
            messages_end,
            "\"message_stop\"",
        ),
        row(
            Tgi,
            "/generate_stream",
            &json!({"inputs": "x"}),
            "",
            "data:{\"index\":1,\"token\":{\"id\":4,\"text\":\"@\",\"logprob\":-0.5,\"special\":false},\"generated_text\":null,\"details\":null}\n\n",
            "data:{\"index\":3,\"token\":{\"id\":2,\"text\":\"</s>\",\"logprob\":0.0,\"special\":true},\"generated_text\":\"alice@example.com\",\"details\":{\"finish_reason\":\"eos_token\",\"generated_tokens\":100000}}\n\n",
            "\"generated_text\":\"",
        ),
        Spoken {
            tells: false,
            ..row(
                Triton,
                "/v2/models/m/generate_stream",
                &json!({"text_input": "x"}),
                "",
                "data: {\"model_name\":\"m\",\"model_version\":\"1\",\"text_output\":\"@\"}\n\n",
                "",
                "",
            )
        },
        row(
            OpenAi,
            "/v1/images/generations",
            &json!({"stream": true, "prompt": "x"}),
            "",
            "data: {\"choices\":[{\"index\":0,\"text\":\"@\"}]}\n\n",
            chat_end,
            "[DONE]",
        ),
    ];
    for (path, asked, piece, end) in [
        (
            "/api/chat",
            json!({"messages": []}),
            "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"@\"},\"done\":false}\n",
            "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"prompt_eval_count\":1,\"eval_count\":99999}\n",
        ),
        (
            "/api/generate",
            json!({"prompt": "x"}),
            "{\"model\":\"m\",\"response\":\"@\",\"done\":false}\n",
            "{\"model\":\"m\",\"response\":\"\",\"done\":true,\"context\":[1,2],\"prompt_eval_count\":1,\"eval_count\":99999}\n",
        ),
    ] {
        let lines = row(Ollama, path, &asked, "", piece, end, "\"done\":true");
        all.push(Spoken { content_type: LINES, ..lines });
    }
    all
}

impl Spoken {
    fn bytes(&self) -> String {
        let pieces = PIECES.map(|piece| self.piece.replacen('@', piece, 1)).concat();
        [self.begin, &pieces, self.end].concat()
    }

    fn head(&self) -> Step {
        let head = "HTTP/1.1 200 OK\r\nserver: uvicorn\r\nx-model-host: gpu-7\r\nopenai-processing-ms: 4\r\nset-cookie: a=b\r\n";
        Step::Send(
            format!("{head}content-type: {}\r\ntransfer-encoding: chunked\r\n\r\n", self.content_type).into(),
        )
    }

    async fn world(&self, script: Vec<Step>, change: impl FnOnce(&mut Settings)) -> World {
        World::adjusted(script, limits(), |settings, _| {
            let model = settings.models.get_mut(&name("llama")).unwrap();
            Arc::get_mut(model).unwrap().server = self.server;
            settings.proxy.ping = Duration::from_secs(60);
            change(settings);
        })
        .await
    }

    /// The stream, cut every so many bytes.
    fn script(&self, cut: usize) -> Vec<Step> {
        let bytes = self.bytes();
        let cuts = bytes.as_bytes().chunks(cut).map(chunk);
        [self.head()].into_iter().chain(cuts).chain([stream_end()]).collect()
    }

    async fn ask(&self, world: &World, protocol: Protocol) -> Answer {
        let url = world.url(&format!("/llama{}", self.path));
        world.send(protocol, json_request(&url, Some(&world.token()), &self.asked).unwrap()).await
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body()).unwrap()
}

#[tokio::test]
async fn no_dialect_lets_a_value_through_and_no_header_names_the_model_s_server() {
    for spoken in spoken() {
        for (protocol, cut) in [(Protocol::Http1, 1), (Protocol::Http2, 37), (Protocol::Http1, 100_000)] {
            let world = spoken.world(spoken.script(cut), |_| {}).await;
            let answer = spoken.ask(&world, protocol).await;
            let (body, path) = (text(&answer), spoken.path);
            assert_eq!((answer.status.as_u16(), &answer.cut), (200, &None), "{path}: {body}");
            let mut names: Vec<_> = answer.headers.keys().map(http::HeaderName::as_str).collect();
            names.retain(|name| *name != "transfer-encoding");
            names.sort_unstable();
            let expected = ["cache-control", "content-type", "date", "x-accel-buffering", "x-request-id"];
            assert_eq!(names, expected, "{path}");
            assert!(answer.headers["content-type"].to_str().unwrap().starts_with(spoken.content_type));
            assert!(!body.contains("alice") && !body.contains("mple.com"), "{path}, {cut}: {body}");
            assert!(body.contains("[email]") && body.contains(spoken.last), "{path}, {cut}: {body}");
            assert!(!body.contains("[1,2]"), "{path}: token ids spell it out: {body}");
            let outcome = world.recorded("outcome", 1).await.pop().unwrap();
            assert_eq!(
                (&outcome["outcome"], &outcome["status"]),
                (&json!("complete"), &json!(200)),
                "{path}"
            );
            assert_eq!(outcome["response_bytes"], answer.body().len(), "{path}");
            assert!(outcome["masked"]["email"].as_u64() >= Some(1), "{path}: {outcome}");
            assert!(!world.everything_on_disk().contains("alice"), "{path}: in the trail");
        }
    }
}

#[tokio::test]
async fn without_a_mask_every_dialect_passes_byte_for_byte_as_it_comes() {
    for spoken in spoken() {
        let first = [spoken.begin, &spoken.piece.replacen('@', PIECES[0], 1)].concat();
        let bytes = spoken.bytes();
        let script = vec![
            spoken.head(),
            chunk(first.as_bytes()),
            Step::Pause(Duration::from_millis(400)),
            chunk(&bytes.as_bytes()[first.len()..]),
            stream_end(),
        ];
        let world = spoken.world(script, bare).await;
        let answer = spoken.ask(&world, Protocol::Http1).await;
        assert_eq!(text(&answer), bytes, "{}", spoken.path);
        let early: usize = answer
            .frames
            .iter()
            .filter(|frame| frame.after < Duration::from_millis(350))
            .map(|frame| frame.bytes.len())
            .sum();
        assert_eq!(early, first.len(), "{}: the first piece does not wait for the second", spoken.path);
    }
}

#[tokio::test]
async fn comments_go_between_the_events_of_every_dialect_and_never_between_lines() {
    let silence = Step::Pause(Duration::from_millis(700));
    for spoken in spoken() {
        let first = [spoken.begin, &spoken.piece.replacen('@', "one two three ", 1)].concat();
        let bytes = [&first, &*spoken.piece.replacen('@', "four", 1), spoken.end].concat();
        let rest = &bytes.as_bytes()[first.len()..];
        let begun = [silence.clone(), spoken.head(), chunk(first.as_bytes())];
        let script = begun.into_iter().chain([silence.clone(), chunk(rest), stream_end()]).collect();
        let often = |settings: &mut Settings| {
            bare(settings);
            settings.proxy.ping = Duration::from_millis(200);
        };
        let world = spoken.world(script, often).await;
        let body = text(&spoken.ask(&world, Protocol::Http1).await);
        assert_eq!(body.replace(": ping\n\n", ""), bytes, "{}: comments apart, byte for byte", spoken.path);
        let pings = body.matches(": ping\n\n").count();
        let expected = if spoken.content_type == EVENTS { 4..=8 } else { 0..=0 };
        assert!(expected.contains(&pings), "{}: {pings} comments in {body}", spoken.path);
    }
}

#[tokio::test]
async fn tokens_are_counted_in_every_dialect_that_tells_them() {
    let limited = |settings: &mut Settings| {
        let mut rules: Vec<AccessRule> =
            settings.access.rules().iter().map(|rule| (**rule).clone()).collect();
        rules[0].limits = RuleLimits { tokens_per_day: Some(50_000), ..RuleLimits::default() };
        settings.access = AccessPolicy::new(rules);
    };
    for spoken in spoken() {
        let world = spoken.world(spoken.script(64), limited).await;
        assert_eq!(spoken.ask(&world, Protocol::Http1).await.status, 200, "{}", spoken.path);
        let second = spoken.ask(&world, Protocol::Http1).await;
        assert_eq!(second.status, if spoken.tells { 429 } else { 200 }, "{}", spoken.path);
        if spoken.tells {
            assert_eq!(world.recorded("denied", 1).await[0]["reason"], "daily-token-limit");
        }
    }
}

#[tokio::test]
async fn an_end_that_does_not_come_is_told_in_the_dialect_s_own_shape() {
    for spoken in spoken() {
        let begun = [spoken.begin, &spoken.piece.replacen('@', "one two three ", 1)].concat();
        let (half, path) = (&spoken.piece[..spoken.piece.len() / 2], spoken.path);
        for (rest, reason) in [("", "upstream-broke-off"), (half, "upstream-broke-off")] {
            let script = vec![spoken.head(), chunk([&begun, rest].concat().as_bytes())];
            for change in [bare as fn(&mut Settings), |_| {}] {
                let world = spoken.world(script.clone(), change).await;
                let answer = spoken.ask(&world, Protocol::Http1).await;
                let body = text(&answer);
                assert!(body.contains("one two"), "{path}: {body}");
                let end = body.trim_end().rsplit('\n').next().unwrap();
                let end: Value = serde_json::from_str(end.strip_prefix("data: ").unwrap_or(end))
                    .unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
                assert!(end["error"].to_string().contains(reason), "{path}: {body}");
                assert_eq!(body.ends_with("}\n\n"), spoken.content_type == EVENTS, "{path}: {body}");
                let outcome = world.recorded("outcome", 1).await.pop().unwrap();
                assert_eq!(
                    (&outcome["outcome"], &outcome["reason"]),
                    (&json!("upstream-failed"), &json!(reason))
                );
            }
        }
        // It ends in good order, but within a value: what was held goes out before the end.
        let script = vec![
            spoken.head(),
            chunk([spoken.begin, &spoken.piece.replacen('@', "to alice@example.com", 1)].concat().as_bytes()),
            stream_end(),
        ];
        let world = spoken.world(script, |_| {}).await;
        let body = text(&spoken.ask(&world, Protocol::Http1).await);
        assert!(body.contains("[email]") && !body.contains("alice"), "{path}: {body}");
    }
}

#[tokio::test]
async fn whole_answers_are_masked_in_every_dialect() {
    use ServerPreset::{LlamaCpp, OpenAi, Tgi, Triton, Vllm};
    let messages = json!({"messages": [], "max_tokens": 9});
    for (server, path, asked, answered) in [
        (Vllm, "/v1/chat/completions", messages.clone(), r#"{"choices":[{"message":{"content":"@"}}]}"#),
        (
            Vllm,
            "/v1/embeddings",
            json!({"input": "x"}),
            r#"{"data":[{"embedding":[0.4111,-0.5]}],"model":"@"}"#,
        ),
        (
            LlamaCpp,
            "/rerank",
            json!({"query": "x"}),
            r#"{"results":[{"index":0,"document":{"text":"@"},"relevance_score":0.5}]}"#,
        ),
        (
            Vllm,
            "/score",
            json!({"text_1": "x", "text_2": "x"}),
            r#"{"data":[{"index":0,"score":0.5}],"note":"@"}"#,
        ),
        (
            OpenAi,
            "/v1/images/generations",
            json!({"prompt": "x"}),
            r#"{"data":[{"url":"x","revised_prompt":"@"}]}"#,
        ),
        (
            Vllm,
            "/v1/responses",
            json!({"input": "x"}),
            r#"{"output":[{"content":[{"type":"output_text","text":"@"}]}]}"#,
        ),
        (Vllm, "/v1/messages", messages, r#"{"type":"message","content":[{"type":"text","text":"@"}]}"#),
        (
            ServerPreset::Ollama,
            "/api/chat",
            json!({"messages": [], "stream": false}),
            r#"{"message":{"content":"@"},"done":true}"#,
        ),
        (
            ServerPreset::Ollama,
            "/api/generate",
            json!({"prompt": "x", "stream": false}),
            r#"{"response":"@","done":true}"#,
        ),
        (Tgi, "/generate", json!({"inputs": "x"}), r#"{"generated_text":"@"}"#),
        (
            Triton,
            "/v2/models/m/infer",
            json!({"inputs": []}),
            r#"{"outputs":[{"name":"t","datatype":"BYTES","shape":[1],"data":["@"]}]}"#,
        ),
        (Triton, "/v2/models/m/generate", json!({"text_input": "x"}), r#"{"text_output":"@"}"#),
    ] {
        for status in ["200 OK", "400 Bad Request"] {
            let body = answered.replace('@', "alice@example.com");
            let script = whole(status, "application/json", &body);
            let world = World::adjusted(script, limits(), |settings, _| {
                let model = settings.models.get_mut(&name("llama")).unwrap();
                Arc::get_mut(model).unwrap().server = server;
            })
            .await;
            let url = world.url(&format!("/llama{path}"));
            let request = json_request(&url, Some(&world.token()), &asked).unwrap();
            let answer = world.send(Protocol::Http1, request).await;
            assert_eq!(text(&answer), answered.replace('@', "[email]"), "{path}");
            assert_eq!(Some(answer.status.as_str()), status.get(..3), "{path}");
            let mut names: Vec<_> = answer.headers.keys().map(http::HeaderName::as_str).collect();
            names.sort_unstable();
            let expected = ["cache-control", "content-length", "content-type", "date", "x-request-id"];
            assert_eq!(names, expected, "{path}");
        }
    }
}
