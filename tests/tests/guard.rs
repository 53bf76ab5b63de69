//! Law 1, attacked: no byte reaches the model except through the proxy, and it is the kernel that refuses.
//! Every attack has its control: without the guard it succeeds.

mod kernel_support;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use bailiwick_kernel::{Guard, Hook, KernelError, Reason, RuleProblem, Rules, ScopeKind, Verdict, release};
use bailiwick_policy::Mode;
use kernel_support::{
    Actor, Errno, Kind, MODEL, Network, OTHER, PORT, PROXY, Stage, actor::talk, at, closed, egress, rules,
};

const ALL_WAYS: [&str; 5] = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"];

#[test]
fn a_local_process_is_refused_at_once_and_by_name() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let listener = model.serve_on(at("::", PORT));
    for ip in ALL_WAYS {
        talk(&mut thief, &mut model, listener, at(ip, PORT))
            .unwrap_or_else(|error| panic!("control: {ip}: {error}"));
    }
    let _guard = stage.guard(&closed());
    for ip in ALL_WAYS {
        assert_eq!(thief.dial(at(ip, PORT)), Err(Errno::EPERM), "{ip}");
    }
    let event = stage.event("the thief", |event| event.hook == Hook::Connect);
    assert_eq!(event.reason, Reason::NotProxy);
    assert_eq!(event.verdict, Verdict::Deny);
    assert_eq!(event.process.map(|process| process.pid), Some(thief.pid()));
    assert_eq!(event.scope.map(|name| name.to_string()).as_deref(), Some("llama"));
    assert_eq!(event.destination.port(), PORT);
    assert_eq!(event.cgroup.as_deref(), Some(OTHER.as_ref()));
}

#[test]
fn the_proxy_is_admitted_and_nothing_hangs() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut proxy = stage.actor(PROXY);
    let listener = model.serve_on(at("::", PORT));
    let _guard = stage.guard(&closed());
    for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        for _ in 0..10 {
            talk(&mut proxy, &mut model, listener, at(ip, PORT))
                .unwrap_or_else(|error| panic!("{ip}: {error}"));
        }
    }
    assert_eq!(stage.take_events(), []);
}

#[test]
fn a_remote_host_is_dropped() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut remote = stage.host("cable", "203.0.113", "2001:db8:c");
    let listener = model.serve_on(at("::", PORT));
    for ip in ["203.0.113.1", "2001:db8:c::1"] {
        talk(&mut remote, &mut model, listener, at(ip, PORT))
            .unwrap_or_else(|error| panic!("control: {ip}: {error}"));
    }
    let _guard = stage.guard(&closed());
    for ip in ["203.0.113.1", "2001:db8:c::1"] {
        assert_eq!(remote.dial(at(ip, PORT)), Err(Errno::ETIMEDOUT), "{ip}");
        let source = if ip.contains(':') { "2001:db8:c::2" } else { "203.0.113.2" };
        let event = stage.event("the remote host", |e| {
            e.hook == Hook::Ingress && e.source.is_some_and(|s| s.ip().to_string() == source)
        });
        assert_eq!((event.reason, event.process), (Reason::NotProxy, None));
        assert_eq!((event.cgroup_id, event.cgroup), (0, None), "nobody of this host is blamed");
    }
}

