//! The main job, end to end, on this machine's own kernel: the same story that the demo tells.

use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::narrator::Narrator;
use bailiwick_tests::story::{Backend, Options, play};
use std::path::{Path, PathBuf};

#[test]
fn the_story_holds_with_the_embedded_players() {
    let mut narrator = Narrator::to(Box::new(std::io::stderr()));
    let story = play(Backend::Embedded, &mut narrator, &options()).unwrap_or_else(|error| panic!("{error}"));
    assert!(story.attempts.len() > 40, "only {} attempts were made", story.attempts.len());
    assert!(story.attempts.iter().all(|told| told.as_expected));
}

fn options() -> Options {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd");
    Options {
        bailiwick: bailiwick_binary(),
        testbed: PathBuf::from(env!("CARGO_BIN_EXE_bailiwick-testbed")),
        units,
    }
}
