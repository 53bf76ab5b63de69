//! Bytes that no client library would send, straight on the TLS connection.

use crate::model::chat;
use crate::world::{CHAT, World, ask, limits};
use bailiwick::proxy::Limits;
use bailiwick_tests::caller::{Protocol, json_request};
use bailiwick_tests::issuer::Wish;
use http::HeaderName;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Sends bytes and reads until the proxy closes.
async fn exchange(world: &World, bytes: &[u8]) -> String {
    let mut connection = world.raw().await;
    connection.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A close without a TLS farewell is an error to the reader, and an end all the same.
    let _unfriendly = timeout(Duration::from_secs(5), connection.read_to_end(&mut answer))
        .await
        .expect("the proxy closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A refusal is in the API's own shape, and the trail has it under the same request id and reason.
fn assert_api_shape(answer: &str, records: &[Value], why: &str) {
    let (_head, body) = answer.split_once("\r\n\r\n").expect(why);
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{why}: {error}: {answer}"));
    let error = &body["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{why}: {answer}");
    let same = |record: &Value| record["request"] == error["request_id"] && record["reason"] == error["code"];
    assert!(records.iter().any(same), "{why}: {answer} is not in {records:?}");
}

#[tokio::test]
async fn a_request_that_two_readers_could_end_differently_is_refused() {
    let world = World::new(chat("hello")).await;
    let body = ask("hello").to_string();
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let token = world.token();
    let smuggled = "GET /llama/v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
    let rows = [
        (
            format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
            format!("{chunked}{smuggled}"),
            "CL.TE",
        ),
        (
            format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
            format!("{chunked}{smuggled}"),
            "TE.CL",
        ),
        ("transfer-encoding: chunked\r\n".into(), chunked.clone(), "chunked alone"),
        ("transfer-encoding: gzip, chunked\r\n".into(), chunked.clone(), "encoded and chunked"),
        ("transfer-encoding: chunked, identity\r\n".into(), chunked.clone(), "chunked, but not last"),
        ("transfer-encoding: xchunked\r\n".into(), chunked.clone(), "an unknown coding"),
        ("transfer-encoding : chunked\r\n".into(), chunked.clone(), "a space before the colon"),
        ("transfer-encoding:\x0bchunked\r\n".into(), chunked.clone(), "a vertical tab"),
        (format!("content-length: {length}\r\ncontent-length: 0\r\n"), body.clone(), "two lengths"),
        (format!("content-length: {length}, 0\r\n"), body.clone(), "a list of lengths"),
        (format!("content-length: +{length}\r\n"), body.clone(), "a signed length"),
        (format!("content-length: 0x{length:x}\r\n"), body.clone(), "a hexadecimal length"),
        ("content-length: -1\r\n".into(), body.clone(), "a negative length"),
        ("content-length: 99999999999999999999999\r\n".into(), body.clone(), "a length beyond counting"),
        (format!("content-length: {length}\r\nx: a\r\n b\r\n"), body.clone(), "a folded line"),
        (format!("content-length: {length}\r\nx: a\0b\r\n"), body.clone(), "a NUL in a value"),
        (format!("content-length: {length}\r\nx y: a\r\n"), body.clone(), "a space in a name"),
        (format!("content-length: {length}\r\n: a\r\n"), body.clone(), "a header without a name"),
    ];
    for (nth, (framing, body, why)) in rows.into_iter().enumerate() {
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\nconnection: close\r\n{framing}\r\n"
        );
        let answer = exchange(&world, format!("{head}{body}").as_bytes()).await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["400", "411"].contains(&status), "{why}: {answer}");
        assert_api_shape(&answer, &world.recorded("denied", nth + 1).await, why);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{why}: one answer, then the end: {answer}");
    }
    assert_eq!(world.model.connections(), 0, "nothing was forwarded");
}

#[tokio::test]
async fn what_follows_a_request_is_a_request_of_its_own() {
    let world = World::new(chat("hello")).await;
    let body = ask("hello").to_string();
    let token = world.token();
    let smuggled = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    let bytes = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}{smuggled}",
        body.len()
    );
    let answer = exchange(&world, bytes.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("HTTP/1.1 401 Unauthorized\r\n"), "the second one has no token: {answer}");
    let seen = world.model.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, body, "and nothing of it rode along");
}