/// The reverse lookup falls back to listeners, and the proxy listens on every address: a packet from its port
/// number, wherever it comes from, must not be taken for its own.
#[test]
fn a_remote_host_that_sends_from_the_proxys_port_number_is_dropped() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut proxy = stage.actor(PROXY);
    let mut remote = stage.host("cable", "203.0.113", "2001:db8:c");
    let listener = model.serve_on(at("::", PORT));
    let attempt = |remote: &mut Actor, kind, from, to| {
        let socket = remote.open(kind);
        remote.bind(socket, from).expect("bind");
        let outcome = remote.connect(socket, to);
        remote.close(socket);
        outcome
    };
    for port in [8443, 8444] {
        proxy.serve_on(at("::", port));
    }
    let ways = [(Kind::Tcp4, "203.0.113.2", "203.0.113.1"), (Kind::Tcp6, "2001:db8:c::2", "2001:db8:c::1")];
    for (kind, from, to) in ways {
        assert_eq!(attempt(&mut remote, kind, at(from, 8443), at(to, PORT)), Ok(()), "control: {from}");
        model.accept(listener).expect("control");
    }
    // The remote host lies in an allowed region, so that nothing but the guard on the way in can refuse it.
    let _guard = stage.guard(&rules(egress(Mode::Enforce, &["203.0.113.0/24", "2001:db8:c::/48"], &[])));
    for (kind, from, to) in ways {
        assert_eq!(attempt(&mut remote, kind, at(from, 8444), at(to, PORT)), Err(Errno::ETIMEDOUT), "{from}");
    }
}

#[test]
fn a_process_in_another_network_namespace_is_dropped_even_if_it_is_the_proxys() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let remote = stage.host("cable", "203.0.113", "2001:db8:c");
    let mut container = Actor::start(&stage.cgroup(OTHER), Network::Of(&remote));
    let mut proxy_elsewhere = Actor::start(&stage.cgroup(PROXY), Network::Of(&remote));
    let listener = model.serve_on(at("::", PORT));
    let door = at("203.0.113.1", PORT);
    talk(&mut container, &mut model, listener, door).expect("control");
    talk(&mut proxy_elsewhere, &mut model, listener, door).expect("control");
    let _guard = stage.guard(&closed());
    assert_eq!(container.dial(door), Err(Errno::EPERM), "the host's own address is refused at the call");
    assert_eq!(proxy_elsewhere.dial(door), Err(Errno::ETIMEDOUT), "nobody here can say whose it is");
}

#[test]
fn nobody_else_binds_the_guarded_port() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut squatter = stage.actor(OTHER);
    let mut attempt = |kind, ip| {
        let socket = squatter.open(kind);
        squatter.reuse_port(socket);
        let outcome = squatter.bind(socket, at(ip, PORT));
        squatter.close(socket);
        outcome
    };
    let own = model.open(Kind::Tcp4);
    model.reuse_port(own);
    model.bind(own, at("127.0.0.1", PORT)).expect("the model's own port");
    let ways = [
        (Kind::Tcp4, "127.0.0.1"),
        (Kind::Tcp4, "0.0.0.0"),
        (Kind::Tcp6, "::1"),
        (Kind::Tcp6, "::ffff:127.0.0.1"),
        (Kind::Udp4, "127.0.0.1"),
        (Kind::Udp6, "::"),
    ];
    for (kind, ip) in ways {
        assert_eq!(attempt(kind, ip), Ok(()), "control: {kind:?} {ip}");
    }
    let _guard = stage.guard(&closed());
    for (kind, ip) in ways {
        assert_eq!(attempt(kind, ip), Err(Errno::EPERM), "{kind:?} {ip}");
    }
    let event = stage.event("the squatter", |event| event.hook == Hook::Bind);
    assert_eq!(event.reason, Reason::PortReserved);
    assert_eq!(event.process.map(|process| process.pid), Some(squatter.pid()));
    let second = model.open(Kind::Tcp6);
    assert_eq!(model.bind(second, at("::1", PORT)), Ok(()), "the slice itself may");
}

