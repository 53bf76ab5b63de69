//! # Suggest: the narrowest policy that would allow what was refused
//!
//! One line for each address and port that a workload was refused, or would have been, and that the config as it is now
//! still does not allow; with all that was seen of it, so that a person can accept the line or strike it out.
//!
//! Invariants:
//! - Narrowest: an address and a port, never a network, a region or a name. Names explain; addresses decide.
//! - What no setting allows is said, and why; it is never proposed.
//! - Bounded: [`MOST_LINES`] lines, those tried most often; how many more there are is said.
//!
//! What it does not do: change anything, or judge whether a destination is needed.

use super::register::Row;
use bailiwick_kernel::{Reason, Scope, ScopeKind};
use bailiwick_policy::EgressPolicy;
use ipnet::{IpNet, Ipv6Net};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// Lines that a person may go through.
pub const MOST_LINES: usize = 500;
/// Destinations that are held apart while the register is read.
const MOST_DESTINATIONS: usize = 100_000;
/// Processes or names of one line.
const MOST_WORDS: usize = 8;

/// What a person is asked about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Suggestion {
    /// The model or workload.
    #[serde(rename = "model")]
    pub scope: String,
    /// What would allow it.
    pub cure: Cure,
    /// What was seen.
    pub evidence: Evidence,
}

/// What would allow a destination.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cure {
    /// An entry of `[[model.egress.allow]]` or `[[workload.egress.allow]]`.
    Allow {
        /// `model` or `workload`.
        table: &'static str,
        /// One address.
        network: IpNet,
        /// One port.
        port: u16,
    },
    /// The agent's own: a network of a region that an `[[issuer]]` names.
    Region {
        /// One address.
        network: IpNet,
        /// The regions that the issuers name.
        regions: Vec<String>,
    },
    /// Nothing.
    None {
        /// Where to.
        destination: IpAddr,
        /// 0 where there is none.
        port: u16,
        /// Why not, and what can be done instead.
        why: &'static str,
    },
}

/// What was seen of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Evidence {
    /// Attempts.
    pub count: u64,
    /// `deny`, `would-deny`
    pub verdicts: BTreeSet<String>,
    /// Why.
    pub reasons: BTreeSet<String>,
    /// By name: `tcp`, `udp`.
    pub protocols: BTreeSet<String>,
    /// Who tried: executables where they are known, the process's own name elsewhere.
    pub processes: BTreeSet<String>,
    /// What it was called.
    pub names: BTreeSet<String>,
    /// Where it lay when it was last seen.
    pub region: String,
    /// Milliseconds since 1970.
    #[serde(skip)]
    pub first: u64,
    /// Milliseconds since 1970.
    #[serde(skip)]
    pub last: u64,
}

/// Takes the register's rows, one after the other.
#[derive(Debug)]
pub struct Suggestions<'a> {
    scopes: &'a [Scope],
    seen: HashMap<(usize, IpAddr, u16), Evidence>,
    more: u64,
}

impl<'a> Suggestions<'a> {
    /// For these models and workloads, as the config has them now.
    #[must_use]
    pub fn new(scopes: &'a [Scope]) -> Self {
        Self { scopes, seen: HashMap::new(), more: 0 }
    }

    /// Adds a flow; one that was allowed, or is by now, or whose workload is gone, changes nothing.
    pub fn add(&mut self, row: &Row) {
        let index = self.scopes.iter().position(|scope| scope.name.as_str() == row.scope);
        let Some((index, scope)) = index.map(|index| (index, &self.scopes[index])) else { return };
        if row.reason.is_empty() || is_allowed(&scope.egress, row) {
            return;
        }
        let key = (index, row.address, row.port);
        if !self.seen.contains_key(&key) && self.seen.len() >= MOST_DESTINATIONS {
            self.more += 1;
            return;
        }
        self.seen.entry(key).or_default().add(row);
    }

    /// What there is to ask, those tried most often first within each workload, and how many were left out.
    #[must_use]
    pub fn finish(self) -> (Vec<Suggestion>, u64) {
        let mut seen: Vec<_> = self.seen.into_iter().collect();
        seen.sort_by(|((_, one, port), evidence), ((_, other, other_port), other_evidence)| {
            other_evidence.count.cmp(&evidence.count).then((one, port).cmp(&(other, other_port)))
        });
        let more = self.more + seen.len().saturating_sub(MOST_LINES) as u64;
        seen.truncate(MOST_LINES);
        seen.sort_by_key(|((index, ..), _)| *index);
        let suggestions = seen.into_iter().map(|((index, address, port), evidence)| {
            let scope = &self.scopes[index];
            Suggestion {
                scope: scope.name.to_string(),
                cure: cure(scope, address, port, &evidence),
                evidence,
            }
        });
        (suggestions.collect(), more)
    }
}

