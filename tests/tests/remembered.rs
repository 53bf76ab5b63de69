//! What the kernel remembers of its verdicts: between the same ends, under the same policy, for the same slice, and no
//! longer. Every test asks twice before it changes something, so that there is something to be remembered.
//!
//! A host hangs on the stage, `friend` (198.51.100.2), that lies in an allowed region, and another, `foreign`
//! (192.0.2.2), that does not.

mod kernel_support;

use bailiwick_kernel::{Hook, Rules};
use bailiwick_policy::Mode;
use kernel_support::{Actor, Errno, Kind, MODEL, Stage, WORKLOAD, actor::Socket, at, closed, egress, rules};

const FRIEND: &str = "198.51.100.2";
const FOREIGN: &str = "192.0.2.2";

fn friend(stage: &Stage) -> Actor {
    stage.host("friend", "198.51.100", "2001:db8:a")
}

fn open() -> Rules {
    rules(egress(Mode::Enforce, &["198.51.100.0/24"], &[]))
}

fn ear(host: &mut Actor, ip: &str) -> Socket {
    let ear = host.open(Kind::Udp4);
    host.bind(ear, at(ip, 443)).expect("bind");
    ear
}

/// Sends and hears it arrive, twice.
fn twice(from: &mut Actor, socket: Socket, to: &mut Actor, ear: Socket) {
    for bytes in [b"one", b"two"] {
        from.send_to(socket, bytes, at(FRIEND, 443)).expect("allowed");
        assert_eq!(to.receive(ear).expect("allowed"), bytes);
    }
}

#[test]
fn a_new_policy_holds_for_connections_that_stand() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let listener = server.serve_on(at("198.51.100.2", 443));
    let mut guard = stage.guard(&open());
    let near = model.dial(at("198.51.100.2", 443)).expect("allowed");
    let far = server.accept(listener).expect("allowed");
    model.send(near, b"one").expect("allowed");
    assert_eq!(server.receive(far).expect("allowed"), b"one");
    assert_eq!(guard.apply(&closed()).expect("apply"), 2);
    let _ = model.send(near, b"two");
    assert_eq!(server.receive(far), Err(Errno::ETIMEDOUT), "no cached verdict outlives its policy");
    assert_eq!(guard.apply(&open()).expect("apply"), 3);
    let again = (0..5).find_map(|_| server.receive(far).ok());
    assert_eq!(again.as_deref(), Some(b"two".as_slice()), "TCP tries again");
}

#[test]
fn a_new_policy_holds_while_the_first_words_are_still_looked_at() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let listener = server.serve_on(at(FRIEND, 443));
    let mut guard = stage.guard(&open());
    let near = model.dial(at(FRIEND, 443)).expect("allowed");
    let far = server.accept(listener).expect("allowed");
    guard.apply(&closed()).expect("apply");
    // Nothing was said yet: what the server says first is what would be looked at, and must not be taken for allowed.
    server.send(far, b"hello").expect("it does not know");
    assert_eq!(model.receive(near), Err(Errno::ETIMEDOUT), "the other way");
    let _ = model.send(near, b"words");
    assert_eq!(server.receive(far), Err(Errno::ETIMEDOUT), "this way");
}

#[test]
fn a_new_policy_holds_for_datagrams_to_where_others_went() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let ear = ear(&mut server, FRIEND);
    let mut guard = stage.guard(&open());
    let loose = model.open(Kind::Udp4);
    twice(&mut model, loose, &mut server, ear);
    let connected = model.open(Kind::Udp4);
    model.connect(connected, at(FRIEND, 443)).expect("allowed");
    for bytes in [b"one", b"two"] {
        model.send(connected, bytes).expect("allowed");
        assert_eq!(server.receive(ear).expect("allowed"), bytes);
    }
    guard.apply(&closed()).expect("apply");
    assert_eq!(model.send_to(loose, b"out", at(FRIEND, 443)), Err(Errno::EPERM), "at the call");
    let _ = model.send(connected, b"out");
    assert_eq!(server.receive(ear), Err(Errno::ETIMEDOUT), "at the packet");
    stage.event("the packet", |event| event.hook == Hook::Egress);
    guard.apply(&open()).expect("apply");
    twice(&mut model, loose, &mut server, ear);
}

#[test]
fn what_comes_from_where_a_new_policy_does_not_allow_is_not_heard() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let ear = ear(&mut server, FRIEND);
    let mut guard = stage.guard(&open());
    let socket = model.open(Kind::Udp4);
    model.bind(socket, at("198.51.100.1", 5353)).expect("bind");
    twice(&mut model, socket, &mut server, ear);
    for answer in [b"yes", b"and"] {
        server.send_to(ear, answer, at("198.51.100.1", 5353)).expect("sendto");
        assert_eq!(model.receive(socket).expect("the answer"), answer);
    }
    guard.apply(&closed()).expect("apply");
    server.send_to(ear, b"orders", at("198.51.100.1", 5353)).expect("it does not know");
    assert_eq!(model.receive(socket), Err(Errno::ETIMEDOUT));
}