#[test]
fn a_prompt_does_not_reach_an_impostor_that_was_there_first() {
    let stage = Stage::new();
    let mut impostor = stage.actor(OTHER);
    let mut proxy = stage.actor(PROXY);
    let listener = impostor.serve_on(at("127.0.0.1", PORT));
    talk(&mut proxy, &mut impostor, listener, at("127.0.0.1", PORT)).expect("control");
    let mut guard = stage.guard(&closed());
    assert_eq!(proxy.dial(at("127.0.0.1", PORT)), Err(Errno::ECONNREFUSED), "the impostor was ended");
    assert_eq!(stage.status(&closed()).intruders, []);
    // Its port is still its own, and it may listen again; then the status says so until it is ended again.
    impostor.listen(listener);
    let status = stage.status(&closed());
    assert!(!status.guarded);
    let [intruder] = &status.intruders[..] else { panic!("{status:?}") };
    assert_eq!((intruder.model.as_str(), intruder.address), ("llama", at("127.0.0.1", PORT)));
    assert!(intruder.place.ends_with(OTHER), "{}", intruder.place);
    assert_eq!(status.problems()[0].place, format!("port:{PORT}"));
    guard.repair().unwrap_or_else(|error| panic!("{error}"));
    assert!(stage.status(&closed()).guarded);
}

#[test]
fn the_slice_is_sealed_not_only_the_port() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut sibling = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let mut proxy = stage.actor(PROXY);
    let metrics = model.serve_on(at("::", 9000));
    talk(&mut thief, &mut model, metrics, at("127.0.0.1", 9000)).expect("control");
    let _guard = stage.guard(&closed());
    assert_eq!(thief.dial(at("127.0.0.1", 9000)), Err(Errno::ETIMEDOUT));
    assert_eq!(thief.dial(at("::1", 9000)), Err(Errno::ETIMEDOUT));
    assert_eq!(proxy.dial(at("127.0.0.1", 9000)), Err(Errno::ETIMEDOUT), "the proxy has one door");
    // The seal sees a packet, not a process; the socket that sent it says whose it was.
    for cgroup in [OTHER, PROXY] {
        let event = stage.event("the seal", |event| {
            event.reason == Reason::Sealed && event.cgroup.as_deref() == Some(cgroup.as_ref())
        });
        assert_eq!((event.hook, event.process), (Hook::Ingress, None));
    }
    talk(&mut sibling, &mut model, metrics, at("127.0.0.1", 9000)).expect("inside the slice");
    talk(&mut sibling, &mut model, metrics, at("::1", 9000)).expect("inside the slice");
}

#[test]
fn a_connection_from_before_the_guard_is_cut() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let listener = model.serve_on(at("127.0.0.1", PORT));
    let near = thief.dial(at("127.0.0.1", PORT)).expect("before");
    let far = model.accept(listener).expect("before");
    thief.send(near, b"before").expect("before");
    assert_eq!(model.receive(far).expect("control"), b"before");
    let _guard = stage.guard(&closed());
    let _ = thief.send(near, b"after");
    assert_eq!(model.receive(far), Err(Errno::ETIMEDOUT));
}

/// The agent was killed and came back under another epoch: nobody is left whom the kernel could ask about the packets
/// that end the model's half. It must end all the same, or a model keeps every connection that ever broke.
#[test]
fn a_connection_whose_proxy_is_gone_ends() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let listener = model.serve_on(at("::", PORT));
    let mut guard = stage.guard(&closed());
    for (ip, unread) in [("127.0.0.1", true), ("127.0.0.1", false), ("::1", true), ("::1", false)] {
        let mut proxy = stage.actor(PROXY);
        let near = proxy.dial(at(ip, PORT)).unwrap_or_else(|error| panic!("{ip}: {error}"));
        let far = model.accept(listener).expect("a connection");
        proxy.send(near, b"a request").expect("sent");
        assert_eq!(model.receive(far).expect("the request"), b"a request");
        if unread {
            // Closed with this in its queue, the proxy's socket says reset; without, it says that it is done.
            model.send(far, b"the first word").expect("sent");
        }
        guard.apply(&closed()).unwrap_or_else(|error| panic!("{error}"));
        drop(proxy);
        if unread {
            assert_eq!(model.receive(far), Err(Errno::ECONNRESET), "{ip}");
        } else {
            assert_eq!(model.receive(far), Ok(Vec::new()), "{ip}: it is done");
            model.send(far, b"the next word").expect("into the void");
            thread::sleep(Duration::from_millis(100));
            assert_eq!(model.send(far, b"the last"), Err(Errno::EPIPE), "{ip}: it was answered by a reset");
        }
        model.close(far);
    }
}

