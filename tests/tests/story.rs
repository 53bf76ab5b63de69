//! The main job, end to end, on this machine's own kernel: the same story that the demo tells.

use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::narrator::Narrator;
use bailiwick_tests::story::{Backend, Options, StoryError, play};
use std::path::{Path, PathBuf};

#[test]
fn the_story_holds_with_the_embedded_players() {
    let mut narrator = Narrator::to(Box::new(std::io::stderr()));
    let story = play(Backend::Embedded, &mut narrator, &options()).unwrap_or_else(|error| panic!("{error}"));
    assert!(story.attempts.len() > 40, "only {} attempts were made", story.attempts.len());
    assert!(story.attempts.iter().all(|told| told.as_expected));
}

/// The story's own control: where nothing is guarded, it must not come to its good end.
#[test]
fn an_agent_that_guards_nothing_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let idle = directory.path().join("bailiwick");
    // Says READY=1 itself: systemd hears the unit's main process only, and its other processes may not pass for it.
    let script = r#"#!/bin/sh
case $1 in run) exec python3 -c '
import os, socket, time
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(600)';; esac
"#;
    std::fs::write(&idle, script).unwrap();
    std::fs::set_permissions(&idle, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut narrator = Narrator::to(Box::new(std::io::stderr()));
    let options = Options { bailiwick: idle, ..options() };
    let found = play(Backend::Embedded, &mut narrator, &options).unwrap_err();
    let StoryError::Unexpected { tried, happened, .. } = &found else { panic!("{found}") };
    assert_eq!(happened, "ok", "{found}");
    assert!(tried.contains("a local process, root, connects to 127.0.0.1:8000"), "{found}");
}

fn options() -> Options {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd");
    Options {
        bailiwick: bailiwick_binary(),
        testbed: PathBuf::from(env!("CARGO_BIN_EXE_bailiwick-testbed")),
        units,
    }
}
