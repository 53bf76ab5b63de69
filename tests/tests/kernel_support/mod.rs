//! A stage for tests of the guard on the real kernel.
//!
//! A [`Stage`] is one test's own world: a mount namespace with a bpffs, a network namespace, and a cgroup below
//! the cgroup2 mount that stands for the host's root. The guard is attached *there*, so nothing else on the
//! machine is touched. [`Actor`]s are processes in cgroups of that root; they make, bind, connect and use sockets
//! as they are told and answer with what the kernel answered. All of it ends with the stage.
//!
//! Needs root, cgroup2, bpf and iproute2, and says so.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a stage for several test programs, each of which uses a part of it"
)]

pub mod actor;
pub mod stage;

use std::net::{IpAddr, SocketAddr};

use bailiwick_kernel::{Rules, Scope, ScopeKind};
use bailiwick_policy::{EgressException, EgressPolicy, Mode, Name};

pub use actor::{Actor, Errno, Kind, Network};
pub use stage::{MODEL, OTHER, Observed, PROXY, Stage, WORKLOAD};

/// The guarded port of [`rules`].
pub const PORT: u16 = 8000;

pub fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port)
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// An egress policy with these networks, and these exceptions (network, port).
pub fn egress(mode: Mode, networks: &[&str], exceptions: &[(&str, Option<u16>)]) -> EgressPolicy {
    let network = |text: &str| text.parse().expect("a network");
    EgressPolicy {
        mode,
        regions: vec![name("eu")],
        networks: networks.iter().map(|text| network(text)).collect(),
        exceptions: exceptions
            .iter()
            .map(|(text, port)| EgressException {
                network: network(text),
                port: *port,
                reason: "test".into(),
            })
            .collect(),
    }
}

/// A proxy that may go everywhere, a model on [`PORT`] and a workload, both with `egress`.
pub fn rules(egress_policy: EgressPolicy) -> Rules {
    let everywhere = egress(Mode::Enforce, &["0.0.0.0/0", "::/0"], &[]);
    let scope = |label: &str, kind, cgroup: &str, egress| Scope {
        name: name(label),
        kind,
        cgroup: cgroup.into(),
        egress,
        peers: Vec::new(),
    };
    Rules {
        scopes: vec![
            scope("proxy", ScopeKind::Proxy, PROXY, everywhere),
            scope("llama", ScopeKind::Model { port: PORT }, MODEL, egress_policy.clone()),
            scope("shipper", ScopeKind::Workload, WORKLOAD, egress_policy),
        ],
    }
}

/// Rules under which a model may send nowhere.
pub fn closed() -> Rules {
    rules(egress(Mode::Enforce, &[], &[]))
}
