//! `demo`: set up, build, and play the main job once on this machine's kernel. The story itself is told by
//! `bailiwick_tests::story`.

use crate::{Outcome, build, preconditions, setup};

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
    build::programs(false)
}
