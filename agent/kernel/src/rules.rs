//! What the kernel is told, and how it becomes map entries.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use bailiwick_abi::{Address, DESTINATION_FIXED_BITS, Destination, DestinationKey, Kind, Mode as WireMode};
use bailiwick_policy::{EgressPolicy, Mode, Name};
use ipnet::IpNet;

use crate::{
    KernelError, RuleProblem,
    aggregate::{Claim, aggregate, nodes},
};

/// One thing whose sockets the kernel watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name in the config.
    pub name: Name,
    /// What it is.
    pub kind: ScopeKind,
    /// A slice's or unit's cgroup, relative to the cgroup root, e.g. `bailiwick.slice/bailiwick-llama.slice`.
    pub cgroup: PathBuf,
    /// Where it may send to.
    pub egress: EgressPolicy,
    /// Other hosts that may connect to a model's slice; empty for anything but a model.
    pub peers: Vec<Peer>,
}

/// Other hosts that run a part of a model, so that both sides open connections. The same networks and ports are
/// open both ways: a peer may connect to these ports of the model's slice, and the slice to these ports of a peer.
///
/// Not an exception of the egress policy, because it opens less: neither loopback nor this host's own addresses,
/// nor a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Peer {
    /// The hosts.
    pub network: IpNet,
    /// TCP and UDP ports of the listening side; never the guarded one.
    pub ports: Vec<u16>,
    /// Why it exists, in the operator's words.
    pub reason: String,
}

/// What a scope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeKind {
    /// The agent itself: may reach the guarded ports; held at connect/sendmsg only (law 8); loopback is open to it.
    Proxy,
    /// A model: its port admits the proxy only, its slice admits nothing else new from outside, its egress is held.
    Model {
        /// The port that only the proxy may reach. It is reserved for the model's slice on the whole host.
        port: u16,
    },
    /// A model that is reached without a port, over a Unix socket: its slice admits nothing from outside, its
    /// egress is held.
    SealedModel,
    /// Any other watched service: egress only.
    Workload,
}

/// What a node of the trie of destinations takes in the kernel: 24 bytes of its own, 28 of the key, 4 of the value, in
/// an allocation of 64 bytes. Before Linux 6.13 it has 16 bytes more, and the next size is 96.
const NODE_BYTES: usize = 96;

/// Everything the kernel is told, applied as one generation.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rules {
    /// The scopes. One that lies inside another must lie inside a workload; the innermost counts.
    pub scopes: Vec<Scope>,
}

/// An entry of the trie of destinations: prefix length, key without generation, value.
pub(crate) type Entry = (u32, DestinationKey, Destination);

impl Rules {
    /// Every contradiction at once.
    pub fn check(&self) -> Result<(), KernelError> {
        let mut problems = Vec::new();
        for (index, scope) in self.scopes.iter().enumerate() {
            scope.check(&mut problems);
            for other in &self.scopes[..index] {
                check_pair(other, scope, &mut problems);
            }
        }
        let needed = self.kernel_memory();
        if needed > Self::MOST_KERNEL_MEMORY {
            problems.push(RuleProblem::TooManyNetworks { needed, most: Self::MOST_KERNEL_MEMORY });
        }
        if problems.is_empty() { Ok(()) } else { Err(KernelError::Rules(problems)) }
    }

    /// The destinations of all scopes take no more of the kernel's memory than this, in bytes.
    pub const MOST_KERNEL_MEMORY: usize = 64 << 20;

    /// How many bytes of the kernel's memory the destinations take: an estimate that is high rather than low. While one
    /// policy takes the place of another, both are there.
    #[must_use]
    pub fn kernel_memory(&self) -> usize {
        let policies = self.policies();
        let own = self.scopes.iter().enumerate().filter(|(index, _)| policies[*index] == *index);
        own.map(|(_, scope)| nodes_of(&scope.egress, &scope.peers) * NODE_BYTES).sum()
    }

    /// For each scope the index of the first one with the same destinations: equal policies share entries.
    pub(crate) fn policies(&self) -> Vec<usize> {
        let same =
            |a: &EgressPolicy, b: &EgressPolicy| a.networks == b.networks && a.exceptions == b.exceptions;
        let same = |a: &Scope, b: &Scope| same(&a.egress, &b.egress) && a.peers == b.peers;
        self.scopes
            .iter()
            .enumerate()
            .map(|(index, scope)| {
                self.scopes[..index].iter().position(|other| same(other, scope)).unwrap_or(index)
            })
            .collect()
    }
}

