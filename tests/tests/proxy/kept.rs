//! Connections to a model that are kept for a moment: for whom, for how long, and what never comes of it.

use crate::model::{Step, chat, chunk, event, stream_head, whole};
use crate::world::{CHAT, World, ask, ask_streamed, limits};
use bailiwick::config::settings::ServerPreset;
use bailiwick::proxy::{Proof, Witness};
use bailiwick_tests::issuer::Wish;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

const SOON: Duration = Duration::from_secs(2);

/// A caller's connection over which one request follows the other.
struct Caller(TlsStream<TcpStream>);

impl Caller {
    async fn of(world: &World) -> Self {
        Self(world.raw().await)
    }

    /// Asks, and reads the answer to its end; its status and body.
    async fn ask(&mut self, token: &str, body: &Value) -> (u16, String) {
        let body = body.to_string();
        let request = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
        let mut read = Vec::new();
        loop {
            assert_ne!(self.0.read_buf(&mut read).await.unwrap(), 0, "the caller's connection is kept");
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let is_whole = match length {
                Some(length) => rest.len() == length.parse::<usize>().unwrap(),
                None => rest.ends_with("0\r\n\r\n"),
            };
            if is_whole {
                return (head[9..12].parse().unwrap(), rest.to_owned());
            }
        }
    }
}

/// A proxy before a server that keeps connections, if it is asked to.
async fn world(script: Vec<Step>, witness: Option<Arc<dyn Witness>>) -> World {
    World::witnessed(script, limits(), |model| model.server = ServerPreset::Vllm, witness).await
}

fn and_again(mut script: Vec<Step>) -> Vec<Step> {
    script.push(Step::Again);
    script
}

fn someone(subject: &str) -> Wish {
    Wish { subject: subject.into(), groups: Some(vec!["ml-analysts".into()]), ..Wish::default() }
}

#[tokio::test]
async fn one_caller_s_requests_share_a_connection_and_nobody_else_s_do() {
    let world = world(and_again(chat("hello")), None).await;
    let (one, other) = (world.token_of(&someone("one")), world.token_of(&someone("other")));
    let mut caller = Caller::of(&world).await;
    for (nth, token, connections, why) in [
        (1, &one, 1, "the first"),
        (2, &one, 1, "the same caller's next"),
        (3, &other, 2, "somebody else over the same connection, as a gateway's"),
        (4, &one, 2, "the first again"),
    ] {
        let (status, body) = caller.ask(token, &ask("hello")).await;
        assert_eq!((status, body.contains("hello")), (200, true), "{why}: {body}");
        assert_eq!((world.model.seen().len(), world.model.connections()), (nth, connections), "{why}");
    }
    assert_eq!(Caller::of(&world).await.ask(&one, &ask("hello")).await.0, 200);
    assert_eq!(world.model.connections(), 3, "over another connection of the same caller's");
    assert_eq!(world.recorded("outcome", 5).await.len(), 5);
    assert!(world.model.seen().iter().all(|seen| !seen.head.contains("connection:")));
}

#[tokio::test]
async fn it_is_closed_soon_and_with_the_caller_s_own() {
    let world = world(and_again(chat("hello")), None).await;
    let mut caller = Caller::of(&world).await;
    assert_eq!(caller.ask(&world.token(), &ask("hello")).await.0, 200);
    timeout(SOON, world.model.closed(1)).await.expect("an idle one is closed");
    assert_eq!(caller.ask(&world.token(), &ask("hello")).await.0, 200);
    assert_eq!(world.model.connections(), 2);
    drop(caller);
    timeout(SOON, world.model.closed(2)).await.expect("and one whose caller left");
}

