//! `demo`: set up, build, and play the main job once on this machine's kernel. The story itself is told by
//! [`bailiwick_tests::story`].
//!
//! When it is interrupted, this process ends, and the testbed's reaper takes down what the story had put up.

use bailiwick_tests::narrator::Narrator;
use bailiwick_tests::real::{self, Players};
use bailiwick_tests::story::{self, Backend, Options};

use crate::stop::Stop;
use crate::{Outcome, build, house, preconditions, setup};

/// Which counterparts play.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// With llama.cpp's server and a real small language model, npm's oidc-provider and the official openai client,
    /// instead of the project's own small ones.
    #[arg(long)]
    real: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    preconditions::check()?;
    setup::ensure(arguments.real)?;
    build::programs(false)?;
    let backend = if arguments.real {
        let gone = || Stop::Room("the real counterparts are gone again: run the demo once more".to_owned());
        Backend::Real(Box::new(Players::new(real::installed().ok_or_else(gone)?)))
    } else {
        Backend::Embedded
    };
    let options = Options {
        bailiwick: build::agent(false),
        testbed: build::testbed(false),
        units: house::root().join("config/systemd"),
    };
    story::play(backend, &mut Narrator::to_stdout(), &options)
        .map_err(|error| Stop::Room(error.to_string()))?;
    Ok(())
}