impl Scope {
    pub(crate) fn port(&self) -> u16 {
        match self.kind {
            ScopeKind::Model { port } => port,
            ScopeKind::Proxy | ScopeKind::SealedModel | ScopeKind::Workload => 0,
        }
    }

    /// The value of `SCOPES` for this scope.
    pub(crate) fn wire(&self, index: u32, policy: u32) -> bailiwick_abi::Scope {
        let kind = match self.kind {
            ScopeKind::Proxy => Kind::Proxy,
            ScopeKind::Model { .. } | ScopeKind::SealedModel => Kind::Model,
            ScopeKind::Workload => Kind::Workload,
        };
        let mode = match self.egress.mode {
            Mode::Monitor => WireMode::Monitor,
            Mode::Shadow => WireMode::Shadow,
            Mode::Enforce => WireMode::Enforce,
        };
        bailiwick_abi::Scope {
            index,
            policy,
            port: self.port(),
            kind: kind.tag(),
            mode: mode.tag(),
            has_ports: u8::from(
                !self.peers.is_empty()
                    || self.egress.exceptions.iter().any(|exception| exception.port.is_some()),
            ),
            has_peers: u8::from(!self.peers.is_empty()),
            padding: [0; 2],
        }
    }

    fn check(&self, problems: &mut Vec<RuleProblem>) {
        let parts: Vec<_> = self.cgroup.components().collect();
        if parts.is_empty() || !parts.iter().all(|part| matches!(part, Component::Normal(_))) {
            problems.push(RuleProblem::NotBelowRoot { name: self.name.clone(), cgroup: self.cgroup.clone() });
        }
        if parts.len() > bailiwick_abi::MAX_DEPTH as usize {
            problems.push(RuleProblem::TooDeep { name: self.name.clone(), cgroup: self.cgroup.clone() });
        }
        let port_zero = self.egress.exceptions.iter().any(|exception| exception.port == Some(0));
        let port_zero = port_zero || self.peers.iter().any(|peer| peer.ports.contains(&0));
        if port_zero || self.kind == (ScopeKind::Model { port: 0 }) {
            problems.push(RuleProblem::PortZero { name: self.name.clone() });
        }
        if !self.peers.is_empty() && !self.is_model() {
            problems.push(RuleProblem::PeersOfNoModel { name: self.name.clone() });
        }
        for peer in &self.peers {
            if self.port() != 0 && peer.ports.contains(&self.port()) {
                let (name, port) = (self.name.clone(), self.port());
                problems.push(RuleProblem::PeerOnGuardedPort { name, port });
            }
            if peer.ports.is_empty() {
                problems.push(RuleProblem::PeerWithoutPorts { name: self.name.clone() });
            }
        }
    }

    fn is_model(&self) -> bool {
        match self.kind {
            ScopeKind::Model { .. } | ScopeKind::SealedModel => true,
            ScopeKind::Proxy | ScopeKind::Workload => false,
        }
    }

    fn contains_scopes(&self) -> bool {
        match self.kind {
            ScopeKind::Workload => true,
            ScopeKind::Proxy | ScopeKind::Model { .. } | ScopeKind::SealedModel => false,
        }
    }
}

fn check_pair(a: &Scope, b: &Scope, problems: &mut Vec<RuleProblem>) {
    let (first, second) = (a.name.clone(), b.name.clone());
    if a.port() != 0 && a.port() == b.port() {
        problems.push(RuleProblem::SamePort { first: first.clone(), second: second.clone(), port: a.port() });
    }
    if a.cgroup == b.cgroup {
        problems.push(RuleProblem::SameCgroup { first, second });
    } else if inside(&a.cgroup, &b.cgroup) && !b.contains_scopes() {
        problems.push(RuleProblem::Nested { inner: first, outer: second });
    } else if inside(&b.cgroup, &a.cgroup) && !a.contains_scopes() {
        problems.push(RuleProblem::Nested { inner: second, outer: first });
    }
}

fn inside(inner: &Path, outer: &Path) -> bool {
    inner.starts_with(outer)
}

/// The trie entries of a policy, aggregated. The generation is left 0.
///
/// The longest network decides, so an entry also has the flags of the wider ones around it under its port; one
/// without flags is a hole in them.
pub(crate) fn entries(egress: &EgressPolicy, peers: &[Peer], policy: u32) -> Vec<Entry> {
    let by_port = by_port(egress, peers).into_iter();
    by_port
        .flat_map(|(port, claims)| {
            aggregate(&claims).into_iter().map(move |(network, flags)| entry(network, port, policy, flags))
        })
        .collect()
}

