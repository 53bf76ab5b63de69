//! What is tried against one model.

use super::attacker::{Act, Protocol, Trial};
use bailiwick_kernel::{Scope, ScopeKind};
use bailiwick_policy::{EgressPolicy, Mode};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Two lists, for two attackers.
pub(super) struct Plan {
    /// From an ordinary process to the model.
    pub(super) inward: Vec<Trial>,
    /// From inside the slice to where it may not go; empty where egress is not enforced.
    pub(super) outward: Vec<Trial>,
}

/// Documentation addresses (RFC 5737, RFC 3849, RFC 9637); the first that the policy does not cover is tried.
const NOWHERE_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(203, 0, 113, 1)];
const NOWHERE_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1)];

/// The plan for a model; `None` for other scopes.
pub(super) fn of(scope: &Scope) -> Option<Plan> {
    let ScopeKind::Model { port } = scope.kind else {
        return None;
    };
    let outward = match scope.egress.mode {
        Mode::Enforce => outward(&scope.egress),
        Mode::Monitor | Mode::Shadow => Vec::new(),
    };
    Some(Plan { inward: inward(port), outward })
}

fn inward(port: u16) -> Vec<Trial> {
    let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let loopback = Ipv4Addr::LOCALHOST;
    let mut trials = Vec::new();
    let mut dial = |attack: &str, ip: IpAddr| {
        let to = SocketAddr::new(ip, port);
        trials.push(Trial::new(attack, Act::Connect { to, protocol: Protocol::Tcp }));
    };
    dial("tcp-loopback-v4", loopback.into());
    dial("tcp-loopback-v6", Ipv6Addr::LOCALHOST.into());
    dial("tcp-v4-mapped", loopback.to_ipv6_mapped().into());
    dial("tcp-unspecified-v4", Ipv4Addr::UNSPECIFIED.into());
    dial("tcp-unspecified-v6", Ipv6Addr::UNSPECIFIED.into());
    dial("tcp-other-loopback-address", v4(127, 9, 9, 9));
    for ip in own_addresses() {
        dial(if ip.is_ipv4() { "tcp-own-address-v4" } else { "tcp-own-address-v6" }, ip);
    }
    let to = SocketAddr::new(loopback.into(), port);
    trials.push(Trial::new("udp-connected", Act::Connect { to, protocol: Protocol::Udp }));
    trials.push(Trial::new("udp-guarded-port", Act::Send { to, protocol: Protocol::Udp }));
    let to_v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
    trials.push(Trial::new("udp-guarded-port-v6", Act::Send { to: to_v6, protocol: Protocol::Udp }));
    for (attack, ip, protocol) in [
        ("bind-reuse-port", loopback.into(), Protocol::Tcp),
        ("bind-loopback-v4", loopback.into(), Protocol::Tcp),
        ("bind-loopback-v6", Ipv6Addr::LOCALHOST.into(), Protocol::Tcp),
        ("bind-v4-mapped", loopback.to_ipv6_mapped().into(), Protocol::Tcp),
        ("bind-wildcard-v4", Ipv4Addr::UNSPECIFIED.into(), Protocol::Tcp),
        ("bind-wildcard-v6", Ipv6Addr::UNSPECIFIED.into(), Protocol::Tcp),
        ("bind-udp-v4", Ipv4Addr::UNSPECIFIED.into(), Protocol::Udp),
        ("bind-udp-v6", Ipv6Addr::UNSPECIFIED.into(), Protocol::Udp),
    ] {
        let at = SocketAddr::new(ip, port);
        trials.push(Trial::new(attack, Act::Bind { at, protocol, shared: attack == "bind-reuse-port" }));
    }
    // Last: the namespace stays with the attacker.
    trials.push(Trial::new("new-cgroup-namespace", Act::LeaveCgroupNamespaceAndConnect { to }));
    trials
}

