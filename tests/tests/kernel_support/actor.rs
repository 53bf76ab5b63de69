//! Processes that use sockets as they are told.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        self, AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, sockopt,
    },
};
use serde::{Deserialize, Serialize};

const CHANNEL: &str = "BAILIWICK_TEST_ACTOR";

/// What the kernel answered instead of success.
pub type Errno = errno::Errno;

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
    /// IPPROTO_RAW: the header is the sender's.
    Raw4,
    /// SCTP-like: any other protocol over a raw socket, header by the kernel.
    RawProtocol(u8),
    /// UDP-Lite (136).
    UdpLite4,
}

/// A socket of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket(RawFd);

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Open(Kind),
    Bind(Socket, SocketAddr),
    ReuseAddress(Socket),
    ReusePort(Socket),
    OnlyV6(Socket),
    Listen(Socket),
    Connect(Socket, SocketAddr, u64),
    Accept(Socket, u64),
    Send(Socket, Vec<u8>),
    SendTo(Socket, Vec<u8>, SocketAddr),
    Receive(Socket, u64),
    Finish(Socket),
    Close(Socket),
    Local(Socket),
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done,
    Socket(Socket),
    Bytes(Vec<u8>),
    Address(SocketAddr),
    Failed(i32),
}

/// A process that waits for orders.
pub struct Actor {
    child: Child,
    channel: BufReader<UnixStream>,
}

/// How long a connection that should fail may take to fail.
pub const PATIENCE: Duration = Duration::from_millis(700);