#[tokio::test]
async fn a_server_with_a_thread_for_each_connection_has_it_back_at_once() {
    let world = World::new(and_again(chat("hello"))).await;
    let mut caller = Caller::of(&world).await;
    for nth in 1..=2 {
        assert_eq!(caller.ask(&world.token(), &ask("hello")).await.0, 200);
        timeout(SOON, world.model.closed(nth)).await.expect("closed");
    }
    assert!(world.model.seen().iter().all(|seen| seen.head.contains("connection: close\r\n")));
}

#[tokio::test]
async fn what_a_server_says_unasked_is_nobody_s_answer() {
    let second = whole("200 OK", "application/json", r#"{"choices":[{"message":{"content":"unasked"}}]}"#);
    let late = [vec![Step::Pause(Duration::from_millis(20))], second.clone()].concat();
    for (unasked, why) in [(second, "in one breath"), (late, "a moment later")] {
        let world = world(and_again([chat("hello"), unasked].concat()), None).await;
        let (token, mut caller) = (world.token(), Caller::of(&world).await);
        for nth in 1..=3 {
            let (status, body) = caller.ask(&token, &ask("hello")).await;
            assert_eq!(status, 200, "{why}");
            assert!(body.contains("hello") && !body.contains("unasked"), "{why}: {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(world.model.connections(), nth, "{why}: what is spoilt is not used again");
        }
    }
}

#[tokio::test]
async fn a_server_that_closes_or_says_so_is_asked_over_a_new_one() {
    let announced = vec![Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
            .to_vec(),
    )];
    let late = [chat("hello"), vec![Step::Pause(Duration::from_millis(30))]].concat();
    for (script, why) in [
        (chat("hello"), "it closes without a word"),
        (late, "it closes a moment later"),
        (and_again(announced), "it says that it will"),
    ] {
        let world = world(script, None).await;
        let (token, mut caller) = (world.token(), Caller::of(&world).await);
        for nth in 1..=3 {
            assert_eq!(caller.ask(&token, &ask("hello")).await.0, 200, "{why}");
            tokio::time::sleep(Duration::from_millis(60)).await;
            assert_eq!(world.model.connections(), nth, "{why}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_to_its_end_closes_it() {
    let broken =
        [vec![stream_head(), chunk(event("one").as_bytes())], whole("200 OK", "text/html", "")].concat();
    for (script, body, why) in [
        (whole("200 OK", "text/html", "<p>"), ask("hello"), "a type that cannot be inspected"),
        (whole("401 Unauthorized", "application/json", "{}"), ask("hello"), "a refused credential"),
        (broken, ask_streamed("hello"), "a stream that breaks its framing"),
    ] {
        let world = world(and_again(script), None).await;
        let mut caller = Caller::of(&world).await;
        caller.ask(&world.token(), &body).await;
        timeout(SOON / 10, world.model.closed(1)).await.unwrap_or_else(|_| panic!("{why}: it is kept"));
    }
}

/// Counts, and vouches for the first so many.
struct Counts {
    asked: AtomicUsize,
    until: usize,
}

impl Witness for Counts {
    fn prove<'a>(&'a self, _: SocketAddr, _: SocketAddr, _: &'a Path) -> Proof<'a> {
        let known = self.asked.fetch_add(1, Ordering::SeqCst) < self.until;
        Box::pin(async move { if known { Ok(()) } else { Err(io::Error::other("nothing is known")) } })
    }
}

#[tokio::test]
async fn it_is_proven_again_before_each_request() {
    let witness = Arc::new(Counts { asked: AtomicUsize::new(0), until: 3 });
    let world = world(and_again(chat("hello")), Some(Arc::clone(&witness) as Arc<dyn Witness>)).await;
    let (token, mut caller) = (world.token(), Caller::of(&world).await);
    for expected in [200, 200, 200, 502] {
        assert_eq!(caller.ask(&token, &ask("hello")).await.0, expected);
    }
    assert_eq!(witness.asked.load(Ordering::SeqCst), 5, "the last one twice: the kept one, and a new one");
    assert_eq!((world.model.seen().len(), world.model.connections()), (3, 2));
}
