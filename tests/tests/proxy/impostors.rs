//! A model's port that somebody else has: where there is a witness, no connection is used before it is proven.

use crate::model::chat;
use crate::world::{World, ask, limits};
use bailiwick::proxy::{Proof, Witness};
use bailiwick_kernel::{Site, Slices};
use bailiwick_tests::caller::Protocol;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Says yes and remembers what it was asked; after `until` connections says that it cannot tell.
struct Remembers {
    asked: Mutex<Vec<(SocketAddr, SocketAddr)>>,
    until: usize,
}

impl Witness for Remembers {
    fn prove<'a>(&'a self, local: SocketAddr, peer: SocketAddr, slice: &'a Path) -> Proof<'a> {
        Box::pin(async move {
            assert!(slice.to_string_lossy().ends_with(".slice"), "{}", slice.display());
            let mut asked = self.asked.lock().unwrap();
            asked.push((local, peer));
            if asked.len() > self.until { Err(io::Error::other("nothing is known")) } else { Ok(()) }
        })
    }
}

/// The model of this test listens in the test's own process, which is in no model's slice: the kernel says so.
#[tokio::test]
async fn an_impostor_on_the_port_is_not_sent_one_byte() {
    let site = Site { cgroup_root: "/sys/fs/cgroup".into(), pins: "/sys/fs/bpf/bailiwick".into() };
    let world = World::witnessed(chat("hello"), limits(), |_| {}, Some(Arc::new(Slices::new(&site)))).await;
    for (number, protocol) in [Protocol::Http1, Protocol::Http2].into_iter().enumerate() {
        let answer = world.chat(protocol, &ask("a secret")).await;
        let code = answer.error().and_then(|error| error.code);
        assert_eq!((answer.status.as_u16(), code.as_deref()), (502, Some("upstream-impostor")));
        let outcome = world.recorded("outcome", number + 1).await.pop().unwrap();
        assert_eq!(
            (outcome["outcome"].as_str(), outcome["reason"].as_str()),
            (Some("upstream-failed"), Some("upstream-impostor"))
        );
    }
    assert!(world.model.seen().is_empty(), "connected to, and sent nothing");
}

#[tokio::test]
async fn each_connection_is_proven_and_doubt_is_a_refusal() {
    let witness = Arc::new(Remembers { asked: Mutex::default(), until: 2 });
    let world =
        World::witnessed(chat("hello"), limits(), |_| {}, Some(Arc::clone(&witness) as Arc<dyn Witness>))
            .await;
    for expected in [200, 200, 502] {
        assert_eq!(world.chat(Protocol::Http1, &ask("hello")).await.status.as_u16(), expected);
    }
    let asked = witness.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(local, peer)| *peer == world.model.address && local != peer), "{asked:?}");
    assert_eq!(world.model.seen().len(), 2);
}
