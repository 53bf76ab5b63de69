//! Whose sockets they are, on the real kernel: who took a connection, who else is on a model's port, and the end of
//! what does not belong there. No guard is attached here: this is what holds where a hook had nothing to say.

mod kernel_support;

use bailiwick_kernel::{Protocol, Slices, Socket, State, destroy, exact, foreign, taken_by};
use kernel_support::{Actor, Errno, Kind, MODEL, OTHER, PORT, Stage, at};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// A service's cgroup below the model's slice.
const SERVICE: &str = "bailiwick.slice/bailiwick-llama.slice/llama.service";

fn id(stage: &Stage, cgroup: &str) -> u64 {
    std::fs::metadata(stage.cgroup(cgroup)).expect("a cgroup").ino()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(future)
}

fn ends(connection: &TcpStream) -> (SocketAddr, SocketAddr) {
    (connection.local_addr().expect("an end"), connection.peer_addr().expect("an end"))
}

fn taker(address: SocketAddr) -> (TcpStream, std::io::Result<u64>) {
    let connection = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let (local, peer) = ends(&connection);
    let found = wait(taken_by(local, peer));
    (connection, found)
}

/// What is foreign on [`PORT`].
fn strangers(slices: &Slices) -> Vec<Socket> {
    foreign(&[PORT], |port, id| port == PORT && slices.holds(Path::new(MODEL), id)).expect("the sockets")
}

/// Lets the kernel choose [`PORT`] for whoever listens without a bind: no hook sees one.
fn only_port_to_choose() {
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("{PORT} {PORT}")).expect("root");
}

#[test]
fn who_took_a_connection_is_known_by_its_cgroup() {
    let stage = Stage::new();
    std::fs::create_dir(stage.cgroup(SERVICE)).expect("a cgroup");
    let slices = Slices::new(&stage.site);
    for (listen, dial) in [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::1"),
        ("::", "127.0.0.1"),
        ("::", "::ffff:127.0.0.1"),
    ] {
        for (cgroup, the_models) in [(MODEL, true), (SERVICE, true), (OTHER, false)] {
            let mut actor = stage.actor(cgroup);
            let listener = actor.serve_on(at(listen, PORT));
            let (connection, found) = taker(at(dial, PORT));
            assert_eq!(found.expect(cgroup), id(&stage, cgroup), "{listen} by {dial}: {cgroup}");
            let (local, peer) = ends(&connection);
            let proof = wait(slices.prove(local, peer, Path::new(MODEL)));
            assert_eq!(proof.is_ok(), the_models, "{listen} by {dial}: {proof:?}");
            if let Err(error) = proof {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                assert!(error.to_string().contains(OTHER), "names what was found: {error}");
            }
            // Accepted or not, it is the same socket.
            actor.accept(listener).expect("control");
            assert_eq!(wait(taken_by(local, peer)).expect(cgroup), id(&stage, cgroup));
        }
    }
}

#[test]
fn a_listener_is_its_makers_whoever_accepts() {
    let stage = Stage::new();
    let mut passed = stage.actor(OTHER);
    let listener = passed.serve_on(at("127.0.0.1", PORT));
    passed.move_to(&stage.cgroup(MODEL));
    let (_connection, found) = taker(at("127.0.0.1", PORT));
    passed.accept(listener).expect("the model accepts");
    assert_eq!(found.expect("a cgroup"), id(&stage, OTHER));
    assert_eq!(strangers(&Slices::new(&stage.site)).len(), 2, "the listener and what it took");
}

#[test]
fn an_impostor_by_a_port_that_the_kernel_chose_is_found_out() {
    let stage = Stage::new();
    let mut impostor = stage.actor(OTHER);
    only_port_to_choose();
    for (kind, dial) in [(Kind::Tcp4, "127.0.0.1"), (Kind::Tcp6, "::1"), (Kind::Tcp6, "127.0.0.1")] {
        let listener = impostor.open(kind);
        impostor.listen(listener);
        assert_eq!(impostor.local(listener).port(), PORT, "control");
        // The range is for everybody here; the caller has a port of its own.
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 50000").expect("root");
        let (_connection, found) = taker(at(dial, PORT));
        assert_eq!(found.expect("a cgroup"), id(&stage, OTHER), "{kind:?} by {dial}");
        let found = strangers(&Slices::new(&stage.site));
        assert!(found.iter().any(|socket| socket.state == State::Listen), "{found:?}");
        impostor.close(listener);
        only_port_to_choose();
    }
}

#[test]
fn a_caller_that_the_kernel_connects_to_itself_is_not_the_model() {
    let stage = Stage::new();
    let mut proxy = stage.actor(OTHER);
    only_port_to_choose();
    let own = proxy.dial(at("127.0.0.1", PORT)).expect("a simultaneous open with itself");
    assert_eq!(proxy.local(own), at("127.0.0.1", PORT), "control");
    let found = wait(taken_by(at("127.0.0.1", PORT), at("127.0.0.1", PORT))).expect("itself");
    assert_eq!(found, id(&stage, OTHER));
}

