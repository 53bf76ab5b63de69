//! Named peers, attacked: the hosts that run a part of a model get in by the ports that the config names, and
//! nothing else changes. Two hosts hang on the stage: `peer` (198.51.100.2, 2001:db8:a::2) is named for port
//! 6379, `stranger` (192.0.2.2, 2001:db8:f::2) is not.

mod kernel_support;

use bailiwick_kernel::{Hook, KernelError, Peer, Reason, Rules, ScopeKind};
use bailiwick_policy::Mode;
use kernel_support::{Actor, Errno, Kind, MODEL, OTHER, PORT, Stage, actor::talk, at, closed, egress, rules};

const PEERS: [&str; 2] = ["198.51.100.0/24", "2001:db8:a::/48"];
const PEER: [&str; 2] = ["198.51.100.2", "2001:db8:a::2"];
/// The stage as its peer sees it, which lies in the peers' own networks.
const STAGE: [&str; 2] = ["198.51.100.1", "2001:db8:a::1"];
const STAGE_FOR_STRANGERS: [&str; 2] = ["192.0.2.1", "2001:db8:f::1"];
const NAMED: u16 = 6379;
const OTHER_PORT: u16 = 6380;

fn peer(stage: &Stage) -> Actor {
    stage.host("peer", "198.51.100", "2001:db8:a")
}

fn stranger(stage: &Stage) -> Actor {
    stage.host("stranger", "192.0.2", "2001:db8:f")
}

fn with_peers(mut rules: Rules) -> Rules {
    rules.scopes[1].peers = PEERS
        .map(|network| Peer {
            network: network.parse().expect("a network"),
            ports: vec![NAMED],
            reason: "the other half of the model".into(),
        })
        .into();
    rules
}

fn udp(ip: &str) -> Kind {
    if ip.contains(':') { Kind::Udp6 } else { Kind::Udp4 }
}

#[test]
fn a_peer_gets_in_by_its_port_and_nobody_else_does() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let (mut peer, mut stranger) = (peer(&stage), stranger(&stage));
    let named = model.serve_on(at("::", NAMED));
    model.serve_on(at("::", OTHER_PORT));
    model.serve_on(at("::", PORT));
    for (own, strange) in STAGE.into_iter().zip(STAGE_FOR_STRANGERS) {
        talk(&mut peer, &mut model, named, at(own, NAMED)).expect("control");
        talk(&mut stranger, &mut model, named, at(strange, NAMED)).expect("control");
    }
    let guard = stage.guard(&closed());
    for own in STAGE {
        assert_eq!(peer.dial(at(own, NAMED)), Err(Errno::ETIMEDOUT), "control: not named yet: {own}");
    }
    drop(guard);
    let mut guard = bailiwick_kernel::Guard::attach(&stage.site).expect("a guard");
    guard.apply(&with_peers(closed())).expect("rules");
    stage.take_events();
    for own in STAGE {
        for _ in 0..3 {
            talk(&mut peer, &mut model, named, at(own, NAMED))
                .unwrap_or_else(|error| panic!("{own}: {error}"));
        }
    }
    assert_eq!(stage.take_events(), [], "a whole connection without one refusal");
    for (own, strange) in STAGE.into_iter().zip(STAGE_FOR_STRANGERS) {
        assert_eq!(peer.dial(at(own, OTHER_PORT)), Err(Errno::ETIMEDOUT), "another port: {own}");
        assert_eq!(peer.dial(at(own, PORT)), Err(Errno::ETIMEDOUT), "the guarded port: {own}");
        assert_eq!(stranger.dial(at(strange, NAMED)), Err(Errno::ETIMEDOUT), "another host: {strange}");
        assert_eq!(
            thief.dial(at(own, NAMED)),
            Err(Errno::ETIMEDOUT),
            "this host, from a peer's network: {own}"
        );
    }
}

