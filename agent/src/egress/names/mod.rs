//! # Names: what a destination was called by whoever went there
//!
//! ```text
//!   Captured ─┬─ port 53, UDP ──────────────▶ dns ─┬─ query ───▶ tunnel   counted, never kept
//!             ├─ port 53, TCP ─▶ heads ─────▶ dns ─┴─ answer ──▶ table    address → names, for as long as they hold
//!             └─ other, TCP, sent ─▶ heads ─▶ tls, http ───────▶ table
//!
//!   an alert, a flow ──▶ Names::of(workload, address, port) ──▶ "mirror.example.eu", known by its TLS server name
//! ```
//!
//! Names explain; addresses decide. A name is what the process said, or what a resolver told it: both may lie, and
//! neither ever opens a way or closes one.
//!
//! Invariants:
//! - The parsers are pure: the same stream gives the same name however it was cut. Any bytes are read to an end.
//! - Everything is bounded, per stream, per workload and as a whole; what is over a bound is forgotten, the oldest first.
//! - No byte that was captured is kept longer than it takes to find the name, shown, or written; a name, or a part of one,
//!   that may carry data is shown as `*` ([`HostName::shown`]), and all names under a domain that looks like a tunnel are.
//!
//! What it does not do: read DNS over TLS or HTTPS, HTTP/2 without TLS, or QUIC; the address has no name then, or the one
//! that plain DNS gave it. Tell which of several names at one address and port a packet was for.

mod dns;
mod heads;
mod host;
mod http;
mod table;
mod tls;
mod tunnel;

pub use dns::{Message, Question};
pub use host::HostName;
pub use tls::ServerName;
pub use tunnel::{Finding, MANY_DOMAINS};

use bailiwick_kernel::Captured;
use bailiwick_policy::Name;
use heads::{Heads, Looked};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use table::Table;
use tunnel::Asked;

const DNS_PORT: u16 = 53;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// A name that a connection said itself explains the address as long as the connection may last.
const SAID: Duration = Duration::from_secs(60 * 60);
/// Workloads whose names are kept. There are as many as the config has.
const MOST_WORKLOADS: usize = 1024;

/// What a parser found at the beginning of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// This.
    Name(T),
    /// Nothing, and more bytes change nothing.
    Nothing,
    /// Nothing yet; it takes a stream of this many bytes to say more.
    More(usize),
}

/// A name, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    /// As it may be written down.
    pub name: String,
    /// Where it comes from.
    pub known: Known,
}

/// How a name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// A resolver gave the address for this name before.
    Dns,
    /// The connection's TLS server name.
    Sni,
    /// The same, with an encrypted ClientHello beside it: perhaps the name of a front only.
    SniOuter,
    /// The Host header of a plain HTTP request.
    Host,
}

impl Known {
    /// Its word in alerts and in the register.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Sni => "sni",
            Self::SniOuter => "sni-outer",
            Self::Host => "host",
        }
    }
}

/// A workload asks for names as a tunnel does.
#[derive(Clone, Debug, PartialEq)]
pub struct Tunnel {
    /// The workload; `None` if it is gone.
    pub scope: Option<Name>,
    /// Whom it asks.
    pub resolver: SocketAddr,
    /// 6 TCP, 17 UDP.
    pub protocol: u8,
    /// What was measured.
    pub finding: Finding,
}

/// Everything that is known about names.
#[derive(Default)]
pub struct Names {
    heads: Heads,
    workloads: HashMap<Option<Name>, Workload>,
}

#[derive(Default)]
struct Workload {
    table: Table,
    asked: Asked,
    /// Shown domains that looked like tunnels: no name under one is written down.
    tunnels: HashSet<String>,
    queries: u64,
}

