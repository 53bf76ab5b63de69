//! Several servers of one model: who is asked, who is asked instead, and that nothing is ever asked twice.

use crate::model::{Model, Step, chat, whole};
use crate::world::{World, ask, limits, name};
use bailiwick::config::settings::{self, HealthCheck, ModelAddress, Replica};
use bailiwick::proxy::{Proof, Witness};
use bailiwick_tests::caller::Protocol;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn replica(called: &str, address: SocketAddr) -> Replica {
    Replica {
        name: name(called),
        slice: format!("bailiwick-{called}.slice"),
        address: ModelAddress::Port(address),
        credential: None,
        backup: false,
    }
}

/// An address that nobody listens on.
async fn nobody() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A proxy whose model follows `script`, and has these servers besides.
async fn world(
    script: Vec<Step>,
    change: impl FnOnce(&mut settings::Model),
    witness: Option<Arc<dyn Witness>>,
) -> World {
    World::witnessed(script, limits(), change, witness).await
}

fn checks() -> HealthCheck {
    HealthCheck {
        path: "/health".into(),
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(50),
        fall: 2,
        rise: 2,
    }
}

#[tokio::test]
async fn a_server_that_takes_no_connection_is_passed_over_and_the_record_names_who_got_it() {
    let (second, nobody) = (Model::start(chat("from the second")).await, nobody().await);
    let address = second.address;
    let world = world(
        Vec::new(),
        |model| {
            model.upstream = ModelAddress::Port(nobody);
            model.replicas = vec![replica("llama-b", address)];
        },
        None,
    )
    .await;
    for (number, protocol) in [Protocol::Http1, Protocol::Http2, Protocol::Http1].into_iter().enumerate() {
        let answer = world.chat(protocol, &ask("hello")).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "from the second"));
        let admitted = world.recorded("admit", number + 1).await.pop().unwrap();
        assert_eq!((&admitted["model"], &admitted["upstream"]), (&"llama".into(), &"llama-b".into()));
    }
    assert_eq!(second.seen().len(), 3);
}

