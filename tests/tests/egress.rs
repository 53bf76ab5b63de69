//! Egress, attacked: a model's slice sends to where its policy allows, and nowhere else, over either family and
//! whatever the socket. Every attack has its control: without the guard it succeeds.
//!
//! Two hosts hang on the stage: `friend` (198.51.100.2, 2001:db8:a::2) lies in an allowed region, `foreign`
//! (192.0.2.2, 2001:db8:f::2) does not.

mod kernel_support;

use bailiwick_kernel::{Event, Hook, Reason, Rules, Verdict};
use bailiwick_policy::Mode;
use kernel_support::{
    Actor, Errno, Kind, MODEL, Network, OTHER, PORT, PROXY, Stage, WORKLOAD, actor::talk, at, closed, egress,
    rules,
};

const FOREIGN: [&str; 3] = ["192.0.2.2", "2001:db8:f::2", "::ffff:192.0.2.2"];
const FRIEND: [&str; 3] = ["198.51.100.2", "2001:db8:a::2", "::ffff:198.51.100.2"];
const REGION: [&str; 2] = ["198.51.100.0/24", "2001:db8:a::/48"];

fn foreign(stage: &Stage) -> Actor {
    stage.host("foreign", "192.0.2", "2001:db8:f")
}

fn friend(stage: &Stage) -> Actor {
    stage.host("friend", "198.51.100", "2001:db8:a")
}

fn region(mode: Mode) -> Rules {
    rules(egress(mode, &REGION, &[]))
}

fn udp(ip: &str) -> Kind {
    if ip.contains(':') { Kind::Udp6 } else { Kind::Udp4 }
}

fn to(event: &Event, ip: &str) -> bool {
    event.destination.ip().to_canonical()
        == ip.parse::<std::net::IpAddr>().expect("an address").to_canonical()
}

#[test]
fn tcp_to_a_foreign_region_is_refused_by_name() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = foreign(&stage);
    let listener = server.serve_on(at("::", 443));
    for ip in FOREIGN {
        talk(&mut model, &mut server, listener, at(ip, 443))
            .unwrap_or_else(|error| panic!("control: {ip}: {error}"));
    }
    let _guard = stage.guard(&region(Mode::Enforce));
    for ip in FOREIGN {
        assert_eq!(model.dial(at(ip, 443)), Err(Errno::EPERM), "{ip}");
        let event = stage.event(ip, |event| event.hook == Hook::Connect && to(event, ip));
        assert_eq!((event.verdict, event.reason), (Verdict::Deny, Reason::DestinationNotAllowed));
        assert_eq!(event.protocol, 6);
        assert_eq!(event.destination.port(), 443);
        assert_eq!(event.process.as_ref().map(|process| process.pid), Some(model.pid()));
        assert_eq!(event.process.map(|process| process.uid), Some(0));
        assert_eq!(event.scope.map(|name| name.to_string()).as_deref(), Some("llama"));
    }
}

#[test]
fn datagrams_to_a_foreign_region_are_refused() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = foreign(&stage);
    let sink = server.open(Kind::Udp6);
    server.bind(sink, at("::", 53)).expect("bind");
    for ip in FOREIGN {
        let socket = model.open(udp(ip));
        model.send_to(socket, b"data", at(ip, 53)).expect("control");
        assert_eq!(server.receive(sink).expect("control"), b"data", "{ip}");
    }
    let _guard = stage.guard(&region(Mode::Enforce));
    for ip in FOREIGN {
        let socket = model.open(udp(ip));
        assert_eq!(model.connect(socket, at(ip, 53)), Err(Errno::EPERM), "connect {ip}");
        assert_eq!(model.send_to(socket, b"data", at(ip, 53)), Err(Errno::EPERM), "sendto {ip}");
        let event = stage.event(ip, |event| event.hook == Hook::SendMessage && to(event, ip));
        assert_eq!(event.reason, Reason::DestinationNotAllowed);
    }
    assert_eq!(server.receive(sink), Err(Errno::ETIMEDOUT));
}

