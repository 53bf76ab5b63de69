//! Other datasets are another policy: taken by a reload, all of it or nothing; and one that is old is said to be.

use super::world::World;
use serde_json::Value;
use std::time::Duration;

const PINNED: &str = "[regions.eu]\n";
const COUNTRIES: &str = "[regions.eu]\ncountries = [\"DE\"]\n";
const DATASETS: &str = "/var/lib/bailiwick/datasets";
const STALE: &str = "MESSAGE_ID=9f0c6a5b2d7e4f18b3c19a4e57d2806d";
const VIOLATION: &str = "MESSAGE_ID=6b1f4e0c3a5d4c0c9f5a2b7d8e914c02";

/// AWS's ranges, with the foreign host's network in this region.
fn ranges(day: &str, region: &str) -> String {
    format!(
        r#"{{"syncToken": "1", "createDate": "{day}-00-00-00", "ipv6_prefixes": [],
            "prefixes": [{{"ip_prefix": "192.0.2.0/24", "region": "{region}"}}]}}"#
    )
}

fn import(world: &World, text: &str) {
    world.system.write("/root/ip-ranges.json", text, 0o644).unwrap();
    world.system.run(&["bailiwick", "regions", "import", "/root/ip-ranges.json"]).unwrap();
}

#[test]
fn datasets_are_taken_by_a_reload_and_broken_ones_change_nothing() {
    let world = World::new("datasets");
    let reload = || world.system.exec(&["bailiwick", "reload"]).unwrap();
    let generation = || world.status().0["generation"].as_u64().unwrap();
    world.write_config(PINNED, COUNTRIES);
    assert_eq!(reload().status.code(), Some(0), "a config may wait for its datasets");
    assert_eq!(world.abroad_attempt(), "EPERM", "a country without a dataset holds no address");

    // Taken as one generation, and only by a reload.
    import(&world, &ranges("2020-01-01", "eu-central-1"));
    assert_eq!(world.abroad_attempt(), "EPERM", "an import alone changes nothing");
    let before = generation();
    assert_eq!(reload().status.code(), Some(0));
    assert_eq!(generation(), before + 1, "one generation");
    assert_ne!(world.abroad_attempt(), "EPERM", "the network is in Frankfurt now");
    let policy = world.records("policy").pop().unwrap();
    let datasets = policy["detail"]["datasets"].as_str().unwrap();
    assert!(datasets.starts_with("aws of 2020-01-01 sha256:"), "the trail names what decides: {policy}");

    // An old dataset decides, and is said to be old.
    let patience = Duration::from_secs(5);
    let stale = world.system.wait_for_journal(&[STALE], patience, |_| true).unwrap().expect("no alert");
    assert_eq!((&stale["BAILIWICK_DATASET"], &stale["PRIORITY"]), (&Value::from("aws"), &Value::from("4")));
    assert!(stale["MESSAGE"].as_str().unwrap().contains("bailiwick regions import FILE"), "{stale}");
    world.eventually("it is recorded", || !world.records("stale-dataset").is_empty());
    let status = world.system.exec(&["bailiwick", "regions", "status"]).unwrap();
    assert_eq!(status.status.code(), Some(1), "{}", status.stdout);

    // A kept file that was damaged: nothing changes, and it is said.
    let (kept, before) = (format!("{DATASETS}/aws.json"), generation());
    world.system.write(&kept, "{}", 0o644).unwrap();
    let refused = reload();
    assert_eq!(refused.status.code(), Some(2));
    for words in ["datasets", &kept, "bailiwick regions import FILE --name aws"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    world.system.run(&["systemctl", "kill", "--signal=HUP", "--kill-who=main", "bailiwick.service"]).unwrap();
    let said = || world.system.run(&["systemctl", "show", "-p", "StatusText", "bailiwick.service"]).unwrap();
    world.eventually("the agent says that it refused", || said().contains("refused"));
    assert_eq!(generation(), before, "the kernel's policy is the same");
    assert_ne!(world.abroad_attempt(), "EPERM", "what was in force stays");
    assert_eq!(world.chat("hello").status, 200);

    // Half a file is no file.
    let moved = ranges("2099-01-01", "us-east-1");
    world.system.write("/root/half.json", &moved[..moved.len() / 2], 0o644).unwrap();
    let half = world.system.exec(&["bailiwick", "regions", "import", "/root/half.json"]).unwrap();
    assert_eq!(half.status.code(), Some(2));
    assert!(half.stderr.contains("/root/half.json: line "), "{}", half.stderr);

    // The cure, and the network has moved: the alert says where to, and who says so.
    import(&world, &moved);
    assert_eq!(reload().status.code(), Some(0));
    assert_eq!(world.abroad_attempt(), "EPERM", "the network is in Virginia now");
    let alert = world
        .system
        .wait_for_journal(&[VIOLATION], patience, |alert| alert["BAILIWICK_DATASET"] == "aws of 2099-01-01");
    let alert = alert.unwrap().expect("no alert of the refusal");
    assert_eq!(alert["BAILIWICK_COUNTRY"], "US");
    assert!(alert["MESSAGE"].as_str().unwrap().contains("it is in US (aws of 2099-01-01)"), "{alert}");
    let status = world.system.exec(&["bailiwick", "regions", "status"]).unwrap();
    assert_eq!(status.status.code(), Some(0), "{}", status.stdout);

    // Each reason of its own: anycast, by a provider that says so.
    world.system.write("/root/ips.txt", "192.0.2.0/25\n", 0o644).unwrap();
    world.system.run(&["bailiwick", "regions", "import", "/root/ips.txt"]).unwrap();
    import(&world, &ranges("2099-01-02", "GLOBAL"));
    for (dataset, reason) in [("none", "conflict"), ("cloudflare", "global"), ("aws", "anycast")] {
        // Two providers, then each alone.
        world.system.exec(&["rm", "-f", &format!("{DATASETS}/{dataset}.json")]).unwrap();
        if dataset == "aws" {
            world.system.run(&["bailiwick", "regions", "import", "/root/ips.txt"]).unwrap();
        }
        assert_eq!(reload().status.code(), Some(0), "{reason}");
        // The kernel says one event of a process and destination a second.
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(world.abroad_attempt(), "EPERM", "{reason}");
        let alert = world
            .system
            .wait_for_journal(&[VIOLATION], patience, |alert| alert["BAILIWICK_UNPLACED"] == reason);
        assert!(alert.unwrap().is_some(), "{reason}: no alert");
    }
}