#[tokio::test]
async fn what_one_server_was_sent_is_never_sent_to_another() {
    let broken_head = vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-ty".to_vec())];
    let unavailable = whole("503 Service Unavailable", "application/json", r#"{"error":{"message":"busy"}}"#);
    for (script, status, why) in [
        (Vec::new(), 502, "it reads and closes"),
        (broken_head, 502, "it breaks off in its head"),
        (unavailable, 503, "it says that it cannot"),
    ] {
        let second = Model::start(chat("from the second")).await;
        let address = second.address;
        let world = world(
            script,
            |model| model.replicas = vec![Replica { backup: true, ..replica("llama-b", address) }],
            None,
        )
        .await;
        let answer = world.chat(Protocol::Http1, &ask("only once")).await;
        assert_eq!(answer.status.as_u16(), status, "{why}");
        assert_eq!((world.model.seen().len(), second.connections()), (1, 0), "{why}");
        assert_eq!(world.recorded("admit", 1).await[0]["upstream"], "llama", "{why}");
        assert_eq!(world.recorded("outcome", 1).await.len(), 1, "{why}");
        // After as many failures in a row it rests, and the backup is asked.
        for _ in 0..2 {
            world.chat(Protocol::Http1, &ask("again")).await;
        }
        let answer = world.chat(Protocol::Http1, &ask("at last")).await;
        assert_eq!(answer.text(), "from the second", "{why}");
        assert_eq!((world.model.seen().len(), second.seen().len()), (3, 1), "{why}");
    }
}

#[tokio::test]
async fn the_least_busy_is_asked() {
    let second = Model::start(chat("from the second")).await;
    let address = second.address;
    let world =
        world(vec![Step::Hang], |model| model.replicas = vec![replica("llama-b", address)], None).await;
    // In turn while both are idle: the first has one, and keeps it.
    let caller = world.caller(Protocol::Http1);
    let request = bailiwick_tests::caller::json_request(
        &world.url(crate::world::CHAT),
        Some(&world.token()),
        &ask("slow"),
    )
    .unwrap();
    let slow = tokio::spawn(async move { caller.exchange(request).await });
    world.model.reached(1).await;
    for _ in 0..4 {
        assert_eq!(world.chat(Protocol::Http2, &ask("quick")).await.text(), "from the second");
    }
    assert_eq!((world.model.seen().len(), second.seen().len()), (1, 4));
    slow.abort();
}

#[tokio::test]
async fn when_none_can_be_reached_nothing_is_admitted_and_the_caller_is_told_when_to_come_back() {
    let (one, other) = (nobody().await, nobody().await);
    let world = world(
        Vec::new(),
        |model| {
            model.upstream = ModelAddress::Port(one);
            model.replicas = vec![replica("llama-b", other)];
            model.health = Some(HealthCheck { interval: Duration::from_secs(7), ..checks() });
        },
        None,
    )
    .await;
    for (number, protocol) in [Protocol::Http1, Protocol::Http2].into_iter().enumerate() {
        let answer = world.chat(protocol, &ask("hello")).await;
        let code = answer.error().and_then(|error| error.code);
        assert_eq!((answer.status.as_u16(), code.as_deref()), (503, Some("model-unavailable")));
        assert_eq!(answer.headers["retry-after"], "7");
        let denied = world.recorded("denied", number + 1).await.pop().unwrap();
        assert_eq!((&denied["reason"], &denied["model"]), (&"model-unavailable".into(), &"llama".into()));
    }
    assert!(world.records().iter().all(|record| record["type"] != "admit"), "nothing was admitted");
}

#[tokio::test]
async fn a_server_that_checks_find_down_is_left_alone_and_taken_back() {
    let sick = Model::start(whole("503 Service Unavailable", "text/plain", "loading")).await;
    let address = sick.address;
    let world = world(
        chat("from the first"),
        |model| {
            model.health = Some(checks());
            model.replicas = vec![replica("llama-b", address)];
        },
        None,
    )
    .await;
    sick.reached(3).await;
    for _ in 0..6 {
        assert_eq!(world.chat(Protocol::Http1, &ask("hello")).await.text(), "from the first");
    }
    let asked = sick.seen();
    assert!(asked.iter().all(|seen| seen.head.starts_with("GET /health HTTP/1.1\r\n")), "checks alone");
    let names = asked[0].header_names();
    assert_eq!(names, ["accept", "accept-encoding", "connection", "host"], "no credential of another's");
    let own = world.model.seen();
    let check =
        own.iter().find(|seen| seen.head.starts_with("GET /health")).expect("the first is checked, too");
    assert!(check.head.contains(crate::world::CREDENTIAL), "with its own credential");
}

/// Says that whoever listens on one port is not the model.
struct Doubts(SocketAddr);

impl Witness for Doubts {
    fn prove<'a>(&'a self, _: SocketAddr, peer: SocketAddr, _: &'a Path) -> Proof<'a> {
        Box::pin(async move {
            if peer == self.0 { Err(io::Error::other("in no slice of the model")) } else { Ok(()) }
        })
    }
}

#[tokio::test]
async fn an_impostor_in_the_place_of_one_server_gets_nothing_and_the_other_serves() {
    let impostor = Model::start(chat("mine now")).await;
    let address = impostor.address;
    let witness: Arc<dyn Witness> = Arc::new(Doubts(address));
    let world = world(
        chat("from the first"),
        |model| {
            model.health = Some(checks());
            model.replicas = vec![replica("llama-b", address)];
        },
        Some(witness),
    )
    .await;
    for _ in 0..6 {
        assert_eq!(world.chat(Protocol::Http1, &ask("a secret")).await.text(), "from the first");
    }
    assert!(impostor.seen().is_empty(), "neither a prompt nor a check");
}

#[tokio::test]
async fn a_reload_changes_the_servers_and_cuts_nothing() {
    let second = Model::start(chat("from the second")).await;
    let address = second.address;
    let world = World::new(chat("from the first")).await;
    assert_eq!(world.chat(Protocol::Http1, &ask("hello")).await.text(), "from the first");
    world.reload(|settings, _| {
        let model = settings.models.values_mut().next().and_then(Arc::get_mut).unwrap();
        model.upstream = ModelAddress::Port(address);
        model.health = Some(checks());
    });
    assert_eq!(world.chat(Protocol::Http1, &ask("hello")).await.text(), "from the second");
    second.reached(3).await;
    assert!(second.seen().iter().any(|seen| seen.head.starts_with("GET /health")), "the new one is checked");
}
