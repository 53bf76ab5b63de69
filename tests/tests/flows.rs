//! What passes: counted both ways, told with its process, and named by the first words that were said.
//!
//! The stage and its hosts are those of `egress.rs`: `friend` lies in an allowed region, `foreign` does not.

mod kernel_support;

use bailiwick_kernel::{Captured, FlowCount, FlowVerdict, Observation, Opened, Reason};
use bailiwick_policy::Mode;
use kernel_support::{
    Actor, Errno, Kind, MODEL, Observed, PORT, PROXY, Stage, WORKLOAD, actor::talk, at, egress, rules,
};

const REGION: [&str; 2] = ["198.51.100.0/24", "2001:db8:a::/48"];
const FRIENDS: [&str; 2] = ["198.51.100.2", "2001:db8:a::2"];

fn friend(stage: &Stage) -> Actor {
    stage.host("friend", "198.51.100", "2001:db8:a")
}

/// What was observed, in three heaps.
#[derive(Debug, Default)]
struct Seen {
    opened: Vec<Opened>,
    captured: Vec<Captured>,
    counted: Vec<FlowCount>,
}

fn take(observed: &mut Observed) -> Seen {
    let mut seen = Seen::default();
    for observation in observed.take() {
        match observation {
            Observation::Opened(opened) => seen.opened.push(opened),
            Observation::Captured(captured) => seen.captured.push(captured),
            Observation::Counted(count) => seen.counted.push(count),
        }
    }
    seen
}

impl Seen {
    /// Everything that was counted of flows with this other end.
    fn sum(&self, ip: &str, port: u16) -> FlowCount {
        let address: std::net::IpAddr = ip.parse().expect("an address");
        let mut counts =
            self.counted.iter().filter(|count| count.destination == address && count.port == port);
        let mut sum = counts.next().unwrap_or_else(|| panic!("nothing of {ip}:{port}: {self:#?}")).clone();
        for count in counts {
            sum.opened += count.opened;
            sum.sent_bytes += count.sent_bytes;
            sum.sent_packets += count.sent_packets;
            sum.received_bytes += count.received_bytes;
            sum.received_packets += count.received_packets;
        }
        sum
    }

    /// What was captured of one direction, put together.
    fn said(&self, port: u16, sent: bool) -> String {
        let mut pieces: Vec<&Captured> =
            self.captured.iter().filter(|piece| piece.remote.port() == port && piece.sent == sent).collect();
        pieces.sort_by_key(|piece| piece.offset);
        pieces.iter().map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned()).collect()
    }
}

#[test]
fn what_a_model_and_a_workload_send_is_counted_both_ways() {
    let stage = Stage::new();
    let mut server = friend(&stage);
    let listener = server.serve_on(at("::", 443));
    for (cgroup, scope) in [(MODEL, "llama"), (WORKLOAD, "shipper")] {
        let mut sender = stage.actor(cgroup);
        let guard = stage.guard(&rules(egress(Mode::Enforce, &REGION, &[])));
        let mut observed = Stage::observe(&guard);
        for ip in FRIENDS {
            let socket = sender.dial(at(ip, 443)).expect("allowed");
            let accepted = server.accept(listener).expect("accept");
            sender.send(socket, &[b'x'; 5000]).expect("send");
            let mut heard = 0;
            while heard < 5000 {
                heard += server.receive(accepted).expect("receive").len();
            }
            server.send(accepted, &[b'y'; 700]).expect("send");
            assert_eq!(sender.receive(socket).expect("receive").len(), 700);
            sender.close(socket);
            let seen = take(&mut observed);
            let opened = &seen.opened[0];
            assert_eq!(opened.destination, at(ip, 443));
            assert_eq!(opened.process.as_ref().map(|process| process.pid), Some(sender.pid()), "{opened:?}");
            assert_eq!(
                (opened.scope.as_ref().map(|name| name.as_str()), opened.would_deny),
                (Some(scope), None)
            );
            let sum = seen.sum(ip, 443);
            assert_eq!((sum.verdict, sum.opened, sum.protocol), (FlowVerdict::Allowed, 1, 6));
            assert_eq!(sum.scope.as_ref().map(|name| name.as_str()), Some(scope));
            // Payload, and the headers of each packet.
            assert!((5000..8000).contains(&sum.sent_bytes) && sum.sent_packets >= 4, "{sum:?}");
            assert!((700..2000).contains(&sum.received_bytes) && sum.received_packets >= 3, "{sum:?}");
            let comm = &opened.process.as_ref().expect("a process").comm;
            assert!(
                !comm.is_empty() && seen.counted.iter().all(|count| count.comm == *comm),
                "counted on whatever CPU, it is this process's: {seen:#?}"
            );
            assert!(take(&mut observed).counted.iter().all(|count| count.sent_bytes < 200), "once");
        }
        drop(guard);
    }
}

