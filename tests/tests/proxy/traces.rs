//! Traces: one span a request of a known caller, in OTLP's own form, without a word of what was said, and never in the way.

use crate::model::{Model, Step, stream, whole};
use crate::world::{CHAT, CREDENTIAL, World, ask_streamed, limits, name};
use bailiwick::config::settings::{MetricsListener, Settings, Traces};
use bailiwick_tests::caller::{Protocol, json_request};
use bailiwick_tests::issuer::Wish;
use http::HeaderValue;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PROMPT: &str = "marzipan for lovelace@example.com";

fn to(collector: SocketAddr) -> impl FnOnce(&mut Settings, &Path) {
    move |settings, _| {
        settings.traces =
            Some(Traces { endpoint: format!("http://{collector}/v1/traces"), region: name("eu"), ca: None });
        settings.metrics = Some(MetricsListener::Address("127.0.0.1:9464".parse().unwrap()));
    }
}

fn takes_all() -> Vec<Step> {
    whole("200 OK", "application/json", "{}")
}

async fn ask_with(world: &World, token: Option<&str>, path: &str, parent: Option<&'static str>) -> u16 {
    let mut request = json_request(&world.url(path), token, &ask_streamed(PROMPT)).unwrap();
    let headers = request.headers_mut();
    headers.insert("tracestate", HeaderValue::from_static("vendor=quetzal"));
    if let Some(parent) = parent {
        headers.insert("traceparent", HeaderValue::from_static(parent));
    }
    world.send(Protocol::Http1, request).await.status.as_u16()
}

/// The spans of a message, read as strictly as OTLP's JSON is written: these keys and no others.
fn spans(message: &Value) -> Vec<Value> {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(message), ["resourceSpans"]);
    let resources = message["resourceSpans"].as_array().unwrap();
    assert_eq!((resources.len(), keys(&resources[0])), (1, vec!["resource".into(), "scopeSpans".into()]));
    let resource = attributes(&resources[0]["resource"]);
    assert_eq!(resource["service.name"], "bailiwick");
    assert_eq!(resource["host.name"], "test-host");
    let spans = resources[0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    for span in &spans {
        let known = [
            "traceId",
            "spanId",
            "parentSpanId",
            "name",
            "kind",
            "startTimeUnixNano",
            "endTimeUnixNano",
            "attributes",
            "status",
        ];
        assert!(keys(span).iter().all(|key| known.contains(&key.as_str())), "{span}");
        let hex = |key: &str, length: usize| {
            let text = span[key].as_str().unwrap();
            assert!(
                text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{key}: {text}"
            );
        };
        hex("traceId", 32);
        hex("spanId", 16);
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
        assert_eq!(span["kind"], 2);
    }
    spans
}

/// Each attribute once, its value as text.
fn attributes(of: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for attribute in of["attributes"].as_array().unwrap() {
        let (kind, value) = attribute["value"].as_object().unwrap().iter().next().unwrap();
        let text = match kind.as_str() {
            "stringValue" | "intValue" => value.as_str().unwrap().to_owned(),
            "doubleValue" => value.as_f64().unwrap().to_string(),
            other => panic!("{other}"),
        };
        let key = attribute["key"].as_str().unwrap().to_owned();
        assert!(found.insert(key, text).is_none(), "{attribute}");
    }
    found
}

#[tokio::test]
async fn a_span_tells_how_a_request_went_and_nothing_of_what_was_said() {
    let collector = Model::start(takes_all()).await;
    let pieces = ["the answer ", "is xylophone"];
    let script = stream(&pieces, 40, Duration::from_millis(1));
    let world = World::adjusted(script, limits(), to(collector.address)).await;
    let subject = "subject-quetzal";
    let wish = Wish { subject: subject.into(), groups: Some(vec!["ml-analysts".into()]), ..Wish::default() };
    let token = world.token_of(&wish);
    let stranger = world.token_of(&Wish { groups: Some(vec!["others".into()]), ..wish });
    assert_eq!(ask_with(&world, Some(&token), CHAT, Some(PARENT)).await, 200);
    assert_eq!(ask_with(&world, Some(&stranger), CHAT, None).await, 403);
    assert_eq!(
        ask_with(&world, None, CHAT, Some(PARENT)).await,
        401,
        "nobody's trace is continued by strangers"
    );

    let asked = world.model.seen();
    assert!(
        asked.iter().all(|seen| !seen.head.to_ascii_lowercase().contains("trace")),
        "the model sees none of it"
    );

    collector.reached(1).await;
    let seen = collector.seen().remove(0);
    assert!(seen.head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{}", seen.head);
    assert!(seen.head.to_ascii_lowercase().contains("content-type: application/json\r\n"), "{}", seen.head);
    let spans = spans(&serde_json::from_str(&seen.body).unwrap());
    assert_eq!(spans.len(), 2, "one for each request of a known caller: {spans:#?}");

    let served = attributes(&spans[0]);
    assert_eq!((&spans[0]["name"], &spans[0]["status"]), (&"chat llama".into(), &Value::Null));
    assert_eq!(spans[0]["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(spans[0]["parentSpanId"], "00f067aa0ba902b7");
    for (key, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "llama.cpp"),
        ("gen_ai.request.model", "llama"),
        ("bailiwick.upstream", "llama"),
        ("bailiwick.outcome", "complete"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(served[key], value, "{key}");
    }
    assert!(served["bailiwick.tokens"].parse::<u64>().unwrap() > 0);
    assert!(served["bailiwick.time_to_first_token"].parse::<f64>().unwrap() > 0.0);
    let admitted = world.recorded("admit", 1).await.remove(0);
    assert_eq!(
        admitted["request"],
        served["bailiwick.request.id"].as_str(),
        "the trail knows it by the same id"
    );

    let denied = attributes(&spans[1]);
    assert_eq!(
        (denied["bailiwick.outcome"].as_str(), denied["error.type"].as_str()),
        ("denied", "group-not-allowed")
    );
    assert_eq!((&spans[1]["status"]["code"], &spans[1]["parentSpanId"]), (&2.into(), &Value::Null));
    assert_eq!(spans[1]["traceId"], denied["bailiwick.request.id"].as_str());

    for said in
        ["marzipan", "lovelace", "xylophone", "quetzal", "ml-analysts", "others", CREDENTIAL, "127.0.0.1"]
            .into_iter()
            .chain(token.split('.'))
    {
        assert!(!seen.body.contains(said), "{said:?} is told: {}", seen.body);
    }
}

#[tokio::test]
async fn a_collector_that_fails_or_hangs_is_in_nobody_s_way() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let hangs = Model::start(vec![Step::Hang]).await;
    let refuses = Model::start(whole("503 Service Unavailable", "text/plain", "no")).await;
    for (address, why) in [(gone, "gone"), (hangs.address, "hangs"), (refuses.address, "refuses")] {
        let world = World::adjusted(crate::model::chat("hello"), limits(), to(address)).await;
        let token = world.token();
        let begun = Instant::now();
        for _ in 0..5 {
            assert_eq!(ask_with(&world, Some(&token), CHAT, None).await, 200, "{why}");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{why}: {:?}", begun.elapsed());
    }
    refuses.reached(1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(refuses.seen().len(), 1, "nothing is sent twice");
}
