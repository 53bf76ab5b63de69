//! Somebody else in the model's place: a bind that succeeds, or a prompt that the proxy hands to a stranger.

use std::io;

use crate::{
    attacks,
    kernel_support::OTHER,
    sockets::{self, at, bind, listen, set, socket, tcp},
    world::{CLOSING, Gain, IDLE, Network, Scene, TWIN, ready},
};

attacks! {
    bind_reuse_port: |s| squat(s, libc::SOCK_STREAM, "0.0.0.0", s.port());
    bind_reuse_port_v6: |s| squat(s, libc::SOCK_STREAM, "::", s.port());
    bind_loopback_v4: |s| squat(s, libc::SOCK_STREAM, "127.0.0.1", s.idle_port());
    bind_loopback_v6: |s| squat(s, libc::SOCK_STREAM, "::1", s.idle_port());
    bind_v4_mapped: |s| squat(s, libc::SOCK_STREAM, "::ffff:127.0.0.1", s.idle_port());
    bind_wildcard_v4: |s| squat(s, libc::SOCK_STREAM, "0.0.0.0", s.idle_port());
    bind_wildcard_v6: |s| squat(s, libc::SOCK_STREAM, "::", s.idle_port());
    bind_own_address: |s| squat(s, libc::SOCK_STREAM, "203.0.113.1", s.idle_port());
    bind_udp_v4: |s| squat(s, libc::SOCK_DGRAM, "0.0.0.0", s.idle_port());
    bind_udp_v6: |s| squat(s, libc::SOCK_DGRAM, "::", s.idle_port());
    bind_mptcp: |s| s.outsider(|| {
        let fd = reusing(socket(libc::AF_INET, libc::SOCK_STREAM, sockets::MPTCP)?)?;
        bind(&fd, at("127.0.0.1", s.idle_port()))?;
        Ok(Gain::Through)
    });
    bind_from_the_proxys_slice: |s| s.proxy(|| {
        bind(&reusing(tcp(at("127.0.0.1", 0))?)?, at("127.0.0.1", s.idle_port()))?;
        Ok(Gain::Through)
    });
    bind_from_a_container: |s| s.outsider(|| {
        use nix::sched::{CloneFlags, unshare};
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)?;
        bind(&reusing(tcp(at("127.0.0.1", 0))?)?, at("127.0.0.1", s.idle_port()))?;
        Ok(Gain::Through)
    });
    bind_after_close: |s| {
        // The model closes a connection first, which leaves TIME_WAIT on its port; a stranger takes the port then.
        let port = s.closing_port();
        let slice = if s.guarded { CLOSING } else { TWIN };
        let server = s.world.start(slice, Network::Host, || {
            let fd = sockets::listener(at("127.0.0.1", port))?;
            drop(sockets::accept(&fd)?);
            Ok(Gain::Sent)
        });
        std::thread::sleep(std::time::Duration::from_millis(30));
        s.proxy(|| {
            let fd = tcp(at("127.0.0.1", port))?;
            sockets::connect(&fd, at("127.0.0.1", port))?;
            let _ = sockets::receive(&fd);
            Ok(Gain::Sent)
        })?;
        server.end()?;
        squat(s, libc::SOCK_STREAM, "127.0.0.1", port)
    };
    socket_made_inside_bound_outside: |s| {
        let slice = if s.guarded { IDLE } else { TWIN };
        let fd = s.world.born(slice, || reusing(tcp(at("127.0.0.1", 0))?))?;
        s.outsider(|| {
            bind(&fd, at("127.0.0.1", s.idle_port()))?;
            Ok(Gain::Through)
        })
    };
    autobind_by_port_range: |s| impostor(s, || {
        // listen(2) without bind(2): the kernel picks the port, from a range of one.
        const IP_LOCAL_PORT_RANGE: i32 = 51;
        const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
        let usual = std::fs::read(RANGE)?;
        let fd = reusing(tcp(at("127.0.0.1", 0))?)?;
        let port = u32::from(s.idle_port());
        sockets::set_bytes(&fd, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, &(port << 16 | port).to_ne_bytes())?;
        std::fs::write(RANGE, "8000 60999")?;
        let listens = listen(&fd);
        std::fs::write(RANGE, usual)?;
        listens?;
        assert_eq!(sockets::local(&fd)?.port(), s.idle_port(), "no hook sees it");
        Ok(fd)
    });
    tproxy_listener: |s| impostor(s, || {
        let fd = reusing(tcp(at("127.0.0.1", 0))?)?;
        set(&fd, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1)?;
        bind(&fd, at("127.0.0.1", s.idle_port()))?;
        listen(&fd)?;
        Ok(fd)
    });
    given_listener_in_foreign_hands: |s| {
        // The listener that was made outside before the guard stood still belongs to a stranger as well: whoever
        // holds it may accept. It was ended when the guard was put up, and the proxy would not speak to it.
        prompt(s, s.activated_port(), crate::world::ACTIVATED)
    };
}

fn squat(s: &Scene<'_>, kind: i32, ip: &str, port: u16) -> io::Result<Gain> {
    s.outsider(|| {
        let address = at(ip, port);
        let fd = socket(sockets::family(address), kind, 0)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        set(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        bind(&fd, address)?;
        Ok(Gain::Through)
    })
}

/// A stranger listens where the model should; the proxy calls. Through when the stranger gets the prompt.
fn impostor(s: &Scene<'_>, open: impl FnOnce() -> io::Result<std::os::fd::OwnedFd>) -> io::Result<Gain> {
    let (told, mut tell) = io::pipe()?;
    let stranger = s.world.start(OTHER, Network::Host, || {
        let opened = open();
        io::Write::write_all(&mut tell, b"!")?;
        let connection = sockets::accept(&opened?)?;
        if sockets::receive(&connection)? == s.marker { Ok(Gain::Through) } else { Ok(Gain::Sent) }
    });
    ready(told)?;
    let called = prompt(s, s.idle_port(), IDLE);
    stranger.end().inspect_err(|_| drop(called))
}

/// What the proxy does with a prompt: under guard it asks the kernel first whose socket took its connection.
pub(crate) fn prompt(s: &Scene<'_>, port: u16, slice: &str) -> io::Result<Gain> {
    s.proxy(|| {
        let fd = tcp(at("127.0.0.1", 0))?;
        sockets::connect(&fd, at("127.0.0.1", port))?;
        if s.guarded {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            let slices = bailiwick_kernel::Slices::new(&s.world.stage.site);
            runtime.block_on(slices.prove(
                sockets::local(&fd)?,
                at("127.0.0.1", port),
                std::path::Path::new(slice),
            ))?;
        }
        sockets::block(&fd, true)?;
        sockets::send(&fd, &s.marker)?;
        Ok(Gain::Through)
    })
}

/// What an earlier attack left in TIME_WAIT is in nobody's way.
fn reusing(fd: std::os::fd::OwnedFd) -> io::Result<std::os::fd::OwnedFd> {
    set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    Ok(fd)
}
