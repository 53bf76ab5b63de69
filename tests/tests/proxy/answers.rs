//! What goes through: both ways, over both protocols, and what is left of it on either side.

use crate::dialects::bare;
use crate::model::{Step, chat, chunk, event, stream, stream_end, stream_head, whole};
use crate::world::{CHAT, CREDENTIAL, World, ask, ask_streamed, limits};
use bailiwick::config::settings::Settings;
use bailiwick_tests::caller::{Protocol, json_request};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

#[tokio::test]
async fn an_answer_comes_back_and_the_model_never_learns_who_asked() {
    let world = World::new(chat("Write to bo@example.com.")).await;
    for (nth, protocol) in BOTH.into_iter().enumerate() {
        let mut body = ask("I am lovelace@example.com");
        body["user"] = json!("lovelace");
        body["safety_identifier"] = json!("lovelace-2");
        body["metadata"] = json!({"user_id": "lovelace-3", "topic": "x"});
        let mut request = json_request(&world.url(CHAT), Some(&world.token()), &body).unwrap();
        for (name, value) in [
            ("cookie", "session=lovelace-4"),
            ("x-forwarded-for", "198.51.100.9"),
            ("x_forwarded_for", "198.51.100.9"),
            ("forwarded", "for=198.51.100.9"),
            ("x-real-ip", "198.51.100.9"),
            ("user-agent", "lovelace-5/1.0"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-request-id", "lovelace-6"),
            ("x-api-key", "lovelace-7"),
            ("openai-organization", "lovelace-8"),
            ("accept-encoding", "gzip, br"),
            ("referer", "https://lovelace.example"),
        ] {
            request
                .headers_mut()
                .append(http::HeaderName::from_static(name), http::HeaderValue::from_static(value));
        }
        let answer = world.send(protocol, request).await;
        assert_eq!(answer.status, 200, "{protocol:?}: {}", String::from_utf8_lossy(&answer.body()));
        assert_eq!(answer.text(), "Write to [email].", "masked on the way back");

        let seen = world.model.seen().pop().unwrap();
        assert!(seen.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", seen.head);
        assert!(seen.head.contains(&format!("authorization: Bearer {CREDENTIAL}\r\n")), "{}", seen.head);
        assert_eq!(
            seen.header_names(),
            [
                "accept",
                "accept-encoding",
                "authorization",
                "connection",
                "content-length",
                "content-type",
                "host"
            ],
            "nothing else passes"
        );
        let everything = format!("{}{}", seen.head, seen.body);
        for trace in ["lovelace", "198.51.100.9", "0af7651916cd43dd8448eb211c80319c", "eyJ"] {
            assert!(!everything.contains(trace), "{trace:?} reached the model: {everything}");
        }
        assert!(seen.body.contains("I am [email]"), "masked on the way there: {}", seen.body);

        let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["cache-control", "content-length", "content-type", "date", "x-request-id"]);

        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert_ne!(id, "lovelace-6", "the id is ours");
        let admit = world.recorded("admit", nth + 1).await.pop().unwrap();
        let outcome = world.recorded("outcome", nth + 1).await.pop().unwrap();
        assert_eq!((&admit["request"], &outcome["request"]), (&json!(id), &json!(id)));
        assert_eq!(admit["rule"], "analysts");
        assert_eq!(admit["model"], "llama");
        assert_eq!(admit["operation"], "chat");
        assert_eq!(admit["client_region"], "eu", "by the socket, whatever the headers say");
        assert_eq!(admit["masked"], json!({"email": 1}));
        assert_eq!(admit["streamed"], false);
        assert_eq!(outcome["outcome"], "complete");
        assert_eq!(outcome["status"], 200);
        assert_eq!(outcome["masked"], json!({"email": 1}));
        assert_eq!(outcome["response_bytes"], answer.body().len());
    }
    let disk = world.everything_on_disk();
    for secret in ["lovelace", "bo@example.com", "caller-1", CREDENTIAL, "127.0.0.1\""] {
        assert!(!disk.contains(secret), "{secret:?} is on disk");
    }
}

#[tokio::test]
async fn place_3_a_stream_stays_a_stream_and_no_cut_lets_anything_through() {
    let pieces = ["Dear ", "ad", "a@exa", "mple.c", "om, pay ", "DE89 3704 0044 ", "0532 0130 00", " now."];
    for protocol in BOTH {
        for cut in [1, 7, 64, 100_000] {
            let world = World::new(stream(&pieces, cut, Duration::ZERO)).await;
            let answer = world.chat(protocol, &ask_streamed("hello")).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.cut, None, "it ends properly");
            assert_eq!(answer.headers["content-type"], "text/event-stream; charset=utf-8");
            assert_eq!(answer.headers["x-accel-buffering"], "no");
            assert_eq!(answer.text(), "Dear [email], pay [iban] now.", "{protocol:?}, cut every {cut} bytes");
            assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
            let outcome = world.recorded("outcome", 1).await.pop().unwrap();
            assert_eq!(outcome["outcome"], "complete");
            assert_eq!(outcome["masked"], json!({"email": 1, "iban": 1}));
        }
    }
}