#[tokio::test]
async fn a_head_that_does_not_come_or_is_too_large_is_not_waited_for() {
    let world = World::new(chat("hello")).await;
    let started = Instant::now();
    let mut connection = world.raw().await;
    connection.write_all(b"POST / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if connection.write_all(b"x: y\r\n").await.is_err() || connection.flush().await.is_err() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(3), drip).await.expect("a dripping head is cut off");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    let many: String = (0..80).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(70_000));
    for (nth, (lines, why)) in [(many, "too many lines"), (long, "too long a line")].into_iter().enumerate() {
        let answer =
            exchange(&world, format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{lines}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{why}: {answer}");
        assert_api_shape(&answer, &world.recorded("denied", nth + 1).await, why);
    }
    let fields: Vec<_> = (0..80).map(|n| (format!("x-{n}"), "y".to_owned())).collect();
    for (nth, (fields, why)) in [
        (fields, "too many over HTTP/2"),
        (vec![("x".to_owned(), "y".repeat(40_000))], "too long over HTTP/2"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = json_request(&world.url(CHAT), Some(&world.token()), &ask("hello")).unwrap();
        for (name, value) in fields {
            request.headers_mut().insert(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        let answer = world.send(Protocol::Http2, request).await;
        assert_eq!(answer.status, 431, "{why}");
        let text = format!("\r\n\r\n{}", String::from_utf8(answer.body()).unwrap());
        assert_api_shape(&text, &world.recorded("denied", nth + 3).await, why);
    }
    assert_eq!(world.recorded("denied", 4).await.len(), 4);
    assert_eq!(world.model.connections(), 0);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let world = World::new(chat("hello")).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        world.token()
    );
    let answer = exchange(&world, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(world.recorded("denied", 1).await[0]["reason"], "body-too-slow");

    let mut connection = world.raw().await;
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(connection);
    assert_eq!(world.recorded("denied", 2).await[1]["reason"], "body-incomplete");
    assert_eq!(world.model.connections(), 0);
}

#[tokio::test]
async fn a_refusal_comes_before_the_body_is_asked_for() {
    let world = World::new(chat("hello")).await;
    let mut connection = world.raw().await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\nexpect: 100-continue\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(Duration::from_secs(2), connection.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 401", "no '100 Continue' for a stranger");
}

#[tokio::test]
async fn the_clear_text_protocol_is_not_spoken() {
    let world = World::new(chat("hello")).await;
    let mut socket = tokio::net::TcpStream::connect(world.address).await.unwrap();
    socket.write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _reset = timeout(Duration::from_secs(2), socket.read_to_end(&mut answer)).await.expect("it hangs up");
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(world.chat(Protocol::Http2, &ask("hello")).await.status, 200, "others are served on");
}

#[tokio::test]
async fn a_flood_of_strangers_is_counted_and_does_not_fill_the_disk() {
    const STRANGERS: usize = 30;
    let few = Limits { stranger_burst: 5, strangers_per_second: 0, ..limits() };
    let world = World::within(chat("hello"), few).await;
    let head = "GET /v1/models HTTP/1.1\r\nhost: x\r\n";
    let mut bytes = format!("{head}\r\n").repeat(STRANGERS - 1);
    bytes += &format!("{head}connection: close\r\n\r\n");
    let answer = exchange(&world, bytes.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 401").count(), STRANGERS, "each has its answer");

    let denied = world.recorded("denied", 5).await.len();
    let counted = world.recorded("control", 1).await;
    assert_eq!((denied, &counted[0]["event"]), (5, &"denials-counted".into()));
    let number =
        |record: &Value| -> usize { record["detail"]["no-credentials"].as_str().unwrap().parse().unwrap() };
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let counted: usize = world.recorded("control", 1).await.iter().map(number).sum();
    assert_eq!(denied + counted, STRANGERS, "and none is forgotten");

    let known = world.token_of(&Wish { groups: Some(vec![]), ..Wish::default() });
    let refused = json_request(&world.url(CHAT), Some(&known), &ask("hello")).unwrap();
    assert_eq!(world.send(Protocol::Http1, refused).await.status, 403);
    assert_eq!(
        world.recorded("denied", 6).await[5]["reason"],
        "group-not-allowed",
        "who is known is recorded"
    );
}

#[tokio::test]
async fn who_never_reads_is_cut_off() {
    let short = Limits {
        connection_idle: Duration::from_millis(400),
        caller_stall: Duration::from_millis(400),
        head: Duration::from_secs(60),
        ..limits()
    };
    let world = World::within(chat("hello"), short).await;
    let mut connection = world.raw().await;
    // Answers that nobody reads fill the buffers on the way; then the proxy can write no more, and reads no more.
    let asking = async {
        let requests = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
        while connection.write_all(requests.as_bytes()).await.is_ok() {}
    };
    timeout(Duration::from_secs(20), asking).await.expect("the proxy lets go of it");
}

#[tokio::test]
async fn bodies_together_are_bounded() {
    let one = Limits { bodies: crate::world::MAX_BODY, body_idle: Duration::from_secs(5), ..limits() };
    let world = World::within(chat("hello"), one).await;
    let mut connection = world.raw().await;
    let length = usize::try_from(crate::world::MAX_BODY).unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n",
        world.token()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&vec![b' '; length - 1]).await.unwrap();
    connection.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = world.chat(Protocol::Http1, &ask("hello")).await;
    assert_eq!((answer.status.as_u16(), answer.error().unwrap().code.as_deref()), (503, Some("no-room")));
    drop(connection);
    world.recorded("denied", 2).await;
    assert_eq!(world.chat(Protocol::Http1, &ask("hello")).await.status, 200, "there is room again");
}

#[tokio::test]
async fn no_other_form_of_a_request_is_another_way_in() {
    let world = World::new(chat("hello")).await;
    let (token, model) = (world.token(), world.model.address);
    let body = ask("hello").to_string();
    let rest = format!(
        "host: {model}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    );
    let known = format!("{rest}authorization: Bearer {token}\r\n");
    let rows = [
        (format!("CONNECT {model} HTTP/1.1\r\n{known}"), "400", "a tunnel"),
        (format!("OPTIONS * HTTP/1.1\r\n{known}"), "400", "the asterisk form"),
        (format!("POST http://{model}/slots HTTP/1.1\r\n{known}"), "404", "the absolute form, at the model"),
        (format!("POST //{model}{CHAT} HTTP/1.1\r\n{known}"), "400", "an authority that looks like a path"),
        (format!("POST {CHAT}?access_token={token} HTTP/1.1\r\n{rest}"), "401", "a token in the query"),
        (format!("POST {CHAT}?x HTTP/1.1\r\n{known}"), "400", "a query"),
        (format!("POST {CHAT}#x HTTP/1.1\r\n{rest}"), "401", "a fragment"),
        (
            format!("POST {CHAT} HTTP/1.1\r\n{rest}proxy-authorization: Bearer {token}\r\n"),
            "401",
            "a neighbour",
        ),
        (format!("POST {CHAT} HTTP/1.1\r\n{rest}cookie: token={token}\r\n"), "401", "a cookie"),
        (format!("POST {CHAT} HTTP/1.1\r\n{known}authorization: Bearer {token}\r\n"), "400", "two tokens"),
        (format!("GET {CHAT} HTTP/1.1\r\n{known}x-http-method-override: POST\r\n"), "404", "another method"),
        ("PRI * HTTP/2.0\r\n".to_owned(), "400", "HTTP/2 where HTTP/1.1 was agreed"),
    ];
    for (head, status, why) in rows {
        let answer = exchange(&world, format!("{head}\r\n{body}").as_bytes()).await;
        assert_eq!(answer.get(9..12), Some(status), "{why}: {answer}");
        assert!(!answer.contains(&token), "{why}: the token comes back");
    }
    assert_eq!(world.model.connections(), 0, "nothing was forwarded");

    let head = format!("POST {CHAT} HTTP/1.1\r\n{known}connection: upgrade\r\nupgrade: h2c\r\n\r\n{body}");
    let answer = exchange(&world, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "a request like any other: {answer}");
    let names = world.model.seen()[0].header_names();
    assert!(!names.iter().any(|name| name == "upgrade"), "{names:?}");
    assert!(!world.everything_on_disk().contains(&token));
}

#[tokio::test]
async fn a_websocket_is_refused_with_the_reason_to_callers_who_are_known() {
    let world = World::new(chat("hello")).await;
    let key = "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let known = format!("host: x\r\nauthorization: Bearer {}\r\n", world.token());
    for (head, code, why) in [
        (
            format!("GET /llama/v1/realtime HTTP/1.1\r\n{known}upgrade: websocket\r\n{key}"),
            "400",
            "a session",
        ),
        (
            format!("GET /v1/realtime?model=m HTTP/1.1\r\n{known}upgrade: WebSocket\r\n"),
            "400",
            "with a query",
        ),
        (format!("POST {CHAT} HTTP/1.1\r\n{known}upgrade: h2c, websocket/13\r\n"), "400", "where a chat is"),
        (format!("GET /v1/realtime HTTP/1.1\r\n{known}{key}"), "400", "by its key alone"),
    ] {
        let answer = exchange(&world, format!("{head}connection: upgrade, close\r\n\r\n").as_bytes()).await;
        assert_eq!(answer.get(9..12), Some(code), "{why}: {answer}");
        assert!(
            answer.contains("websocket-not-accepted") && answer.contains("cannot be inspected"),
            "{why}: {answer}"
        );
    }
    let denied = world.recorded("denied", 4).await;
    assert!(denied.iter().all(|record| record["reason"] == "websocket-not-accepted"), "{denied:?}");
    let stranger = format!("GET /v1/realtime HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n{key}");
    let answer = exchange(&world, format!("{stranger}connection: upgrade, close\r\n\r\n").as_bytes()).await;
    assert_eq!(answer.get(9..12), Some("401"), "{answer}");
    assert_eq!(world.model.connections(), 0, "nothing was forwarded");
}
