//! The wire of sock_diag(7): which sockets this network namespace has, one of them by its addresses, and the end of
//! one. Layouts follow linux/inet_diag.h, linux/sock_diag.h and netlink(7); numbers are in the host's byte order,
//! ports and addresses in the network's. An answer is believed only from the kernel, to this very question, and
//! within the bounds that it gives itself.
//!
//! Which cgroup a socket is of is told since Linux 5.9 (`INET_DIAG_CGROUP_ID`), but only for whole sockets: those
//! that stand for a handshake under way (SYN_RECV) or for a connection that has ended (TIME_WAIT) have none.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
            sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const FLAG_REQUEST: u16 = 1;
const FLAG_ACK: u16 = 4;
const FLAGS_DUMP: u16 = 0x300;
/// `INET_DIAG_SKV6ONLY`, `INET_DIAG_CGROUP_ID`
const ATTRIBUTE_ONLY_V6: u16 = 11;
const ATTRIBUTE_CGROUP: u16 = 21;
/// The two top bits of an attribute's type are flags.
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// `INET_DIAG_NOCOOKIE`, twice
const ANY_COOKIE: u64 = u64::MAX;
/// `AF_INET`, `AF_INET6`
const V4: u8 = 2;
const V6: u8 = 10;
/// `IPPROTO_TCP`, `IPPROTO_UDP`
const TCP: u8 = 6;
const UDP: u8 = 17;
const HEADER: usize = 16;
const MESSAGE: usize = 72;
/// More than the kernel puts into one answer (32 KiB).
const ANSWER_ROOM: usize = 64 * 1024;
/// Packets between sockets of one host always arrive by the loopback device, which is number 1 in every namespace.
const LOOPBACK: u32 = 1;
/// The kernel picks one of the sockets that share a port by a digest of both ends. With so many other ends, one of
/// them is picked but for a chance in e^16 when sixteen share it.
const OTHER_ENDS: u16 = 256;

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP, and MPTCP's subflows.
    Tcp,
    /// UDP.
    Udp,
}

/// What a socket is doing; numbers as in net/tcp_states.h. An unconnected UDP socket is [`State::Close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names of RFC 9293, and what Linux adds")]
pub enum State {
    Established = 1,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynReceived,
    BoundInactive,
}

impl State {
    const ALL: [Self; 13] = [
        Self::Established,
        Self::SynSent,
        Self::SynReceived,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynReceived,
        Self::BoundInactive,
    ];

    fn bit(self) -> u32 {
        1 << (self as u8)
    }
}

impl TryFrom<u8> for State {
    type Error = io::Error;

    fn try_from(tag: u8) -> io::Result<Self> {
        let found = Self::ALL.into_iter().find(|state| *state as u8 == tag);
        found.ok_or_else(|| malformed(&format!("a socket in the unknown state {tag}")))
    }
}

/// One socket, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What it speaks.
    pub protocol: Protocol,
    /// What it is doing.
    pub state: State,
    /// Its own end. IPv6 for an IPv6 socket, also where the address is a mapped IPv4 one.
    pub source: SocketAddr,
    /// The other end; port 0 where there is none.
    pub destination: SocketAddr,
    /// The device that it is bound to; 0 for any.
    pub interface: u32,
    /// The kernel's number for it, never given twice.
    pub cookie: u64,
    /// As in /proc/PID/fd; 0 for one that no process has accepted yet or has any more.
    pub inode: u32,
    /// The cgroup that it was made in; a connection that was accepted has its listener's. `None` where the kernel has no
    /// whole socket.
    pub cgroup_id: Option<u64>,
    /// For listeners and unconnected IPv6 sockets: whether it takes no IPv4.
    pub only_v6: Option<bool>,
}

impl Socket {
    /// Whether it is an IPv6 socket.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }
}

/// Every socket of a family (`v6` or not) and protocol in one of `states`, with the port `port` of its own, if one is given.
///
/// # Errors
/// What the kernel says; [`io::ErrorKind::NotFound`] with the module to load where it has no sock_diag.
pub fn dump(v6: bool, protocol: Protocol, states: &[State], port: Option<u16>) -> io::Result<Vec<Socket>> {
    let any = if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let states = states.iter().fold(0, |bits, state| bits | state.bit());
    let ends = Ends {
        source: SocketAddr::new(any, port.unwrap_or(0)),
        destination: SocketAddr::new(any, 0),
        interface: 0,
        cookie: ANY_COOKIE,
    };
    let netlink = Netlink::open()?;
    netlink.ask(&ends.request(BY_FAMILY, FLAGS_DUMP, protocol, states))?;
    let mut found = Vec::new();
    loop {
        let answer = netlink.hear()?;
        for message in Messages(&answer) {
            let Message { kind, body } = message?;
            match kind {
                BY_FAMILY => found.push(socket(body, protocol)?),
                DONE => match code(body)? {
                    0 => return Ok(found),
                    errno => return Err(unavailable(errno)),
                },
                ERROR => return Err(unavailable(code(body)?)),
                other => return Err(malformed(&format!("a message of type {other}"))),
            }
        }
    }
}