impl Names {
    /// Takes note of what a held socket sent or heard; a query that is one too many is a tunnel's.
    pub fn hear(&mut self, captured: &Captured, now: Instant) -> Option<Tunnel> {
        let Captured { scope, remote, bytes, .. } = captured;
        if !self.workloads.contains_key(scope) && self.workloads.len() >= MOST_WORKLOADS {
            return None;
        }
        let workload = self.workloads.entry(scope.clone()).or_default();
        let stream = (captured.socket, captured.sent);
        let mut found = None;
        match (captured.protocol, remote.port()) {
            (UDP, DNS_PORT) => found = workload.dns(bytes, captured.sent, now),
            (TCP, DNS_PORT) => self.heads.add(stream, captured.offset, bytes, |stream| {
                let (messages, taken) = dns::split(stream);
                for message in messages {
                    found = workload.dns(message, captured.sent, now).or(found.take());
                }
                if taken > 0 { Looked::Taken(taken) } else { Looked::Again(stream.len() + 1) }
            }),
            (TCP, _) if captured.sent => {
                self.heads
                    .add(stream, captured.offset, bytes, |stream| workload.stream(stream, *remote, now));
            }
            _ => {}
        }
        found.map(|finding| Tunnel {
            scope: scope.clone(),
            resolver: *remote,
            protocol: captured.protocol,
            finding,
        })
    }

    /// By what name the workload reached `destination`, where that is known.
    #[must_use]
    pub fn of(&self, scope: Option<&Name>, destination: SocketAddr, now: Instant) -> Option<Named> {
        let workload = self.workloads.get(&scope.cloned())?;
        workload.table.find(destination.ip().to_canonical(), destination.port(), now).cloned()
    }

    /// How many names each workload asked for since this was last called.
    pub fn take_queries(&mut self) -> Vec<(Option<Name>, u64)> {
        let asked = self.workloads.iter_mut().filter(|(_, workload)| workload.queries > 0);
        asked.map(|(scope, workload)| (scope.clone(), std::mem::take(&mut workload.queries))).collect()
    }
}

impl Workload {
    fn dns(&mut self, message: &[u8], sent: bool, now: Instant) -> Option<Finding> {
        let message = dns::parse(message)?;
        if sent {
            if message.is_response {
                return None;
            }
            self.queries += 1;
            let finding = self.asked.ask(&message.question, now)?;
            if self.tunnels.len() < MOST_WORKLOADS {
                self.tunnels.insert(finding.domain.clone());
            }
            return Some(finding);
        }
        let host = message.question.host().filter(|_| message.is_response)?;
        let named = self.named(&host, Known::Dns);
        for (address, seconds) in message.addresses {
            self.table.learn(address, None, named.clone(), Duration::from_secs(seconds.into()), now);
        }
        None
    }

    fn stream(&mut self, stream: &[u8], remote: SocketAddr, now: Instant) -> Looked {
        let (host, known) = match (tls::server_name(stream), http::host(stream)) {
            (Found::Name(ServerName { name, ech: false }), _) => (name, Known::Sni),
            (Found::Name(ServerName { name, ech: true }), _) => (name, Known::SniOuter),
            (_, Found::Name(name)) => (name, Known::Host),
            (Found::Nothing, Found::Nothing) => return Looked::Done,
            (Found::More(wanted), Found::Nothing) | (Found::Nothing, Found::More(wanted)) => {
                return Looked::Again(wanted);
            }
            (Found::More(one), Found::More(other)) => return Looked::Again(one.min(other)),
        };
        let named = self.named(&host, known);
        self.table.learn(remote.ip().to_canonical(), Some(remote.port()), named, SAID, now);
        Looked::Done
    }

    fn named(&self, host: &HostName, known: Known) -> Named {
        let domain = host.shown_domain();
        let name = if self.tunnels.contains(&domain) { domain } else { host.shown() };
        Named { name, known }
    }
}

/// Any bytes through every parser; for the fuzz target, which sees this crate from outside.
#[doc(hidden)]
pub fn read_any(bytes: &[u8]) -> (Option<Message>, Found<ServerName>, Found<HostName>) {
    (dns::parse(bytes), tls::server_name(bytes), http::host(bytes))
}

#[cfg(test)]
mod tests;
