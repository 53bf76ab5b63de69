//! The attacker: reads what to try, tries it, says what the kernel answered.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, getsockopt,
    sendto, setsockopt, socket, sockopt,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// How long silence must last to count as a drop, in milliseconds.
const PATIENCE: u16 = 400;

/// One thing to try.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Its name in the catalog.
    pub attack: String,
    /// What to do.
    pub act: Act,
}

/// What to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Act {
    /// connect(2)
    Connect {
        /// Where to.
        to: SocketAddr,
        /// Over what.
        protocol: Protocol,
    },
    /// sendto(2), without connecting
    Send {
        /// Where to.
        to: SocketAddr,
        /// Over what.
        protocol: Protocol,
    },
    /// bind(2), and let go at once
    Bind {
        /// What to take.
        at: SocketAddr,
        /// Over what.
        protocol: Protocol,
        /// With SO_REUSEPORT.
        shared: bool,
    },
    /// A cgroup namespace of its own, then connect(2).
    LeaveCgroupNamespaceAndConnect {
        /// Where to.
        to: SocketAddr,
    },
}

/// Over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// An echo request by a raw socket.
    Icmp,
    /// Protocol 132 by a raw socket.
    Sctp,
    /// A UDP datagram with a header of our own.
    Header,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happened {
    /// EPERM: the guard's answer.
    Refused,
    /// Nothing was heard.
    Silence,
    /// The call succeeded.
    Through,
    /// Another answer, which the guard does not give.
    Other(String),
    /// It could not be tried, and why.
    NotTried(String),
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Silence => f.write_str("dropped"),
            Self::Through => f.write_str("WENT THROUGH"),
            Self::Other(answer) => write!(f, "not refused: {answer}"),
            Self::NotTried(why) => write!(f, "not tried: {why}"),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { to, protocol } | Self::Send { to, protocol } => write!(f, "{to} {protocol}"),
            Self::Bind { at, protocol, .. } => write!(f, "{at} {protocol}"),
            Self::LeaveCgroupNamespaceAndConnect { to } => write!(f, "{to} tcp"),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Sctp => "sctp",
            Self::Header => "raw",
        })
    }
}

impl Trial {
    pub(super) fn new(attack: &str, act: Act) -> Self {
        Self { attack: attack.to_owned(), act }
    }

    /// Whether that is what the guard does; silence is its answer on the way in only.
    pub(super) fn held(&self, happened: &Happened) -> Option<bool> {
        match happened {
            Happened::Refused => Some(true),
            Happened::Silence => Some(!self.attack.starts_with("out-")),
            Happened::Through | Happened::Other(_) => Some(false),
            Happened::NotTried(_) => None,
        }
    }
}

/// Reads one line of trials from standard input and writes one line of what happened to standard output.
///
/// # Errors
/// When a pipe breaks or the trials cannot be read.
pub fn serve() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let trials: Vec<Trial> = serde_json::from_str(&line)?;
    let happened: Vec<Happened> = trials.iter().map(|trial| trial.act.carry_out()).collect();
    writeln!(io::stdout().lock(), "{}", serde_json::to_string(&happened)?)
}

impl Act {
    fn carry_out(self) -> Happened {
        match self {
            Self::Connect { to, protocol } => {
                with_socket(to, protocol, |fd| wait_for_connection(fd, connect(fd.as_raw_fd(), &wire(to))))
            }
            Self::Send { to, protocol } => with_socket(to, protocol, |fd| {
                let packet = packet(to, protocol);
                // A raw socket takes no port.
                let to = if protocol == Protocol::Udp { to } else { SocketAddr::new(to.ip(), 0) };
                sendto(fd.as_raw_fd(), &packet, &wire(to), MsgFlags::empty()).map(drop)
            }),
            Self::Bind { at, protocol, shared } => with_socket(at, protocol, |fd| {
                if shared {
                    setsockopt(fd, sockopt::ReusePort, &true)?;
                }
                bind(fd.as_raw_fd(), &wire(at))
            }),
            Self::LeaveCgroupNamespaceAndConnect { to } => match unshare(CloneFlags::CLONE_NEWCGROUP) {
                Ok(()) => Self::Connect { to, protocol: Protocol::Tcp }.carry_out(),
                Err(errno) => Happened::NotTried(errno.desc().to_owned()),
            },
        }
    }
}

fn with_socket(
    address: SocketAddr,
    protocol: Protocol,
    act: impl FnOnce(&OwnedFd) -> nix::Result<()>,
) -> Happened {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, None),
        Protocol::Udp => (SockType::Datagram, None),
        Protocol::Icmp => (SockType::Raw, Some(SockProtocol::Icmp)),
        Protocol::Sctp => (SockType::Raw, Some(SockProtocol::Sctp)),
        Protocol::Header => (SockType::Raw, Some(SockProtocol::Raw)),
    };
    let fd = match socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, number) {
        Ok(fd) => fd,
        Err(errno) => return Happened::NotTried(format!("no such socket here: {}", errno.desc())),
    };
    match act(&fd) {
        Ok(()) => Happened::Through,
        Err(Errno::EPERM) => Happened::Refused,
        Err(Errno::ETIMEDOUT) => Happened::Silence,
        // The kernel finds no way before any hook sees a raw packet.
        Err(errno @ (Errno::ENETUNREACH | Errno::EHOSTUNREACH)) if kind == SockType::Raw => {
            Happened::NotTried(errno.desc().to_owned())
        }
        Err(errno) => Happened::Other(errno.desc().to_owned()),
    }
}

fn wait_for_connection(fd: &OwnedFd, begun: nix::Result<()>) -> nix::Result<()> {
    match begun {
        Err(Errno::EINPROGRESS) => {}
        other => return other,
    }
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut polled, PollTimeout::from(PATIENCE))? == 0 {
        return Err(Errno::ETIMEDOUT);
    }
    match getsockopt(fd, sockopt::SocketError)? {
        0 => Ok(()),
        code => Err(Errno::from_raw(code)),
    }
}

fn wire(address: SocketAddr) -> SockaddrStorage {
    SockaddrStorage::from(address)
}

/// A payload without meaning: an echo request, an SCTP header, an IPv4 header with an empty datagram.
fn packet(to: SocketAddr, protocol: Protocol) -> Vec<u8> {
    match (protocol, to) {
        (Protocol::Icmp, _) => vec![8, 0, 0xf7, 0xff, 0, 0, 0, 0],
        (Protocol::Header, SocketAddr::V4(to)) => {
            // Version and length, total length 28, no fragment, 64 hops, UDP; the kernel fills in source and checksum.
            let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0];
            packet.extend(to.ip().octets());
            packet.extend([0x0f, 0xa0, 0, 53, 0, 8, 0, 0]);
            packet
        }
        (Protocol::Sctp | Protocol::Header | Protocol::Tcp | Protocol::Udp, _) => vec![0; 12],
    }
}
