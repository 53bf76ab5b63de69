//! The guard while its agent, its pins or its neighbours in the kernel fail.

use std::{fs, io, os::fd::AsRawFd, path::PathBuf, time::Duration};

use crate::{
    attacks,
    kernel_support::MODEL,
    sockets::{at, bind, check, dial, tcp},
    way_in::HOST_V4,
    world::{Gain, Network, Scene},
};
use bailiwick_kernel::Guard;

attacks! {
    agent_dead: |s| {
        s.world.kill_agent();
        s.outsider(|| dial(at("127.0.0.1", s.port()), &s.marker))
    };
    agent_killed_while_it_applies: |s| {
        s.world.kill_agent();
        for round in 0..4 {
            kill_while_applying(s, Duration::from_millis(15 + 20 * round))?;
        }
        s.outsider(|| dial(at("127.0.0.1", s.port()), &s.marker))
    };
    agent_comes_back_with_rules_that_fail: |s| {
        s.world.kill_agent();
        let mut bad = s.world.rules().clone();
        bad.scopes[1].cgroup = bad.scopes[0].cgroup.clone();
        let mut guard = Guard::attach(&s.world.stage.site).map_err(io::Error::other)?;
        assert!(guard.apply(&bad).is_err());
        s.outsider(|| dial(at("127.0.0.1", s.port()), &s.marker))
    };
    policy_map_unpinned: |s| {
        s.world.kill_agent();
        let _ = fs::remove_file(pins(s).join("maps/PORTS"));
        s.outsider(|| dial(at("127.0.0.1", s.port()), &s.marker))
    };
    links_unpinned: |s| {
        // Root takes the guard's links away behind its back.
        s.world.kill_agent();
        for link in fs::read_dir(pins(s).join("links"))?.flatten() {
            fs::remove_file(link.path())?;
        }
        std::thread::sleep(Duration::from_millis(20));
        s.outsider(|| dial(at("127.0.0.1", s.port()), &s.marker))
    };
    connect_links_unpinned: |s| {
        // Only the first line falls; the packets meet the second.
        s.world.kill_agent();
        for link in ["connect4", "connect6"] {
            fs::remove_file(pins(s).join("links").join(link))?;
        }
        std::thread::sleep(Duration::from_millis(20));
        s.outsider(|| dial(at("127.0.0.1", s.port()), &s.marker))
    };
    bpf_override_at_connect: |s| overridden(s, Hook::Connect4, |s| {
        s.outsider(|| dial(at("127.0.0.1", s.port()), &s.marker))
    });
    bpf_override_at_bind: |s| overridden(s, Hook::Bind4, |s| {
        // The bind succeeds; what counts is whether the proxy hands a prompt to whoever is there.
        let (told, mut tell) = io::pipe()?;
        let stranger = s.world.start(crate::kernel_support::OTHER, Network::Host, || {
            let fd = tcp(at("127.0.0.1", 0))?;
            crate::sockets::set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
            bind(&fd, at("127.0.0.1", s.idle_port()))?;
            crate::sockets::listen(&fd)?;
            io::Write::write_all(&mut tell, b"!")?;
            let connection = crate::sockets::accept(&fd)?;
            if crate::sockets::receive(&connection)?.is_empty() { Ok(Gain::Sent) } else { Ok(Gain::Through) }
        });
        crate::world::ready(told)?;
        let _ = crate::impostors::prompt(s, s.idle_port(), crate::world::IDLE);
        stranger.end()
    });
    out_bpf_override_at_connect: |s| overridden(s, Hook::Connect4, |s| {
        s.inside(|| dial(at("192.0.2.2", 443), &s.marker))
    });
    out_bpf_override_at_sendmsg: |s| overridden(s, Hook::Sendmsg4, |s| {
        s.inside(|| crate::sockets::datagram(at("192.0.2.2", 53), &s.marker))
    });
    slice_goes_and_comes_back_unseen: |s| unseen(s, at("127.0.0.1", s.idle_port()), |to| {
        s.outsider(|| dial(to, &s.marker))
    });
    slice_goes_and_comes_back_unseen_remote: |s| unseen(s, at(HOST_V4, s.idle_port()), |to| {
        s.remote(|| dial(to, &s.marker))
    });
    slice_goes_and_comes_back_unseen_side_port: |s| unseen(s, at(HOST_V4, UNSEEN_SIDE), |to| {
        s.remote(|| dial(to, &s.marker))
    });
    out_of_a_slice_that_came_back_unseen: |s| {
        let slice = if s.guarded { crate::world::IDLE } else { crate::world::TWIN };
        if s.guarded {
            fs::remove_dir(s.cgroup(slice))?;
            fs::create_dir(s.cgroup(slice))?;
        }
        s.world.perform(slice, Network::Host, || dial(at("192.0.2.2", 443), &s.marker))
    };
    out_agent_dead: |s| {
        s.world.kill_agent();
        s.world.perform(if s.guarded { MODEL } else { s.slice() }, Network::Host, || {
            dial(at("192.0.2.2", 443), &s.marker)
        })
    };
}