#[tokio::test]
async fn place_1_the_first_token_does_not_wait_for_the_last() {
    let mut script = vec![stream_head()];
    for text in ["one two three four ", "five six seven eight ", "nine ten"] {
        script.push(chunk(event(text).as_bytes()));
        script.push(Step::Pause(Duration::from_millis(300)));
    }
    script.push(chunk(b"data: [DONE]\n\n"));
    script.push(stream_end());
    let world = World::new(script).await;
    for protocol in BOTH {
        let answer = world.chat(protocol, &ask_streamed("count")).await;
        let first = answer.frames.iter().find(|frame| frame.bytes.starts_with(b"data:")).unwrap();
        assert!(first.after < Duration::from_millis(250), "{protocol:?}: {:?}", first.after);
        assert!(answer.frames.last().unwrap().after > Duration::from_millis(800));
        assert_eq!(answer.text(), "one two three four five six seven eight nine ten");
    }
}

#[tokio::test]
async fn place_6_a_caller_who_waits_for_a_stream_is_kept_company() {
    let late = Duration::from_millis(700);
    let silent = vec![
        stream_head(),
        Step::Pause(late),
        chunk(event("hello, ").as_bytes()),
        Step::Pause(late),
        chunk(event("world").as_bytes()),
        chunk(b"data: [DONE]\n\n"),
        stream_end(),
    ];
    let world = World::new(silent).await;
    let answer = world.chat(Protocol::Http1, &ask_streamed("hello")).await;
    let body = String::from_utf8(answer.body()).unwrap();
    let (before, after) = body.split_once("data:").unwrap();
    for (part, why) in [(before, "before the first token"), (after, "between tokens")] {
        let pings = part.matches(": ping\n\n").count();
        assert!((2..=4).contains(&pings), "{why}: {pings} pings in {body}");
    }
    assert_eq!(answer.text(), "hello, world");

    // Half an event is no place for a comment, were it ever so silent.
    let halves = event("hello");
    let (half, rest) = halves.split_at(20);
    let torn = vec![
        stream_head(),
        chunk(half.as_bytes()),
        Step::Pause(late),
        chunk(rest.as_bytes()),
        chunk(b"data: [DONE]\n\n"),
        stream_end(),
    ];
    let world = World::adjusted(torn, limits(), |settings, _| bare(settings)).await;
    let answer = world.chat(Protocol::Http1, &ask_streamed("hello")).await;
    let body = String::from_utf8(answer.body()).unwrap();
    assert_eq!(body, format!("{halves}data: [DONE]\n\n"), "byte for byte");
}