#[test]
fn datagrams_do_not_reach_the_model() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let mut remote = stage.host("cable", "203.0.113", "2001:db8:c");
    let guarded = model.open(Kind::Udp6);
    model.bind(guarded, at("::", PORT)).expect("bind");
    let other = model.open(Kind::Udp6);
    model.bind(other, at("::", 9000)).expect("bind");
    let local = thief.open(Kind::Udp4);
    let far = remote.open(Kind::Udp4);
    for (port, socket) in [(PORT, guarded), (9000, other)] {
        thief.send_to(local, b"local", at("127.0.0.1", port)).expect("control");
        assert_eq!(model.receive(socket).expect("control"), b"local");
        remote.send_to(far, b"remote", at("203.0.113.1", port)).expect("control");
        assert_eq!(model.receive(socket).expect("control"), b"remote");
    }
    let _guard = stage.guard(&closed());
    assert_eq!(thief.send_to(local, b"local", at("127.0.0.1", PORT)), Err(Errno::EPERM));
    let _ = thief.send_to(local, b"local", at("127.0.0.1", 9000));
    for (port, socket) in [(PORT, guarded), (9000, other)] {
        remote.send_to(far, b"remote", at("203.0.113.1", port)).expect("it leaves the remote host");
        assert_eq!(model.receive(socket), Err(Errno::ETIMEDOUT), "{port}");
    }
}

#[test]
fn the_guard_stands_without_an_agent_and_status_says_so() {
    let stage = Stage::new();
    let rules = closed();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let mut proxy = stage.actor(PROXY);
    let listener = model.serve_on(at("127.0.0.1", PORT));
    assert!(!stage.status(&rules).guarded, "nothing stands yet");
    drop(stage.guard(&rules));
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM));
    talk(&mut proxy, &mut model, listener, at("127.0.0.1", PORT)).expect("the proxy goes on");
    let status = stage.status(&rules);
    assert!(status.guarded, "{status:#?}");
    assert_eq!(status.generation, Some(1));
    let hooks: Vec<&str> = status.hooks.iter().map(|hook| hook.hook.as_str()).collect();
    let at_slices = ["ingress:llama", "ingress:shipper", "egress:llama", "egress:shipper"];
    let at_root = ["bind4", "bind6", "connect4", "connect6", "sendmsg4", "sendmsg6"];
    assert_eq!(hooks, [&at_slices[..], &at_root[..]].concat());
    assert!(status.denied["not-proxy"] >= 1);
    for scope in &status.scopes {
        assert!(scope.live_id.is_some() && scope.live_id == scope.guarded_id, "{scope:?}");
    }
}

#[test]
fn status_cannot_be_fooled() {
    let stage = Stage::new();
    let rules = closed();
    let _guard = stage.guard(&rules);
    assert!(stage.status(&rules).guarded);
    let mut more = rules.clone();
    more.scopes[1].kind = ScopeKind::Model { port: 8001 };
    assert!(!stage.status(&more).guarded, "the rules ask for a port that the kernel does not guard");
    let mut elsewhere = rules.clone();
    elsewhere.scopes[1].cgroup = OTHER.into();
    assert!(!stage.status(&elsewhere).guarded, "the rules ask for a cgroup that the kernel does not hold");
    let links = stage.site.pins.join(format!("v{}/links", bailiwick_abi::SCHEMA));
    fs::rename(links.join("connect6"), links.join("aside")).expect("bpffs");
    fs::rename(links.join("connect4"), links.join("connect6")).expect("bpffs");
    let wrong = stage.status(&rules);
    assert!(!wrong.guarded, "a link at another hook is no link");
    fs::rename(links.join("connect6"), links.join("connect4")).expect("bpffs");
    fs::rename(links.join("aside"), links.join("connect6")).expect("bpffs");
    assert!(stage.status(&rules).guarded);
    let slice = fs::metadata(stage.cgroup(MODEL)).expect("the slice").ino();
    fs::remove_file(links.join(format!("ingress_{slice}"))).expect("bpffs");
    let status = stage.status(&rules);
    assert!(!status.guarded);
    let ingress = status.hooks.iter().find(|hook| hook.hook == "ingress:llama").expect("ingress");
    assert!(!ingress.attached && ingress.problem.is_some(), "{ingress:?}");
}