#[test]
fn where_nothing_is_at_the_other_end_nothing_is_proven() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    model.serve_on(at("127.0.0.1", PORT));
    let (local, peer) = (at("127.0.0.1", 40_000), at("127.0.0.1", PORT));
    assert_eq!(exact(Protocol::Tcp, peer, local).expect("an answer"), None, "a listener would take it");
    let begun = Instant::now();
    let error = wait(taken_by(local, peer)).expect_err("nobody is connected");
    assert!(error.to_string().contains("127.0.0.1:8000"), "{error}");
    assert!((80..400).contains(&begun.elapsed().as_millis()), "bounded: {:?}", begun.elapsed());
    // A model in another network namespace, behind an address that is rewritten or routed.
    let mut far = stage.host("far", "198.51.100", "2001:db8:a");
    far.serve_on(at("198.51.100.2", PORT));
    let (_connection, found) = taker(at("198.51.100.2", PORT));
    assert_eq!(found.expect_err("another namespace").kind(), ErrorKind::NotFound);
}

#[test]
fn what_does_not_belong_on_the_port_is_ended_and_what_does_stays() {
    let stage = Stage::new();
    let slices = Slices::new(&stage.site);
    let (mut model, mut other) = (stage.actor(MODEL), stage.actor(OTHER));
    for (own, strange) in [("127.0.0.1", "127.0.0.2"), ("::1", "127.0.0.1"), ("127.0.0.1", "::1")] {
        let listener = model.serve_on(at(own, PORT));
        let control = TcpStream::connect(at(own, PORT)).expect("control");
        let accepted = model.accept(listener).expect("control");
        assert_eq!(strangers(&slices), [], "the model's own");

        let foreigner = other.serve_on(at(strange, PORT));
        let caught = TcpStream::connect(at(strange, PORT)).expect("a caller");
        let child = other.accept(foreigner).expect("a caller");
        let udp = other.open(if strange.contains(':') { Kind::Udp6 } else { Kind::Udp4 });
        other.bind(udp, at(strange, PORT)).expect("bind");
        let found = strangers(&slices);
        let mut seen: Vec<_> = found.iter().map(|socket| (socket.protocol, socket.state)).collect();
        seen.sort_by_key(|(protocol, state)| (*protocol == Protocol::Udp, *state as u8));
        let expected = [
            (Protocol::Tcp, State::Established),
            (Protocol::Tcp, State::Listen),
            (Protocol::Udp, State::Close),
        ];
        assert_eq!(seen, expected, "{found:?}");
        assert!(found.iter().all(|socket| socket.cgroup_id == Some(id(&stage, OTHER))));
        for socket in &found {
            destroy(socket).unwrap_or_else(|error| panic!("{socket:?}: {error}"));
        }
        assert_eq!(other.receive(child), Err(Errno::ECONNABORTED), "{strange}");
        assert!(other.accept(foreigner).is_err(), "it listens no more: {strange}");
        assert_eq!(other.receive(udp), Err(Errno::ECONNABORTED), "{strange}");
        TcpStream::connect(at(strange, PORT)).expect_err("nobody listens");
        let left = strangers(&slices);
        assert!(left.iter().all(|socket| socket.protocol == Protocol::Udp), "bound by its number: {left:?}");
        drop(caught);
        for socket in [child, foreigner, udp] {
            other.close(socket);
        }
        assert_eq!(strangers(&slices), [], "{strange}");

        model.send(accepted, b"still here").expect("the model's own");
        TcpStream::connect(at(own, PORT)).expect("the model's own");
        drop(control);
        model.close(accepted);
        model.close(listener);
    }
}

#[test]
fn one_of_many_that_share_a_port_is_ended_and_no_other() {
    let stage = Stage::new();
    let slices = Slices::new(&stage.site);
    let (mut model, mut other) = (stage.actor(MODEL), stage.actor(OTHER));
    let share = |actor: &mut Actor| {
        let socket = actor.open(Kind::Tcp4);
        actor.reuse_port(socket);
        actor.bind(socket, at("127.0.0.1", PORT)).expect("bind");
        actor.listen(socket);
        let datagrams = actor.open(Kind::Udp4);
        actor.reuse_port(datagrams);
        actor.bind(datagrams, at("127.0.0.1", PORT)).expect("bind");
    };
    for _ in 0..4 {
        share(&mut model);
    }
    share(&mut other);
    let found = strangers(&slices);
    assert_eq!(found.len(), 2, "{found:?}");
    for socket in &found {
        destroy(socket).unwrap_or_else(|error| panic!("{socket:?}: {error}"));
    }
    let left = strangers(&slices);
    assert!(left.iter().all(|socket| socket.protocol == Protocol::Udp), "{left:?}");
    for _ in 0..64 {
        let (_connection, taken) = taker(at("127.0.0.1", PORT));
        assert_eq!(taken.expect("the model's"), id(&stage, MODEL));
    }
    destroy(&found[0]).expect("what is gone is gone");
}

#[test]
fn a_proof_costs_little() {
    const TIMES: u32 = 2000;
    let stage = Stage::new();
    std::fs::create_dir(stage.cgroup(SERVICE)).expect("a cgroup");
    let mut model = stage.actor(SERVICE);
    model.serve_on(at("127.0.0.1", PORT));
    let connection = TcpStream::connect(at("127.0.0.1", PORT)).expect("control");
    let (local, peer) = ends(&connection);
    let slices = Slices::new(&stage.site);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let begun = Instant::now();
    for _ in 0..TIMES {
        runtime.block_on(slices.prove(local, peer, Path::new(MODEL))).expect("the model's");
    }
    let proof = begun.elapsed() / TIMES;
    let begun = Instant::now();
    for _ in 0..TIMES / 10 {
        assert_eq!(strangers(&slices), []);
    }
    let look = begun.elapsed() / (TIMES / 10);
    eprintln!("a proof: {proof:?}; a look for strangers on one port: {look:?}");
    assert!(proof.as_micros() < 1000, "{proof:?}");
}
