//! Whether this kernel lets root end a TCP socket that stands (SOCK_DESTROY, sock_diag(7)): tried on one of our own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

/// What came of the attempt.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketDestroy {
    /// The socket was ended.
    Works,
    /// This kernel is built without it.
    Missing,
    /// It could not be tried.
    Unknown(String),
}

/// `SOCK_DESTROY`, linux/sock_diag.h.
const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST | NLM_F_ACK`, linux/netlink.h.
const FLAGS: u16 = 0x01 | 0x04;
const NLMSG_ERROR: u16 = 2;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;
const HEADER: usize = 16;
/// Bytes of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// A kernel answers at once.
const PATIENCE_SECONDS: i64 = 1;

/// Opens a listener on loopback and has the kernel end it; nothing else is touched.
#[must_use]
pub(crate) fn try_on_own() -> SocketDestroy {
    let tried = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|own| destroy(own.local_addr()?));
    match tried {
        Ok(()) => SocketDestroy::Works,
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => SocketDestroy::Missing,
        Err(error) => SocketDestroy::Unknown(error.to_string()),
    }
}

/// Ends the listener at this IPv4 address.
fn destroy(listener: SocketAddr) -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_SECONDS, 0))?;
    let message = message(listener)?;
    sendto(netlink.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match outcome(&answer[..length]) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel's answer is no answer")),
    }
}

fn message(listener: SocketAddr) -> io::Result<Vec<u8>> {
    let IpAddr::V4(ip) = listener.ip() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let length = HEADER + REQUEST;
    let mut message = Vec::with_capacity(length);
    // struct nlmsghdr, in the host's byte order: length, type, flags, sequence, port.
    message.extend(u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
    message.extend(SOCK_DESTROY.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0; 8]);
    // struct inet_diag_req_v2: family, protocol, extensions, padding, states (not looked at for a single socket).
    message.extend([AF_INET, IPPROTO_TCP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    // struct inet_diag_sockid, in network byte order: ports, then addresses of 16 bytes; then interface and cookie (none).
    message.extend(listener.port().to_be_bytes());
    message.extend([0; 2]);
    message.extend(ip.octets());
    message.extend([0; 12 + 16 + 4]);
    message.extend([0xff; 8]);
    debug_assert_eq!(message.len(), length, "linux/inet_diag.h");
    Ok(message)
}

/// The code of an acknowledgement: 0, or an errno below it.
fn outcome(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    /// Needs root, as the other tests of this crate do, and a kernel with CONFIG_INET_DIAG_DESTROY.
    #[test]
    fn what_is_destroyed_takes_no_connection_any_more() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        TcpStream::connect(address).expect("a control: it listens");
        destroy(address).unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::ECONNREFUSED as i32));
        assert_eq!(try_on_own(), SocketDestroy::Works);
        let gone = destroy(address).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(Errno::ENOENT as i32), "nothing is there to end");
    }

    #[test]
    fn an_answer_is_an_acknowledgement_or_nothing() {
        let answer = |kind: u16, code: i32| {
            let mut bytes = vec![0; 36];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[16..20].copy_from_slice(&code.to_ne_bytes());
            bytes
        };
        assert_eq!(outcome(&answer(NLMSG_ERROR, 0)), Some(0));
        assert_eq!(outcome(&answer(NLMSG_ERROR, -95)), Some(-95));
        assert_eq!(outcome(&answer(3, 0)), None, "the end of a dump");
        assert_eq!(outcome(&[0; 8]), None, "too short");
    }
}
