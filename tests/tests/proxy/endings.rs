//! How answers end: to the last byte, cut, cancelled, broken off; and that the record is there before the caller knows.

use crate::model::{Step, chunk, event, stream, stream_end, stream_head};
use crate::world::{CHAT, World, ask, ask_streamed, limits};
use bailiwick::config::settings::Settings;
use bailiwick::proxy::Limits;
use bailiwick_tests::caller::{Protocol, json_request};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(1);

/// Starts a request, waits until `until` is true of the world, and leaves.
async fn ask_and_leave(world: &World, protocol: Protocol, body: &Value, linger: Duration) {
    let request = json_request(&world.url(CHAT), Some(&world.token()), body).unwrap();
    let caller = world.caller(protocol);
    let before = world.model.seen().len();
    // The caller's connection runs in a runtime of its own, so that it goes down with it.
    let task = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(linger, caller.exchange(request)).await.is_err() })
    });
    world.model.reached(before + 1).await;
    let left = tokio::task::spawn_blocking(|| task.join().unwrap()).await.unwrap();
    assert!(left, "the caller left before the answer was whole");
}

#[tokio::test]
async fn place_7_a_caller_who_leaves_cancels_before_the_first_token_and_after_it() {
    let linger = Duration::from_millis(300);
    let long = vec![stream_head(), chunk(event("one two three ").as_bytes()), Step::Hang];
    // Pings would find out too; they must not be needed.
    let no_pings = |settings: &mut Settings, _: &Path| settings.proxy.ping = Duration::from_secs(60);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for (script, body, why) in [
            (vec![Step::Hang], ask("hello"), "before the head, no stream asked for"),
            (vec![Step::Hang], ask_streamed("hello"), "before the head of a stream"),
            (vec![stream_head(), Step::Hang], ask_streamed("hello"), "before the first token"),
            (long.clone(), ask_streamed("hello"), "in the middle of a stream"),
        ] {
            let world = World::adjusted(script, limits(), no_pings).await;
            ask_and_leave(&world, protocol, &body, linger).await;
            timeout(SOON, world.model.closed(1))
                .await
                .unwrap_or_else(|_| panic!("{protocol:?}, {why}: the model goes on"));
            let outcome = world.recorded("outcome", 1).await.pop().unwrap();
            assert_eq!(outcome["outcome"], "cancelled", "{protocol:?}, {why}");
            assert_eq!(outcome["reason"], "caller-left", "{protocol:?}, {why}");
        }
    }
}

#[tokio::test]
async fn without_a_recorded_outcome_there_is_no_end() {
    let ends: [&[&[u8]]; 3] =
        [&[b"data: [DONE]\n\n"], &[b"data: [DO", b"NE]\n\n"], &[b"data:[DONE]\r\n", b"\r\n"]];
    for (protocol, end) in
        [Protocol::Http1, Protocol::Http2].into_iter().flat_map(|p| ends.map(|end| (p, end)))
    {
        let mut script = vec![
            stream_head(),
            chunk(event("one two three four five six ").as_bytes()),
            Step::Pause(Duration::from_millis(600)),
            chunk(event("seven").as_bytes()),
        ];
        for piece in end {
            script.extend([chunk(piece), Step::Pause(Duration::from_millis(50))]);
        }
        script.push(stream_end());
        let world = World::new(script).await;
        let request = json_request(&world.url(CHAT), Some(&world.token()), &ask_streamed("count")).unwrap();
        let caller = world.caller(protocol);
        let asking = tokio::spawn(async move { caller.exchange(request).await.unwrap() });
        world.model.reached(1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.log.close().await.unwrap();
        let answer = asking.await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.cut.is_some(), "{protocol:?}: it ended as if all were well");
        assert!(
            !answer.events().iter().any(|event| event == "[DONE]"),
            "{protocol:?}: nor does it say so itself"
        );
    }
}

