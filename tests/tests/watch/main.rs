//! No lapse, and kernel truth: what somebody takes from the guard is put back, said and recorded; a reload cuts nothing
//! and opens nothing; status says what is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed, in its helpers too")]

mod bpf;
mod datasets;
mod host;
mod reload;
mod world;

use serde_json::Value;
use std::time::{Duration, Instant};
use world::World;

/// Every way to take a link away that root has.
#[test]
fn what_is_taken_from_the_guard_is_back_within_two_seconds_and_recorded() {
    let world = World::new("taken");
    assert_eq!(world.local_attempt(), "EPERM", "before anything is taken away");

    let acts: [(&str, &str, &dyn Fn()); 3] = [
        ("a link detached", "ingress:llama", &|| bpf::detach(&world.link_at_slice("ingress"))),
        ("a link's pin removed", "connect4", &|| std::fs::remove_file(world.link("connect4")).unwrap()),
        ("every link's pin removed", "egress:llama", &|| {
            for pin in std::fs::read_dir(world.link("")).unwrap() {
                std::fs::remove_file(pin.unwrap().path()).unwrap();
            }
        }),
    ];
    for (why, hook, act) in acts {
        let (ends, since) = (world.records("gap-end").len(), Instant::now());
        act();
        world.eventually(why, || world.status().1);
        assert!(since.elapsed() < Duration::from_secs(2), "{why}: {:?}", since.elapsed());
        assert_eq!(world.local_attempt(), "EPERM", "{why}");
        world.eventually("the gap's end is recorded", || world.records("gap-end").len() > ends);
        let of_hook = |event| {
            let found: Vec<Value> = world.records(event);
            found
                .into_iter()
                .rfind(|record| record["detail"]["hook"] == hook)
                .unwrap_or_else(|| panic!("{why}"))
        };
        let (begin, end) = (of_hook("gap-begin"), of_hook("gap-end"));
        assert_eq!(begin["detail"]["since"], end["detail"]["since"], "{why}: one gap");
        assert!(end["detail"]["until"].as_str() > end["detail"]["since"].as_str(), "{why}: {end}");
        assert_eq!(end["detail"]["repaired"], "yes", "{why}");
        let alert = |id: &'static str| {
            let patience = Duration::from_secs(5);
            let id = format!("MESSAGE_ID={id}");
            let alert =
                world.system.wait_for_journal(&[&id], patience, |alert| alert["BAILIWICK_HOOK"] == hook);
            alert.unwrap().unwrap_or_else(|| panic!("{why}: no alert"))
        };
        let began = alert("6b1f4e0c3a5d4c0c9f5a2b7d8e914c04");
        assert_eq!(began["PRIORITY"], "2", "{why}: critical");
        assert!(began["BAILIWICK_PROBLEM"].as_str().is_some_and(|text| !text.is_empty()), "{why}");
        alert("6b1f4e0c3a5d4c0c9f5a2b7d8e914c05");
    }
}

#[test]
fn maps_and_policy_are_put_back_as_well() {
    let world = World::new("maps");
    std::fs::remove_file(world.link("../maps/SETTINGS")).unwrap();
    let took = world.eventually("SETTINGS is pinned again", || world.status().1);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(world.local_attempt(), "EPERM");
    std::fs::remove_dir_all(world.link("..")).unwrap();
    let took = world.eventually("everything is pinned again", || world.status().1);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(world.local_attempt(), "EPERM");
    assert_eq!(world.chat("hello").status, 200, "and the proxy still serves");
}

#[test]
fn time_without_an_agent_is_recorded_as_a_gap() {
    let world = World::new("unwatched");
    assert_eq!(world.records("watch-gap").len(), 0, "before the first start nobody was to watch");
    world.system.run(&["systemctl", "kill", "--signal=KILL", "bailiwick.service"]).unwrap();
    world.eventually("the agent is back", || world.records("watch-gap").len() == 1);
    let gap = world.records("watch-gap").remove(0);
    assert_eq!(gap["detail"]["guard"], "stood", "{gap}");
    assert!(gap["detail"]["since"].as_str() < gap["detail"]["until"].as_str(), "{gap}");

    world.system.run(&["systemctl", "stop", "bailiwick.service"]).unwrap();
    bpf::detach(&world.link_at_slice("ingress"));
    world.system.run(&["systemctl", "start", "bailiwick.service"]).unwrap();
    let gap = world.records("watch-gap").pop().unwrap();
    assert_eq!(gap["detail"]["guard"], "did not stand: ingress:llama", "{gap}");
    assert!(world.status().1, "and now it stands again");
}

#[test]
fn a_slice_that_comes_back_is_held_before_its_first_process_serves() {
    let world = World::new("slices");
    for round in 0..3 {
        world.system.run(&["systemctl", "stop", "llama.service", "bailiwick-llama.slice"]).unwrap();
        assert!(world.status().1, "round {round}: a slice that is gone is no gap");
        world.system.run(&["systemctl", "start", "llama.service"]).unwrap();
        assert!(world.status().1, "round {round}: it is held as soon as it is there");
        assert_eq!(world.local_attempt(), "EPERM", "round {round}");
    }
    assert_eq!(world.records("gap-begin"), Vec::<Value>::new(), "and that is no gap either");
}

#[test]
fn status_names_a_stranger_at_the_same_hook_and_compares_tags() {
    let world = World::new("stranger");
    let (before, guarded) = world.status();
    assert!(guarded, "{before}");
    assert_eq!(before["warnings"], serde_json::json!([]), "{before}");
    for hook in before["hooks"].as_array().unwrap() {
        assert_eq!(hook["program_tag"], hook["built_in_tag"], "{hook}");
        assert!(hook["program_tag"].as_str().is_some_and(|tag| tag.len() == 16), "{hook}");
    }

    let stranger = bpf::attach_stranger(world.system.cgroup(), bpf::CONNECT4);
    let (after, guarded) = world.status();
    assert!(guarded, "packets are refused all the same: {after}");
    let hook = after["hooks"].as_array().unwrap().iter().find(|hook| hook["hook"] == "connect4").unwrap();
    let neighbour = &hook["neighbours"][0];
    assert_eq!((neighbour["name"].as_str(), neighbour["place"].as_str()), (Some("stranger"), Some("after")));
    assert_eq!(neighbour["may_override"], true);
    assert!(after["warnings"][0].as_str().is_some_and(|text| text.contains("stranger")), "{after}");
    let people = world.system.run(&["bailiwick", "status"]).unwrap();
    assert!(people.contains("stranger"), "{people}");
    world.eventually("it is recorded", || !world.records("foreign-program").is_empty());
    drop(stranger);
    assert_eq!(world.status().0["warnings"], serde_json::json!([]), "and when it is gone, it is gone");
}

#[test]
fn watching_an_idle_host_takes_less_than_a_twentieth_of_a_core() {
    let world = World::new("idle");
    let pid =
        world.system.run(&["systemctl", "show", "--value", "-p", "MainPID", "bailiwick.service"]).unwrap();
    // utime and stime, in hundredths of a second (proc_pid_stat(5)).
    let spent = || -> u64 {
        let stat = world.system.run(&["cat", &format!("/proc/{}/stat", pid.trim())]).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = spent();
    std::thread::sleep(Duration::from_secs(6));
    let took = spent() - before;
    eprintln!("{} ms of processor time in 6 s", took * 10);
    assert!(took < 30, "{} ms of processor time in 6 s", took * 10);
}
