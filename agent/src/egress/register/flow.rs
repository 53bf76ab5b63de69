//! A flow, and what is added to it.

use super::super::names::Named;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What was done with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Deed {
    /// The policy allows it.
    Allowed,
    /// Let pass, though enforcing would have refused it.
    WouldDeny,
    /// Refused.
    Denied,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Allowed, Self::WouldDeny, Self::Denied];

    /// Its word; the same as in alerts and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allow",
            Self::WouldDeny => "would-deny",
            Self::Denied => "deny",
        }
    }

    /// From its word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|deed| deed.as_str() == word)
    }

    /// Whether it is kept however many allowed flows there are.
    #[must_use]
    pub fn is_violation(self) -> bool {
        match self {
            Self::Allowed => false,
            Self::WouldDeny | Self::Denied => true,
        }
    }
}

/// What makes two flows the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The model or workload; `unknown` if it is gone.
    pub scope: String,
    /// The process's name for itself; empty where it is not known.
    pub process: String,
    /// IANA number: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// The other end's.
    pub address: IpAddr,
    /// The other end's; 0 for protocols without ports.
    pub port: u16,
    /// What was done with it.
    pub deed: Deed,
    /// Why, for a violation; kebab-case, empty otherwise.
    pub reason: &'static str,
}

/// What was seen of a flow; added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// As the kernel's counters say.
    pub opened: u64,
    /// As the kernel's reports said: the same attempts, seen another way.
    pub told: u64,
    /// Bytes sent, IP headers included.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received, IP headers included.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Milliseconds since 1970.
    pub first: u64,
    /// Milliseconds since 1970.
    pub last: u64,
    /// The executable of the process, where it could be read.
    pub executable: Option<String>,
    /// What the address was called.
    pub named: Option<Named>,
    /// The region, or `unknown`.
    pub region: String,
}

impl Seen {
    /// Nothing yet, at this time and in this region.
    #[must_use]
    pub fn at(time: SystemTime, region: &str) -> Self {
        let time = milliseconds(time);
        Self {
            opened: 0,
            told: 0,
            sent_bytes: 0,
            sent_packets: 0,
            received_bytes: 0,
            received_packets: 0,
            first: time,
            last: time,
            executable: None,
            named: None,
            region: region.to_owned(),
        }
    }

    /// It began at this time.
    pub(in super::super) fn begin(&mut self, time: SystemTime) {
        self.first = self.first.min(milliseconds(time));
    }

    /// Adds what was seen later.
    pub(super) fn add(&mut self, other: Self) {
        self.opened = self.opened.saturating_add(other.opened);
        self.told = self.told.saturating_add(other.told);
        self.sent_bytes = self.sent_bytes.saturating_add(other.sent_bytes);
        self.sent_packets = self.sent_packets.saturating_add(other.sent_packets);
        self.received_bytes = self.received_bytes.saturating_add(other.received_bytes);
        self.received_packets = self.received_packets.saturating_add(other.received_packets);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.executable = other.executable.or(self.executable.take());
        self.named = other.named.or(self.named.take());
        self.region = other.region;
    }
}

/// A flow and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Which.
    pub key: FlowKey,
    /// What.
    pub seen: Seen,
}

pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
