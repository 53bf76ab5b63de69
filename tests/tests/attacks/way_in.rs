//! Bytes to the model that did not come from the proxy.

use std::{io, net::SocketAddrV6, os::fd::AsRawFd, thread, time::Duration};

use nix::sched::{CloneFlags, unshare};

use crate::{
    attacks,
    kernel_support::{OTHER, PROXY, stage::ip},
    sockets::{self, at, bind, connect, datagram, dial, send, send_to, set, speak, tcp, udp},
    uring,
    world::{Gain, Network, Scene, forked},
};

pub const HOST_V4: &str = "203.0.113.1";
const HOST_V6: &str = "2001:db8:c::1";

attacks! {
    tcp_loopback_v4: |s| from_outside(s, "127.0.0.1");
    tcp_loopback_v6: |s| from_outside(s, "::1");
    tcp_v4_mapped: |s| from_outside(s, "::ffff:127.0.0.1");
    tcp_unspecified_v4: |s| from_outside(s, "0.0.0.0");
    tcp_unspecified_v6: |s| from_outside(s, "::");
    tcp_mapped_unspecified: |s| from_outside(s, "::ffff:0.0.0.0");
    tcp_other_loopback_address: |s| from_outside(s, "127.9.9.9");
    tcp_own_address_v4: |s| from_outside(s, HOST_V4);
    tcp_own_address_v6: |s| from_outside(s, HOST_V6);
    tcp_own_address_mapped: |s| from_outside(s, "::ffff:203.0.113.1");
    tcp_link_local_v6: |s| s.outsider(|| dial(link_local()?.into_port(s.port()), &s.marker));
    tcp_from_an_own_address: |s| s.outsider(|| {
        let fd = tcp(at(HOST_V4, 0))?;
        bind(&fd, at(HOST_V4, 0))?;
        speak(&fd, at("127.0.0.1", s.port()), &s.marker)
    });
    tcp_side_port_v4: |s| s.outsider(|| dial(at("127.0.0.1", s.side()), &s.marker));
    tcp_side_port_v6: |s| s.outsider(|| dial(at("::1", s.side()), &s.marker));
    tcp_side_port_from_the_proxy: |s| s.proxy(|| dial(at("127.0.0.1", s.side()), &s.marker));
    tcp_side_port_from_a_remote_host: |s| s.remote(|| dial(at(HOST_V4, s.side()), &s.marker));

    tcp_fast_open_sendto: |s| s.outsider(|| {
        let to = at("127.0.0.1", s.port());
        sockets::send_to_with(&tcp(to)?, &s.marker, to, libc::MSG_FASTOPEN)
    });
    tcp_fast_open_connect: |s| s.outsider(|| {
        const TCP_FASTOPEN_CONNECT: i32 = 30;
        let to = at("127.0.0.1", s.port());
        let fd = tcp(to)?;
        set(&fd, libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)?;
        speak(&fd, to, &s.marker)
    });
    tcp_urgent: |s| s.outsider(|| {
        let to = at("127.0.0.1", s.port());
        let fd = tcp(to)?;
        connect(&fd, to)?;
        sockets::send_with(&fd, &[&s.marker[..], b"!"].concat(), libc::MSG_OOB)
    });
    mptcp: |s| s.outsider(|| {
        let fd = sockets::socket(libc::AF_INET, libc::SOCK_STREAM, sockets::MPTCP)?;
        speak(&fd, at("127.0.0.1", s.port()), &s.marker)
    });
    io_uring_connect: |s| s.outsider(|| {
        let to = at("127.0.0.1", s.port());
        uring::speak(&tcp(to)?, to, &s.marker)?;
        Ok(Gain::Through)
    });
    tcp_reconnect_after_unspec: |s| s.outsider(|| {
        let fd = tcp(at("127.0.0.1", 0))?;
        connect(&fd, at("127.0.0.1", 8443))?;
        sockets::disconnect(&fd)?;
        speak(&fd, at("127.0.0.1", s.port()), &s.marker)
    });
    tcp_simultaneous_open: simultaneous_open;
    tcp_source_port_of_the_model: |s| s.outsider(|| {
        let fd = tcp(at("127.0.0.1", 0))?;
        // The control cannot have the number: its server has it on every address, so that it takes another one.
        bind(&fd, at(HOST_V4, if s.guarded { s.port() } else { s.port() + 7 }))?;
        speak(&fd, at("127.0.0.1", s.port()), &s.marker)
    });
    tcp_source_port_of_the_proxy: |s| s.outsider(|| {
        let fd = tcp(at("127.0.0.1", 0))?;
        set(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        bind(&fd, at(HOST_V4, 8443))?;
        speak(&fd, at("127.0.0.1", s.port()), &s.marker)
    });
    remote_source_port_of_the_proxy: |s| s.remote(|| {
        let fd = tcp(at(HOST_V4, 0))?;
        set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        bind(&fd, at("203.0.113.2", 8443))?;
        speak(&fd, at(HOST_V4, s.port()), &s.marker)
    });

    mark: |s| with_option(s, libc::SO_MARK, &0xb00_u32.to_ne_bytes());
    bind_to_device: |s| with_option(s, libc::SO_BINDTODEVICE, b"lo\0");
    priority_and_tos: |s| with_option(s, libc::SO_PRIORITY, &6_u32.to_ne_bytes());
    ip_freebind: |s| foreign_source(s, libc::IP_FREEBIND, HOST_V4);
    ip_transparent: |s| foreign_source(s, libc::IP_TRANSPARENT, "198.51.100.77");

    remote_v4: |s| s.remote(|| dial(at(HOST_V4, s.port()), &s.marker));
    remote_v6: |s| s.remote(|| dial(at(HOST_V6, s.port()), &s.marker));
    remote_link_local: |s| {
        let address = link_local()?;
        s.remote(|| {
            let scope = nix::net::if_::if_nametoindex("eth0")?;
            dial(SocketAddrV6::new(*address.0.ip(), s.port(), 0, scope).into(), &s.marker)
        })
    };
    remote_to_loopback_by_route: |s| s.remote(|| {
        // A packet for 127.0.0.1 that arrives on a cable is a martian; the control goes to the host's address.
        let to = if s.guarded { at("127.0.0.1", s.port()) } else { at(HOST_V4, s.port()) };
        let fd = tcp(to)?;
        set_device(&fd, b"eth0\0")?;
        speak(&fd, to, &s.marker)
    });
    proxys_slice_in_another_network: |s| {
        s.world.perform(PROXY, Network::Remote, || dial(at(HOST_V4, s.port()), &s.marker))
    };
    container: |s| s.world.perform(OTHER, Network::Remote, || {
        contained(|| dial(at(HOST_V4, s.port()), &s.marker))
    });
    container_with_the_hosts_network: |s| s.outsider(|| {
        contained(|| dial(at("127.0.0.1", s.port()), &s.marker))
    });
    new_cgroup_namespace: |s| s.outsider(|| {
        unshare(CloneFlags::CLONE_NEWCGROUP)?;
        dial(at("127.0.0.1", s.port()), &s.marker)
    });
    new_user_namespace: |s| s.outsider(|| {
        nix::unistd::setuid(65_534.into())?;
        unshare(CloneFlags::CLONE_NEWUSER)?;
        dial(at("127.0.0.1", s.port()), &s.marker)
    });
    back_into_the_hosts_network: |s| {
        let own = std::fs::File::open("/proc/thread-self/ns/net")?;
        s.world.perform(OTHER, Network::Remote, || {
            nix::sched::setns(&own, CloneFlags::CLONE_NEWNET)?;
            dial(at("127.0.0.1", s.port()), &s.marker)
        })
    };
    socket_of_the_hosts_network_used_in_another: |s| {
        let fd = s.world.born(OTHER, || tcp(at("127.0.0.1", 0)))?;
        s.world.perform(OTHER, Network::Remote, || speak(&fd, at("127.0.0.1", s.port()), &s.marker))
    };
    deeply_nested_cgroup: |s| {
        let deep = format!("{OTHER}/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r");
        std::fs::create_dir_all(s.cgroup(&deep))?;
        s.world.perform(&deep, Network::Host, || dial(at("127.0.0.1", s.port()), &s.marker))
    };
    unprivileged: |s| s.outsider(|| {
        nix::unistd::setuid(65_534.into())?;
        dial(at("127.0.0.1", s.port()), &s.marker)
    });

    connection_from_before: |s| s.outsider(|| send(&s.before().tcp, &s.marker));
    connection_from_before_to_the_side_port: |s| s.outsider(|| send(&s.before().side, &s.marker));
    remote_connection_from_before: |s| s.outsider(|| send(&s.before().remote, &s.marker));
    udp_connected_before: |s| s.outsider(|| send(&s.before().udp, &s.marker));
    connection_from_before_to_a_given_listener: |s| s.outsider(|| send(&s.before().activated, &s.marker));
    given_listener_local: |s| s.outsider(|| dial(at("127.0.0.1", s.activated_port()), &s.marker));
    given_listener_remote: |s| s.remote(|| dial(at(HOST_V4, s.activated_port()), &s.marker));

    socket_made_inside_connected_outside: |s| {
        let fd = s.world.born(s.slice(), || tcp(at("127.0.0.1", 0)))?;
        s.outsider(|| speak(&fd, at("127.0.0.1", s.port()), &s.marker))
    };
    socket_made_by_the_proxy_connected_outside: |s| {
        let fd = s.world.born(PROXY, || tcp(at("127.0.0.1", 0)))?;
        s.outsider(|| speak(&fd, at("127.0.0.1", s.port()), &s.marker))
    };
    udp_socket_made_inside_used_outside: |s| {
        let fd = s.world.born(s.slice(), || udp(at("127.0.0.1", 0)))?;
        s.outsider(|| send_to(&fd, &s.marker, at("127.0.0.1", s.port())))
    };
    connection_made_inside_used_outside: |s| {
        let fd = s.world.born(s.slice(), || {
            let fd = tcp(at("127.0.0.1", 0))?;
            connect(&fd, at("127.0.0.1", s.port()))?;
            Ok(fd)
        })?;
        s.outsider(|| send(&fd, &s.marker))
    };
    pidfd_getfd_unprivileged: |s| take_descriptor(s, true);
    pidfd_getfd_root: |s| take_descriptor(s, false);
    cgroup_move_into_the_proxys_slice: |s| s.outsider(|| {
        std::fs::write(s.cgroup(PROXY).join("cgroup.procs"), "0")?;
        dial(at("127.0.0.1", s.port()), &s.marker)
    });
    cgroup_move_into_the_models_slice: |s| s.outsider(|| {
        std::fs::write(s.cgroup(s.slice()).join("cgroup.procs"), "0")?;
        dial(at("127.0.0.1", s.port()), &s.marker)
    });
    cgroup_move_unprivileged: |s| s.outsider(|| {
        if s.guarded {
            nix::unistd::setuid(65_534.into())?;
        }
        std::fs::write(s.cgroup(PROXY).join("cgroup.procs"), "0")?;
        dial(at("127.0.0.1", s.port()), &s.marker)
    });
    old_socket_after_a_move_into_the_proxys_slice: |s| {
        let fd = s.world.born(OTHER, || tcp(at("127.0.0.1", 0)))?;
        s.world.perform(PROXY, Network::Host, || speak(&fd, at("127.0.0.1", s.port()), &s.marker))
    };

    udp_guarded_port: |s| s.outsider(|| datagram(at("127.0.0.1", s.port()), &s.marker));
    udp_guarded_port_v6: |s| s.outsider(|| datagram(at("::1", s.port()), &s.marker));
    udp_side_port: |s| s.outsider(|| datagram(at("127.0.0.1", s.side()), &s.marker));
    udp_side_port_v4_mapped: |s| s.outsider(|| datagram(at("::ffff:127.0.0.1", s.side()), &s.marker));
    udp_connected: |s| s.outsider(|| {
        let fd = udp(at("127.0.0.1", 0))?;
        connect(&fd, at("127.0.0.1", s.port()))?;
        send(&fd, &s.marker)
    });
    udp_reconnected: |s| s.outsider(|| {
        let fd = udp(at("127.0.0.1", 0))?;
        connect(&fd, at("127.0.0.1", 8443))?;
        connect(&fd, at("127.0.0.1", s.port()))?;
        send(&fd, &s.marker)
    });
    udp_sendmmsg: |s| s.outsider(|| {
        let to = [at("127.0.0.1", 8443), at("127.0.0.1", s.side()), at("127.0.0.1", s.port())];
        sockets::send_many(&udp(to[0])?, &s.marker, &to)
    });
    udp_family_unspecified: |s| s.outsider(|| {
        let to = at("127.0.0.1", s.port());
        sockets::send_to_unspecified_family(&udp(to)?, &s.marker, to)
    });
    udp_remote: |s| s.remote(|| datagram(at(HOST_V4, s.port()), &s.marker));
    udp_remote_side_port: |s| s.remote(|| datagram(at(HOST_V6, s.side()), &s.marker));
    udp_multicast_v4: |s| s.remote(|| {
        let to = at("224.0.0.1", s.side() + 3);
        let fd = udp(to)?;
        set_device(&fd, b"eth0\0")?;
        send_to(&fd, &s.marker, to)
    });
    udp_multicast_v6: |s| s.outsider(|| {
        let scope = nix::net::if_::if_nametoindex("cable")?;
        datagram(SocketAddrV6::new("ff02::1".parse().expect("an address"), s.side(), 0, scope).into(), &s.marker)
    });
    udp_multicast_remote: |s| s.remote(|| {
        let scope = nix::net::if_::if_nametoindex("eth0")?;
        datagram(SocketAddrV6::new("ff02::1".parse().expect("an address"), s.side(), 0, scope).into(), &s.marker)
    });
    udp_broadcast: |s| s.outsider(|| {
        let to = at("203.0.113.255", s.side());
        let fd = udp(to)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
        send_to(&fd, &s.marker, to)
    });
    udp_broadcast_remote: |s| s.remote(|| {
        let to = at("255.255.255.255", s.side());
        let fd = udp(to)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
        set_device(&fd, b"eth0\0")?;
        send_to(&fd, &s.marker, to)
    });
    udp_fragments: |s| s.remote(|| {
        let big = [s.marker.as_slice(), &[b'.'; 4000]].concat();
        datagram(at(HOST_V4, s.side()), &big)
    });
    udp_fragments_v6: |s| s.remote(|| {
        let big = [s.marker.as_slice(), &[b'.'; 4000]].concat();
        datagram(at(HOST_V6, s.side()), &big)
    });
    udp_lite: |s| s.outsider(|| {
        let fd = sockets::socket(libc::AF_INET, libc::SOCK_DGRAM, sockets::UDP_LITE)?;
        send_to(&fd, &s.marker, at("127.0.0.1", s.side()))
    });
    udp_lite_connected_v6: |s| s.outsider(|| {
        let fd = sockets::socket(libc::AF_INET6, libc::SOCK_DGRAM, sockets::UDP_LITE)?;
        connect(&fd, at("::1", s.side()))?;
        send(&fd, &s.marker)
    });
}

fn from_outside(s: &Scene<'_>, ip: &str) -> io::Result<Gain> {
    s.outsider(|| dial(at(ip, s.port()), &s.marker))
}

fn with_option(s: &Scene<'_>, option: i32, value: &[u8]) -> io::Result<Gain> {
    s.outsider(|| {
        let to = at("127.0.0.1", s.port());
        let fd = tcp(to)?;
        sockets::set_bytes(&fd, libc::SOL_SOCKET, option, value)?;
        speak(&fd, to, &s.marker)
    })
}

/// A datagram under an address that is not the socket's to choose.
fn foreign_source(s: &Scene<'_>, option: i32, source: &str) -> io::Result<Gain> {
    s.outsider(|| {
        let to = at("127.0.0.1", s.port());
        let fd = udp(to)?;
        set(&fd, libc::IPPROTO_IP, option, 1)?;
        bind(&fd, at(source, 0))?;
        send_to(&fd, &s.marker, to)
    })
}

fn set_device(fd: &std::os::fd::OwnedFd, device: &[u8]) -> io::Result<()> {
    sockets::set_bytes(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device)
}

/// The host's link-local address on the cable.
struct LinkLocal(SocketAddrV6);

impl LinkLocal {
    fn into_port(self, port: u16) -> std::net::SocketAddr {
        SocketAddrV6::new(*self.0.ip(), port, 0, self.0.scope_id()).into()
    }
}

fn link_local() -> io::Result<LinkLocal> {
    let scope = nix::net::if_::if_nametoindex("cable")?;
    nix::ifaddrs::getifaddrs()?
        .filter(|interface| interface.interface_name == "cable")
        .filter_map(|interface| interface.address?.as_sockaddr_in6().map(|address| address.ip()))
        .find(|ip| ip.is_unicast_link_local())
        .map(|ip| LinkLocal(SocketAddrV6::new(ip, 0, 0, scope)))
        .ok_or_else(|| io::Error::other("the cable has no link-local address"))
}

/// As a container runtime does it: process numbers, mounts, names and cgroups of its own.
fn contained(act: impl FnOnce() -> io::Result<Gain>) -> io::Result<Gain> {
    unshare(
        CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )?;
    forked(act)
}

/// A process of the slice dials out while somebody dials in from where it dials to. Its first packets are lost, so
/// that both are on their way at once.
fn simultaneous_open(s: &Scene<'_>) -> io::Result<Gain> {
    const PATIENCE: Duration = Duration::from_millis(3000);
    let (here, there) = (at(HOST_V4, s.side() + 1), at("203.0.113.77", s.side() + 2));
    let meet = |from, to| {
        let fd = tcp(to)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        bind(&fd, from)?;
        match sockets::connect_at_once(&fd, to) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => sockets::wait_for(&fd, libc::POLLOUT, PATIENCE)?,
        }
        match sockets::get(&fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
            0 => Ok(fd),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    };
    ip("neigh replace 203.0.113.77 lladdr 02:00:00:00:00:01 dev cable");
    s.remote(|| {
        ip("addr replace 203.0.113.77/32 dev eth0");
        Ok(Gain::Sent)
    })?;
    let victim = s.world.start(s.slice(), Network::Host, || {
        let fd = meet(here, there)?;
        if sockets::receive(&fd)? == s.marker { Ok(Gain::Through) } else { Ok(Gain::Sent) }
    });
    thread::sleep(Duration::from_millis(50));
    let caller = s.world.start("..", Network::Remote, || {
        let fd = meet(there, here)?;
        sockets::block(&fd, true)?;
        send(&fd, &s.marker)
    });
    thread::sleep(Duration::from_millis(50));
    ip("neigh del 203.0.113.77 dev cable");
    let heard = victim.end();
    caller.end().and(heard)
}

/// pidfd_getfd(2): takes the proxy's own connection to the model out of the proxy.
fn take_descriptor(s: &Scene<'_>, unprivileged: bool) -> io::Result<Gain> {
    let (mut told, mut tell) = io::pipe()?;
    let proxy = s.world.start(PROXY, Network::Host, || {
        let fd = tcp(at("127.0.0.1", 0))?;
        connect(&fd, at("127.0.0.1", s.port()))?;
        // As the agent does. The control is a process that does not.
        nix::sys::prctl::set_dumpable(!s.guarded)?;
        let numbers = [i32::try_from(std::process::id()).expect("a number"), fd.as_raw_fd()];
        io::Write::write_all(&mut tell, &numbers.map(i32::to_ne_bytes).concat())?;
        thread::sleep(Duration::from_millis(600));
        Ok(Gain::Sent)
    });
    let mut numbers = [0; 8];
    sockets::wait_for(&told.try_clone()?.into(), libc::POLLIN, Duration::from_secs(1))?;
    io::Read::read_exact(&mut told, &mut numbers)?;
    let [pid, fd] = [0, 4].map(|at| i32::from_ne_bytes(numbers[at..at + 4].try_into().expect("four bytes")));
    let taken = s.outsider(|| {
        if unprivileged && s.guarded {
            nix::unistd::setuid(65_534.into())?;
        }
        // SAFETY: plain integers.
        let stolen = unsafe {
            let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd, 0)
        };
        let stolen = sockets::check(i32::try_from(stolen).expect("a descriptor"))?;
        // SAFETY: a new descriptor that nobody else has.
        let stolen = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(stolen) };
        sockets::block(&stolen, true)?;
        send(&stolen, &s.marker)
    });
    let _ = proxy.end();
    taken
}
