//! Every refusal: its status, its code, its record, and that nothing went to the model.

use crate::model::chat;
use crate::world::{CHAT, MAX_BODY, World, ask};
use bailiwick_tests::caller::{Protocol, json_request};
use bailiwick_tests::issuer::Wish;
use bytes::Bytes;
use http::{HeaderValue, Request};
use serde_json::json;

/// Method, path, headers, body; status, code; and why.
type Row<'a> = (&'a str, &'a str, Vec<(&'static str, &'static str)>, &'a str, u16, &'a str, &'a str);

fn wish() -> Wish {
    Wish { groups: Some(vec!["ml-analysts".into()]), ..Wish::default() }
}

#[tokio::test]
async fn who_is_not_known_or_not_allowed_is_told_why_and_recorded() {
    let world = World::new(chat("hello")).await;
    let groups = |group: &str| Some(vec![group.to_owned()]);
    let claims = |name: &str, value: serde_json::Value| {
        let mut wish = wish();
        wish.claims.insert(name.into(), value);
        wish
    };
    let rows = [
        (None, 401, "no-credentials", "no token"),
        (
            Some(Wish { audience: Some("other".into()), ..wish() }),
            401,
            "audience-mismatch",
            "for another service",
        ),
        (Some(Wish { audience: None, ..wish() }), 401, "audience-mismatch", "for anybody"),
        (Some(Wish { lifetime: -60, ..wish() }), 401, "token-expired", "expired"),
        (Some(Wish { forged: true, ..wish() }), 401, "signature-invalid", "forged"),
        (Some(claims("iss", json!("https://evil.example"))), 401, "issuer-unknown", "from elsewhere"),
        (Some(claims("nbf", json!(4_000_000_000_u64))), 401, "token-not-yet-valid", "from the future"),
        (
            Some(claims("_claim_names", json!({"groups": "src1"}))),
            403,
            "groups-overage",
            "too many groups to tell",
        ),
        (Some(claims("groups", json!({"a": 1}))), 403, "groups-unreadable", "groups of an unknown shape"),
        (Some(Wish { groups: groups("sales"), ..wish() }), 403, "group-not-allowed", "the wrong group"),
        (Some(Wish { groups: None, ..wish() }), 403, "group-not-allowed", "no group"),
        (
            Some(Wish { groups: groups("ml-embedders"), ..wish() }),
            403,
            "operation-not-allowed",
            "the wrong operation",
        ),
        (
            Some(Wish { groups: groups("ml-far"), ..wish() }),
            403,
            "caller-region-not-allowed",
            "from the wrong place",
        ),
    ];
    for (nth, (wish, status, code, why)) in rows.into_iter().enumerate() {
        let token = wish.as_ref().map(|wish| world.token_of(wish));
        let mut request = json_request(&world.url(CHAT), token.as_deref(), &ask("ada@example.com")).unwrap();
        // A caller who lies about where they are is where their socket is.
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("192.0.2.7"));
        let protocol = if nth % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
        let answer = world.send(protocol, request).await;
        let error = answer.error().unwrap_or_else(|| panic!("{why}: not the API's shape"));
        assert_eq!((answer.status.as_u16(), error.code.as_deref()), (status, Some(code)), "{why}");
        let challenge =
            answer.headers.get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        match (status, code) {
            (401, "no-credentials") => assert_eq!(challenge.as_deref(), Some(r#"Bearer realm="bailiwick""#)),
            (401, _) => {
                let challenge = challenge.unwrap_or_else(|| panic!("{why}: no challenge"));
                assert!(
                    challenge.contains(r#"error="invalid_token""#) && challenge.contains(code),
                    "{challenge}"
                );
            }
            _ => assert_eq!(challenge, None, "{why}"),
        }
        let denied = world.recorded("denied", nth + 1).await.pop().unwrap();
        assert_eq!(denied["reason"], code, "{why}");
        assert_eq!(denied["status"], status, "{why}");
        assert_eq!(denied["endpoint"], "chat", "{why}");
        assert_eq!(denied["model"], "llama", "{why}");
        assert_eq!(denied["client_region"], "eu", "{why}");
        assert_eq!(denied["request"].as_str(), error.request_id.as_deref(), "{why}");
        assert_eq!(answer.headers["x-request-id"].to_str().ok(), error.request_id.as_deref(), "{why}");
        assert_eq!(denied["subject"].is_string(), status == 403 && !code.starts_with("groups"), "{why}");
    }
    assert_eq!(world.model.connections(), 0, "nothing was forwarded");
    assert!(world.records().iter().all(|record| record["type"] != "admit"));
}

#[tokio::test]
async fn what_cannot_be_inspected_is_not_forwarded() {
    let world = World::new(chat("hello")).await;
    let json_type = ("content-type", "application/json");
    let good = ask("hello").to_string();
    let large = ask(&"x".repeat(usize::try_from(MAX_BODY).unwrap())).to_string();
    let rows: Vec<Row<'_>> = vec![
        (
            "POST",
            "/nobody/v1/chat/completions",
            vec![json_type],
            &good,
            404,
            "model-unknown",
            "another model",
        ),
        (
            "POST",
            "/llama/v1/tokenize",
            vec![json_type],
            &good,
            404,
            "endpoint-unknown",
            "an endpoint not in the list",
        ),
        ("GET", "/llama/metrics", vec![], "", 404, "endpoint-unknown", "the model's metrics"),
        ("GET", "/llama/slots", vec![], "", 404, "endpoint-unknown", "other callers' prompts"),
        ("DELETE", CHAT, vec![], "", 404, "endpoint-unknown", "another method"),
        (
            "POST",
            "/llama/v1/chat/completions/x",
            vec![json_type],
            &good,
            404,
            "endpoint-unknown",
            "a longer path",
        ),
        (
            "POST",
            "/llama//v1/chat/completions",
            vec![json_type],
            &good,
            400,
            "path-not-canonical",
            "two slashes",
        ),
        (
            "POST",
            "/llama/v1/../v1/chat/completions",
            vec![json_type],
            &good,
            400,
            "path-not-canonical",
            "a way up",
        ),
        (
            "POST",
            "/llama/v1/chat%2Fcompletions",
            vec![json_type],
            &good,
            400,
            "path-not-canonical",
            "an encoded slash",
        ),
        (
            "POST",
            "/llama/v1/chat/completions;x",
            vec![json_type],
            &good,
            400,
            "path-not-canonical",
            "a parameter",
        ),
        (
            "POST",
            "/llama/v1/chat/completions?x=1",
            vec![json_type],
            &good,
            400,
            "query-not-accepted",
            "a query",
        ),
        (
            "POST",
            "/llama/v1/chat/completions?",
            vec![json_type],
            &good,
            400,
            "query-not-accepted",
            "an empty query",
        ),
        (
            "POST",
            CHAT,
            vec![("content-type", "text/plain")],
            &good,
            415,
            "content-type-not-accepted",
            "another type",
        ),
        ("POST", CHAT, vec![], &good, 415, "content-type-not-accepted", "no type"),
        (
            "POST",
            CHAT,
            vec![json_type, ("content-encoding", "gzip")],
            &good,
            415,
            "encoding-not-accepted",
            "encoded",
        ),
        ("POST", CHAT, vec![json_type], &large, 413, "body-too-large", "a body beyond the bound"),
        ("GET", "/llama/v1/models", vec![], "{}", 400, "body-not-expected", "a body on GET"),
    ];
    let mut count = 0;
    for (method, path, headers, body, status, code, why) in rows {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut request = Request::builder()
                .method(method)
                .uri(world.url(path))
                .header("authorization", format!("Bearer {}", world.token()))
                .body(Bytes::from(body.to_owned()))
                .unwrap();
            for (name, value) in &headers {
                request.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            let answer = world.send(protocol, request).await;
            let error = answer.error().unwrap_or_else(|| panic!("{why}: not the API's shape"));
            assert_eq!(
                (answer.status.as_u16(), error.code.as_deref()),
                (status, Some(code)),
                "{why}, {protocol:?}"
            );
            count += 1;
            let denied = world.recorded("denied", count).await.pop().unwrap();
            assert_eq!((&denied["reason"], &denied["status"]), (&json!(code), &json!(status)), "{why}");
        }
    }
    for body in ["", "{", "[]", r#"{"messages":[],"messages":[]}"#, "\u{feff}{}"] {
        let mut request = json_request(&world.url(CHAT), Some(&world.token()), &json!(null)).unwrap();
        *request.body_mut() = Bytes::from(body);
        let answer = world.send(Protocol::Http1, request).await;
        assert!(answer.status.is_client_error(), "{body:?}: {}", answer.status);
        count += 1;
        world.recorded("denied", count).await;
    }
    assert_eq!(world.model.connections(), 0, "nothing was forwarded");
}

#[tokio::test]
async fn if_it_cannot_be_recorded_it_is_not_forwarded() {
    let world = World::new(chat("hello")).await;
    assert_eq!(
        world.chat(Protocol::Http1, &ask("hello")).await.status,
        200,
        "while the trail can be written"
    );
    world.log.close().await.unwrap();
    for (token, why) in [(Some(world.token()), "a good request"), (None, "a refusal")] {
        let request = json_request(&world.url(CHAT), token.as_deref(), &ask("hello")).unwrap();
        let answer = world.send(Protocol::Http1, request).await;
        let error = answer.error().unwrap();
        assert_eq!(
            (answer.status.as_u16(), error.code.as_deref()),
            (503, Some("audit-unavailable")),
            "{why}"
        );
    }
    assert_eq!(world.model.seen().len(), 1, "only the first one reached the model");
}