/// Which friend the connection of this number goes to.
fn friend_of(number: u64) -> &'static str {
    FRIENDS[usize::from(number / 1500 % 2 == 1)]
}

#[test]
fn nothing_is_counted_twice_and_nothing_is_lost_when_places_change_hands() {
    const CONNECTIONS: u64 = 3000;
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let listener = server.serve_on(at("::", 443));
    let guard = stage.guard(&rules(egress(Mode::Enforce, &REGION, &[])));
    let mut observed = Stage::observe(&guard);
    let mut counted = Seen::default();
    for number in 0..CONNECTIONS {
        // For a while to the same, so that a place goes on, and then to another, so that it changes hands.
        let socket = model.dial(at(friend_of(number), 443)).expect("allowed");
        let accepted = server.accept(listener).expect("accept");
        model.close(socket);
        server.close(accepted);
        if number % 700 == 0 {
            counted.counted.extend(take(&mut observed).counted);
        }
    }
    counted.counted.extend(take(&mut observed).counted);
    for (friend, header) in [(FRIENDS[0], 20), (FRIENDS[1], 40)] {
        let connections = (0..CONNECTIONS).filter(|number| friend_of(*number) == friend).count() as u64;
        let sum = counted.sum(friend, 443);
        assert_eq!(sum.opened, connections);
        // SYN, ACK, FIN, and the ACK of the other FIN where that comes in time: of 40 bytes at most after the IP header.
        assert!((3 * connections..=5 * connections).contains(&sum.sent_packets), "{sum:?}");
        assert!((2 * connections..=4 * connections).contains(&sum.received_packets), "{sum:?}");
        let lengths = (20 + header) * sum.sent_packets..=(40 + header) * sum.sent_packets;
        assert!(lengths.contains(&sum.sent_bytes), "{sum:?}");
    }
    assert_eq!(stage.status(&rules(egress(Mode::Enforce, &REGION, &[]))).lost_observations, 0);
}

#[test]
fn the_first_words_are_read_until_the_server_speaks() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let listener = server.serve_on(at("::", 80));
    let guard = stage.guard(&rules(egress(Mode::Enforce, &REGION, &[])));
    let mut observed = Stage::observe(&guard);
    for ip in FRIENDS {
        let socket = model.dial(at(ip, 80)).expect("allowed");
        let accepted = server.accept(listener).expect("accept");
        for piece in ["GET / HTTP/1.1\r\nHo", "st: mirror.example.eu\r\n\r\n"] {
            model.send(socket, piece.as_bytes()).expect("send");
            assert_eq!(server.receive(accepted).expect("receive"), piece.as_bytes());
        }
        server.send(accepted, b"HTTP/1.1 200 OK\r\n\r\nanswer").expect("send");
        model.receive(socket).expect("the answer");
        model.send(socket, b"the second question").expect("send");
        server.receive(accepted).expect("receive");
        let seen = take(&mut observed);
        assert_eq!(seen.said(80, true), "GET / HTTP/1.1\r\nHost: mirror.example.eu\r\n\r\n");
        assert_eq!(seen.said(80, false), "", "what a server says is nobody's business");
        assert!(seen.captured.iter().all(|piece| piece.remote == at(ip, 80)));
        model.close(socket);
    }
}