/// The socket with these two ends, looked up as the kernel does for a packet; no other socket is looked at. `None` where
/// there is none: a listener that would take such a packet is not one. One in [`State::SynReceived`] stands for a
/// handshake whose last packet has not been taken yet, and names no cgroup.
///
/// # Errors
/// What the kernel says, but for "there is none".
pub fn exact(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> io::Result<Option<Socket>> {
    let (source, destination) = (plain(source), plain(destination));
    let ends = Ends { source, destination, interface: LOOPBACK, cookie: ANY_COOKIE };
    let netlink = Netlink::open()?;
    netlink.ask(&ends.request(BY_FAMILY, 0, protocol, u32::MAX))?;
    let answer = netlink.hear()?;
    let Message { kind, body } =
        Messages(&answer).next().unwrap_or_else(|| Err(malformed("an empty answer")))?;
    match kind {
        BY_FAMILY => {
            let found = socket(body, protocol)?;
            let same = plain(found.source) == source && plain(found.destination) == destination;
            Ok((same && found.state != State::Listen).then_some(found))
        }
        ERROR => match code(body)? {
            libc::ENOENT => Ok(None),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
        other => Err(malformed(&format!("a message of type {other}"))),
    }
}

/// Ends a socket, whoever has it (`CAP_NET_ADMIN`): a connection is reset, a listener and what it has not handed out yet
/// is closed, and its process is told by an error (ECONNABORTED). It is this very socket or none: the kernel compares
/// the cookie. One that is gone already is success.
///
/// A port that was bound by its number stays the socket's until the process closes it, and a process may listen once
/// more on it, so look again. A UDP socket bound so gets the error but goes on receiving.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] on a kernel without `CONFIG_INET_DIAG_DESTROY`, [`io::ErrorKind::PermissionDenied`],
/// or that the kernel keeps finding another socket with the same port.
pub fn destroy(socket: &Socket) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let shared = matches!(socket.state, State::Listen | State::Close);
    let Socket { protocol, source, destination, interface, cookie, .. } = *socket;
    for other in 0..=if shared { OTHER_ENDS } else { 0 } {
        let destination = if shared { SocketAddr::new(destination.ip(), other) } else { destination };
        let ends = Ends { source, destination, interface, cookie };
        netlink.ask(&ends.request(DESTROY, FLAG_ACK, protocol, u32::MAX))?;
        let answer = netlink.hear()?;
        let Message { kind, body } =
            Messages(&answer).next().unwrap_or_else(|| Err(malformed("an empty answer")))?;
        match (kind, code(body)?) {
            (ERROR, 0) => return Ok(()),
            (ERROR, libc::ENOENT) => {}
            (ERROR, libc::EOPNOTSUPP) => {
                let text = "this kernel cannot end another process's socket (CONFIG_INET_DIAG_DESTROY is not set): \
                            stop the process that has it";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            (ERROR, errno) => return Err(io::Error::from_raw_os_error(errno)),
            (other, _) => return Err(malformed(&format!("a message of type {other}"))),
        }
    }
    let left = dump(socket.is_v6(), protocol, &[socket.state], Some(source.port()))?;
    if left.iter().any(|other| other.cookie == cookie) {
        let text = format!("the socket on {source} shares its port, and the kernel finds only the others");
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// `struct inet_diag_sockid`
struct Ends {
    source: SocketAddr,
    destination: SocketAddr,
    interface: u32,
    cookie: u64,
}

impl Ends {
    /// A header and a `struct inet_diag_req_v2`.
    fn request(&self, kind: u16, flags: u16, protocol: Protocol, states: u32) -> Vec<u8> {
        const LENGTH: u32 = 72;
        let family = if self.source.is_ipv6() { V6 } else { V4 };
        let number = match protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        };
        let mut bytes = Vec::with_capacity(72);
        bytes.extend(LENGTH.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | FLAG_REQUEST).to_ne_bytes());
        bytes.extend(SEQUENCE.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend([family, number, 0, 0]);
        bytes.extend(states.to_ne_bytes());
        bytes.extend(self.source.port().to_be_bytes());
        bytes.extend(self.destination.port().to_be_bytes());
        for end in [self.source, self.destination] {
            match end.ip() {
                IpAddr::V4(v4) => {
                    bytes.extend(v4.octets());
                    bytes.extend([0; 12]);
                }
                IpAddr::V6(v6) => bytes.extend(v6.octets()),
            }
        }
        bytes.extend(self.interface.to_ne_bytes());
        // Two words, the low one first, each in the host's order.
        let [a, b, c, d, e, f, g, h] = self.cookie.to_le_bytes();
        bytes.extend(u32::from_le_bytes([a, b, c, d]).to_ne_bytes());
        bytes.extend(u32::from_le_bytes([e, f, g, h]).to_ne_bytes());
        bytes
    }
}

/// A socket asks one question at a time.
const SEQUENCE: u32 = 1;

struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkSockDiag;
        let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // The kernel answers at once; whatever happens, nobody waits for ever.
        socket::setsockopt(&fd, ReceiveTimeout, &TimeVal::new(1, 0))?;
        Ok(Self(fd))
    }

    fn ask(&self, request: &[u8]) -> io::Result<()> {
        let kernel = NetlinkAddr::new(0, 0);
        let sent = socket::sendto(self.0.as_raw_fd(), request, &kernel, MsgFlags::empty())?;
        if sent == request.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn hear(&self) -> io::Result<Vec<u8>> {
        let mut room = vec![0; ANSWER_ROOM];
        let (length, sender) = loop {
            match socket::recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), &mut room) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        if sender.is_none_or(|sender| sender.pid() != 0) {
            return Err(malformed("an answer that is not the kernel's"));
        }
        // A message that was cut is shorter than it says, and found out by that.
        room.truncate(length);
        Ok(room)
    }
}

struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

/// The messages of one answer.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = io::Result<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let read = || {
            let length = usize::try_from(u32_at(bytes, 0)?).map_err(io::Error::other)?;
            let body = bytes.get(HEADER..length).ok_or_else(|| malformed("a message that is cut"))?;
            if u32_at(bytes, 8)? != SEQUENCE {
                return Err(malformed("an answer to another question"));
            }
            let rest = bytes.get(aligned(length)..).unwrap_or_default();
            Ok((Message { kind: u16_at(bytes, 4)?, body }, rest))
        };
        Some(read().map(|(message, rest)| {
            self.0 = rest;
            message
        }))
    }
}