#[test]
fn an_allowed_region_passes_both_ways() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let listener = server.serve_on(at("::", 443));
    let echo = server.open(Kind::Udp4);
    server.bind(echo, at("198.51.100.2", 443)).expect("bind");
    let _guard = stage.guard(&region(Mode::Enforce));
    for ip in FRIEND {
        talk(&mut model, &mut server, listener, at(ip, 443)).unwrap_or_else(|error| panic!("{ip}: {error}"));
    }
    let socket = model.open(Kind::Udp4);
    model.bind(socket, at("198.51.100.1", 5353)).expect("bind");
    model.send_to(socket, b"ask", at("198.51.100.2", 443)).expect("sendto");
    assert_eq!(server.receive(echo).expect("the question"), b"ask");
    server.send_to(echo, b"answer", at("198.51.100.1", 5353)).expect("sendto");
    assert_eq!(model.receive(socket).expect("the answer"), b"answer");
    assert_eq!(stage.take_events(), []);
}

#[test]
fn an_exception_opens_its_port_only() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = foreign(&stage);
    let listener = server.serve_on(at("::", 443));
    let policy =
        egress(Mode::Enforce, &REGION, &[("192.0.2.2/32", Some(443)), ("2001:db8:f::2/128", Some(443))]);
    let _guard = stage.guard(&rules(policy));
    for ip in FOREIGN {
        talk(&mut model, &mut server, listener, at(ip, 443)).unwrap_or_else(|error| panic!("{ip}: {error}"));
        assert_eq!(model.dial(at(ip, 444)), Err(Errno::EPERM), "{ip}");
    }
    assert_eq!(model.dial(at("192.0.2.3", 443)), Err(Errno::EPERM), "its neighbour");
}

#[test]
fn shadow_reports_and_lets_pass() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = foreign(&stage);
    let listener = server.serve_on(at("::", 443));
    let _guard = stage.guard(&region(Mode::Shadow));
    for ip in FOREIGN {
        talk(&mut model, &mut server, listener, at(ip, 443)).unwrap_or_else(|error| panic!("{ip}: {error}"));
        let event = stage.event(ip, |event| event.hook == Hook::Connect && to(event, ip));
        assert_eq!((event.verdict, event.reason), (Verdict::WouldDeny, Reason::DestinationNotAllowed));
    }
    let status = stage.status(&region(Mode::Shadow));
    assert_eq!(status.denied["destination-not-allowed"], 0);
    assert!(status.would_deny["destination-not-allowed"] >= 3);
}

#[test]
fn monitor_decides_nothing_but_the_way_in_stays_shut() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let mut server = foreign(&stage);
    let listener = server.serve_on(at("::", 443));
    let _guard = stage.guard(&region(Mode::Monitor));
    for ip in FOREIGN {
        talk(&mut model, &mut server, listener, at(ip, 443)).unwrap_or_else(|error| panic!("{ip}: {error}"));
    }
    assert_eq!(stage.take_events(), []);
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM));
}

