//! The world of the attacks: one stage for all of them, with a guarded model and an unguarded twin side by side.
//!
//! ```text
//!   outsider ──▶ model  :8000, :9000   guarded          inside model ──▶ abroad   a network the policy does not name
//!           └──▶ twin   :8100, :9100   unguarded         inside twin ──▶ abroad   the control
//! ```
//!
//! An attack is made twice: against the guard, and as its control against the twin. What counts is not what a call
//! returned but whether the attack's marker, a few bytes that are new each time, arrived: the victims and the host
//! abroad write down everything they hear.
//!
//! The world belongs to one thread, which owns its namespaces and makes one attack at a time; it ends with the
//! test program. Attackers are forked, so that they start in a cgroup before they own any socket.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use bailiwick::selftest::catalog::{self, Direction, Outcome};
use bailiwick_kernel::{Guard, Rules, Scope, ScopeKind};
use bailiwick_policy::Mode;
use nix::{
    sched::{CloneFlags, setns},
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

use super::sockets::{self, at, listener, set, socket};
use crate::kernel_support::{Actor, MODEL, OTHER, PROXY, Stage, egress, name, rules, stage::ip};

/// The unguarded twin of the model's slice.
pub const TWIN: &str = "twin.slice";
/// A guarded slice whose model server is not up; and its twin.
pub const IDLE: &str = "bailiwick.slice/bailiwick-idle.slice";
/// A guarded slice whose model server has just closed its listener; and its twin.
pub const CLOSING: &str = "bailiwick.slice/bailiwick-closing.slice";
/// A guarded slice whose model server was handed its listener by somebody else; and its twin.
pub const ACTIVATED: &str = "bailiwick.slice/bailiwick-activated.slice";

/// What an attacker has to show for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gain {
    /// It got what it wanted: a handshake, a port, a prompt.
    Through,
    /// It sent; whether that arrived is for others to say.
    Sent,
}

/// What an attack does; an error is a refusal.
pub type Act = fn(&Scene<'_>) -> io::Result<Gain>;

/// One attack of the suite; what it is about stands in the catalog under the same name.
#[derive(Clone, Copy)]
pub struct Attack {
    pub name: &'static str,
    pub act: Act,
}

/// One attempt: at the guarded model, or at its twin.
pub struct Scene<'w> {
    pub world: &'w World,
    pub guarded: bool,
    pub marker: Vec<u8>,
}

/// See the module.
pub struct World {
    ears: Ears,
    pub before: [Before; 2],
    _proxy_listener: Ear,
    guard: RefCell<Option<Guard>>,
    rules: Rules,
    remote: Actor,
    foreign: Actor,
    _friend: Actor,
    serial: Cell<u32>,
    pub stage: Stage,
}

struct Ears {
    model: Ear,
    twin: Ear,
    abroad: Ear,
    _activated: [Ear; 2],
}

/// Sockets from before the guard: of the model, of the twin.
pub struct Before {
    pub tcp: OwnedFd,
    pub side: OwnedFd,
    pub remote: OwnedFd,
    pub udp: OwnedFd,
    pub activated: OwnedFd,
    pub out_tcp: OwnedFd,
    pub out_udp: OwnedFd,
    pub out_file: OwnedFd,
    pub out_splice: OwnedFd,
}

/// A process that listens and writes down what it hears.
pub struct Ear {
    child: Pid,
    heard: UnixDatagram,
}

/// Whose network an attacker is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Host,
    Remote,
    Abroad,
}