/// A `struct inet_diag_msg` and its attributes.
fn socket(body: &[u8], protocol: Protocol) -> io::Result<Socket> {
    let mut attributes = body.get(MESSAGE..).ok_or_else(|| malformed("a socket that is cut"))?;
    let address = |at: usize| match body[0] {
        V4 => Ok(IpAddr::V4(Ipv4Addr::from(bytes_at::<4>(body, at)?))),
        V6 => Ok(IpAddr::V6(Ipv6Addr::from(bytes_at::<16>(body, at)?))),
        other => Err(malformed(&format!("a socket of family {other}"))),
    };
    let port = |at: usize| bytes_at::<2>(body, at).map(u16::from_be_bytes);
    let mut found = Socket {
        protocol,
        state: State::try_from(body[1])?,
        source: SocketAddr::new(address(8)?, port(4)?),
        destination: SocketAddr::new(address(24)?, port(6)?),
        interface: u32_at(body, 40)?,
        cookie: u64::from(u32_at(body, 44)?) | u64::from(u32_at(body, 48)?) << 32,
        inode: u32_at(body, 68)?,
        cgroup_id: None,
        only_v6: None,
    };
    while !attributes.is_empty() {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length).ok_or_else(|| malformed("an attribute that is cut"))?;
        match u16_at(attributes, 2)? & ATTRIBUTE_TYPE {
            ATTRIBUTE_CGROUP => found.cgroup_id = Some(u64::from_ne_bytes(bytes_at(value, 0)?)),
            ATTRIBUTE_ONLY_V6 => found.only_v6 = Some(bytes_at::<1>(value, 0)? != [0]),
            _ => {}
        }
        attributes = attributes.get(aligned(length)..).unwrap_or_default();
    }
    Ok(found)
}

/// The errno of an error or of a dump's end, as a positive number.
fn code(body: &[u8]) -> io::Result<i32> {
    Ok(i32::from_ne_bytes(bytes_at(body, 0)?).saturating_neg())
}