impl Evidence {
    fn add(&mut self, row: &Row) {
        let word = |set: &mut BTreeSet<String>, text: Option<&str>| {
            if let Some(text) = text.filter(|text| !text.is_empty())
                && set.len() < MOST_WORDS
            {
                set.insert(text.to_owned());
            }
        };
        // Rows come in the order in which they were last seen, the last one first.
        if self.count == 0 {
            self.region.clone_from(&row.region);
            (self.first, self.last) = (row.first, row.last);
        }
        self.count = self.count.saturating_add(row.count);
        self.first = self.first.min(row.first);
        self.last = self.last.max(row.last);
        word(&mut self.verdicts, Some(&row.verdict));
        word(&mut self.reasons, Some(&row.reason));
        word(&mut self.protocols, Some(&super::protocol(row.protocol)));
        word(&mut self.processes, row.executable.as_deref().or(Some(&row.process)));
        word(&mut self.names, row.name.as_deref());
    }
}

/// Whether the config as it is now allows it: what was accepted is not proposed again.
fn is_allowed(policy: &EgressPolicy, row: &Row) -> bool {
    let region = || policy.networks.iter().any(|network| network.contains(&row.address));
    let exception = || {
        policy.exceptions.iter().any(|exception| {
            exception.network.contains(&row.address) && exception.port.is_none_or(|port| port == row.port)
        })
    };
    // A region does not open loopback or resolvers, and nothing opens what is neither TCP nor UDP.
    match row.reason.as_str() {
        reason if reason == Reason::DestinationNotAllowed.as_str() => region() || exception(),
        reason if reason == Reason::LoopbackNotNamed.as_str() => exception(),
        reason if reason == Reason::ResolverNotNamed.as_str() => exception(),
        _ => false,
    }
}

fn cure(scope: &Scope, address: IpAddr, port: u16, evidence: &Evidence) -> Cure {
    let network = IpNet::from(address);
    if let Some(why) = nothing_allows(address, port, evidence) {
        return Cure::None { destination: address, port, why };
    }
    match scope.kind {
        ScopeKind::Proxy => {
            let regions = scope.egress.regions.iter().map(ToString::to_string).collect();
            Cure::Region { network, regions }
        }
        ScopeKind::Model { .. } | ScopeKind::SealedModel => Cure::Allow { table: "model", network, port },
        ScopeKind::Workload => Cure::Allow { table: "workload", network, port },
    }
}

fn nothing_allows(address: IpAddr, port: u16, evidence: &Evidence) -> Option<&'static str> {
    let curable = [Reason::DestinationNotAllowed, Reason::LoopbackNotNamed, Reason::ResolverNotNamed];
    if !evidence.reasons.iter().any(|reason| curable.iter().any(|curable| curable.as_str() == reason)) {
        return Some("no setting allows it: find what sends it, and turn it off");
    }
    if port == 0 {
        return Some("it has no port, so that no exception fits: find what sends it, and turn it off");
    }
    if holds_another(address) {
        return Some(
            "another address is inside this one, and both must be allowed: let the process use the inner one",
        );
    }
    None
}

/// NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380).
fn holds_another(address: IpAddr) -> bool {
    const HOLDERS: [(Ipv6Addr, u8); 4] = [
        (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
        (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
        (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
        (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    ];
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => HOLDERS.iter().any(|(network, length)| {
            Ipv6Net::new(*network, *length).is_ok_and(|network| network.contains(&address))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_policy::{EgressException, Name};

    fn scope(name: &str, kind: ScopeKind, exceptions: &[(&str, Option<u16>)]) -> Scope {
        let exception = |(network, port): &(&str, Option<u16>)| EgressException {
            network: network.parse().unwrap(),
            port: *port,
            reason: "a test".to_owned(),
        };
        let egress = EgressPolicy {
            regions: vec![Name::new("eu").unwrap()],
            networks: vec!["198.51.100.0/24".parse().unwrap(), "127.0.0.0/8".parse().unwrap()],
            exceptions: exceptions.iter().map(exception).collect(),
            ..EgressPolicy::closed()
        };
        Scope { name: Name::new(name).unwrap(), kind, cgroup: name.into(), egress, peers: Vec::new() }
    }

    fn row(scope: &str, address: &str, port: u16, reason: Reason) -> Row {
        Row {
            scope: scope.to_owned(),
            process: "python3".to_owned(),
            executable: Some("/usr/bin/python3".to_owned()),
            protocol: 6,
            address: address.parse().unwrap(),
            port,
            name: Some("mirror.example.eu".to_owned()),
            name_from: Some("dns".to_owned()),
            region: "unknown".to_owned(),
            verdict: "deny".to_owned(),
            reason: reason.as_str().to_owned(),
            count: 3,
            sent_bytes: 0,
            sent_packets: 0,
            received_bytes: 0,
            received_packets: 0,
            first: 1000,
            last: 2000,
        }
    }

    const MODEL: ScopeKind = ScopeKind::Model { port: 8000 };

    fn suggested(scopes: &[Scope], rows: &[Row]) -> Vec<Suggestion> {
        let mut suggestions = Suggestions::new(scopes);
        rows.iter().for_each(|row| suggestions.add(row));
        suggestions.finish().0
    }

    #[test]
    fn a_destination_is_one_line_however_it_was_tried() {
        let scopes = [scope("llama", MODEL, &[])];
        let one = row("llama", "192.0.2.30", 443, Reason::DestinationNotAllowed);
        let other =
            Row { protocol: 17, executable: None, process: "curl".to_owned(), first: 500, ..one.clone() };
        let found = suggested(&scopes, &[one, other]);
        assert_eq!(found.len(), 1, "{found:?}");
        let network = "192.0.2.30/32".parse().unwrap();
        assert_eq!(found[0].cure, Cure::Allow { table: "model", network, port: 443 });
        let evidence = &found[0].evidence;
        assert_eq!((evidence.count, evidence.first, evidence.last), (6, 500, 2000));
        assert_eq!(evidence.processes, BTreeSet::from(["/usr/bin/python3".to_owned(), "curl".to_owned()]));
        assert_eq!(evidence.protocols, BTreeSet::from(["tcp".to_owned(), "udp".to_owned()]));
    }

    #[test]
    fn each_is_told_what_would_allow_it_if_anything_would() {
        use Reason::*;
        let scopes = [
            scope("agent", ScopeKind::Proxy, &[]),
            scope("llama", MODEL, &[("192.0.2.7/32", Some(443)), ("127.0.0.1/32", Some(6379))]),
            scope("shipper", ScopeKind::Workload, &[]),
        ];
        for (name, address, port, reason, expected, why) in [
            ("llama", "192.0.2.30", 443, DestinationNotAllowed, Some("allow"), "an exception"),
            ("shipper", "2001:db8::7", 443, DestinationNotAllowed, Some("allow"), "of a workload as well"),
            (
                "agent",
                "192.0.2.30",
                443,
                DestinationNotAllowed,
                Some("region"),
                "the agent has no exceptions",
            ),
            ("llama", "198.51.100.7", 443, DestinationNotAllowed, None, "its region has it by now"),
            ("llama", "192.0.2.7", 443, DestinationNotAllowed, None, "an exception has it by now"),
            ("llama", "192.0.2.7", 80, DestinationNotAllowed, Some("allow"), "another port"),
            ("llama", "127.0.0.1", 6379, LoopbackNotNamed, None, "loopback, named by now"),
            ("llama", "127.0.0.1", 5432, LoopbackNotNamed, Some("allow"), "a region does not name loopback"),
            (
                "llama",
                "198.51.100.7",
                53,
                ResolverNotNamed,
                Some("allow"),
                "a region does not name a resolver",
            ),
            ("llama", "192.0.2.30", 0, ProtocolNotAllowed, Some("none"), "neither TCP nor UDP"),
            ("llama", "192.0.2.30", 443, Malformed, Some("none"), "a forged packet"),
            ("llama", "192.0.2.30", 443, PortReserved, Some("none"), "an impostor"),
            ("llama", "64:ff9b::c000:21e", 443, DestinationNotAllowed, Some("none"), "NAT64"),
            ("llama", "2002:c000:21e::1", 443, DestinationNotAllowed, Some("none"), "6to4"),
            ("gone", "192.0.2.30", 443, DestinationNotAllowed, None, "no longer in the config"),
        ] {
            let found = suggested(&scopes, &[row(name, address, port, reason)]);
            let kind = found.first().map(|found| serde_json::to_value(&found.cure).unwrap()["kind"].clone());
            assert_eq!(kind, expected.map(Into::into), "{name} {address} {port}: {why}");
        }
        let allowed = Row { reason: String::new(), ..row("llama", "192.0.2.30", 443, Malformed) };
        assert_eq!(suggested(&scopes, &[allowed]), []);
    }

    #[test]
    fn the_lines_are_few_and_the_rest_is_counted() {
        let scopes = [scope("llama", MODEL, &[])];
        let mut suggestions = Suggestions::new(&scopes);
        let address = |number: u32| std::net::Ipv4Addr::from(0xc000_0000 + number).to_string();
        for number in 0..700 {
            let row = row("llama", &address(number), 443, Reason::DestinationNotAllowed);
            suggestions.add(&Row { count: number.into(), ..row });
        }
        let (found, more) = suggestions.finish();
        assert_eq!((found.len(), more, found[0].evidence.count), (MOST_LINES, 200, 699));
    }
}
