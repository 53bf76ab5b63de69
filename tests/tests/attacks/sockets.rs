//! Sockets as an attacker uses them: every call there is, with nothing added but a limit on waiting.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use super::world::Gain;

/// How long a connection that should fail may take to fail; the first retransmission comes after a second.
const PATIENCE: Duration = Duration::from_millis(250);

pub const UDP_LITE: i32 = 136;
pub const SCTP: i32 = 132;
pub const MPTCP: i32 = 262;
/// A protocol number for experiments (RFC 3692).
pub const EXPERIMENT: i32 = 253;

pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn family(address: SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

pub fn tcp(to: SocketAddr) -> io::Result<OwnedFd> {
    socket(family(to), libc::SOCK_STREAM, 0)
}

pub fn udp(to: SocketAddr) -> io::Result<OwnedFd> {
    socket(family(to), libc::SOCK_DGRAM, 0)
}

pub fn raw(to: SocketAddr, protocol: i32) -> io::Result<OwnedFd> {
    socket(family(to), libc::SOCK_RAW, protocol)
}

pub fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (address, length) = wire(address);
    // SAFETY: the address outlives the call and has this length.
    check(unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr(), length) }).map(drop)
}

pub fn listen(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::listen(fd.as_raw_fd(), 64) }).map(drop)
}

/// A listener on `address`, for both families when it is `::`.
pub fn listener(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = tcp(address)?;
    set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    bind(&fd, address)?;
    listen(&fd)?;
    Ok(fd)
}

pub fn accept(fd: &OwnedFd) -> io::Result<OwnedFd> {
    wait(fd, libc::POLLIN)?;
    // SAFETY: no address is asked for.
    let fd = check(unsafe {
        libc::accept4(fd.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
    })?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn set(fd: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_bytes(fd, level, name, &value.to_ne_bytes())
}

pub fn set_bytes(fd: &OwnedFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = u32::try_from(value.len()).expect("short");
    // SAFETY: the value outlives the call and has this length.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) }).map(drop)
}

pub fn get(fd: &OwnedFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut length = 4_u32;
    let place: *mut i32 = &raw mut value;
    // SAFETY: four writable bytes.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place.cast(), &raw mut length) })?;
    Ok(value)
}

pub fn connect(fd: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    connect_at_once(fd, to).or_else(|error| settle(fd, error))
}

/// connect(2) on a socket that does not block, and what it says at once.
pub fn connect_at_once(fd: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    let (address, length) = wire(to);
    block(fd, false)?;
    // SAFETY: the address outlives the call and has this length.
    check(unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr(), length) }).map(drop)
}

/// Waits for the end of a connection attempt that said EINPROGRESS.
fn settle(fd: &OwnedFd, error: io::Error) -> io::Result<()> {
    if error.raw_os_error() != Some(libc::EINPROGRESS) {
        return Err(error);
    }
    wait(fd, libc::POLLOUT)?;
    match get(fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Undoes what connect(2) did (connect(2), AF_UNSPEC).
pub fn disconnect(fd: &OwnedFd) -> io::Result<()> {
    let nothing = [0_u8; 16];
    // SAFETY: sixteen bytes, which begin with AF_UNSPEC (0).
    check(unsafe { libc::connect(fd.as_raw_fd(), nothing.as_ptr().cast(), 16) }).map(drop)
}

pub fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<Gain> {
    send_with(fd, bytes, 0)
}

pub fn send_with(fd: &OwnedFd, bytes: &[u8], flags: i32) -> io::Result<Gain> {
    // SAFETY: the bytes outlive the call.
    checked(unsafe {
        libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags | libc::MSG_NOSIGNAL)
    })?;
    Ok(Gain::Sent)
}

pub fn send_to(fd: &OwnedFd, bytes: &[u8], to: SocketAddr) -> io::Result<Gain> {
    send_to_with(fd, bytes, to, 0)
}

pub fn send_to_with(fd: &OwnedFd, bytes: &[u8], to: SocketAddr, flags: i32) -> io::Result<Gain> {
    let (address, length) = wire(to);
    // SAFETY: bytes and address outlive the call and have these lengths.
    checked(unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags | libc::MSG_NOSIGNAL,
            address.as_ptr(),
            length,
        )
    })?;
    Ok(Gain::Sent)
}

/// sendto(2) with an address whose family says nothing.
pub fn send_to_unspecified_family(fd: &OwnedFd, bytes: &[u8], to: SocketAddr) -> io::Result<Gain> {
    let (address, length) = wire(to);
    // SAFETY: a socket address is at least this long.
    let mut blank =
        unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), length as usize) }.to_vec();
    blank[..2].fill(0);
    // SAFETY: bytes and address outlive the call and have these lengths.
    checked(unsafe {
        libc::sendto(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, blank.as_ptr().cast(), length)
    })?;
    Ok(Gain::Sent)
}

