//! What there is to know of a flow, whoever says it: refusals, openings, heads of streams, counters.
//!
//! Plain types, so that everything behind them can be tested without a kernel. What the kernel says today is
//! [`Report::Refused`].

use bailiwick_kernel::{Event, Process, Reason};
use bailiwick_policy::Name;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;
use zeroize::Zeroizing;

/// One thing that is reported.
#[derive(Clone, Debug)]
pub enum Report {
    /// Something was refused, or would have been.
    Refused(Event),
    /// A held process began a flow that was let pass.
    Opened(Opened),
    /// The head of what a held socket sent or heard.
    Captured(Captured),
    /// How much went, since it was last said.
    Counted(FlowCount),
}

/// A held process began a flow that was let pass: the first of its kind, later ones are only counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The model or workload; `None` if the scope is gone.
    pub scope: Option<Name>,
    /// Who opened it; `None` where the hook does not know.
    pub process: Option<Process>,
    /// IANA number: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// Where to.
    pub destination: SocketAddr,
    /// Why enforcing would have refused it; `None` when the policy allows it.
    pub would_deny: Option<Reason>,
}

/// The head of what a held socket sent or heard, read for the name in it and for nothing else.
///
/// The bytes may be part of a payload: they are zeroized when dropped, and `Debug` does not show them.
#[derive(Clone)]
pub struct Captured {
    /// The model or workload; `None` if the scope is gone.
    pub scope: Option<Name>,
    /// The socket's cookie (`SO_COOKIE`, socket(7)): unique on this host until it boots again.
    pub socket: u64,
    /// IANA number: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// The other end.
    pub remote: SocketAddr,
    /// Sent by the held socket; heard by it otherwise.
    pub sent: bool,
    /// TCP: where these bytes lie in their direction of the stream, the first byte being 0. UDP: 0, a piece is a
    /// datagram.
    pub offset: u32,
    /// What was sent or heard, from its beginning.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured")
            .field("scope", &self.scope)
            .field("socket", &self.socket)
            .field("protocol", &self.protocol)
            .field("remote", &self.remote)
            .field("sent", &self.sent)
            .field("offset", &self.offset)
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Counters of one flow since they were last drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowCount {
    /// The model or workload; `None` if the scope is gone.
    pub scope: Option<Name>,
    /// The process's name for itself when it opened the flow; empty where the kernel does not know it.
    pub comm: String,
    /// IANA number: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// The other end's address.
    pub destination: IpAddr,
    /// The other end's port; 0 for protocols without ports.
    pub port: u16,
    /// What was decided about it.
    pub verdict: FlowVerdict,
    /// How often it was opened, or tried.
    pub opened: u64,
    /// Bytes sent, IP headers included.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received, IP headers included.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// When it was first seen since it was last drained.
    pub first_seen: SystemTime,
    /// When it was last seen.
    pub last_seen: SystemTime,
}

/// What was decided about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowVerdict {
    /// The policy allows it.
    Allowed,
    /// Let pass, since the scope does not enforce; enforcing would have refused it.
    WouldDeny(Reason),
    /// Refused.
    Denied(Reason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_captured_is_never_shown() {
        let captured = Captured {
            scope: None,
            socket: 7,
            protocol: 6,
            remote: "192.0.2.30:443".parse().unwrap(),
            sent: true,
            offset: 0,
            bytes: Zeroizing::new(b"secret".to_vec()),
        };
        let shown = format!("{captured:?}");
        assert!(
            shown.contains("length: 6") && !shown.contains("secret") && !shown.contains("115"),
            "{shown}"
        );
    }
}
