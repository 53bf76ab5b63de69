//! The main job, end to end, played by programs that nobody here wrote: llama.cpp's server with a small language
//! model, npm's oidc-provider, the official openai client.

use bailiwick_tests::narrator::Narrator;
use bailiwick_tests::real::{self, Players};
use bailiwick_tests::story::{Backend, Options, play};
use std::path::{Path, PathBuf};

#[test]
fn the_story_holds_with_the_real_players() {
    let real =
        real::installed().expect("the real counterparts are not installed: run `cargo xtask setup --real`");
    let testbed = PathBuf::from(env!("CARGO_BIN_EXE_bailiwick-testbed"));
    // Cargo puts the workspace's programs into one directory; the agent is built before the tests.
    let bailiwick = testbed.with_file_name("bailiwick");
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd");
    let options = Options { bailiwick, testbed, units };
    let mut narrator = Narrator::to(Box::new(std::io::stderr()));
    let backend = Backend::Real(Box::new(Players::new(real)));
    let story = play(backend, &mut narrator, &options).unwrap_or_else(|error| panic!("{error}"));
    assert!(story.attempts.len() > 40, "only {} attempts were made", story.attempts.len());
    assert!(story.attempts.iter().all(|told| told.as_expected));
}