/// sendmmsg(2): several datagrams in one call.
pub fn send_many(fd: &OwnedFd, bytes: &[u8], to: &[SocketAddr]) -> io::Result<Gain> {
    let addresses: Vec<_> = to.iter().map(|to| wire(*to)).collect();
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut messages: Vec<libc::mmsghdr> = addresses
        .iter()
        .map(|(address, length)| {
            // SAFETY: a header of zeros names nothing.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_namelen = *length;
            message.msg_hdr.msg_iov = &raw mut part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let count = u32::try_from(messages.len()).expect("few");
    // SAFETY: everything that the headers name outlives the call.
    check(unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) })?;
    Ok(Gain::Sent)
}

/// A message with one control message.
pub fn send_with_control(
    fd: &OwnedFd,
    bytes: &[u8],
    to: SocketAddr,
    (level, kind, value): (i32, i32, &[u8]),
) -> io::Result<Gain> {
    let (address, length) = wire(to);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let size = u32::try_from(value.len()).expect("short");
    // A buffer of words, since a control message is aligned like one.
    let mut control = [0_u64; 32];
    // SAFETY: the buffer is larger than any message used here, and everything outlives the call.
    checked(unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = length;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size) as usize;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = level;
        (*head).cmsg_type = kind;
        (*head).cmsg_len = libc::CMSG_LEN(size) as usize;
        std::ptr::copy_nonoverlapping(value.as_ptr(), libc::CMSG_DATA(head), value.len());
        libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    })?;
    Ok(Gain::Sent)
}

/// sendfile(2) from a file in memory.
pub fn send_file(fd: &OwnedFd, bytes: &[u8]) -> io::Result<Gain> {
    let file = memory_file(bytes)?;
    // SAFETY: no offset is given: it reads from the file's position.
    checked(unsafe { libc::sendfile(fd.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), bytes.len()) })?;
    Ok(Gain::Sent)
}

/// splice(2) through a pipe.
pub fn splice(fd: &OwnedFd, bytes: &[u8]) -> io::Result<Gain> {
    let (out, mut into) = io::pipe()?;
    io::Write::write_all(&mut into, bytes)?;
    let none = std::ptr::null_mut();
    // SAFETY: no offsets are given.
    checked(unsafe { libc::splice(out.as_raw_fd(), none, fd.as_raw_fd(), none, bytes.len(), 0) })?;
    Ok(Gain::Sent)
}

fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: a literal name.
    let fd = check(unsafe { libc::memfd_create(c"attack".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: a new descriptor that nobody else has.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the bytes outlive the call.
    checked(unsafe { libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) })?;
    Ok(file)
}

/// What arrives within the patience.
pub fn receive(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    wait(fd, libc::POLLIN)?;
    let mut bytes = vec![0; 65_536];
    // SAFETY: a buffer of this length.
    let length = checked(unsafe { libc::recv(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
    bytes.truncate(length);
    Ok(bytes)
}

pub fn local(fd: &OwnedFd) -> io::Result<SocketAddr> {
    let address: SockaddrStorage = nix::sys::socket::getsockname(fd.as_raw_fd())?;
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
        .ok_or_else(|| io::Error::other("not an IP socket"))
}

/// A new TCP connection, and the marker over it. A handshake alone is a way through.
pub fn dial(to: SocketAddr, marker: &[u8]) -> io::Result<Gain> {
    let fd = tcp(to)?;
    speak(&fd, to, marker)
}

/// Connects this socket and sends the marker.
pub fn speak(fd: &OwnedFd, to: SocketAddr, marker: &[u8]) -> io::Result<Gain> {
    connect(fd, to)?;
    block(fd, true)?;
    send(fd, marker)?;
    Ok(Gain::Through)
}

/// One datagram from a new socket.
pub fn datagram(to: SocketAddr, marker: &[u8]) -> io::Result<Gain> {
    send_to(&udp(to)?, marker, to)
}

pub fn block(fd: &OwnedFd, on: bool) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = if on { OFlag::empty() } else { OFlag::O_NONBLOCK };
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

pub fn wait(fd: &OwnedFd, what: i16) -> io::Result<()> {
    wait_for(fd, what, PATIENCE)
}

pub fn wait_for(fd: &OwnedFd, what: i16, patience: Duration) -> io::Result<()> {
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: what, revents: 0 };
    let timeout = i32::try_from(patience.as_millis()).expect("short");
    // SAFETY: one entry.
    if check(unsafe { libc::poll(&raw mut polled, 1, timeout) })? == 0 {
        return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
    }
    Ok(())
}

pub fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), port)
}

pub fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn wire(address: SocketAddr) -> (SockaddrStorage, libc::socklen_t) {
    let address = SockaddrStorage::from(address);
    let length = address.len();
    (address, length)
}