#[test]
fn datagrams_of_a_peer_get_in_and_are_answered() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let (mut peer, mut stranger) = (peer(&stage), stranger(&stage));
    let _guard = stage.guard(&with_peers(closed()));
    for ((own, strange), far) in STAGE.into_iter().zip(STAGE_FOR_STRANGERS).zip(PEER) {
        let named = model.open(udp(own));
        model.bind(named, at(own, NAMED)).expect("bind");
        let other = model.open(udp(own));
        model.bind(other, at(own, OTHER_PORT)).expect("bind");
        let (asking, strangers) = (peer.open(udp(own)), stranger.open(udp(own)));
        peer.bind(asking, at(far, 40_000)).expect("bind");
        peer.send_to(asking, b"ask", at(own, NAMED)).expect("it leaves the peer");
        assert_eq!(model.receive(named).expect("the question"), b"ask");
        model.send_to(named, b"answer", at(far, 40_000)).expect("the answer leaves");
        assert_eq!(peer.receive(asking).expect("the answer"), b"answer");
        assert_eq!(
            model.send_to(other, b"leak", at(far, 40_000)),
            Err(Errno::EPERM),
            "from another port: {far}"
        );
        peer.send_to(asking, b"ask", at(own, OTHER_PORT)).expect("it leaves the peer");
        assert_eq!(model.receive(other), Err(Errno::ETIMEDOUT), "to another port: {own}");
        stranger.send_to(strangers, b"ask", at(strange, NAMED)).expect("it leaves the stranger");
        assert_eq!(model.receive(named), Err(Errno::ETIMEDOUT), "{strange}");
        model.close(named);
        model.close(other);
    }
}

#[test]
fn the_way_out_to_a_peer_is_open_at_the_same_ports_only() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let (mut peer, mut stranger) = (peer(&stage), stranger(&stage));
    let named = peer.serve_on(at("::", NAMED));
    peer.serve_on(at("::", OTHER_PORT));
    stranger.serve_on(at("::", NAMED));
    let _guard = stage.guard(&with_peers(closed()));
    for far in PEER {
        talk(&mut model, &mut peer, named, at(far, NAMED)).unwrap_or_else(|error| panic!("{far}: {error}"));
        assert_eq!(model.dial(at(far, OTHER_PORT)), Err(Errno::EPERM), "{far}");
        // From the port that peers may call, too: an answer is one thing, a call another.
        let from_named = model.open(if far.contains(':') { Kind::Tcp6 } else { Kind::Tcp4 });
        model.bind(from_named, at(if far.contains(':') { "::" } else { "0.0.0.0" }, NAMED)).expect("bind");
        assert_eq!(model.connect(from_named, at(far, OTHER_PORT)), Err(Errno::EPERM), "{far}");
        model.close(from_named);
    }
    for far in ["192.0.2.2", "2001:db8:f::2"] {
        assert_eq!(model.dial(at(far, NAMED)), Err(Errno::EPERM), "{far}");
    }
}

/// The stage's own addresses lie in the peers' networks, and daemons listen on them.
#[test]
fn a_peers_network_does_not_open_this_host_itself() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut daemon = stage.actor(OTHER);
    let _peer = peer(&stage);
    let listener = daemon.serve_on(at("::", NAMED));
    for own in STAGE {
        talk(&mut model, &mut daemon, listener, at(own, NAMED)).expect("control");
    }
    let _guard = stage.guard(&with_peers(closed()));
    for own in STAGE {
        assert_eq!(model.dial(at(own, NAMED)), Err(Errno::ETIMEDOUT), "{own}");
        stage.event(own, |e| e.hook == Hook::Egress && e.reason == Reason::LoopbackNotNamed);
    }
}

/// A raw socket of this host writes a peer's address into the header; the packet travels through loopback.
#[test]
fn a_peers_address_forged_on_this_host_does_not_get_in() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let _peer = peer(&stage);
    let named = model.open(Kind::Udp4);
    model.bind(named, at("0.0.0.0", NAMED)).expect("bind");
    let raw = thief.open(Kind::Raw4);
    let packet = udp_packet([198, 51, 100, 2], [198, 51, 100, 1], NAMED);
    thief.send_to(raw, &packet, at("198.51.100.1", 0)).expect("control");
    assert_eq!(model.receive(named).expect("control"), b"forged");
    let _guard = stage.guard(&with_peers(closed()));
    let _ = thief.send_to(raw, &packet, at("198.51.100.1", 0));
    assert_eq!(model.receive(named), Err(Errno::ETIMEDOUT));
    stage.event("the forger", |e| e.hook == Hook::Ingress && e.reason == Reason::Sealed);
}

#[test]
fn a_peer_that_is_named_no_longer_is_cut() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut peer = peer(&stage);
    let named = model.serve_on(at("::", NAMED));
    let mut guard = stage.guard(&with_peers(closed()));
    for own in STAGE {
        let near = peer.dial(at(own, NAMED)).expect("a peer");
        let far = model.accept(named).expect("a peer");
        peer.send(near, b"before").expect("a peer");
        assert_eq!(model.receive(far).expect("control"), b"before");
        guard.apply(&closed()).expect("rules");
        let _ = peer.send(near, b"after");
        assert_eq!(model.receive(far), Err(Errno::ETIMEDOUT), "not one more byte: {own}");
        guard.apply(&with_peers(closed())).expect("rules");
        assert_eq!(model.receive(far).expect("named again, sent again"), b"after");
    }
}

