//! The room as a whole: captured pieces in, names out.

use super::dns::tests::{message, wire};
use super::tls::tests::client_hello;
use super::*;
use proptest::prelude::*;
use zeroize::Zeroizing;

const RESOLVER: &str = "198.51.100.53:53";
const MIRROR: &str = "192.0.2.30:443";

fn scope() -> Option<Name> {
    Some(Name::new("llama").unwrap())
}

fn piece(remote: &str, protocol: u8, sent: bool, offset: usize, bytes: &[u8]) -> Captured {
    Captured {
        scope: scope(),
        socket: 7,
        protocol,
        remote: remote.parse().unwrap(),
        sent,
        offset: u32::try_from(offset).unwrap(),
        bytes: Zeroizing::new(bytes.to_vec()),
    }
}

fn answer(name: &str) -> Vec<u8> {
    message(true, name, &[(wire(name), 1, 60, vec![192, 0, 2, 30])])
}

fn on_a_stream(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn of_mirror(names: &Names, now: Instant) -> Option<(String, &'static str)> {
    let named = names.of(scope().as_ref(), MIRROR.parse().unwrap(), now)?;
    Some((named.name, named.known.as_str()))
}

#[test]
fn an_answer_names_the_address_for_its_workload_only() {
    let (mut names, now) = (Names::default(), Instant::now());
    assert_eq!(names.hear(&piece(RESOLVER, UDP, false, 0, &answer("mirror.example.eu")), now), None);
    assert_eq!(of_mirror(&names, now), Some(("mirror.example.eu".to_owned(), "dns")));
    let other = Name::new("other").unwrap();
    assert_eq!(names.of(Some(&other), MIRROR.parse().unwrap(), now), None);
    let mapped = "[::ffff:192.0.2.30]:443".parse().unwrap();
    assert!(names.of(scope().as_ref(), mapped, now).is_some(), "IPv4-mapped is IPv4");
}

#[test]
fn an_answer_that_the_workload_sends_itself_is_none() {
    let (mut names, now) = (Names::default(), Instant::now());
    names.hear(&piece(RESOLVER, UDP, true, 0, &answer("mirror.example.eu")), now);
    names.hear(&piece("192.0.2.30:5353", UDP, false, 0, &answer("mirror.example.eu")), now);
    assert_eq!(of_mirror(&names, now), None);
}

#[test]
fn a_tunnel_is_told_and_none_of_its_names_is_shown_after() {
    let (mut names, now) = (Names::default(), Instant::now());
    let found: Vec<Tunnel> = (1..26_u64)
        .filter_map(|number| {
            let data = format!(
                "{:016x}{:016x}.t.example.net",
                number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                !number.wrapping_mul(0xbf58_476d_1ce4_e5b9)
            );
            names.hear(&piece(RESOLVER, UDP, true, 0, &message(false, &data, &[])), now)
        })
        .collect();
    assert_eq!(found.len(), 6, "from the twentieth name on");
    assert_eq!(
        (found[0].resolver.to_string().as_str(), found[0].finding.domain.as_str()),
        (RESOLVER, "*.example.net")
    );
    names.hear(&piece(RESOLVER, UDP, false, 0, &answer("short.t.example.net")), now);
    assert_eq!(of_mirror(&names, now), Some(("*.example.net".to_owned(), "dns")));
    assert_eq!(names.take_queries(), [(scope(), 25)]);
    assert_eq!(names.take_queries(), []);
}

proptest! {
    #[test]
    fn any_cut_of_a_first_flight_gives_its_name(cuts in prop::collection::vec(1_usize..200, 0..20), turned in any::<bool>()) {
        let now = Instant::now();
        let request = b"GET / HTTP/1.1\r\nHost: plain.example.eu\r\n\r\n".to_vec();
        let stream = on_a_stream(&answer("dns.example.eu"));
        for (remote, sent, bytes, expected) in [
            (MIRROR, true, client_hello("tls.example.eu"), "tls.example.eu"),
            ("192.0.2.30:80", true, request, "plain.example.eu"),
            (RESOLVER, false, stream, "dns.example.eu"),
        ] {
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().copied().chain([bytes.len()]) {
                let end = (at + cut).min(bytes.len());
                pieces.push((at, &bytes[at..end]));
                at = end;
            }
            if turned {
                pieces.reverse();
            }
            let mut names = Names::default();
            for (offset, bytes) in pieces {
                names.hear(&piece(remote, TCP, sent, offset, bytes), now);
            }
            prop_assert_eq!(of_mirror(&names, now).map(|(name, _)| name), Some(expected.to_owned()));
        }
    }

    #[test]
    fn any_pieces_are_borne(pieces in prop::collection::vec((any::<bool>(), 0_usize..70, prop::collection::vec(any::<u8>(), 0..80)), 0..30)) {
        let (mut names, now) = (Names::default(), Instant::now());
        for (sent, offset, bytes) in pieces {
            for (remote, protocol) in [(RESOLVER, UDP), (RESOLVER, TCP), (MIRROR, TCP)] {
                names.hear(&piece(remote, protocol, sent, offset, &bytes), now);
            }
        }
    }
}
