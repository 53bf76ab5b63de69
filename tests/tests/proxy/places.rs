//! Twenty places where proxies before models are known to fall. Each has one test, named after it:
//!
//! | place | test in |
//! |---|---|
//! | 1 masking makes the first token wait for the last | `answers` |
//! | 2 a stream of an unknown shape passes unmasked | here |
//! | 3 `stream: true` goes around the mask | `answers` |
//! | 4 a guard kills streams: empty 200s | here |
//! | 5 short or absolute timeouts | `endings` |
//! | 6 a silent wait is cut on the way | `answers` |
//! | 7 who leaves does not cancel | `endings` |
//! | 8 body limits without a clear 413 | `callers` |
//! | 9 text outside `messages[].content` | `dialects` |
//! | 10 reasoning | here |
//! | 11 rotation of keys | `callers` |
//! | 12 the identity provider is down | here |
//! | 13 groups that Entra left out | `callers` |
//! | 14 Okta's opaque tokens | `callers` |
//! | 15 the audience | `callers` |
//! | 16 clocks | `callers` |
//! | 17 trust in headers | `callers` |
//! | 18 identity in the body | `callers` |
//! | 19 evasion | here |
//! | 20 encodings | here |

use crate::model::{Step, chat, chunk, stream_end, stream_head, whole};
use crate::world::{CHAT, World, ask, ask_streamed, limits, name};
use bailiwick::config::settings;
use bailiwick_tests::caller::{Answer, Protocol, json_request};
use bailiwick_tests::issuer::Wish;
use bytes::Bytes;
use serde_json::{Value, json};

const ADDRESS: &str = "alice@example.com";

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body()).into_owned()
}

async fn post(world: &World, body: &str, encoding: Option<&'static str>) -> Answer {
    let mut request = json_request(&world.url(CHAT), Some(&world.token()), &json!(null)).unwrap();
    *request.body_mut() = Bytes::from(body.to_owned());
    if let Some(encoding) = encoding {
        request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
    }
    world.send(Protocol::Http1, request).await
}

#[tokio::test]
async fn place_2_a_stream_of_an_unknown_shape_is_not_passed_on() {
    for event in [
        format!("data: {{\"novel\":{{\"deep\":[\"to {ADDRESS}\"]}}}}\n\n"),
        format!("data: to {ADDRESS}\n\n"),
        format!("id: {ADDRESS}\ndata: [DONE]\n\n"),
        format!("{ADDRESS}\n\n"),
    ] {
        let world = World::new(vec![stream_head(), chunk(event.as_bytes()), stream_end()]).await;
        let told = text(&world.chat(Protocol::Http1, &ask_streamed("x")).await);
        assert!(!told.contains("alice"), "{event}: {told}");
        assert!(!told.is_empty(), "{event}: something is said");
    }
}

#[tokio::test]
async fn place_4_no_stream_that_breaks_ends_as_an_empty_success() {
    for (script, why) in [
        (vec![stream_head()], "cut after its head"),
        (vec![stream_head(), chunk(b"data: {"), stream_end()], "cut in its first event"),
    ] {
        let world = World::new(script).await;
        let answer = world.chat(Protocol::Http1, &ask_streamed("x")).await;
        assert!(answer.status != 200 || text(&answer).contains("error"), "{why}: {}", text(&answer));
        assert_ne!(world.recorded("outcome", 1).await[0]["outcome"], "complete", "{why}");
    }
}

#[tokio::test]
async fn place_10_reasoning_is_masked_across_its_pieces() {
    for member in ["reasoning_content", "reasoning"] {
        let pieces = ["write to ali", "ce@example.c", "om soon"].map(|piece| {
            let delta = json!({"choices": [{"index": 0, "delta": {member: piece}}]});
            chunk(format!("data: {delta}\n\n").as_bytes())
        });
        let mut script = vec![stream_head()];
        script.extend(pieces);
        script.extend([chunk(b"data: [DONE]\n\n"), stream_end()]);
        let world = World::new(script).await;
        let told = text(&world.chat(Protocol::Http1, &ask_streamed("x")).await);
        assert!(told.contains("[email]") && !told.contains("ali"), "{member}: {told}");
        assert!(told.ends_with("data: [DONE]\n\n"), "{member}: {told}");
    }
}