#[tokio::test]
async fn an_answer_s_status_is_the_model_s_own_until_the_first_comment() {
    let late = Duration::from_millis(700);
    let busy = r#"{"error":{"message":"busy"}}"#;
    let good = [vec![Step::Pause(late)], stream(&["hello"], 1000, Duration::ZERO)].concat();
    let bad = [vec![Step::Pause(late)], whole("503 Service Unavailable", "application/json", busy)].concat();
    let patient = |settings: &mut Settings, _: &Path| settings.proxy.ping = Duration::from_secs(60);
    for (script, status) in [(&good, 200), (&bad, 503)] {
        let world = World::adjusted(script.clone(), limits(), patient).await;
        let answer = world.chat(Protocol::Http1, &ask_streamed("hello")).await;
        assert_eq!(answer.status, status, "no status is made up");
        assert!(!String::from_utf8(answer.body()).unwrap().contains(": ping"));
    }
    let world = World::new(good).await;
    let answer = world.chat(Protocol::Http1, &ask_streamed("hello")).await;
    let body = String::from_utf8(answer.body()).unwrap();
    let pings = body.matches(": ping\n\n").count();
    assert!(body.starts_with(": ping\n\n") && (2..=4).contains(&pings), "no head yet: {body}");
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "hello"));
    let world = World::new(bad).await;
    let answer = world.chat(Protocol::Http1, &ask_streamed("hello")).await;
    let body = String::from_utf8(answer.body()).unwrap();
    assert!(body.starts_with(": ping\n\n") && body.contains("upstream-refused"), "too late for 503: {body}");
    assert_eq!(world.recorded("outcome", 1).await[0]["outcome"], "upstream-failed");

    let world = World::new([vec![Step::Pause(late)], chat("hello")].concat()).await;
    let answer = world.chat(Protocol::Http1, &ask("hello")).await;
    assert_eq!(answer.text(), "hello", "who did not ask for a stream gets no comments");
    assert!(answer.json().is_object());
}

#[tokio::test]
async fn the_list_of_models_and_the_short_path_work() {
    let list = json!({"object": "list", "data": [{"id": "echo", "object": "model"}]}).to_string();
    let world = World::new(whole("200 OK", "application/json", &list)).await;
    for path in ["/llama/v1/models", "/v1/models"] {
        let request = http::Request::get(world.url(path))
            .header("authorization", format!("Bearer {}", world.token()))
            .body(bytes::Bytes::new())
            .unwrap();
        let answer = world.send(Protocol::Http2, request).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.json()["data"][0]["id"], "echo", "{path}");
        let seen = world.model.seen().pop().unwrap();
        assert!(seen.head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{}", seen.head);
    }
}

#[tokio::test]
async fn the_models_own_errors_pass_scanned_but_not_its_opinion_of_our_credential() {
    let error = r#"{"error":{"message":"bad: ada@example.com","type":"server_error","code":500}}"#;
    let rows = [
        ("500 Internal Server Error", "application/json", error, 500, None, "passes, scanned"),
        ("400 Bad Request", "application/json", error, 400, None, "passes, scanned"),
        (
            "401 Unauthorized",
            "application/json",
            error,
            502,
            Some("upstream-credential-refused"),
            "our fault, not the caller's",
        ),
        ("302 Found", "application/json", error, 502, Some("upstream-status"), "not followed"),
    ];
    for (status, content_type, body, expected, code, why) in rows {
        let world = World::new(whole(status, content_type, body)).await;
        let answer = world.chat(Protocol::Http1, &ask("hello")).await;
        assert_eq!(answer.status, expected, "{why}");
        let text = String::from_utf8(answer.body()).unwrap();
        assert!(!text.contains("ada@example.com"), "{why}: {text}");
        assert!(!answer.headers.contains_key("server") && !answer.headers.contains_key("set-cookie"));
        if let Some(code) = code {
            assert_eq!(answer.error().unwrap().code.as_deref(), Some(code), "{why}");
        }
        let outcome = world.recorded("outcome", 1).await.pop().unwrap();
        assert_eq!(outcome["status"], expected, "{why}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_inspected_is_not_passed_on() {
    let gzip = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd";
    let rows = [
        (vec![Step::Send(gzip.into())], "encoded"),
        (whole("200 OK", "text/html", "<p>ada@example.com</p>"), "of another type"),
        (whole("200 OK", "application/json", "not JSON: ada@example.com"), "not what it says"),
        (vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec())], "of no type"),
    ];
    for (script, why) in rows {
        let world = World::new(script).await;
        for body in [ask("hello"), ask_streamed("hello")] {
            let answer = world.chat(Protocol::Http1, &body).await;
            assert_eq!(answer.status, 502, "{why}: {}", String::from_utf8_lossy(&answer.body()));
            assert!(answer.error().is_some_and(|error| error.request_id.is_some()), "{why}");
            assert!(!String::from_utf8_lossy(&answer.body()).contains("ada@example.com"), "{why}");
        }
        for outcome in world.recorded("outcome", 2).await {
            assert_ne!(outcome["outcome"], "complete", "{why}");
        }
    }
}
