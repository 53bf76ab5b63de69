//! Hosts on a network of documentation addresses, with no way out.
//!
//! ```text
//!              ┌──────────── router (forwards, nothing else) ────────────┐
//!   host 10.77.0.2   client 203.0.113.10   issuer 198.51.100.20   foreign 192.0.2.30
//!        fd77::2            2001:db8:c::10        2001:db8:a::20          2001:db8:f::30
//! ```
//!
//! Each host is a network namespace held by a descriptor ([`NetNamespace`]); the router is one more. Nothing is added to the
//! machine's own namespace, and no route leads there. `host` is usually a system box's namespace.

use crate::net_namespace::NetNamespace;
use crate::reaper::Reaper;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// One machine of the lab.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its network namespace.
    pub namespace: NetNamespace,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    cgroup: PathBuf,
}

/// The lab: four hosts and the router between them.
#[derive(Debug)]
pub struct LabNetwork {
    /// The model host.
    pub host: Host,
    /// A remote client, in an allowed region.
    pub client: Host,
    /// The OIDC issuer's host, in an allowed region.
    pub issuer: Host,
    /// A host in a foreign region.
    pub foreign: Host,
    _router: NetNamespace,
}

/// Why the lab cannot be laid out.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A namespace or cgroup cannot be made or entered.
    #[error("the lab network cannot be made: {0}; it needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")]
    Kernel(#[from] io::Error),
    /// `ip` refused.
    #[error("ip(8) refused in the {place} namespace: {message}")]
    Ip {
        /// Which namespace.
        place: &'static str,
        /// What it said.
        message: String,
    },
}

impl Host {
    /// A TCP address of this host over IPv4.
    #[must_use]
    pub fn at_v4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.v4), port)
    }

    /// A TCP address of this host over IPv6.
    #[must_use]
    pub fn at_v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.v6), port)
    }

    /// Runs a function on a thread inside this host's network.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.namespace.run(inside)
    }

    /// A command that will run inside this host's network and end with the testbed.
    ///
    /// # Errors
    /// When the testbed's cgroup cannot be opened.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> io::Result<Command> {
        self.namespace.command(program, &self.cgroup)
    }
}

impl LabNetwork {
    /// Lays the network out around `host`, which gets a device `eth0`.
    ///
    /// # Errors
    /// [`LabError`]
    pub fn around(reaper: &Reaper, host: NetNamespace) -> Result<Self, LabError> {
        let cgroup = reaper.make_cgroup("lab")?;
        let router = NetNamespace::new()?;
        router.run(|| -> io::Result<()> {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        })??;
        let at = |namespace: NetNamespace, v4: [u8; 4], v6: [u16; 8]| Host {
            namespace,
            v4: Ipv4Addr::from(v4),
            v6: Ipv6Addr::from(v6),
            cgroup: cgroup.clone(),
        };
        let lab = Self {
            host: at(host, [10, 77, 0, 2], [0xfd77, 0, 0, 0, 0, 0, 0, 2]),
            client: at(NetNamespace::new()?, [203, 0, 113, 10], [0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x10]),
            issuer: at(NetNamespace::new()?, [198, 51, 100, 20], [0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x20]),
            foreign: at(NetNamespace::new()?, [192, 0, 2, 30], [0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x30]),
            _router: router.clone(),
        };
        let hosts = [
            ("host", &lab.host),
            ("client", &lab.client),
            ("issuer", &lab.issuer),
            ("foreign", &lab.foreign),
        ];
        // No address is doubtful here: without this, IPv6 says nothing for the first second or two.
        for namespace in hosts.iter().map(|(_, host)| &host.namespace).chain([&router]) {
            namespace.run(|| {
                ["all", "default"].iter().try_for_each(|scope| {
                    std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0")
                })
            })??;
        }
        let mut wiring = String::from("link set lo up\n");
        for (name, host) in hosts {
            let (v4, v6) = gateways(host);
            wiring += &format!(
                "link add to-{name} type veth peer name eth0 netns {}\n\
                 addr add {v4}/24 dev to-{name}\naddr add {v6}/64 dev to-{name} nodad\nlink set to-{name} up\n",
                host.namespace.path()
            );
        }
        ip(&router, &cgroup, "router", &wiring)?;
        for (name, host) in hosts {
            let (v4, v6) = gateways(host);
            let own = format!(
                "link set lo up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n\
                 route add 0.0.0.0/0 via {v4}\nroute add ::/0 via {v6}\n",
                host.v4, host.v6
            );
            ip(&host.namespace, &cgroup, name, &own)?;
        }
        Ok(lab)
    }
}

/// The router's addresses on a host's network: the first of each.
fn gateways(host: &Host) -> (Ipv4Addr, Ipv6Addr) {
    let [a, b, c, _] = host.v4.octets();
    let mut v6 = host.v6.segments();
    v6[7] = 1;
    (Ipv4Addr::new(a, b, c, 1), Ipv6Addr::from(v6))
}

fn ip(
    namespace: &NetNamespace,
    cgroup: &std::path::Path,
    place: &'static str,
    batch: &str,
) -> Result<(), LabError> {
    let mut child = namespace
        .command("ip", cgroup)?
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(batch.as_bytes())?;
    }
    let Output { status, stderr, .. } = child.wait_with_output()?;
    if status.success() {
        Ok(())
    } else {
        Err(LabError::Ip { place, message: String::from_utf8_lossy(&stderr).trim().to_owned() })
    }
}