/// An IPv4 header and a UDP datagram; checksums are the kernel's (IP) and none (UDP).
fn forged(destination: [u8; 4], options: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let payload = b"forged";
    let length = u16::try_from(header + 8 + payload.len()).expect("short");
    let words = u8::try_from(header / 4).expect("short");
    let mut packet = vec![0x40 | words, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend([198, 51, 100, 1]);
    packet.extend(destination);
    packet.extend(options);
    packet.extend(4000_u16.to_be_bytes());
    packet.extend(443_u16.to_be_bytes());
    packet.extend((8 + u16::try_from(payload.len()).expect("short")).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// The call names an allowed host, the header a foreign one: the header is what leaves.
#[test]
fn a_forged_header_is_judged_by_what_it_says() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = foreign(&stage);
    let mut allowed = friend(&stage);
    let sink = server.open(Kind::Udp4);
    server.bind(sink, at("192.0.2.2", 443)).expect("bind");
    let ear = allowed.open(Kind::Udp4);
    allowed.bind(ear, at("198.51.100.2", 443)).expect("bind");
    let raw = model.open(Kind::Raw4);
    let packet = forged([192, 0, 2, 2], &[]);
    model.send_to(raw, &packet, at("192.0.2.2", 0)).expect("control");
    assert_eq!(server.receive(sink).expect("control"), b"forged");
    let no_operation = [1, 1, 1, 0];
    let with_options = forged([198, 51, 100, 2], &no_operation);
    model.send_to(raw, &with_options, at("198.51.100.2", 0)).expect("control");
    assert_eq!(allowed.receive(ear).expect("control"), b"forged");
    let _guard = stage.guard(&region(Mode::Enforce));
    let _ = model.send_to(raw, &packet, at("192.0.2.2", 0));
    assert_eq!(server.receive(sink), Err(Errno::ETIMEDOUT));
    let event = stage.event("the forgery", |event| event.hook == Hook::Egress);
    assert_eq!(event.reason, Reason::DestinationNotAllowed);
    assert_eq!(event.destination, at("192.0.2.2", 443));
    assert_eq!(event.source, Some(at("198.51.100.1", 4000)));
    model.send_to(raw, &forged([198, 51, 100, 2], &[]), at("198.51.100.2", 0)).expect("to the friend");
    assert_eq!(allowed.receive(ear).expect("an allowed header passes"), b"forged");
    let _ = model.send_to(raw, &with_options, at("198.51.100.2", 0));
    assert_eq!(allowed.receive(ear), Err(Errno::ETIMEDOUT), "options can carry a source route");
    stage.event("the options", |event| event.reason == Reason::Malformed);
}

#[test]
fn other_protocols_do_not_leave() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    for (protocol, kind) in [(253, Kind::RawProtocol(253)), (136, Kind::UdpLite4)] {
        let sink = server.open(Kind::RawProtocol(protocol));
        let socket = model.open(kind);
        model.send_to(socket, b"data", at("198.51.100.2", 9)).expect("control");
        assert!(server.receive(sink).is_ok(), "control: {protocol}");
        let guard = stage.guard(&region(Mode::Enforce));
        let _ = model.send_to(socket, b"data", at("198.51.100.2", 9));
        assert_eq!(server.receive(sink), Err(Errno::ETIMEDOUT), "{protocol}, even to an allowed region");
        let event = stage.event("the protocol", |event| event.protocol == protocol);
        assert_eq!(event.reason, Reason::ProtocolNotAllowed);
        drop(guard);
        bailiwick_kernel::release(&stage.site).expect("release");
    }
}

#[test]
fn a_connection_from_before_the_guard_is_cut() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = foreign(&stage);
    for (kind, ip) in [(Kind::Tcp4, "192.0.2.2"), (Kind::Tcp6, "2001:db8:f::2")] {
        let listener = server.serve_on(at(ip, 443));
        let near = model.open(kind);
        model.connect(near, at(ip, 443)).expect("before");
        let far = server.accept(listener).expect("before");
        model.send(near, b"before").expect("before");
        assert_eq!(server.receive(far).expect("control"), b"before");
        let guard = stage.guard(&region(Mode::Enforce));
        let _ = model.send(near, b"after");
        assert_eq!(server.receive(far), Err(Errno::ETIMEDOUT), "{ip}");
        let event = stage.event(ip, |event| event.hook == Hook::Egress && to(event, ip));
        assert_eq!(event.reason, Reason::DestinationNotAllowed);
        drop(guard);
        bailiwick_kernel::release(&stage.site).expect("release");
    }
}

#[test]
fn moving_out_of_the_slice_does_not_free_a_socket() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = foreign(&stage);
    let sink = server.open(Kind::Udp4);
    server.bind(sink, at("192.0.2.2", 53)).expect("bind");
    let socket = model.open(Kind::Udp4);
    let _guard = stage.guard(&region(Mode::Enforce));
    model.move_to(&stage.cgroup(OTHER));
    let _ = model.send_to(socket, b"data", at("192.0.2.2", 53));
    assert_eq!(server.receive(sink), Err(Errno::ETIMEDOUT), "its socket is the slice's");
    let fresh = model.open(Kind::Udp4);
    model.send_to(fresh, b"data", at("192.0.2.2", 53)).expect("control: what it opens now is not");
    assert_eq!(server.receive(sink).expect("control"), b"data");
}

#[test]
fn a_network_namespace_is_no_way_out() {
    let stage = Stage::new();
    let mut server = foreign(&stage);
    let listener = server.serve_on(at("192.0.2.2", 443));
    let mut container = Actor::start(&stage.cgroup(MODEL), Network::Of(&server));
    talk(&mut container, &mut server, listener, at("192.0.2.2", 443)).expect("control");
    let _guard = stage.guard(&region(Mode::Enforce));
    assert_eq!(container.dial(at("192.0.2.2", 443)), Err(Errno::EPERM));
    assert_eq!(container.dial(at("127.0.0.1", 443)), Err(Errno::ETIMEDOUT));
}

