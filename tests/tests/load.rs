//! Law 1 under load: streams flow, attackers try as fast as they can, and the agent dies a hundred times.
//!
//! ```text
//!   client host ── 200 streams ──▶ proxy ──▶ model :8000 ◀──✗── a process on the host, without pause
//!                                    ▲          ▲
//!                              SIGKILL × 100    └──✗── the client host, 32 attempts at any time
//! ```
//!
//! A stream that goes through the agent ends with the agent: each kill cuts what flows, and callers ask again. What
//! must hold is that nobody gets to the model in the meantime, and that each life of the agent is in the trail.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed, in its helpers too")]

#[path = "load/scene.rs"]
mod scene;
#[path = "load/streams.rs"]
mod streams;

use scene::{Attackers, Scene};
use std::time::{Duration, Instant};
use streams::Streams;

const STREAMS: usize = 200;
const KILLS: usize = 100;
/// A life is ended as soon as it carries so many streams, or when its share of the time is over.
const HALF: usize = STREAMS / 2;
/// For all lives together: what one does not need is the others'. On a quiet machine one takes a second.
const LIVES: Duration = Duration::from_secs(400);
/// Every so often a life lasts until it carries every stream, and ends while the model is held.
const FULL: usize = 20;
/// No life may be so slow that its streams do not flow by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that the model may still hold for agents that are dead.
const LEFT_OVERS: usize = STREAMS;

#[test]
fn nobody_gets_in_while_the_agent_is_killed_a_hundred_times() {
    let scene = Scene::set();
    let control = scene.attackers();
    std::thread::sleep(Duration::from_secs(1));
    let control = control.stop();
    for (who, seen) in [("local", &control.local), ("remote", &control.remote)] {
        assert!(seen.connected > 10, "control: without the guard the {who} attacker gets in: {seen:?}");
        // The storm is more than the model's queue holds: some wait too long for their answer.
        assert!(seen.refused.is_empty(), "control, {who}: nobody refuses it: {seen:?}");
    }

    scene.install_agent();
    let streams = Streams::start(&scene, STREAMS);
    assert_eq!(streams.wait(STREAMS, PATIENCE), STREAMS, "all streams flow before anything happens");
    let attackers = scene.attackers();
    let began = Instant::now();
    let mut carried = Vec::new();
    for number in 0..KILLS {
        let agent = scene.agent();
        let left = u32::try_from(KILLS - number).unwrap();
        let share = LIVES.saturating_sub(began.elapsed()) / left;
        let flowing = match number % FULL {
            0 => streams.wait(STREAMS, PATIENCE),
            _ => streams.wait(HALF, share),
        };
        // On a busy machine not all of them make it; but a life in which nothing flowed proves nothing.
        carried.push(if flowing == 0 { streams.wait(1, PATIENCE) } else { flowing });
        let least = if number % FULL == 0 { STREAMS } else { 1 };
        assert!(
            carried[number] >= least,
            "kill {number}: {} streams flow\n{}\n{}",
            carried[number],
            streams.account(),
            scene.journal()
        );
        if number % FULL == 0 {
            // The model is held until the next policy is in force: what it then does with its connections, it does to a
            // proxy that is long gone.
            scene.hold_model();
            streams.forget();
            scene.kill(agent);
            scene.wait_for_proxy();
            scene.let_model_go();
        } else {
            streams.forget();
            scene.kill(agent);
        }
    }
    let took = began.elapsed();
    let flowing = streams.wait(STREAMS, PATIENCE);
    assert_eq!(flowing, STREAMS, "all flow afterwards\n{}\n{}", streams.account(), scene.journal());
    let held = scene.wait_for_connections(STREAMS + LEFT_OVERS, PATIENCE);
    assert!(held <= STREAMS + LEFT_OVERS, "the model holds {held} connections for {STREAMS} streams");
    let seen = attackers.stop();
    let flowed = streams.stop();
    carried.sort_unstable();
    let (median, least) = (carried[KILLS / 2], carried[0]);
    eprintln!(
        "{KILLS} kills in {:.1} s; streams carried at a kill: median {median}, least {least}; {flowed:?}; \
         the model holds {held} connections",
        took.as_secs_f32(),
    );
    eprintln!("local {:?}\nremote {:?}", seen.local, seen.remote);
    for (who, seen) in [("local", &seen.local), ("remote", &seen.remote)] {
        assert_eq!(seen.connected, 0, "{who}: {seen:?}");
    }
    assert_eq!(seen.local.refused.get("EPERM"), Some(&seen.local.attempts), "at once: {:?}", seen.local);
    assert_eq!(seen.remote.timed_out, seen.remote.attempts, "without a word: {:?}", seen.remote);
    assert!(seen.local.attempts > 1000 && seen.remote.attempts > 1000, "these are no storms: {seen:?}");
    assert!(flowed.pieces > flowed.opened, "{flowed:?}");
    assert!(
        flowed.cut >= carried.iter().sum::<usize>() as u64,
        "each kill cuts what flows: {carried:?}, {flowed:?}"
    );

    let starts = scene.starts();
    assert_eq!(starts, KILLS + 1, "every life of the agent is in the trail");
    scene.verify_trail();
    scene.strike();
}

#[test]
fn no_stream_is_cut_by_a_hundred_reloads() {
    const RELOADS: usize = 100;
    let scene = Scene::set();
    scene.install_agent();
    let streams = Streams::start(&scene, STREAMS);
    assert_eq!(streams.wait(STREAMS, PATIENCE), STREAMS, "all streams flow before anything happens");
    let attackers: Attackers = scene.attackers();
    let agent = scene.agent();
    let began = Instant::now();
    for number in 0..RELOADS {
        scene.reload(number);
    }
    let took = began.elapsed();
    let seen = attackers.stop();
    streams.look_again();
    assert_eq!(streams.wait(STREAMS, PATIENCE), STREAMS, "all streams flow afterwards");
    let flowed = streams.stop();
    eprintln!("{RELOADS} reloads in {:.1} s; {flowed:?}", took.as_secs_f32());
    eprintln!("local {:?}\nremote {:?}", seen.local, seen.remote);
    assert_eq!(scene.agent(), agent, "the same process");
    assert_eq!((flowed.cut, flowed.opened), (0, STREAMS as u64), "{flowed:?}");
    assert_eq!((seen.local.connected, seen.remote.connected), (0, 0), "{seen:?}");
    assert!(seen.local.attempts > 100 && seen.remote.attempts > 100, "these are no storms: {seen:?}");
    assert_eq!(scene.starts(), 1);
    scene.verify_trail();
    scene.strike();
}