/// A port of the server that is not the guarded one.
const UNSEEN_SIDE: u16 = 9402;

/// A new directory under the same name is a new cgroup, which the kernel was not told of yet; a server starts there.
fn unseen(
    s: &Scene<'_>,
    listen: std::net::SocketAddr,
    call: impl FnOnce(std::net::SocketAddr) -> io::Result<Gain>,
) -> io::Result<Gain> {
    let slice = if s.guarded { crate::world::IDLE } else { crate::world::TWIN };
    if s.guarded {
        let cgroup = s.cgroup(slice);
        fs::remove_dir(&cgroup)?;
        fs::create_dir(&cgroup)?;
    }
    let server = s.world.start(slice, Network::Host, || {
        let fd = crate::sockets::listener(listen)?;
        let connection = crate::sockets::accept(&fd)?;
        if crate::sockets::receive(&connection)?.is_empty() { Ok(Gain::Sent) } else { Ok(Gain::Through) }
    });
    std::thread::sleep(Duration::from_millis(30));
    let called = call(listen);
    server.end().and(called)
}

fn pins(s: &Scene<'_>) -> PathBuf {
    s.world.stage.site.pins.join(format!("v{}", bailiwick_abi::SCHEMA))
}

/// An agent that attaches and applies again and again, until it is killed in the middle.
fn kill_while_applying(s: &Scene<'_>, after: Duration) -> io::Result<()> {
    let agent = s.world.start("..", Network::Host, || {
        let mut guard = Guard::attach(&s.world.stage.site).map_err(io::Error::other)?;
        loop {
            guard.apply(s.world.rules()).map_err(io::Error::other)?;
        }
    });
    std::thread::sleep(after);
    agent.kill();
    Ok(())
}

#[derive(Clone, Copy)]
#[repr(u32)]
enum Hook {
    Bind4 = 8,
    Connect4 = 10,
    Sendmsg4 = 14,
}

/// Runs `act` while a program stands after ours that says yes to everything (`bpf_set_retval(0)`).
fn overridden(s: &Scene<'_>, hook: Hook, act: fn(&Scene<'_>) -> io::Result<Gain>) -> io::Result<Gain> {
    let program = load(hook)?;
    let cgroup = fs::File::open(&s.world.stage.site.cgroup_root)?;
    let words: [u32; 4] =
        [program.as_raw_fd().cast_unsigned(), cgroup.as_raw_fd().cast_unsigned(), hook as u32, 0];
    const LINK_CREATE: i64 = 28;
    let link = bpf(LINK_CREATE, &words.map(u32::to_ne_bytes).concat())?;
    let outcome = act(s);
    drop(link);
    outcome
}

/// `r1 = 0; bpf_set_retval(r1); return 1`
fn load(hook: Hook) -> io::Result<std::os::fd::OwnedFd> {
    const PROG_LOAD: i64 = 5;
    const CGROUP_SOCK_ADDR: u32 = 18;
    const SET_RETVAL: u64 = 187;
    let code: [u64; 4] = [0x01b7, SET_RETVAL << 32 | 0x85, 1 << 32 | 0xb7, 0x95];
    let mut attributes = [0_u8; 72];
    attributes[0..4].copy_from_slice(&CGROUP_SOCK_ADDR.to_ne_bytes());
    attributes[4..8].copy_from_slice(&4_u32.to_ne_bytes());
    attributes[8..16].copy_from_slice(&(code.as_ptr() as u64).to_ne_bytes());
    attributes[16..24].copy_from_slice(&(c"GPL".as_ptr() as u64).to_ne_bytes());
    attributes[68..72].copy_from_slice(&(hook as u32).to_ne_bytes());
    bpf(PROG_LOAD, &attributes)
}

fn bpf(command: i64, attributes: &[u8]) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: the attributes, and what they point to, outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) };
    let fd = check(i32::try_from(fd).expect("a descriptor"))?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) })
}