#[test]
fn loopback_is_the_slices_own_or_named() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut sibling = stage.actor(MODEL);
    let mut helper = stage.actor(OTHER);
    let own = sibling.serve_on(at("::", 9000));
    let outside = helper.serve_on(at("::", 3128));
    let named = helper.serve_on(at("::", 3129));
    let resolver = helper.open(Kind::Udp4);
    helper.bind(resolver, at("127.0.0.53", 53)).expect("bind");
    for ip in ["127.0.0.1", "::1"] {
        talk(&mut model, &mut helper, outside, at(ip, 3128)).expect("control");
    }
    let exceptions = [("127.0.0.1/32", Some(3129)), ("::1/128", Some(3129)), ("127.0.0.53/32", Some(53))];
    // Even a region that covers loopback does not name it.
    let _guard = stage.guard(&rules(egress(Mode::Enforce, &["127.0.0.0/8", "::1/128"], &exceptions)));
    for ip in ["127.0.0.1", "::1"] {
        talk(&mut model, &mut sibling, own, at(ip, 9000))
            .unwrap_or_else(|error| panic!("own, {ip}: {error}"));
        talk(&mut model, &mut helper, named, at(ip, 3129))
            .unwrap_or_else(|error| panic!("named, {ip}: {error}"));
        assert_eq!(model.dial(at(ip, 3128)), Err(Errno::ETIMEDOUT), "{ip}");
        let event = stage.event(ip, |event| event.reason == Reason::LoopbackNotNamed && to(event, ip));
        assert_eq!((event.hook, event.destination.port()), (Hook::Egress, 3128));
    }
    let socket = model.open(Kind::Udp4);
    model.bind(socket, at("127.0.0.1", 5353)).expect("bind");
    model.send_to(socket, b"ask", at("127.0.0.53", 53)).expect("a named resolver");
    assert_eq!(helper.receive(resolver).expect("the question"), b"ask");
    helper.send_to(resolver, b"answer", at("127.0.0.1", 5353)).expect("sendto");
    assert_eq!(model.receive(socket).expect("the answer"), b"answer");
    assert_eq!(
        model.send_to(socket, b"ask", at("127.0.0.1", 54)),
        Err(Errno::EPERM),
        "not named: refused at once"
    );
}

/// Questions can carry data through a resolver to anywhere, so that a region does not open it; an exception does.
#[test]
fn only_named_resolvers_are_asked() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut workload = stage.actor(WORKLOAD);
    let mut server = friend(&stage);
    let ports = [53, 853];
    let listeners = ports.map(|port| server.serve_on(at("::", port)));
    let sinks = ports.map(|port| {
        let sink = server.open(Kind::Udp6);
        server.bind(sink, at("::", port)).expect("bind");
        sink
    });
    let guard = stage.guard(&region(Mode::Enforce));
    for (ip, port) in FRIEND.iter().flat_map(|ip| ports.map(|port| (*ip, port))) {
        for asker in [&mut model, &mut workload] {
            let refused = |event: &Event| {
                event.reason == Reason::ResolverNotNamed && to(event, ip) && event.destination.port() == port
            };
            assert_eq!(asker.dial(at(ip, port)), Err(Errno::EPERM), "{ip} {port}");
            stage.event(ip, |event| event.hook == Hook::Connect && event.protocol == 6 && refused(event));
            let socket = asker.open(udp(ip));
            assert_eq!(asker.send_to(socket, b"ask", at(ip, port)), Err(Errno::EPERM), "{ip} {port}");
            stage.event(ip, |event| event.hook == Hook::SendMessage && refused(event));
        }
    }
    assert!(sinks.map(|sink| server.receive(sink)).iter().all(|heard| *heard == Err(Errno::ETIMEDOUT)));
    drop(guard);
    // Named by address and port, or by address alone.
    let named = [("198.51.100.2/32", Some(53)), ("198.51.100.2/32", Some(853)), ("2001:db8:a::2/128", None)];
    let _guard = stage.guard(&rules(egress(Mode::Enforce, &REGION, &named)));
    for ip in FRIEND {
        for (place, port) in ports.into_iter().enumerate() {
            talk(&mut model, &mut server, listeners[place], at(ip, port))
                .unwrap_or_else(|error| panic!("{ip}: {error}"));
            let socket = model.open(udp(ip));
            model.send_to(socket, b"ask", at(ip, port)).expect("a named resolver");
            assert_eq!(server.receive(sinks[place]).expect("the question"), b"ask");
        }
    }
}