/// How many nodes of the kernel's trie a policy takes.
fn nodes_of(egress: &EgressPolicy, peers: &[Peer]) -> usize {
    by_port(egress, peers).values().map(|claims| nodes(&aggregate(claims)) + NODES_BESIDE).sum()
}

/// Each port of a policy hangs in the trie by a few nodes more: where its way and another's part, and its families'.
const NODES_BESIDE: usize = 3;

/// What is said of which networks, by port; 0 is every port.
fn by_port(egress: &EgressPolicy, peers: &[Peer]) -> BTreeMap<u16, Vec<Claim>> {
    let mut said: BTreeMap<u16, Vec<Claim>> = BTreeMap::new();
    let mut say = |port: u16, flag: u32, network: IpNet| {
        said.entry(port).or_default().push((unmapped(network), flag));
    };
    for network in &egress.networks {
        say(0, Destination::REGION, *network);
    }
    for exception in &egress.exceptions {
        say(exception.port.unwrap_or(0), Destination::EXCEPTION, exception.network);
    }
    for peer in peers {
        peer.ports.iter().for_each(|port| say(*port, Destination::PEER, peer.network));
    }
    said
}

/// The address as the programs see it.
pub(crate) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => Address::from_octets(v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => Address::from_octets(v6.octets()),
    }
}

fn entry(network: IpNet, port: u16, policy: u32, flags: u32) -> Entry {
    let (family, mapped_bits) = match network {
        IpNet::V4(_) => (4, 96),
        IpNet::V6(_) => (6, 0),
    };
    let key = DestinationKey {
        generation: 0,
        policy: policy.to_be(),
        port: port.to_be(),
        family,
        padding: 0,
        address: address(network.network()),
    };
    (DESTINATION_FIXED_BITS + mapped_bits + u32::from(network.prefix_len()), key, Destination { flags })
}