impl Scene<'_> {
    pub fn port(&self) -> u16 {
        if self.guarded { 8000 } else { 8100 }
    }

    pub fn side(&self) -> u16 {
        if self.guarded { 9000 } else { 9100 }
    }

    pub fn idle_port(&self) -> u16 {
        if self.guarded { 8002 } else { 8102 }
    }

    pub fn closing_port(&self) -> u16 {
        if self.guarded { 8004 } else { 8104 }
    }

    pub fn activated_port(&self) -> u16 {
        if self.guarded { 8003 } else { 8103 }
    }

    pub fn before(&self) -> &Before {
        &self.world.before[usize::from(!self.guarded)]
    }

    pub fn slice(&self) -> &'static str {
        if self.guarded { MODEL } else { TWIN }
    }

    /// A process outside of every slice of ours.
    pub fn outsider(&self, act: impl FnOnce() -> io::Result<Gain>) -> io::Result<Gain> {
        self.world.perform(OTHER, Network::Host, act)
    }

    /// A process in the slice.
    pub fn inside(&self, act: impl FnOnce() -> io::Result<Gain>) -> io::Result<Gain> {
        self.world.perform(self.slice(), Network::Host, act)
    }

    pub fn proxy(&self, act: impl FnOnce() -> io::Result<Gain>) -> io::Result<Gain> {
        self.world.perform(PROXY, Network::Host, act)
    }

    /// A process on another host; no cgroup of the guard's is its.
    pub fn remote(&self, act: impl FnOnce() -> io::Result<Gain>) -> io::Result<Gain> {
        self.world.perform("..", Network::Remote, act)
    }

    pub fn foreign_pid(&self) -> u32 {
        self.world.foreign.pid()
    }

    pub fn cgroup(&self, relative: &str) -> PathBuf {
        self.world.stage.cgroup(relative)
    }
}

impl World {
    fn new() -> Self {
        let stage = Stage::new();
        for cgroup in [TWIN, IDLE, CLOSING, ACTIVATED] {
            std::fs::create_dir_all(stage.cgroup(cgroup)).expect("a cgroup");
        }
        let remote = stage.host("cable", "203.0.113", "2001:db8:c");
        let foreign = stage.host("foreign", "192.0.2", "2001:db8:f");
        let friend = stage.host("friend", "198.51.100", "2001:db8:a");
        roads();
        let sink = || {
            let mut all = ears_for_tcp_and_udp(443, 53)?;
            all.push(socket(libc::AF_PACKET, libc::SOCK_DGRAM, i32::from(3_u16.to_be()))?);
            Ok(all)
        };
        let network = |who: &Actor| PathBuf::from(format!("/proc/{}/ns/net", who.pid()));
        let root = || stage.cgroup("..");
        let activated = [8003, 8103].map(|port| {
            born(&stage.cgroup(OTHER), None, || listener(at("::", port))).expect("a listener from elsewhere")
        });
        let [first, second] = activated;
        let ears = Ears {
            model: Ear::start(&stage.cgroup(MODEL), None, || victim(8000, 9000)),
            twin: Ear::start(&stage.cgroup(TWIN), None, || victim(8100, 9100)),
            abroad: Ear::start(&root(), Some(&network(&foreign)), sink),
            _activated: [
                Ear::start(&stage.cgroup(ACTIVATED), None, move || Ok(vec![first])),
                Ear::start(&stage.cgroup(TWIN), None, move || Ok(vec![second])),
            ],
        };
        let proxy_listener = Ear::start(&stage.cgroup(PROXY), None, || Ok(vec![listener(at("::", 8443))?]));
        let before =
            [(8000, 9000, 8003, MODEL), (8100, 9100, 8103, TWIN)].map(|(port, side, given, slice)| {
                let outside = |make: &dyn Fn() -> io::Result<OwnedFd>| {
                    born(&stage.cgroup(OTHER), None, make).expect("a socket from before the guard")
                };
                let inside = |make: &dyn Fn() -> io::Result<OwnedFd>| {
                    born(&stage.cgroup(slice), None, make).expect("a socket from before the guard")
                };
                let abroad = at("192.0.2.2", 443);
                Before {
                    tcp: outside(&|| connected(at("127.0.0.1", port))),
                    side: outside(&|| connected(at("::1", side))),
                    remote: born(&root(), Some(&network(&remote)), || connected(at("203.0.113.1", port)))
                        .expect("a remote connection from before the guard"),
                    udp: outside(&|| {
                        let fd = sockets::udp(at("127.0.0.1", side))?;
                        sockets::connect(&fd, at("127.0.0.1", side))?;
                        Ok(fd)
                    }),
                    activated: outside(&|| connected(at("127.0.0.1", given))),
                    out_tcp: inside(&|| connected(abroad)),
                    out_udp: inside(&|| {
                        let fd = sockets::udp(abroad)?;
                        sockets::connect(&fd, at("192.0.2.2", 53))?;
                        Ok(fd)
                    }),
                    out_file: inside(&|| connected(abroad)),
                    out_splice: inside(&|| connected(abroad)),
                }
            });
        let world = Self {
            ears,
            before,
            _proxy_listener: proxy_listener,
            guard: RefCell::default(),
            rules: policy(),
            remote,
            foreign,
            _friend: friend,
            serial: Cell::new(0),
            stage,
        };
        world.mend();
        world
    }

