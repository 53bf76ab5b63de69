//! Sockets that a slice left behind: a slice that stops takes its directory away, not the sockets that others
//! still hold, and when it starts again it is another cgroup. They stay held, whoever the agent is by then.

mod kernel_support;

use std::{fs, thread, time::Duration};

use bailiwick_kernel::{Guard, Rules};
use bailiwick_policy::Mode;
use kernel_support::{Actor, Errno, Kind, MODEL, OTHER, Stage, actor::Socket, at, egress, rules};

fn policy() -> Rules {
    rules(egress(Mode::Enforce, &["198.51.100.0/24"], &[]))
}

/// The slice stops; what held its sockets is elsewhere now.
fn stop_slice(stage: &Stage) {
    for _ in 0..200 {
        if fs::remove_dir(stage.cgroup(MODEL)).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("the slice does not empty");
}

fn start_slice(stage: &Stage) {
    fs::create_dir(stage.cgroup(MODEL)).expect("a cgroup");
}

/// An agent that starts over what another one left.
fn restart(stage: &Stage, guard: Guard, rules: &Rules) -> Guard {
    drop(guard);
    let mut guard = Guard::attach(&stage.site).expect("a guard");
    guard.apply(rules).expect("rules");
    guard
}

/// Whether a datagram gets out.
fn gets_out(model: &mut Actor, socket: Socket, host: &mut Actor, sink: Socket) -> bool {
    let _ = model.send_to(socket, b"data", at("192.0.2.2", 53));
    match host.receive(sink) {
        Ok(_) => true,
        Err(Errno::ETIMEDOUT) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_socket_of_a_slice_that_stopped_stays_held_by_the_next_agent_and_the_one_after() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut foreign = stage.host("foreign", "192.0.2", "2001:db8:f");
    let sink = foreign.open(Kind::Udp4);
    foreign.bind(sink, at("192.0.2.2", 53)).expect("bind");
    let socket = model.open(Kind::Udp4);
    let door = model.serve_on(at("::", 9000));
    assert!(gets_out(&mut model, socket, &mut foreign, sink), "control");
    let mut guard = stage.guard(&policy());
    model.move_to(&stage.cgroup(OTHER));
    stop_slice(&stage);
    guard.refresh().expect("refresh");
    start_slice(&stage);
    guard.refresh().expect("refresh");
    assert!(!gets_out(&mut model, socket, &mut foreign, sink), "the agent that saw it");
    for round in 1..=3 {
        guard = restart(&stage, guard, &policy());
        assert!(!gets_out(&mut model, socket, &mut foreign, sink), "agent {round} after it");
        assert_eq!(foreign.dial(at("192.0.2.1", 9000)), Err(Errno::ETIMEDOUT), "and its doors stay shut");
        guard.refresh().expect("refresh");
        assert!(!gets_out(&mut model, socket, &mut foreign, sink), "agent {round} after it, later");
    }
    let fresh = model.open(Kind::Udp4);
    assert!(gets_out(&mut model, fresh, &mut foreign, sink), "control: a socket of the other slice is free");
    model.close(door);
}

#[test]
fn a_slice_that_stopped_while_no_agent_ran_is_remembered() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut foreign = stage.host("foreign", "192.0.2", "2001:db8:f");
    let sink = foreign.open(Kind::Udp4);
    foreign.bind(sink, at("192.0.2.2", 53)).expect("bind");
    let socket = model.open(Kind::Udp4);
    let guard = stage.guard(&policy());
    drop(guard);
    model.move_to(&stage.cgroup(OTHER));
    stop_slice(&stage);
    start_slice(&stage);
    let mut guard = Guard::attach(&stage.site).expect("a guard");
    assert!(!gets_out(&mut model, socket, &mut foreign, sink), "the links stand");
    guard.apply(&policy()).expect("rules");
    assert!(!gets_out(&mut model, socket, &mut foreign, sink), "and so does the memory");
}

/// What is still there and no longer the model's is not held on its account.
#[test]
fn a_slice_that_the_config_gave_up_is_let_go() {
    let stage = Stage::new();
    let mut former = stage.actor(MODEL);
    let mut foreign = stage.host("foreign", "192.0.2", "2001:db8:f");
    let sink = foreign.open(Kind::Udp4);
    foreign.bind(sink, at("192.0.2.2", 53)).expect("bind");
    let socket = former.open(Kind::Udp4);
    let guard = stage.guard(&policy());
    assert!(!gets_out(&mut former, socket, &mut foreign, sink), "held");
    let mut elsewhere = policy();
    elsewhere.scopes[1].cgroup = "elsewhere.slice".into();
    let _guard = restart(&stage, guard, &elsewhere);
    assert!(gets_out(&mut former, socket, &mut foreign, sink), "another slice is the model now");
}