#[tokio::test]
async fn place_12_a_provider_that_is_down_denies_its_own_callers_alone() {
    // Nobody listens on port 1.
    let down = "http://127.0.0.1:1";
    let world = World::adjusted(chat("hello"), limits(), |settings, _| {
        settings.issuers.push(settings::Issuer::new(down, "bailiwick", name("eu")));
    })
    .await;
    let claims = json!({"iss": down}).as_object().unwrap().clone();
    let wish = Wish { groups: Some(vec!["ml-analysts".into()]), claims, ..Wish::default() };
    let request = json_request(&world.url(CHAT), Some(&world.token_of(&wish)), &ask("x")).unwrap();
    let answer = world.send(Protocol::Http1, request).await;
    assert_eq!(answer.status, 503, "{}", text(&answer));
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(world.model.connections(), 0);
    assert_eq!(world.chat(Protocol::Http1, &ask("x")).await.status, 200, "the other's callers are served");
}

#[tokio::test]
async fn place_19_no_spelling_of_a_value_gets_past_the_mask() {
    let refused = [
        r#"{"messages":[{"role":"user","content":"a","content":"alice@example.com"}]}"#,
        r#"{"messages":[],"\u006dessages":[]}"#,
        r#"{"messages":[{"role":"user","content":"x"}],"prompt":[[9906,1917]]}"#,
    ];
    let world = World::new(chat("hello")).await;
    for body in refused {
        let answer = post(&world, body, None).await;
        assert!(answer.status.is_client_error(), "{body}: {}", answer.status);
        assert!(!text(&answer).contains("alice"), "{body}: the match comes back");
    }
    assert_eq!(world.model.connections(), 0);
    for (at, spelled) in [
        r"\u0061lice\u0040example.com",
        r"ali\u200bce@exam\u200dple.com",
        "ａｌｉｃｅ＠ｅｘａｍｐｌｅ．ｃｏｍ",
        "alice%40example.com",
        "YWxpY2VAZXhhbXBsZS5jb20=",
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"to {spelled} now"}}]}}"#);
        assert_eq!(post(&world, &body, None).await.status, 200, "{spelled}");
        let seen = world.model.seen()[at].body.clone();
        let sent: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(sent["messages"][0]["content"], "to [email] now", "{spelled}: {seen}");
    }
}

#[tokio::test]
async fn place_20_what_is_encoded_is_refused_and_json_within_json_stays_json() {
    let good = ask("x").to_string();
    let world = World::new(chat("hello")).await;
    for encoding in ["gzip", "br", "zstd", "deflate", "x-unknown"] {
        assert_eq!(post(&world, &good, Some(encoding)).await.status, 415, "{encoding}");
    }
    assert_eq!(world.model.connections(), 0);

    let options = json!({"include_usage": true});
    let mut body = ask_streamed("x");
    body["stream_options"] = options.clone();
    body["messages"][0]["tool_calls"] = json!([{"id": "c", "type": "function",
        "function": {"name": "send", "arguments": json!({"to": ADDRESS, "note": "\"q\""}).to_string()}}]);
    world.chat(Protocol::Http1, &body).await;
    let seen = world.model.seen().remove(0);
    assert!(seen.head.to_ascii_lowercase().contains("accept-encoding: identity"), "{}", seen.head);
    let sent: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(sent["stream_options"], options);
    let arguments = sent["messages"][0]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert_eq!(arguments, json!({"to": "[email]", "note": "\"q\""}));

    let gzip = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd";
    for script in [vec![Step::Send(gzip.into())], whole("200 OK", "text/html", ADDRESS)] {
        let answer = World::new(script).await.chat(Protocol::Http1, &ask("x")).await;
        assert_eq!(answer.status, 502);
        assert!(!text(&answer).contains("alice"));
    }
}
