//! DNS messages (RFC 1035): the question, and the addresses that answer it.
//!
//! Pure and bounded: a pointer leads backwards only, so that names end; a chain of aliases is followed
//! [`LONGEST_CHAIN`] steps; what lies behind the end of a piece that was cut off is not read.

use super::host::HostName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zeroize::Zeroizing;

/// Records of an answer that are looked at.
const MOST_RECORDS: usize = 256;
/// Aliases (CNAME) from the question to the address.
const LONGEST_CHAIN: usize = 16;
/// A name on the wire (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// A message, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// What was asked for.
    pub question: Question,
    /// Whether this is a response.
    pub is_response: bool,
    /// The addresses of the name that was asked for, with the seconds that they hold for: the least along the chain of
    /// aliases. Empty in a query.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// The name that was asked for: lower-case wire form without pointers. It may carry data: zeroized, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Question(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Question({} bytes)", self.0.len())
    }
}

impl Question {
    /// As a host name, where it is one.
    #[must_use]
    pub fn host(&self) -> Option<HostName> {
        HostName::parse(&self.text())
    }

    /// The labels with dots between them, whatever bytes they have.
    pub(super) fn text(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_NAME));
        let mut rest = self.0.as_slice();
        while let Some((length, after)) = rest.split_first()
            && *length > 0
            && let Some((label, after)) = after.split_at_checked(usize::from(*length))
        {
            if !text.is_empty() {
                text.push(b'.');
            }
            text.extend_from_slice(label);
            rest = after;
        }
        text
    }
}

/// Reads one message: a datagram, or what follows the length on a stream.
///
/// `None` when it is no query or response with exactly one question. A response that is cut off gives the addresses up to
/// there.
#[must_use]
pub(super) fn parse(message: &[u8]) -> Option<Message> {
    let flags = number(message, 2)?;
    let (is_response, opcode, failure) = (flags & 0x8000 != 0, flags >> 11 & 0xf, flags & 0xf);
    if opcode != 0 || number(message, 4)? != 1 {
        return None;
    }
    let (name, at) = name(message, 12)?;
    let _class_and_type = message.get(at..at + 4)?;
    let question = Question(name);
    let mut addresses = Vec::new();
    if is_response && failure == 0 {
        let count = usize::from(number(message, 6)?).min(MOST_RECORDS);
        addresses = answers(message, at + 4, count, &question);
    }
    Some(Message { question, is_response, addresses })
}

/// The whole messages at the start of a stream (RFC 1035, 4.2.2: two bytes of length before each), and how many bytes they
/// take.
#[must_use]
pub(super) fn split(stream: &[u8]) -> (Vec<&[u8]>, usize) {
    let (mut messages, mut at) = (Vec::new(), 0);
    while let Some(length) = number(stream, at)
        && let Some(message) = stream.get(at + 2..at + 2 + usize::from(length))
    {
        messages.push(message);
        at += 2 + message.len();
    }
    (messages, at)
}

enum Content {
    Address(IpAddr),
    Alias(Zeroizing<Vec<u8>>),
}

struct Entry {
    owner: Zeroizing<Vec<u8>>,
    ttl: u32,
    content: Content,
}

fn answers(message: &[u8], mut at: usize, count: usize, question: &Question) -> Vec<(IpAddr, u32)> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let Some((entry, next)) = record(message, at) else { break };
        entries.extend(entry);
        at = next;
    }
    let mut owner = &question.0;
    let mut ttl = u32::MAX;
    for _ in 0..LONGEST_CHAIN {
        let own = || entries.iter().filter(|entry| entry.owner == *owner);
        let addresses: Vec<(IpAddr, u32)> = own()
            .filter_map(|entry| match entry.content {
                Content::Address(address) => Some((address, entry.ttl.min(ttl))),
                Content::Alias(_) => None,
            })
            .collect();
        if !addresses.is_empty() {
            return addresses;
        }
        let alias = own().find_map(|entry| match &entry.content {
            Content::Alias(target) => Some((target, entry.ttl)),
            Content::Address(_) => None,
        });
        let Some((target, held)) = alias else { break };
        owner = target;
        ttl = ttl.min(held);
    }
    Vec::new()
}