#[test]
fn what_is_allowed_to_one_destination_is_not_to_the_next() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let mut outsider = stage.host("foreign", "192.0.2", "2001:db8:f");
    let (near, far) = (ear(&mut server, FRIEND), ear(&mut outsider, FOREIGN));
    let socket = model.open(Kind::Udp4);
    model.send_to(socket, b"data", at(FOREIGN, 443)).expect("control");
    assert_eq!(outsider.receive(far).expect("control"), b"data");
    let _guard = stage.guard(&open());
    for _ in 0..3 {
        twice(&mut model, socket, &mut server, near);
        assert_eq!(model.send_to(socket, b"data", at(FOREIGN, 443)), Err(Errno::EPERM));
        assert_eq!(model.send_to(socket, b"data", at(FRIEND, 53)), Err(Errno::EPERM), "a resolver");
    }
    assert_eq!(outsider.receive(far), Err(Errno::ETIMEDOUT));
}

#[test]
fn what_one_slice_was_allowed_another_is_not() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let ear = ear(&mut server, FRIEND);
    let mut rules = open();
    let shipper = rules.scopes.last_mut().expect("a workload");
    shipper.egress = egress(Mode::Enforce, &[], &[]);
    let _guard = stage.guard(&rules);
    let socket = model.open(Kind::Udp4);
    twice(&mut model, socket, &mut server, ear);
    model.move_to(&stage.cgroup(WORKLOAD));
    let fresh = model.open(Kind::Udp4);
    assert_eq!(model.send_to(fresh, b"out", at(FRIEND, 443)), Err(Errno::EPERM), "its new slice");
    assert_eq!(server.receive(ear), Err(Errno::ETIMEDOUT));
}

/// A new connection takes the place of one to the same end: what was found of the policy goes with it, and no further
/// than to the same end.
#[test]
fn a_new_policy_holds_for_the_next_connection_to_the_same_end() {
    // As many as there are places, and more: each is taken by a second one.
    const CONNECTIONS: usize = 1200;
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let _outsider = stage.host("foreign", "192.0.2", "2001:db8:f");
    let listener = server.serve_on(at(FRIEND, 443));
    let mut guard = stage.guard(&open());
    let mut connect = |model: &mut Actor| {
        let near = model.dial(at(FRIEND, 443)).expect("allowed");
        let far = server.accept(listener).expect("allowed");
        model.close(near);
        server.close(far);
    };
    for number in 0..CONNECTIONS {
        connect(&mut model);
        if number % 100 == 0 {
            assert_eq!(model.dial(at(FOREIGN, 443)), Err(Errno::EPERM), "another end");
            assert_eq!(model.dial(at(FRIEND, 853)), Err(Errno::EPERM), "another port: a resolver's");
        }
    }
    guard.apply(&closed()).expect("apply");
    for _ in 0..20 {
        assert_eq!(model.dial(at(FRIEND, 443)), Err(Errno::EPERM), "no longer");
    }
    guard.apply(&open()).expect("apply");
    connect(&mut model);
}

#[test]
fn what_the_calling_process_may_its_socket_from_another_slice_may_not() {
    let stage = Stage::new();
    let mut actor = stage.actor(WORKLOAD);
    let mut server = friend(&stage);
    let ear = ear(&mut server, FRIEND);
    let mut rules = open();
    let shipper = rules.scopes.last_mut().expect("a workload");
    shipper.egress = egress(Mode::Enforce, &[], &[]);
    let socket = actor.open(Kind::Udp4);
    actor.send_to(socket, b"data", at(FRIEND, 443)).expect("control");
    assert_eq!(server.receive(ear).expect("control"), b"data");
    let _guard = stage.guard(&rules);
    actor.move_to(&stage.cgroup(MODEL));
    // The call is the model's, and allowed; the packet is the workload's.
    for _ in 0..3 {
        let _ = actor.send_to(socket, b"out", at(FRIEND, 443));
    }
    assert_eq!(server.receive(ear), Err(Errno::ETIMEDOUT));
    stage.event("the packet", |event| event.hook == Hook::Egress);
    let own = actor.open(Kind::Udp4);
    twice(&mut actor, own, &mut server, ear);
}

#[test]
fn shadow_reports_what_it_lets_pass_each_time_and_enforcing_begins_at_once() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let ear = ear(&mut server, FRIEND);
    let shadow = rules(egress(Mode::Shadow, &[], &[]));
    let mut guard = stage.guard(&shadow);
    let socket = model.open(Kind::Udp4);
    twice(&mut model, socket, &mut server, ear);
    twice(&mut model, socket, &mut server, ear);
    let status = stage.status(&shadow);
    assert!(status.would_deny["destination-not-allowed"] >= 4, "{:?}", status.would_deny);
    guard.apply(&closed()).expect("apply");
    assert_eq!(model.send_to(socket, b"out", at(FRIEND, 443)), Err(Errno::EPERM));
    assert_eq!(server.receive(ear), Err(Errno::ETIMEDOUT));
}