#[test]
fn questions_to_a_resolver_and_its_answers_are_read_each_time() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = friend(&stage);
    let listener = server.serve_on(at("::", 53));
    let sink = server.open(Kind::Udp4);
    server.bind(sink, at("198.51.100.2", 53)).expect("bind");
    let named = [("198.51.100.2/32", Some(53)), ("2001:db8:a::2/128", Some(53))];
    let guard = stage.guard(&rules(egress(Mode::Enforce, &REGION, &named)));
    let mut observed = Stage::observe(&guard);

    let socket = model.open(Kind::Udp4);
    model.bind(socket, at("198.51.100.1", 5353)).expect("bind");
    for (question, answer) in [("one?", "one!"), ("two?", "two!")] {
        model.send_to(socket, question.as_bytes(), at("198.51.100.2", 53)).expect("send");
        server.receive(sink).expect("the question");
        server.send_to(sink, answer.as_bytes(), at("198.51.100.1", 5353)).expect("send");
        model.receive(socket).expect("the answer");
    }
    let seen = take(&mut observed);
    assert_eq!((seen.said(53, true).as_str(), seen.said(53, false).as_str()), ("one?two?", "one!two!"));
    let sum = seen.sum("198.51.100.2", 53);
    assert_eq!((sum.sent_packets, sum.received_packets, sum.protocol), (2, 2, 17));
    assert_eq!((sum.sent_bytes, sum.received_bytes), (64, 64), "IPv4 and UDP headers are 28 bytes");

    let asker = model.dial(at("2001:db8:a::2", 53)).expect("allowed");
    let answerer = server.accept(listener).expect("accept");
    take(&mut observed);
    for (question, answer) in [("three?", "three!"), ("four?", "four!")] {
        model.send(asker, question.as_bytes()).expect("send");
        server.receive(answerer).expect("the question");
        server.send(answerer, answer.as_bytes()).expect("send");
        model.receive(asker).expect("the answer");
    }
    let seen = take(&mut observed);
    assert_eq!((seen.said(53, true).as_str(), seen.said(53, false).as_str()), ("three?four?", "three!four!"));
}

#[test]
fn every_mode_counts_and_shadow_says_what_it_would_refuse() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut server = stage.host("foreign", "192.0.2", "2001:db8:f");
    let listener = server.serve_on(at("::", 443));
    for (mode, verdict) in [
        (Mode::Shadow, FlowVerdict::WouldDeny(Reason::DestinationNotAllowed)),
        (Mode::Monitor, FlowVerdict::Allowed),
    ] {
        let guard = stage.guard(&rules(egress(mode, &REGION, &[])));
        let mut observed = Stage::observe(&guard);
        for ip in ["192.0.2.2", "2001:db8:f::2"] {
            talk(&mut model, &mut server, listener, at(ip, 443)).expect("let pass");
            let seen = take(&mut observed);
            let sum = seen.sum(ip, 443);
            assert!(seen.counted.iter().all(|count| count.verdict == verdict), "{mode:?}: {seen:#?}");
            assert_eq!(sum.opened, 1, "{mode:?} {ip}");
            assert!(sum.sent_packets >= 3 && sum.received_packets >= 2, "{mode:?} {ip}: {sum:?}");
        }
        drop(guard);
    }
    let guard = stage.guard(&rules(egress(Mode::Enforce, &REGION, &[])));
    let mut observed = Stage::observe(&guard);
    assert_eq!(model.dial(at("192.0.2.2", 443)), Err(Errno::EPERM));
    let seen = take(&mut observed);
    assert!(seen.counted.is_empty() && seen.opened.is_empty(), "a refusal is an event: {seen:#?}");
}

#[test]
fn what_the_proxy_says_to_its_model_is_no_flow() {
    let stage = Stage::new();
    let (mut proxy, mut model) = (stage.actor(PROXY), stage.actor(MODEL));
    let listener = model.serve_on(at("127.0.0.1", PORT));
    let guard = stage.guard(&rules(egress(Mode::Enforce, &REGION, &[])));
    let mut observed = Stage::observe(&guard);
    talk(&mut proxy, &mut model, listener, at("127.0.0.1", PORT)).expect("admitted");
    let seen = take(&mut observed);
    assert!(
        seen.opened.is_empty() && seen.counted.is_empty() && seen.captured.is_empty(),
        "prompts are read by the proxy alone: {seen:#?}"
    );
}