/// An end as the kernel files it: IPv4 also where an IPv6 socket has it, and without flow or zone.
fn plain(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

fn unavailable(errno: i32) -> io::Error {
    if errno == libc::ENOENT {
        let text = "the kernel does not tell its sockets: load the modules tcp_diag and udp_diag (modprobe tcp_diag \
                    udp_diag), or set CONFIG_INET_DIAG and CONFIG_INET_UDP_DIAG";
        return io::Error::new(io::ErrorKind::NotFound, text);
    }
    io::Error::from_raw_os_error(errno)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("sock_diag gave {what}"))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or_else(|| malformed("fewer bytes than it says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener on [::1]:8000 as Linux 6.18 tells it, but for what is not read.
    fn listener() -> Vec<u8> {
        let mut body = vec![V6, 10, 0, 0];
        body.extend([0x1f, 0x40, 0, 0]);
        body.extend(Ipv6Addr::LOCALHOST.octets());
        body.extend([0; 16]);
        body.extend(7_u32.to_ne_bytes());
        body.extend(0x5566_7788_u32.to_ne_bytes());
        body.extend(0x1122_3344_u32.to_ne_bytes());
        body.extend([0; 16]);
        body.extend(4711_u32.to_ne_bytes());
        assert_eq!(body.len(), MESSAGE);
        attribute(&mut body, ATTRIBUTE_ONLY_V6, &[1]);
        attribute(&mut body, 99, b"unknown");
        attribute(&mut body, ATTRIBUTE_CGROUP, &0x1_0000_0002_u64.to_ne_bytes());
        body
    }

    fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
        body.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
        body.resize(aligned(body.len()), 0);
    }

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_socket_is_read_as_it_was_written() {
        let found = socket(&listener(), Protocol::Tcp).unwrap();
        let expected = Socket {
            protocol: Protocol::Tcp,
            state: State::Listen,
            source: "[::1]:8000".parse().unwrap(),
            destination: "[::]:0".parse().unwrap(),
            interface: 7,
            cookie: 0x1122_3344_5566_7788,
            inode: 4711,
            cgroup_id: Some(0x1_0000_0002),
            only_v6: Some(true),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn whatever_is_cut_is_refused() {
        let whole = listener();
        let ends = [MESSAGE, MESSAGE + 8, MESSAGE + 20];
        for length in 0..whole.len() {
            let cut = socket(&whole[..length], Protocol::Tcp);
            // An attribute's padding may be missing: nothing of it is read.
            let sound = ends.contains(&length)
                || (MESSAGE + 5..MESSAGE + 8).contains(&length)
                || length == MESSAGE + 19;
            assert_eq!(cut.is_ok(), sound, "{length}: {cut:?}");
        }
        let answer = message(BY_FAMILY, SEQUENCE, &whole);
        for length in 1..answer.len() {
            assert!(Messages(&answer[..length]).next().unwrap().is_err(), "{length}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (at, value, why) in [
            (0, 1, "a family that is neither"),
            (1, 0, "no state"),
            (1, 14, "a state that nobody knows"),
            (MESSAGE, 3, "an attribute shorter than its own head: it would be read for ever"),
            (MESSAGE, 200, "an attribute longer than the message"),
        ] {
            let mut body = listener();
            body[at] = value;
            assert!(socket(&body, Protocol::Tcp).is_err(), "{why}");
        }
        let mut short = listener()[..MESSAGE].to_vec();
        attribute(&mut short, ATTRIBUTE_CGROUP, &[0; 4]);
        assert!(socket(&short, Protocol::Tcp).is_err(), "half a cgroup's number");
    }

    #[test]
    fn messages_follow_each_other_and_belong_to_the_question() {
        let mut answer = message(BY_FAMILY, SEQUENCE, &listener());
        answer.extend(message(DONE, SEQUENCE, &(-libc::EPERM).to_ne_bytes()));
        let kinds: Vec<_> = Messages(&answer).map(|message| message.unwrap().kind).collect();
        assert_eq!(kinds, [BY_FAMILY, DONE]);
        let last = Messages(&answer).last().unwrap().unwrap();
        assert_eq!(code(last.body).unwrap(), libc::EPERM);
        let other = message(DONE, SEQUENCE + 1, &[0; 4]);
        assert!(Messages(&other).next().unwrap().is_err());
        let mut endless = message(DONE, SEQUENCE, &[0; 4]);
        endless[0] = 0;
        let read: Vec<_> = Messages(&endless).collect();
        assert!(read.len() == 1 && read[0].is_err(), "a length of nothing");
    }

    #[test]
    fn a_question_is_laid_out_as_linux_reads_it() {
        let ends = Ends {
            source: "192.0.2.1:8000".parse().unwrap(),
            destination: "198.51.100.2:40000".parse().unwrap(),
            interface: 1,
            cookie: 0x1122_3344_5566_7788,
        };
        let request = ends.request(DESTROY, FLAG_ACK, Protocol::Tcp, 0x0400);
        assert_eq!(request.len(), 72);
        assert_eq!(request[16..20], [2, 6, 0, 0]);
        assert_eq!(request[24..28], [0x1f, 0x40, 0x9c, 0x40]);
        assert_eq!(request[28..32], [192, 0, 2, 1]);
        assert_eq!(request[44..48], [198, 51, 100, 2]);
        assert_eq!(u32_at(&request, 64).unwrap(), 0x5566_7788);
        assert_eq!(u32_at(&request, 68).unwrap(), 0x1122_3344);
    }
}
