//! A reload: all of it or nothing, and nothing is cut.

use super::world::World;
use std::time::Duration;

const RULE: &str = "endpoints = [\"chat\"]";

#[test]
fn a_reload_cuts_no_stream_and_holds_for_the_next_request() {
    let world = World::new("reload");
    let keys = world.keys_asked();
    let long = "word ".repeat(12);
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| world.chat(&long));
        world.eventually("the stream is under way", || {
            !world.system.run(&["bailiwick", "audit", "show"]).unwrap().is_empty()
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(!stream.is_finished(), "the stream is too short for this test");
        // The model is no longer anybody's: who began before may finish.
        world.write_config(RULE, "endpoints = [\"embeddings\"]");
        world.system.run(&["systemctl", "reload", "bailiwick.service"]).unwrap();
        assert!(!stream.is_finished(), "the stream ended before the reload");
        let refused = world.chat("hello");
        assert_eq!(refused.status, 403, "the new rule holds for the next request");
        let answer = stream.join().unwrap();
        assert_eq!((answer.status.as_u16(), answer.cut.as_deref()), (200, None));
        assert!(answer.text().contains(long.trim()), "{}", answer.text());
        assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
    });
    let policy = world.records("policy").pop().expect("the exchange is recorded");
    assert_ne!(policy["detail"]["old"], policy["detail"]["new"]);
    assert_eq!(world.keys_asked(), keys, "an issuer that is unchanged is not asked again");
    assert_eq!(world.local_attempt(), "EPERM");
    assert!(world.status().1);

    world.write_config(RULE, RULE);
    world.system.run(&["bailiwick", "reload"]).unwrap();
    assert_eq!(world.chat("hello").status, 200, "and back");
    let back = world.records("policy").pop().unwrap();
    assert_eq!(back["detail"]["new"], policy["detail"]["old"], "the same text is the same policy");
}

#[test]
fn a_reload_with_a_broken_config_says_every_error_and_changes_nothing() {
    let world = World::new("broken");
    let before = world.status().0["generation"].clone();
    let two_mistakes = "endpoints = [\"chatt\"]\nmodles = [\"llama\"]";
    world.write_config(RULE, two_mistakes);

    let said = world.system.exec(&["bailiwick", "reload"]).unwrap();
    assert_eq!(said.status.code(), Some(2));
    for mistake in ["chatt", "modles"] {
        assert!(said.stderr.contains(mistake), "{mistake} is missing in {}", said.stderr);
    }
    let reload = world.system.exec(&["systemctl", "reload", "bailiwick.service"]).unwrap();
    assert!(!reload.status.success(), "the job fails");

    // And when the agent is told directly.
    world.system.run(&["systemctl", "kill", "--signal=HUP", "--kill-who=main", "bailiwick.service"]).unwrap();
    let status =
        || world.system.run(&["systemctl", "show", "-p", "StatusText", "bailiwick.service"]).unwrap();
    world.eventually("the agent says that it refused", || status().contains("refused"));
    let journal = world.system.run(&["journalctl", "-u", "bailiwick.service", "-o", "cat"]).unwrap();
    for mistake in ["chatt", "modles"] {
        assert!(journal.matches(mistake).count() >= 2, "{mistake}: by the job and by the agent:\n{journal}");
    }
    let active = world.system.run(&["systemctl", "is-active", "bailiwick.service"]).unwrap();
    assert_eq!(active.trim(), "active");
    assert_eq!(world.status_of(RULE)["generation"], before, "the kernel's policy is the same");
    assert_eq!(world.records("policy").len(), 0);
    assert_eq!(world.chat("hello").status, 200, "the policy before stays in force");
}