/// The record at `at` (`None` inside for a kind that does not matter), and where the next one begins.
fn record(message: &[u8], at: usize) -> Option<(Option<Entry>, usize)> {
    let (owner, at) = name(message, at)?;
    let (kind, class) = (number(message, at)?, number(message, at + 2)?);
    let ttl = u32::from(number(message, at + 4)?) << 16 | u32::from(number(message, at + 6)?);
    // RFC 2181, 8: a TTL with its first bit set means 0.
    let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
    let (start, length) = (at + 10, usize::from(number(message, at + 8)?));
    let content = message.get(start..start + length)?;
    let content = match (class, kind) {
        (CLASS_IN, TYPE_A) => {
            <[u8; 4]>::try_from(content).ok().map(|octets| Content::Address(Ipv4Addr::from(octets).into()))
        }
        (CLASS_IN, TYPE_AAAA) => <[u8; 16]>::try_from(content)
            .ok()
            .map(|octets| Content::Address(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())),
        (CLASS_IN, TYPE_CNAME) => name(message, start).map(|(target, _)| Content::Alias(target)),
        _ => None,
    };
    Some((content.map(|content| Entry { owner, ttl, content }), start + length))
}

/// The name at `at`, in lower case and without pointers, and where what follows it begins.
fn name(message: &[u8], mut at: usize) -> Option<(Zeroizing<Vec<u8>>, usize)> {
    let mut found = Zeroizing::new(Vec::with_capacity(LONGEST_NAME));
    let mut after = None;
    // Each pointer leads before the part that it ends, so that no part is read twice.
    let mut limit = at;
    loop {
        let length = *message.get(at)?;
        match length >> 6 {
            0 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                if found.len() + 1 + label.len() > LONGEST_NAME {
                    return None;
                }
                found.push(length);
                found.extend(label.iter().map(u8::to_ascii_lowercase));
                at += 1 + label.len();
                if length == 0 {
                    return Some((found, after.unwrap_or(at)));
                }
            }
            3 => {
                let target = usize::from(number(message, at)? & 0x3fff);
                after = after.or(Some(at + 2));
                if target >= limit {
                    return None;
                }
                (at, limit) = (target, target);
            }
            _ => return None,
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::egress::names) fn wire(name: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend(label.bytes());
        }
        wire.push(0);
        wire
    }

    /// A message with one question (type A), and these records: owner, type, TTL, data.
    pub(in crate::egress::names) fn message(
        is_response: bool,
        question: &str,
        records: &[(Vec<u8>, u16, u32, Vec<u8>)],
    ) -> Vec<u8> {
        let mut message =
            vec![0, 7, if is_response { 0x81 } else { 1 }, if is_response { 0x80 } else { 0 }, 0, 1];
        message.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
        message.extend([0, 0, 0, 0]);
        message.extend(wire(question));
        message.extend([0, 1, 0, 1]);
        for (owner, kind, ttl, data) in records {
            message.extend(owner);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(data);
        }
        message
    }

    /// A pointer to the question.
    const ASKED: [u8; 2] = [0xc0, 12];

    #[test]
    fn addresses_are_those_of_the_name_that_was_asked_for() {
        let v6 = vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let alias = |owner: Vec<u8>, ttl, target: &str| (owner, TYPE_CNAME, ttl, wire(target));
        let (one, two) = ("192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse::<IpAddr>().unwrap());
        for (records, expected, why) in [
            (vec![(ASKED.to_vec(), TYPE_A, 300, vec![192, 0, 2, 1])], vec![(one, 300)], "A, by a pointer"),
            (vec![(wire("Mirror.EXAMPLE.eu"), TYPE_AAAA, 60, v6)], vec![(two, 60)], "AAAA, in another case"),
            (
                vec![
                    alias(ASKED.to_vec(), 20, "cdn.example.net"),
                    alias(wire("cdn.example.net"), 90, "edge.example.org"),
                    (wire("edge.example.org"), TYPE_A, 300, vec![192, 0, 2, 1]),
                ],
                vec![(one, 20)],
                "a chain of aliases holds as long as its shortest part",
            ),
            (
                vec![
                    (wire("edge.example.org"), TYPE_A, 300, vec![192, 0, 2, 1]),
                    alias(ASKED.to_vec(), 90, "edge.example.org"),
                ],
                vec![(one, 90)],
                "in any order",
            ),
            (
                vec![(wire("other.example.org"), TYPE_A, 300, vec![192, 0, 2, 1])],
                vec![],
                "the address of another name",
            ),
            (
                vec![alias(ASKED.to_vec(), 1, "b.example"), alias(wire("b.example"), 1, "mirror.example.eu")],
                vec![],
                "aliases in a circle",
            ),
            (vec![(ASKED.to_vec(), TYPE_A, 300, vec![192, 0, 2])], vec![], "an address too short"),
            (vec![(ASKED.to_vec(), TYPE_A, u32::MAX, vec![192, 0, 2, 1])], vec![(one, 0)], "a negative TTL"),
        ] {
            let parsed = parse(&message(true, "mirror.example.eu", &records)).unwrap();
            assert_eq!(parsed.addresses, expected, "{why}");
            assert_eq!(parsed.question.host(), HostName::parse(b"mirror.example.eu"), "{why}");
        }
    }

    #[test]
    fn pointers_that_lead_nowhere_end() {
        for (pointer, why) in [
            ([0xc0, 12], "to itself"),
            ([0xc0, 14], "forward"),
            ([0xff, 0xff], "beyond"),
            ([0x80, 0], "no such kind"),
        ] {
            let mut forged = message(false, "", &[]);
            forged.splice(12..13, pointer);
            assert_eq!(parse(&forged), None, "{why}");
        }
        // Two that point at each other, by way of a label each.
        let mut forged = message(true, "a", &[]);
        forged[7] = 1;
        let at = u8::try_from(forged.len()).unwrap();
        forged.extend([1, b'b', 0xc0, at, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 1]);
        assert_eq!(parse(&forged).map(|message| message.addresses), Some(Vec::new()));
    }

    #[test]
    fn other_messages_are_none() {
        let mut update = message(false, "example.eu", &[]);
        update[2] |= 5 << 3;
        let mut failed = message(true, "example.eu", &[(ASKED.to_vec(), TYPE_A, 1, vec![192, 0, 2, 1])]);
        failed[3] |= 3;
        let mut two = message(false, "example.eu", &[]);
        two[5] = 2;
        assert_eq!((parse(&update), parse(&two), parse(b"")), (None, None, None));
        assert_eq!(
            parse(&failed).map(|message| message.addresses),
            Some(Vec::new()),
            "what failed has no address"
        );
    }

    #[test]
    fn a_question_is_not_shown() {
        let parsed = parse(&message(false, "secret.example.eu", &[])).unwrap();
        assert!(!format!("{parsed:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
            let (messages, taken) = split(&bytes);
            prop_assert_eq!(messages.iter().map(|message| message.len() + 2).sum::<usize>(), taken);
        }

        #[test]
        fn a_message_cut_anywhere_gives_no_address_that_the_whole_does_not(cut in any::<prop::sample::Index>()) {
            let records: Vec<_> = (1..4).map(|last| (ASKED.to_vec(), TYPE_A, 300, vec![192, 0, 2, last])).collect();
            let whole = message(true, "mirror.example.eu", &records);
            let all = parse(&whole).unwrap().addresses;
            if let Some(part) = parse(&whole[..cut.index(whole.len())]) {
                prop_assert!(all.starts_with(&part.addresses));
            }
        }
    }
}