impl Actor {
    /// Starts one in the cgroup `cgroup`, in the network namespace that `network` names, or in a new one.
    pub fn start(cgroup: &Path, network: Network<'_>) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let channel = theirs.as_raw_fd();
        let namespace = match network {
            Network::Here | Network::New => None,
            Network::Of(actor) => Some(
                std::fs::File::open(format!("/proc/{}/ns/net", actor.pid())).expect("the actor's namespace"),
            ),
        };
        let fresh = matches!(network, Network::New);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["kernel_support::actor::serve", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(CHANNEL, channel.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let prepare = move || {
            nix::fcntl::fcntl(&theirs, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            if let Some(namespace) = &namespace {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            }
            if fresh {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made, on descriptors opened before.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().expect("a process of this program");
        drop(command);
        let actor = Self { child, channel: BufReader::new(ours) };
        std::fs::write(cgroup.join("cgroup.procs"), actor.pid().to_string()).unwrap_or_else(|error| {
            panic!("cannot move a process into {}: {error}; run as root", cgroup.display())
        });
        actor
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Moves it, and with it nothing that it has opened.
    pub fn move_to(&self, cgroup: &Path) {
        std::fs::write(cgroup.join("cgroup.procs"), self.pid().to_string()).expect("a move");
    }

    pub fn open(&mut self, kind: Kind) -> Socket {
        match self.order(&Order::Open(kind)) {
            Answer::Socket(socket) => socket,
            other => panic!("cannot open a {kind:?} socket: {other:?}"),
        }
    }

    pub fn bind(&mut self, socket: Socket, address: SocketAddr) -> Result<(), Errno> {
        self.done(&Order::Bind(socket, address))
    }

    pub fn reuse_address(&mut self, socket: Socket) {
        self.done(&Order::ReuseAddress(socket)).expect("SO_REUSEADDR");
    }

    pub fn reuse_port(&mut self, socket: Socket) {
        self.done(&Order::ReusePort(socket)).expect("SO_REUSEPORT");
    }

    pub fn only_v6(&mut self, socket: Socket) {
        self.done(&Order::OnlyV6(socket)).expect("IPV6_V6ONLY");
    }

    pub fn listen(&mut self, socket: Socket) {
        self.done(&Order::Listen(socket)).expect("listen");
    }

    /// A listener on `address`, as servers open theirs: whatever is left of a connection of before is not in its way.
    pub fn serve_on(&mut self, address: SocketAddr) -> Socket {
        let socket = self.open(tcp(address));
        self.reuse_address(socket);
        if address.is_ipv6() && !address.ip().is_unspecified() {
            self.only_v6(socket);
        }
        self.bind(socket, address).unwrap_or_else(|error| panic!("bind {address}: {error}"));
        self.listen(socket);
        socket
    }

    /// Connects; ETIMEDOUT when nothing is heard for [`PATIENCE`].
    pub fn connect(&mut self, socket: Socket, address: SocketAddr) -> Result<(), Errno> {
        self.done(&Order::Connect(socket, address, millis(PATIENCE)))
    }

    /// A new TCP connection to `address`.
    pub fn dial(&mut self, address: SocketAddr) -> Result<Socket, Errno> {
        let socket = self.open(tcp(address));
        match self.connect(socket, address) {
            Ok(()) => Ok(socket),
            Err(error) => {
                self.close(socket);
                Err(error)
            }
        }
    }

    pub fn accept(&mut self, socket: Socket) -> Result<Socket, Errno> {
        match self.order(&Order::Accept(socket, millis(PATIENCE))) {
            Answer::Socket(socket) => Ok(socket),
            Answer::Failed(code) => Err(Errno::from_raw(code)),
            other => panic!("accept: {other:?}"),
        }
    }

    pub fn send(&mut self, socket: Socket, bytes: &[u8]) -> Result<(), Errno> {
        self.done(&Order::Send(socket, bytes.to_vec()))
    }

    pub fn send_to(&mut self, socket: Socket, bytes: &[u8], address: SocketAddr) -> Result<(), Errno> {
        self.done(&Order::SendTo(socket, bytes.to_vec(), address))
    }

    /// What arrives; ETIMEDOUT when nothing does; empty when the other side is done.
    pub fn receive(&mut self, socket: Socket) -> Result<Vec<u8>, Errno> {
        match self.order(&Order::Receive(socket, millis(PATIENCE))) {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Failed(code) => Err(Errno::from_raw(code)),
            other => panic!("receive: {other:?}"),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self, socket: Socket) -> Result<(), Errno> {
        self.done(&Order::Finish(socket))
    }

    pub fn close(&mut self, socket: Socket) {
        self.done(&Order::Close(socket)).expect("close");
    }

    pub fn local(&mut self, socket: Socket) -> SocketAddr {
        match self.order(&Order::Local(socket)) {
            Answer::Address(address) => address,
            other => panic!("getsockname: {other:?}"),
        }
    }

    fn done(&mut self, order: &Order) -> Result<(), Errno> {
        match self.order(order) {
            Answer::Done => Ok(()),
            Answer::Failed(code) => Err(Errno::from_raw(code)),
            other => panic!("{order:?}: {other:?}"),
        }
    }

    fn order(&mut self, order: &Order) -> Answer {
        let mut line = serde_json::to_string(order).expect("an order");
        line.push('\n');
        self.channel.get_mut().write_all(line.as_bytes()).expect("the actor listens");
        line.clear();
        self.channel.read_line(&mut line).expect("the actor answers");
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{order:?}: the actor said {line:?}: {error}"))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where an actor's sockets live.
#[derive(Clone, Copy)]
pub enum Network<'a> {
    /// In the namespace of the thread that starts it.
    Here,
    /// In a new one.
    New,
    /// In that of another actor.
    Of(&'a Actor),
}

/// A TCP connection between two actors, and both its ends.
pub fn talk(
    client: &mut Actor,
    server: &mut Actor,
    listener: Socket,
    address: SocketAddr,
) -> Result<(), Errno> {
    let near = client.dial(address)?;
    let far = server.accept(listener)?;
    client.send(near, b"ping")?;
    assert_eq!(server.receive(far)?, b"ping");
    server.send(far, b"pong")?;
    assert_eq!(client.receive(near)?, b"pong");
    client.finish(near)?;
    assert_eq!(server.receive(far)?, b"", "the end arrives");
    server.close(far);
    assert_eq!(client.receive(near)?, b"", "the end arrives here, too");
    client.close(near);
    Ok(())
}

fn tcp(address: SocketAddr) -> Kind {
    if address.is_ipv4() { Kind::Tcp4 } else { Kind::Tcp6 }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("short")
}

/// The other side: this program, started again to be an actor.
#[test]
#[ignore = "not a test: the process that the tests start"]
fn serve() {
    let fd: RawFd = std::env::var(CHANNEL).expect("started by a test").parse().expect("a descriptor");
    // SAFETY: the parent passed this descriptor for us to own.
    let channel = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let mut answers = channel.try_clone().expect("a second handle");
    for line in BufReader::new(channel).lines() {
        let Ok(line) = line else { return };
        let order: Order = serde_json::from_str(&line).expect("an order");
        let answer = carry_out(order).unwrap_or_else(|error| Answer::Failed(error as i32));
        let mut line = serde_json::to_string(&answer).expect("an answer");
        line.push('\n');
        if answers.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

fn carry_out(order: Order) -> Result<Answer, Errno> {
    match order {
        Order::Open(kind) => open(kind).map(Answer::Socket),
        Order::Bind(Socket(fd), address) => {
            socket::bind(fd, &SockaddrStorage::from(address))?;
            Ok(Answer::Done)
        }
        Order::ReuseAddress(socket) => {
            socket::setsockopt(&borrow(socket), sockopt::ReuseAddr, &true)?;
            Ok(Answer::Done)
        }
        Order::ReusePort(socket) => {
            socket::setsockopt(&borrow(socket), sockopt::ReusePort, &true)?;
            Ok(Answer::Done)
        }
        Order::OnlyV6(socket) => {
            socket::setsockopt(&borrow(socket), sockopt::Ipv6V6Only, &true)?;
            Ok(Answer::Done)
        }
        Order::Listen(socket) => {
            socket::listen(&borrow(socket), Backlog::new(64)?)?;
            Ok(Answer::Done)
        }
        Order::Connect(socket, address, patience) => connect(socket, address, patience),
        Order::Accept(socket, patience) => {
            wait(socket, PollFlags::POLLIN, patience)?;
            Ok(Answer::Socket(Socket(socket::accept(socket.0)?)))
        }
        Order::Send(Socket(fd), bytes) => {
            socket::send(fd, &bytes, MsgFlags::MSG_NOSIGNAL)?;
            Ok(Answer::Done)
        }
        Order::SendTo(Socket(fd), bytes, address) => {
            socket::sendto(fd, &bytes, &SockaddrStorage::from(address), MsgFlags::MSG_NOSIGNAL)?;
            Ok(Answer::Done)
        }
        Order::Receive(socket, patience) => {
            wait(socket, PollFlags::POLLIN, patience)?;
            let mut bytes = vec![0; 65_536];
            let length = socket::recv(socket.0, &mut bytes, MsgFlags::empty())?;
            bytes.truncate(length);
            Ok(Answer::Bytes(bytes))
        }
        Order::Finish(Socket(fd)) => {
            socket::shutdown(fd, Shutdown::Write)?;
            Ok(Answer::Done)
        }
        Order::Close(Socket(fd)) => {
            nix::unistd::close(fd)?;
            Ok(Answer::Done)
        }
        Order::Local(Socket(fd)) => {
            let address: SockaddrStorage = socket::getsockname(fd)?;
            let v4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
            let any =
                v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())));
            Ok(Answer::Address(any.ok_or(Errno::EAFNOSUPPORT)?))
        }
    }
}

fn open(kind: Kind) -> Result<Socket, Errno> {
    const UDP_LITE: i32 = 136;
    let (family, shape, protocol) = match kind {
        Kind::Tcp4 => (AddressFamily::Inet, SockType::Stream, 0),
        Kind::Tcp6 => (AddressFamily::Inet6, SockType::Stream, 0),
        Kind::Udp4 => (AddressFamily::Inet, SockType::Datagram, 0),
        Kind::Udp6 => (AddressFamily::Inet6, SockType::Datagram, 0),
        Kind::Raw4 => (AddressFamily::Inet, SockType::Raw, libc::IPPROTO_RAW),
        Kind::RawProtocol(number) => (AddressFamily::Inet, SockType::Raw, i32::from(number)),
        Kind::UdpLite4 => (AddressFamily::Inet, SockType::Datagram, UDP_LITE),
    };
    // SAFETY: plain integers.
    let fd = unsafe { libc::socket(family as i32, shape as i32 | SockFlag::SOCK_CLOEXEC.bits(), protocol) };
    errno::Errno::result(fd).map(Socket)
}

fn connect(socket: Socket, address: SocketAddr, patience: u64) -> Result<Answer, Errno> {
    nonblocking(socket, true)?;
    match socket::connect(socket.0, &SockaddrStorage::from(address)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            wait(socket, PollFlags::POLLOUT, patience)?;
            let pending = socket::getsockopt(&borrow(socket), sockopt::SocketError)?;
            if pending != 0 {
                return Err(Errno::from_raw(pending));
            }
        }
        Err(error) => return Err(error),
    }
    nonblocking(socket, false)?;
    Ok(Answer::Done)
}

fn nonblocking(socket: Socket, on: bool) -> Result<(), Errno> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = if on { OFlag::O_NONBLOCK } else { OFlag::empty() };
    fcntl(borrow(socket), FcntlArg::F_SETFL(flags)).map(drop)
}

fn wait(socket: Socket, what: PollFlags, patience: u64) -> Result<(), Errno> {
    let fd = borrow(socket);
    let mut fds = [PollFd::new(fd, what)];
    let timeout =
        PollTimeout::try_from(i32::try_from(patience).unwrap_or(i32::MAX)).map_err(|_| Errno::EINVAL)?;
    if poll(&mut fds, timeout)? == 0 { Err(Errno::ETIMEDOUT) } else { Ok(()) }
}

fn borrow<'a>(socket: Socket) -> BorrowedFd<'a> {
    // SAFETY: orders name only descriptors that an earlier order opened and none has closed.
    unsafe { BorrowedFd::borrow_raw(socket.0) }
}