    /// Puts the guard back where an attack took it away.
    pub fn mend(&self) {
        let mut guard = self.guard.borrow_mut();
        if guard.is_none() || !self.guarded() {
            *guard = None;
            *guard = Some(self.stage.guard(&self.rules));
        }
    }

    /// The agent dies; what it left in the kernel stays.
    pub fn kill_agent(&self) {
        *self.guard.borrow_mut() = None;
    }

    /// What `bailiwick status` says; what it cannot tell is not guarded.
    pub fn guarded(&self) -> bool {
        bailiwick_kernel::status(&self.stage.site, &self.rules).is_ok_and(|status| status.guarded)
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A process in this cgroup and network.
    pub fn perform(
        &self,
        cgroup: &str,
        network: Network,
        act: impl FnOnce() -> io::Result<Gain>,
    ) -> io::Result<Gain> {
        let cgroup = self.stage.cgroup(cgroup);
        let network = self.namespace(network);
        forked(|| {
            enter(&cgroup, network.as_deref())?;
            act()
        })
    }

    /// A socket that was made by a process in this cgroup, and handed over (SCM_RIGHTS).
    pub fn born(&self, cgroup: &str, make: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
        born(&self.stage.cgroup(cgroup), None, make)
    }

    /// A process that goes on while the attack does; see [`Running::end`].
    pub fn start(&self, cgroup: &str, network: Network, act: impl FnOnce() -> io::Result<Gain>) -> Running {
        let cgroup = self.stage.cgroup(cgroup);
        let network = self.namespace(network);
        start(|| {
            enter(&cgroup, network.as_deref())?;
            act()
        })
    }

    fn namespace(&self, network: Network) -> Option<PathBuf> {
        let pid = match network {
            Network::Host => return None,
            Network::Remote => self.remote.pid(),
            Network::Abroad => self.foreign.pid(),
        };
        Some(PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    fn attempt(&self, attack: Attack, entry: &catalog::Attack, guarded: bool) -> (bool, String) {
        let number = self.serial.get() + 1;
        self.serial.set(number);
        let scene = Scene { world: self, guarded, marker: format!("<marker-{number:06}>").into_bytes() };
        let said = (attack.act)(&scene);
        let ear = match (entry.direction, guarded) {
            (Direction::Out, _) => &self.ears.abroad,
            (Direction::In, true) => &self.ears.model,
            (Direction::In, false) => &self.ears.twin,
        };
        // Loopback and a cable deliver at once; a control may be slow on a busy machine.
        let patience = Duration::from_millis(if guarded { 80 } else { 1500 });
        let through = matches!(said, Ok(Gain::Through)) || {
            matches!(entry.outcome, Outcome::Held | Outcome::Open { .. })
                && (ear.hears(&scene.marker, patience)
                    || self.ears._activated.iter().any(|ear| ear.hears(&scene.marker, Duration::ZERO)))
        };
        (through, format!("{said:?}"))
    }

    fn judge(&self, attack: Attack) -> Result<(), String> {
        let entry = catalog::find(attack.name)
            .ok_or_else(|| format!("the catalog does not know the attack `{}`", attack.name))?;
        self.mend();
        let (through, said) = self.attempt(attack, entry, true);
        let guarded = self.guarded();
        self.mend();
        match &entry.outcome {
            Outcome::Held if through => return Err(format!("IT GETS THROUGH the guard: {said}")),
            Outcome::Open { .. } if !through => {
                return Err(format!("the catalog says that it cannot be stopped, but it was: {said}"));
            }
            Outcome::Open { seen_by_status: true, .. } if guarded => {
                return Err("the catalog says that status sees it; status says all is well".to_owned());
            }
            Outcome::Held | Outcome::Open { .. } => {}
        }
        match self.attempt(attack, entry, false) {
            (true, _) => Ok(()),
            (false, said) => Err(format!("the control fails, so the attack proves nothing: {said}")),
        }
    }
}

/// The model may go to the friend, and to transition prefixes that lead abroad.
fn policy() -> Rules {
    let networks = [
        "198.51.100.0/24",
        "2001:db8:a::/48",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "fe80::/10",
    ];
    let mut rules = rules(egress(Mode::Enforce, &networks[..6], &[("127.0.0.54/32", Some(53))]));
    for (label, port, cgroup) in
        [("idle", 8002, IDLE), ("closing", 8004, CLOSING), ("activated", 8003, ACTIVATED)]
    {
        rules.scopes.push(Scope {
            name: name(label),
            kind: ScopeKind::Model { port },
            cgroup: cgroup.into(),
            peers: Vec::new(),
            egress: egress(Mode::Enforce, &[], &[]),
        });
    }
    rules
}

/// Ways that lead abroad under other names.
fn roads() {
    for prefix in ["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "2001:db8:a:5efe::/64"] {
        ip(&format!("-6 route add {prefix} via 2001:db8:f::2"));
    }
    ip("route add 233.252.0.0/24 dev foreign");
    ip("route add 224.0.0.0/24 dev cable");
    ip("route add 203.0.113.128/25 via 192.0.2.2");
    for (switch, value) in [
        ("net/ipv4/tcp_fastopen", "1027"),
        ("net/ipv4/conf/all/accept_source_route", "1"),
        ("net/ipv4/ping_group_range", "0 2147483647"),
        ("net/ipv4/conf/lo/route_localnet", "1"),
        ("net/ipv4/conf/lo/accept_local", "1"),
        ("net/ipv4/conf/lo/rp_filter", "0"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/ip_nonlocal_bind", "1"),
    ] {
        std::fs::write(format!("/proc/sys/{switch}"), value)
            .unwrap_or_else(|error| panic!("sysctl {switch}: {error}"));
    }
}

/// What a model server might have open.
fn victim(port: u16, side: u16) -> io::Result<Vec<OwnedFd>> {
    let mut all = ears_for_tcp_and_udp(port, port)?;
    all.extend(ears_for_tcp_and_udp(side, side)?);
    // Only an IPv4 socket hears IPv4 multicast without having joined.
    let plain = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    sockets::bind(&plain, at("0.0.0.0", side + 3))?;
    all.push(plain);
    let lite = socket(libc::AF_INET6, libc::SOCK_DGRAM, sockets::UDP_LITE)?;
    sockets::bind(&lite, at("::", side))?;
    all.push(lite);
    for family in [libc::AF_INET, libc::AF_INET6] {
        for protocol in [sockets::EXPERIMENT, sockets::SCTP] {
            all.push(socket(family, libc::SOCK_RAW, protocol)?);
        }
    }
    all.push(socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?);
    all.push(socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)?);
    Ok(all)
}

fn ears_for_tcp_and_udp(tcp: u16, udp: u16) -> io::Result<Vec<OwnedFd>> {
    let stream = listener(at("::", tcp))?;
    set(&stream, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16)?;
    let datagram = socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    sockets::bind(&datagram, at("::", udp))?;
    Ok(vec![stream, datagram])
}

fn connected(to: std::net::SocketAddr) -> io::Result<OwnedFd> {
    let fd = sockets::tcp(to)?;
    sockets::connect(&fd, to)?;
    sockets::block(&fd, true)?;
    Ok(fd)
}

fn enter(cgroup: &std::path::Path, network: Option<&std::path::Path>) -> io::Result<()> {
    std::fs::write(cgroup.join("cgroup.procs"), "0")?;
    if let Some(network) = network {
        setns(std::fs::File::open(network)?, CloneFlags::CLONE_NEWNET)?;
    }
    Ok(())
}

impl Ear {
    fn start(
        cgroup: &std::path::Path,
        network: Option<&std::path::Path>,
        open: impl FnOnce() -> io::Result<Vec<OwnedFd>>,
    ) -> Self {
        let (ours, theirs) = UnixDatagram::pair().expect("a socket pair");
        let child = child_process(|| {
            let sockets = match enter(cgroup, network).and_then(|()| open()) {
                Ok(sockets) => sockets,
                Err(error) => {
                    let _ = theirs.send(format!("cannot listen: {error}").as_bytes());
                    return;
                }
            };
            let _ = theirs.send(b"ready");
            let _ = write_down(sockets, &theirs);
        });
        ours.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
        let mut said = [0; 256];
        let length = ours.recv(&mut said).expect("an ear that says how it is");
        assert_eq!(String::from_utf8_lossy(&said[..length]), "ready");
        ours.set_nonblocking(true).expect("a socket");
        Self { child, heard: ours }
    }

    /// Whether these bytes arrive within the patience; forgets everything else.
    pub fn hears(&self, marker: &[u8], patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut bytes = vec![0; 8192];
        loop {
            while let Ok(length) = self.heard.recv(&mut bytes) {
                if bytes[..length].windows(marker.len()).any(|window| window == marker) {
                    return true;
                }
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = kill(self.child, Signal::SIGKILL);
        let _ = waitpid(self.child, None);
    }
}

/// Accepts and reads everything, for ever.
fn write_down(mut sockets: Vec<OwnedFd>, to: &UnixDatagram) -> io::Result<()> {
    let mut bytes = vec![0_u8; 65_536];
    loop {
        let mut polled: Vec<libc::pollfd> = sockets
            .iter()
            .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        let count = libc::nfds_t::try_from(polled.len()).expect("few");
        // SAFETY: as many entries as said.
        sockets::check(unsafe { libc::poll(polled.as_mut_ptr(), count, -1) })?;
        let mut gone = Vec::new();
        for (index, entry) in polled.iter().enumerate().filter(|(_, entry)| entry.revents != 0) {
            if sockets::get(&sockets[index], libc::SOL_SOCKET, libc::SO_ACCEPTCONN).unwrap_or(0) == 1 {
                if let Ok(connection) = sockets::accept(&sockets[index]) {
                    // Urgent data counts as well.
                    let _ = set(&connection, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1);
                    sockets.push(connection);
                }
                continue;
            }
            // SAFETY: a buffer of this length.
            let length =
                unsafe { libc::recv(entry.fd, bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
            match usize::try_from(length) {
                Ok(length) if length > 0 => {
                    let _ = to.send(&bytes[..length.min(8192)]);
                }
                _ if entry.revents & (libc::POLLHUP | libc::POLLRDHUP) != 0 || length == 0 => {
                    gone.push(index);
                }
                _ => {}
            }
        }
        for index in gone.into_iter().rev() {
            let kind = sockets::get(&sockets[index], libc::SOL_SOCKET, libc::SO_TYPE).unwrap_or(0);
            if kind == libc::SOCK_STREAM {
                drop(sockets.remove(index));
            }
        }
    }
}

/// A forked attacker and the pipe that it reports through.
pub struct Running {
    child: Pid,
    report: io::PipeReader,
}

impl Running {
    /// Ends it at once.
    pub fn kill(self) {
        let _ = kill(self.child, Signal::SIGKILL);
        let _ = waitpid(self.child, None);
    }

    /// Its report; it is killed when it makes none in time.
    pub fn end(mut self) -> io::Result<Gain> {
        let fd = OwnedFd::from(self.report.try_clone()?);
        let waited = sockets::wait_for(&fd, libc::POLLIN, Duration::from_secs(8));
        if waited.is_err() {
            let _ = kill(self.child, Signal::SIGKILL);
        }
        let mut text = String::new();
        self.report.read_to_string(&mut text)?;
        let _ = waitpid(self.child, None);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("through", _) => Ok(Gain::Through),
            ("sent", _) => Ok(Gain::Sent),
            ("errno", number) => Err(io::Error::from_raw_os_error(number.parse().expect("a number"))),
            _ => Err(io::Error::other(format!("the attacker said {text:?}"))),
        }
    }
}

/// Runs `act` in a process of its own.
pub fn forked(act: impl FnOnce() -> io::Result<Gain>) -> io::Result<Gain> {
    start(act).end()
}

/// Waits until a process that was started says that it is ready.
pub fn ready(told: io::PipeReader) -> io::Result<()> {
    let fd = OwnedFd::from(told);
    sockets::wait_for(&fd, libc::POLLIN, Duration::from_secs(1))
}

fn start(act: impl FnOnce() -> io::Result<Gain>) -> Running {
    let (report, mut into) = io::pipe().expect("a pipe");
    let child = child_process(|| {
        let text = match act() {
            Ok(Gain::Through) => "through".to_owned(),
            Ok(Gain::Sent) => "sent".to_owned(),
            Err(error) => match error.raw_os_error() {
                Some(code) => format!("errno {code}"),
                None => format!("error {error}"),
            },
        };
        let _ = into.write_all(text.as_bytes());
    });
    Running { child, report }
}

/// Forks; the child runs `body` and nothing else of this program.
fn child_process(body: impl FnOnce()) -> Pid {
    // SAFETY: the child touches nothing that another thread may hold locked, but for the allocator, which the C
    // library keeps usable across fork.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            let _ = catch_unwind(AssertUnwindSafe(body));
            // SAFETY: ends the process without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

fn born(
    cgroup: &std::path::Path,
    network: Option<&std::path::Path>,
    make: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
    let (ours, theirs) = UnixDatagram::pair()?;
    let made = forked(|| {
        enter(cgroup, network)?;
        let fd = make()?;
        let fds = [fd.as_raw_fd()];
        let part = [io::IoSlice::new(b"fd")];
        sendmsg::<()>(
            theirs.as_raw_fd(),
            &part,
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::empty(),
            None,
        )?;
        Ok(Gain::Sent)
    });
    made?;
    let mut bytes = [0; 8];
    let mut part = [io::IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(ours.as_raw_fd(), &mut part, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            use std::os::fd::FromRawFd;
            // SAFETY: the kernel has just made this descriptor for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::Error::other("no descriptor came"))
}

enum Order {
    Judge(Attack, mpsc::Sender<Result<(), String>>),
    End(mpsc::Sender<()>),
}

static WORLD: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);

/// Makes one attack in the one world, which the first one builds. Panics when it does not end as the catalog says.
pub fn attempt(attack: Attack) {
    let orders = {
        let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        world.get_or_insert_with(begin).clone()
    };
    let (answer, answered) = mpsc::channel();
    orders.send(Order::Judge(attack, answer)).expect("the world stands");
    match answered.recv().expect("the world stands") {
        Ok(()) => {}
        Err(problem) => panic!("{}: {problem}", attack.name),
    }
}

fn begin() -> mpsc::Sender<Order> {
    let (orders, received) = mpsc::channel();
    thread::Builder::new().name("world".into()).spawn(move || rule(&received)).expect("a thread");
    // SAFETY: a function without arguments that does not unwind.
    unsafe { libc::atexit(end) };
    orders
}

fn rule(orders: &mpsc::Receiver<Order>) {
    let world = World::new();
    for order in orders {
        match order {
            Order::Judge(attack, answer) => {
                let judged = catch_unwind(AssertUnwindSafe(|| world.judge(attack)));
                let judged = judged.unwrap_or_else(|_| Err("the attack itself broke; see above".to_owned()));
                let _ = answer.send(judged);
            }
            Order::End(answer) => {
                drop(world);
                let _ = answer.send(());
                return;
            }
        }
    }
}

/// Takes the world down before the program ends: its cgroups would outlive it.
extern "C" fn end() {
    let world = WORLD.lock().map(|mut world| world.take()).unwrap_or_default();
    if let Some(orders) = world {
        let (answer, answered) = mpsc::channel();
        if orders.send(Order::End(answer)).is_ok() {
            let _ = answered.recv_timeout(Duration::from_secs(10));
        }
    }
}