/// `::ffff:192.0.2.0/120` means `192.0.2.0/24`.
fn unmapped(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && let (Some(v4), Some(bits)) = (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        && let Ok(v4) = ipnet::Ipv4Net::new(v4, bits)
    {
        return IpNet::V4(v4);
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_policy::EgressException;

    fn scope(name: &str, kind: ScopeKind, cgroup: &str) -> Scope {
        Scope {
            name: Name::new(name).unwrap(),
            kind,
            cgroup: cgroup.into(),
            egress: egress(&[], &[]),
            peers: Vec::new(),
        }
    }

    fn egress(networks: &[&str], exceptions: &[(&str, Option<u16>)]) -> EgressPolicy {
        EgressPolicy {
            mode: Mode::Enforce,
            regions: Vec::new(),
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
            exceptions: exceptions
                .iter()
                .map(|(net, port)| EgressException {
                    network: net.parse().unwrap(),
                    port: *port,
                    reason: "test".into(),
                })
                .collect(),
        }
    }

    fn problems(scopes: Vec<Scope>) -> Vec<RuleProblem> {
        match (Rules { scopes }).check() {
            Ok(()) => Vec::new(),
            Err(KernelError::Rules(problems)) => problems,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn scopes_that_would_be_two_things_are_refused() {
        let model = ScopeKind::Model { port: 8000 };
        let other = ScopeKind::Model { port: 8001 };
        for (why, scopes, expected) in [
            ("apart", [scope("p", ScopeKind::Proxy, "p"), scope("m", model, "m")], 0),
            ("a model inside the proxy", [scope("p", ScopeKind::Proxy, "a"), scope("m", model, "a/b")], 1),
            ("the proxy inside a model", [scope("p", ScopeKind::Proxy, "a/b"), scope("m", model, "a")], 1),
            (
                "a name that only starts alike",
                [scope("p", ScopeKind::Proxy, "a"), scope("m", model, "ab")],
                0,
            ),
            (
                "a workload inside a model would loosen it",
                [scope("w", ScopeKind::Workload, "m/w"), scope("m", model, "m")],
                1,
            ),
            (
                "a model inside a workload tightens it",
                [scope("w", ScopeKind::Workload, "w"), scope("m", model, "w/m")],
                0,
            ),
            ("one cgroup", [scope("a", model, "m"), scope("b", other, "m")], 1),
            ("one port", [scope("a", model, "a"), scope("b", model, "b")], 1),
            ("the root", [scope("a", model, ""), scope("b", other, "b")], 2),
            ("beyond the root", [scope("a", model, "../a"), scope("b", other, "b")], 1),
            ("port zero", [scope("a", ScopeKind::Model { port: 0 }, "a"), scope("b", other, "b")], 1),
            ("too deep", [scope("a", model, "1/2/3/4/5/6/7/8/9/10/11"), scope("b", other, "b")], 1),
        ] {
            assert_eq!(problems(scopes.into()).len(), expected, "{why}");
        }
    }

    #[test]
    fn a_region_inside_an_exception_does_not_take_it_away() {
        let found = entries(&egress(&["192.0.2.0/25"], &[("192.0.2.0/24", None)]), &[], 0);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].2.flags, Destination::EXCEPTION);
    }

    #[test]
    fn families_do_not_cover_each_other() {
        let found = entries(&egress(&["::/0", "192.0.2.0/24", "::ffff:198.51.100.0/120"], &[]), &[], 7);
        let shapes: Vec<_> = found.iter().map(|(bits, key, _)| (key.family, *bits)).collect();
        assert_eq!(shapes, [(4, 96 + 96 + 24), (4, 96 + 96 + 24), (6, 96)]);
    }

    #[test]
    fn neighbours_are_one_entry_and_ports_have_their_own() {
        let found = entries(
            &egress(
                &["192.0.2.0/25", "192.0.2.128/25"],
                &[("198.51.100.1/32", Some(443)), ("198.51.100.2/32", Some(53))],
            ),
            &[],
            0,
        );
        let ports: Vec<_> = found.iter().map(|(_, key, _)| u16::from_be(key.port)).collect();
        assert_eq!(ports, [0, 53, 443]);
    }

    #[test]
    fn the_longest_entry_of_a_port_has_the_flags_of_those_around_it() {
        const E: u32 = Destination::EXCEPTION;
        const P: u32 = Destination::PEER;
        let peer = |network: &str, ports: &[u16]| Peer {
            network: network.parse().unwrap(),
            ports: ports.to_vec(),
            reason: "test".into(),
        };
        for (why, exceptions, peers, expected) in [
            (
                "apart",
                vec![("192.0.2.0/25", Some(1))],
                vec![peer("192.0.2.128/25", &[1])],
                // Half of the exception's network is the peer's all the same.
                vec![(24, E), (25, P)],
            ),
            (
                "an exception inside a peer",
                vec![("192.0.2.1/32", Some(1))],
                vec![peer("192.0.2.0/24", &[1])],
                vec![(24, P), (32, E | P)],
            ),
            (
                "a peer inside an exception",
                vec![("192.0.2.0/24", Some(1))],
                vec![peer("192.0.2.1/32", &[1])],
                vec![(24, E), (32, E | P)],
            ),
            (
                "the same",
                vec![("192.0.2.0/24", Some(1))],
                vec![peer("192.0.2.0/24", &[1])],
                vec![(24, E | P)],
            ),
            (
                "another port is another table",
                vec![("192.0.2.1/32", Some(2))],
                vec![peer("192.0.2.0/24", &[1])],
                vec![(24, P), (32, E)],
            ),
            (
                "neighbours",
                vec![],
                vec![peer("192.0.2.0/25", &[1]), peer("192.0.2.128/25", &[1])],
                vec![(24, P)],
            ),
            ("two ports", vec![], vec![peer("192.0.2.0/24", &[1, 2])], vec![(24, P), (24, P)]),
        ] {
            let found: Vec<_> = entries(&egress(&[], &exceptions), &peers, 0)
                .into_iter()
                .map(|(bits, _, destination)| (bits - 192, destination.flags))
                .collect();
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn equal_policies_share_their_entries_and_peers_make_them_unequal() {
        let mut scopes = vec![
            scope("a", ScopeKind::Workload, "a"),
            scope("b", ScopeKind::Workload, "b"),
            scope("c", ScopeKind::Workload, "c"),
        ];
        scopes[1].egress = egress(&["192.0.2.0/24"], &[]);
        let peer = Peer { network: "192.0.2.0/24".parse().unwrap(), ports: vec![1], reason: "test".into() };
        scopes.push(Scope { peers: vec![peer], ..scope("d", ScopeKind::SealedModel, "d") });
        assert_eq!(Rules { scopes }.policies(), [0, 1, 0, 3]);
    }
}