#[tokio::test]
async fn a_model_that_fails_is_told_apart_from_one_that_answers() {
    let broken_head = vec![Step::Send(b"HTTP/1.1 200".to_vec())];
    let broken_json = vec![Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"a".to_vec(),
    )];
    let rows = [
        (vec![], "upstream-unavailable", "it closes without a word"),
        (broken_head, "upstream-unavailable", "it breaks off in its head"),
        (broken_json, "upstream-broke-off", "it breaks off in its body"),
    ];
    for (script, code, why) in rows {
        let world = World::new(script).await;
        let answer = world.chat(Protocol::Http1, &ask("hello")).await;
        let error = answer.error().unwrap_or_else(|| panic!("{why}: not the API's shape"));
        assert_eq!((answer.status.as_u16(), error.code.as_deref()), (502, Some(code)), "{why}");
        let outcome = world.recorded("outcome", 1).await.pop().unwrap();
        assert_eq!(
            (outcome["outcome"].as_str(), outcome["reason"].as_str()),
            (Some("upstream-failed"), Some(code))
        );
    }

    let midway = vec![stream_head(), chunk(event("one two three four ").as_bytes())];
    let world = World::new(midway).await;
    let answer = world.chat(Protocol::Http1, &ask_streamed("count")).await;
    let last = answer.events().pop().unwrap();
    assert!(last.contains("upstream-broke-off"), "the error is told in the stream's own shape: {last}");
    assert!(!answer.events().iter().any(|event| event == "[DONE]"), "and not taken for the end");
    let outcome = world.recorded("outcome", 1).await.pop().unwrap();
    assert_eq!(outcome["outcome"], "upstream-failed");

    let silent = Limits { model_idle: Duration::from_millis(300), ..limits() };
    let world = World::within(vec![Step::Hang], silent).await;
    let answer = world.chat(Protocol::Http1, &ask("hello")).await;
    assert_eq!(answer.error().unwrap().code.as_deref(), Some("upstream-timed-out"));
}

#[tokio::test]
async fn place_5_a_slow_stream_outlives_every_idle_time() {
    let idle = Limits {
        model_idle: Duration::from_millis(300),
        connection_idle: Duration::from_millis(400),
        caller_stall: Duration::from_millis(300),
        head: Duration::from_millis(300),
        ..limits()
    };
    let pieces = ["a ", "b ", "c ", "d ", "e ", "f ", "g ", "h "];
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = World::within(stream(&pieces, 128, Duration::from_millis(100)), idle).await;
        let answer = world.chat(protocol, &ask_streamed("spell")).await;
        assert_eq!(answer.cut, None, "{protocol:?}");
        assert!(
            answer.frames.last().unwrap().after > Duration::from_millis(700),
            "longer than any idle time"
        );
        assert_eq!(answer.text(), "a b c d e f g h ");
    }
}

#[tokio::test]
async fn a_stop_lets_what_is_under_way_finish_within_bounds() {
    let world = World::new(stream(&["one ", "two ", "three"], 100, Duration::from_millis(100))).await;
    let request = json_request(&world.url(CHAT), Some(&world.token()), &ask_streamed("count")).unwrap();
    let caller = world.caller(Protocol::Http1);
    let asking = tokio::spawn(async move { caller.exchange(request).await.unwrap() });
    world.model.reached(1).await;
    world.stop.send(true).unwrap();
    let answer = asking.await.unwrap();
    assert_eq!((answer.cut.clone(), answer.text().as_str()), (None, "one two three"));
    timeout(SOON, world.serving).await.expect("it stops at once").unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err(), "nobody is let in any more");
}

#[tokio::test]
async fn a_stop_cuts_and_records_what_does_not_finish() {
    let short = Limits { drain: Duration::from_millis(300), ..limits() };
    let world = World::within(vec![stream_head(), Step::Hang], short).await;
    let request = json_request(&world.url(CHAT), Some(&world.token()), &ask_streamed("count")).unwrap();
    let caller = world.caller(Protocol::Http1);
    let asking = tokio::spawn(async move { caller.exchange(request).await });
    world.model.reached(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.stop.send(true).unwrap();
    timeout(2 * SOON, asking).await.expect("the caller is let go").unwrap().ok();
    timeout(2 * SOON, world.model.closed(1)).await.expect("the model too");
    let outcome = world.recorded("outcome", 1).await.pop().unwrap();
    assert_eq!(outcome["outcome"], "cancelled");
}