/// A host's own address leads to the same daemons as loopback does.
#[test]
fn the_hosts_own_addresses_are_loopback() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut helper = stage.actor(OTHER);
    let _friend = friend(&stage);
    let listener = helper.serve_on(at("::", 3128));
    talk(&mut model, &mut helper, listener, at("198.51.100.1", 3128)).expect("control");
    let _guard = stage.guard(&region(Mode::Enforce));
    assert_eq!(model.dial(at("198.51.100.1", 3128)), Err(Errno::ETIMEDOUT));
    assert_eq!(model.dial(at("2001:db8:a::1", 3128)), Err(Errno::ETIMEDOUT));
    stage.event("its own address", |event| event.reason == Reason::LoopbackNotNamed);
}

#[test]
fn a_workload_is_held_like_a_model() {
    let stage = Stage::new();
    let mut workload = stage.actor(WORKLOAD);
    let mut server = foreign(&stage);
    let mut allowed = friend(&stage);
    let listener = server.serve_on(at("::", 443));
    let open = allowed.serve_on(at("::", 443));
    talk(&mut workload, &mut server, listener, at("192.0.2.2", 443)).expect("control");
    let _guard = stage.guard(&region(Mode::Enforce));
    assert_eq!(workload.dial(at("192.0.2.2", 443)), Err(Errno::EPERM));
    talk(&mut workload, &mut allowed, open, at("198.51.100.2", 443)).expect("its region");
    let event = stage.event("the workload", |event| event.hook == Hook::Connect);
    assert_eq!(event.scope.map(|name| name.to_string()).as_deref(), Some("shipper"));
}

#[test]
fn the_agent_obeys_its_own_policy() {
    let stage = Stage::new();
    let mut proxy = stage.actor(PROXY);
    let mut helper = stage.actor(OTHER);
    let mut server = foreign(&stage);
    let mut allowed = friend(&stage);
    let listener = server.serve_on(at("::", 443));
    let open = allowed.serve_on(at("::", 443));
    let local = helper.serve_on(at("::", 9000));
    talk(&mut proxy, &mut server, listener, at("192.0.2.2", 443)).expect("control");
    let mut rules = closed();
    rules.scopes[0].egress = egress(Mode::Enforce, &REGION, &[]);
    let _guard = stage.guard(&rules);
    for ip in FOREIGN {
        assert_eq!(proxy.dial(at(ip, 443)), Err(Errno::EPERM), "{ip}");
    }
    for ip in FRIEND {
        talk(&mut proxy, &mut allowed, open, at(ip, 443)).unwrap_or_else(|error| panic!("{ip}: {error}"));
    }
    talk(&mut proxy, &mut helper, local, at("127.0.0.1", 9000)).expect("loopback is open to it");
    // Its callers come from everywhere; what it answers them is not egress of its own.
    let door = proxy.serve_on(at("::", 8443));
    talk(&mut server, &mut proxy, door, at("192.0.2.1", 8443)).expect("a caller");
}

#[test]
fn an_address_inside_an_address_is_judged_too() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let policy = egress(Mode::Enforce, &["198.51.100.0/24", "64:ff9b::/96", "2002::/16"], &[]);
    let _guard = stage.guard(&rules(policy));
    for (ip, why) in [
        ("64:ff9b::192.0.2.2", "NAT64 to a foreign host"),
        ("2002:c000:202::1", "6to4 to a foreign host"),
        ("64:ff9b::127.0.0.1", "NAT64 to loopback"),
        ("64:ff9b:1::198.51.100.2", "a prefix of the operator's choice is not named"),
        ("2001:db8::1", "control: an address that is not covered at all"),
    ] {
        assert_eq!(model.dial(at(ip, 443)), Err(Errno::EPERM), "{why}");
    }
    assert_eq!(
        model.dial(at("64:ff9b::198.51.100.2", 443)),
        Err(Errno::ENETUNREACH),
        "allowed inside and outside"
    );
    assert_eq!(
        model.dial(at("64:ff9b::198.51.100.2", 53)),
        Err(Errno::EPERM),
        "a resolver that is not named"
    );
}