#[test]
fn a_guard_that_comes_back_updates_in_place_while_traffic_flows() {
    let stage = Stage::new();
    let rules = closed();
    let mut model = stage.actor(MODEL);
    let mut proxy = stage.actor(PROXY);
    let mut thief = stage.actor(OTHER);
    let listener = model.serve_on(at("127.0.0.1", PORT));
    let _first = stage.guard(&rules);
    let before = stage.status(&rules);
    let done = AtomicBool::new(false);
    let (mut served, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                talk(&mut proxy, &mut model, listener, at("127.0.0.1", PORT))
                    .expect("the proxy is served throughout");
                served += 1;
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM), "never, not for a moment");
                refused += 1;
            }
        });
        for _ in 0..3 {
            let mut next = Guard::attach(&stage.site).unwrap_or_else(|error| panic!("{error}"));
            next.apply(&rules).unwrap_or_else(|error| panic!("{error}"));
            thread::sleep(Duration::from_millis(100));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(served > 10 && refused > 10, "served {served}, refused {refused}");
    let after = stage.status(&rules);
    assert!(after.guarded);
    assert_eq!(after.generation, Some(4));
    for (before, after) in before.hooks.iter().zip(&after.hooks) {
        assert_eq!(before.link_id, after.link_id, "{}: the link stays", before.hook);
        assert_ne!(before.program_id, after.program_id, "{}: the program is new", before.hook);
        assert_eq!(before.program_tag, after.program_tag, "{}: and the same", before.hook);
    }
}

#[test]
fn release_opens_and_leaves_nothing() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let listener = model.serve_on(at("127.0.0.1", PORT));
    let guard = stage.guard(&closed());
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM));
    release(&stage.site).unwrap_or_else(|error| panic!("{error}"));
    talk(&mut thief, &mut model, listener, at("127.0.0.1", PORT)).expect("open again");
    assert!(!stage.site.pins.exists());
    assert!(!stage.status(&closed()).guarded);
    drop(guard);
    release(&stage.site).expect("twice is once");
}

#[test]
fn a_slice_that_comes_later_or_comes_again_is_found() {
    let stage = Stage::new();
    let rules = closed();
    fs::remove_dir(stage.cgroup(MODEL)).expect("an empty cgroup");
    let mut guard = stage.guard(&rules);
    let mut thief = stage.actor(OTHER);
    let socket = thief.open(Kind::Tcp4);
    assert_eq!(
        thief.bind(socket, at("127.0.0.1", PORT)),
        Err(Errno::EPERM),
        "reserved before its slice exists"
    );
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM));
    assert!(stage.status(&rules).guarded, "a slice that does not exist has nothing to hold");
    for round in 1..=2 {
        fs::create_dir(stage.cgroup(MODEL)).expect("a cgroup");
        let mut early = stage.actor(MODEL);
        let socket = early.open(Kind::Tcp4);
        assert_eq!(
            early.bind(socket, at("127.0.0.1", PORT)),
            Err(Errno::EPERM),
            "{round}: not seen yet: shut"
        );
        assert!(!stage.status(&rules).guarded, "{round}: status sees the new slice before the agent does");
        assert_eq!(guard.refresh().expect("refresh"), [kernel_support::name("llama")], "{round}");
        assert_eq!(guard.refresh().expect("refresh"), [], "{round}: nothing new");
        assert!(stage.status(&rules).guarded, "{round}");
        let mut model = stage.actor(MODEL);
        let mut proxy = stage.actor(PROXY);
        let listener = model.serve_on(at("127.0.0.1", PORT));
        talk(&mut proxy, &mut model, listener, at("127.0.0.1", PORT)).expect("the proxy");
        assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM), "{round}");
        drop((model, proxy, early));
        while fs::remove_dir(stage.cgroup(MODEL)).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(guard.refresh().expect("refresh"), [kernel_support::name("llama")], "{round}: gone");
    }
}