#[test]
fn a_connection_to_a_sealed_port_from_before_the_guard_is_cut() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut sibling = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let mut stranger = stranger(&stage);
    let metrics = model.serve_on(at("::", 9000));
    let mut open = |from: &mut Actor, ip| {
        let near = from.dial(at(ip, 9000)).expect("before");
        (near, model.accept(metrics).expect("before"))
    };
    let (inside, inside_far) = open(&mut sibling, "127.0.0.1");
    let ways = [open(&mut thief, "127.0.0.1"), open(&mut thief, "::1")];
    let strange = STAGE_FOR_STRANGERS.map(|ip| open(&mut stranger, ip));
    let _guard = stage.guard(&with_peers(closed()));
    for (near, far) in ways {
        let _ = thief.send(near, b"after");
        assert_eq!(model.receive(far), Err(Errno::ETIMEDOUT));
    }
    for (near, far) in strange {
        let _ = stranger.send(near, b"after");
        assert_eq!(model.receive(far), Err(Errno::ETIMEDOUT));
    }
    sibling.send(inside, b"after").expect("inside the slice");
    assert_eq!(model.receive(inside_far).expect("inside the slice"), b"after");
}

#[test]
fn peers_and_exceptions_do_not_hide_each_other() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut peer = peer(&stage);
    let named = model.serve_on(at("::", NAMED));
    // The exception's network lies inside the peer's, under the same port, and the longest one decides.
    let exceptions = [("198.51.100.2/32", Some(NAMED)), ("2001:db8:a::/64", Some(NAMED))];
    let _guard = stage.guard(&with_peers(rules(egress(Mode::Enforce, &[], &exceptions))));
    for own in STAGE {
        talk(&mut peer, &mut model, named, at(own, NAMED)).unwrap_or_else(|error| panic!("{own}: {error}"));
    }
}

#[test]
fn a_model_without_a_port_is_sealed_whole() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut sibling = stage.actor(MODEL);
    let mut proxy = stage.actor(kernel_support::PROXY);
    let mut peer = peer(&stage);
    let (listener, named) = (model.serve_on(at("::", PORT)), model.serve_on(at("::", NAMED)));
    talk(&mut proxy, &mut model, listener, at("127.0.0.1", PORT)).expect("control");
    let mut sealed = with_peers(closed());
    sealed.scopes[1].kind = ScopeKind::SealedModel;
    let _guard = stage.guard(&sealed);
    for ip in ["127.0.0.1", "::1"] {
        assert_eq!(proxy.dial(at(ip, PORT)), Err(Errno::ETIMEDOUT), "it has a socket to go by: {ip}");
        talk(&mut sibling, &mut model, listener, at(ip, PORT)).expect("inside the slice");
    }
    assert_eq!(peer.dial(at(STAGE[0], PORT)), Err(Errno::ETIMEDOUT));
    talk(&mut peer, &mut model, named, at(STAGE[0], NAMED)).expect("a peer");
    assert!(stage.status(&sealed).guarded);
}

#[test]
fn peers_that_would_open_too_much_are_refused() {
    let stage = Stage::new();
    for (why, change) in [
        ("the guarded port", (|rules| rules.scopes[1].peers[0].ports.push(PORT)) as fn(&mut Rules)),
        ("port 0", |rules| rules.scopes[1].peers[0].ports.push(0)),
        ("every port", |rules| rules.scopes[1].peers[0].ports.clear()),
        ("a workload", |rules| rules.scopes[2].peers = rules.scopes[1].peers.clone()),
    ] {
        let mut bad = with_peers(closed());
        change(&mut bad);
        let mut guard = bailiwick_kernel::Guard::attach(&stage.site).expect("a guard");
        assert!(
            matches!(guard.apply(&bad), Err(KernelError::Rules(problems)) if problems.len() == 1),
            "{why}"
        );
    }
}

/// An IPv4 UDP packet from port 40000, header and all; the checksums are left to whoever cares.
fn udp_packet(source: [u8; 4], destination: [u8; 4], port: u16) -> Vec<u8> {
    const BODY: &[u8] = b"forged";
    let length = 28 + u16::try_from(BODY.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(40_000_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(BODY);
    packet
}