fn outward(policy: &EgressPolicy) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |attack: &str, act| trials.push(Trial::new(attack, act));
    if let Some(ip) = NOWHERE_V4.into_iter().find(|ip| !covers(policy, (*ip).into())) {
        let (https, dns) = (SocketAddr::new(ip.into(), 443), SocketAddr::new(ip.into(), 53));
        let mapped = |port| SocketAddr::new(ip.to_ipv6_mapped().into(), port);
        let [a, b, c, d] = ip.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
        let six_to_four = Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1);
        add("out-tcp-v4", Act::Connect { to: https, protocol: Protocol::Tcp });
        add("out-tcp-v4-mapped", Act::Connect { to: mapped(443), protocol: Protocol::Tcp });
        add("out-udp-v4", Act::Send { to: dns, protocol: Protocol::Udp });
        add("out-udp-v4-mapped", Act::Send { to: mapped(53), protocol: Protocol::Udp });
        add("out-udp-connected", Act::Connect { to: dns, protocol: Protocol::Udp });
        add("out-icmp-raw", Act::Send { to: dns, protocol: Protocol::Icmp });
        add("out-sctp", Act::Send { to: dns, protocol: Protocol::Sctp });
        add("out-raw-forged-header", Act::Send { to: dns, protocol: Protocol::Header });
        for (attack, inner) in [("out-nat64", nat64), ("out-6to4", six_to_four)] {
            let to = SocketAddr::new(inner.into(), 443);
            add(attack, Act::Connect { to, protocol: Protocol::Tcp });
        }
    }
    if let Some(ip) = NOWHERE_V6.into_iter().find(|ip| !covers(policy, (*ip).into())) {
        let (https, dns) = (SocketAddr::new(ip.into(), 443), SocketAddr::new(ip.into(), 53));
        add("out-tcp-v6", Act::Connect { to: https, protocol: Protocol::Tcp });
        add("out-udp-v6", Act::Send { to: dns, protocol: Protocol::Udp });
    }
    if let Some(ip) = NOWHERE_V4.into_iter().find(|ip| !covers(policy, (*ip).into())) {
        let to = SocketAddr::new(ip.into(), 443);
        trials.push(Trial::new("out-new-cgroup-namespace", Act::LeaveCgroupNamespaceAndConnect { to }));
    }
    trials
}

/// Whether any network or exception, whatever its port, has this address.
fn covers(policy: &EgressPolicy, ip: IpAddr) -> bool {
    policy.networks.iter().any(|network| network.contains(&ip))
        || policy.exceptions.iter().any(|exception| exception.network.contains(&ip))
}

/// The host's own addresses, but for loopback and what needs an interface to be named.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let mut found: Vec<IpAddr> = interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_loopback(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::super::catalog::{self, Direction, Runs};
    use super::*;
    use std::collections::BTreeSet;

    fn policy(networks: &[&str]) -> EgressPolicy {
        EgressPolicy {
            mode: Mode::Enforce,
            regions: Vec::new(),
            networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
            exceptions: Vec::new(),
        }
    }

    /// An own address of a family may be missing on the machine that runs this.
    #[test]
    fn what_the_catalog_calls_live_is_what_is_tried() {
        for (direction, trials) in [(Direction::In, inward(8000)), (Direction::Out, outward(&policy(&[])))] {
            let mut tried: BTreeSet<&str> = trials.iter().map(|trial| trial.attack.as_str()).collect();
            if direction == Direction::In {
                tried.extend(["tcp-own-address-v4", "tcp-own-address-v6"]);
            }
            let live: BTreeSet<&str> = catalog::ATTACKS
                .iter()
                .filter(|attack| attack.runs == Runs::Live && attack.direction == direction)
                .map(|attack| attack.name)
                .collect();
            assert_eq!(tried, live);
        }
    }

    #[test]
    fn no_packet_is_addressed_to_an_address_that_the_policy_allows() {
        let rows = [
            (&[][..], 13, "everything is tried"),
            (&["192.0.2.0/24"], 13, "the next documentation network is taken"),
            (&["0.0.0.0/0"], 2, "IPv4 is all allowed: nothing of it can be tried"),
            (&["0.0.0.0/0", "::/0"], 0, "everything is allowed"),
        ];
        for (networks, count, why) in rows {
            assert_eq!(outward(&policy(networks)).len(), count, "{why}");
        }
    }
}