#[test]
fn rules_that_contradict_themselves_change_nothing() {
    let stage = Stage::new();
    let mut thief = stage.actor(OTHER);
    let mut guard = stage.guard(&closed());
    let mut bad = closed();
    bad.scopes[0].cgroup = format!("{MODEL}/proxy").into();
    bad.scopes[2].kind = ScopeKind::Model { port: PORT };
    let Err(KernelError::Rules(problems)) = guard.apply(&bad) else { panic!("applied") };
    assert!(problems.iter().any(|p| matches!(p, RuleProblem::Nested { .. })), "{problems:?}");
    assert!(problems.iter().any(|p| matches!(p, RuleProblem::SamePort { .. })), "{problems:?}");
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM));
    assert_eq!(stage.status(&closed()).generation, Some(1));
}

#[test]
fn a_lost_map_pin_does_not_open_the_port() {
    let stage = Stage::new();
    let mut thief = stage.actor(OTHER);
    drop(stage.guard(&closed()));
    let maps = stage.site.pins.join(format!("v{}/maps", bailiwick_abi::SCHEMA));
    fs::remove_file(maps.join("SETTINGS")).expect("bpffs");
    let mut guard = Guard::attach(&stage.site).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM), "the standing programs stay");
    assert!(!stage.status(&closed()).guarded, "they read other maps than the pinned ones");
    guard.apply(&closed()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM), "the new ones have taken over");
    assert!(stage.status(&closed()).guarded);
}

#[test]
fn a_pinned_map_of_another_shape_is_refused_and_what_stands_stays() {
    let stage = Stage::new();
    let mut thief = stage.actor(OTHER);
    drop(stage.guard(&closed()));
    let maps = stage.site.pins.join(format!("v{}/maps", bailiwick_abi::SCHEMA));
    fs::remove_file(maps.join("LOCAL")).expect("bpffs");
    fs::rename(maps.join("PORTS"), maps.join("LOCAL")).expect("bpffs");
    let Err(KernelError::IncompatibleMap { path, .. }) = Guard::attach(&stage.site) else {
        panic!("attached")
    };
    assert!(path.ends_with("LOCAL"), "{}", path.display());
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM));
}

#[test]
fn no_policy_guards_nothing_and_status_says_so() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut anyone = stage.actor(OTHER);
    let listener = model.serve_on(at("127.0.0.1", PORT));
    let _guard = Guard::attach(&stage.site).unwrap_or_else(|error| panic!("{error}"));
    talk(&mut anyone, &mut model, listener, at("127.0.0.1", PORT))
        .expect("a host without a policy is left alone");
    let status = stage.status(&Rules::default());
    assert!(status.hooks.iter().all(|hook| hook.attached));
    assert!(!status.guarded && status.generation.is_none());
}

#[test]
fn a_flood_is_folded_and_counted() {
    let stage = Stage::new();
    let mut thief = stage.actor(OTHER);
    let _guard = stage.guard(&closed());
    for _ in 0..50 {
        assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM));
    }
    assert_eq!(stage.take_events().len(), 1, "one at once");
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(thief.dial(at("127.0.0.1", PORT)), Err(Errno::EPERM));
    let event = stage.event("the rest", |event| event.hook == Hook::Connect);
    assert_eq!(event.count, 50, "49 held back, and this one");
    let status = stage.status(&closed());
    assert_eq!(status.denied["not-proxy"], 51);
    assert_eq!(status.lost_events, 0);
}
