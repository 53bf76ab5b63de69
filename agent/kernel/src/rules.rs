//! What the kernel is told, and how it becomes map entries.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use bailiwick_abi::{Address, DESTINATION_FIXED_BITS, Destination, DestinationKey, Kind, Mode as WireMode};
use bailiwick_policy::{EgressPolicy, Mode, Name};
use ipnet::IpNet;

use crate::{KernelError, RuleProblem};

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
    /// Any other watched service: egress only.
    Workload,
}

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
        if problems.is_empty() { Ok(()) } else { Err(KernelError::Rules(problems)) }
    }

    /// For each scope the index of the first one with the same destinations: equal policies share entries.
    pub(crate) fn policies(&self) -> Vec<usize> {
        let same =
            |a: &EgressPolicy, b: &EgressPolicy| a.networks == b.networks && a.exceptions == b.exceptions;
        self.scopes
            .iter()
            .enumerate()
            .map(|(index, scope)| {
                self.scopes[..index]
                    .iter()
                    .position(|other| same(&other.egress, &scope.egress))
                    .unwrap_or(index)
            })
            .collect()
    }
}

impl Scope {
    pub(crate) fn port(&self) -> u16 {
        match self.kind {
            ScopeKind::Model { port } => port,
            ScopeKind::Proxy | ScopeKind::Workload => 0,
        }
    }

    /// The value of `SCOPES` for this scope.
    pub(crate) fn wire(&self, index: u32, policy: u32) -> bailiwick_abi::Scope {
        let kind = match self.kind {
            ScopeKind::Proxy => Kind::Proxy,
            ScopeKind::Model { .. } => Kind::Model,
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
            has_ports: u8::from(self.egress.exceptions.iter().any(|exception| exception.port.is_some())),
            padding: [0; 3],
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
        if port_zero || self.kind == (ScopeKind::Model { port: 0 }) {
            problems.push(RuleProblem::PortZero { name: self.name.clone() });
        }
    }

    fn contains_scopes(&self) -> bool {
        match self.kind {
            ScopeKind::Workload => true,
            ScopeKind::Proxy | ScopeKind::Model { .. } => false,
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
pub(crate) fn entries(egress: &EgressPolicy, policy: u32) -> Vec<Entry> {
    let mut exceptions: BTreeMap<u16, Vec<IpNet>> = BTreeMap::new();
    for exception in &egress.exceptions {
        exceptions.entry(exception.port.unwrap_or(0)).or_default().push(unmapped(exception.network));
    }
    let everywhere = IpNet::aggregate(&exceptions.get(&0).cloned().unwrap_or_default());
    let regions: Vec<IpNet> = egress.networks.iter().copied().map(unmapped).collect();
    // The longest prefix decides: a region's network inside an exception would take the exception away.
    let regions =
        IpNet::aggregate(&regions).into_iter().filter(|net| !everywhere.iter().any(|e| e.contains(net)));
    let mut found: Vec<Entry> =
        regions.map(|network| entry(network, 0, policy, Destination::REGION)).collect();
    for (port, networks) in &exceptions {
        let aggregated = IpNet::aggregate(networks);
        found.extend(
            aggregated.into_iter().map(|network| entry(network, *port, policy, Destination::EXCEPTION)),
        );
    }
    found
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
        Scope { name: Name::new(name).unwrap(), kind, cgroup: cgroup.into(), egress: egress(&[], &[]) }
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
        let found = entries(&egress(&["192.0.2.0/25"], &[("192.0.2.0/24", None)]), 0);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].2.flags, Destination::EXCEPTION);
    }

    #[test]
    fn families_do_not_cover_each_other() {
        let found = entries(&egress(&["::/0", "192.0.2.0/24", "::ffff:198.51.100.0/120"], &[]), 7);
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
            0,
        );
        let ports: Vec<_> = found.iter().map(|(_, key, _)| u16::from_be(key.port)).collect();
        assert_eq!(ports, [0, 53, 443]);
    }

    #[test]
    fn equal_policies_share_their_entries() {
        let mut scopes = vec![
            scope("a", ScopeKind::Workload, "a"),
            scope("b", ScopeKind::Workload, "b"),
            scope("c", ScopeKind::Workload, "c"),
        ];
        scopes[1].egress = egress(&["192.0.2.0/24"], &[]);
        assert_eq!(Rules { scopes }.policies(), [0, 1, 0]);
    }
}
