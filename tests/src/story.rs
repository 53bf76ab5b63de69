//! The main job, told and checked on this machine's own kernel.
//!
//! ```text
//!                 model host (system box)                     lab network
//!   ┌───────────────────────────────────────────────┐
//!   │ bailiwick-agent.slice   bailiwick-llama.slice │   client   203.0.113.10   2001:db8:c::10   eu
//!   │   bailiwick.service ───▶ llama.service :8000  │   issuer   198.51.100.20  2001:db8:a::20   eu
//!   │   [::]:8443                                   │   foreign  192.0.2.30     2001:db8:f::30   overseas
//!   └───────────────────────────────────────────────┘
//! ```
//!
//! The demo and the end-to-end test play this same story. First everything is tried without a guard: each refusal later on
//! means something only because the same attempt got through before. Then six steps, each of which says what was
//! tried, what was expected and what happened. The first difference ends the story with an error.
//!
//! Who plays the model server, the issuer and the caller is behind [`Cast`]: the project's own small ones
//! ([`Backend::Embedded`]), or programs that nobody here wrote ([`Backend::Real`]).
//!
//! Invariants: nothing remains afterwards, however the story ends (see [`crate::reaper`]); nothing leaves the lab;
//! no step is skipped.

pub mod cast;
mod embedded;
mod scenes;
mod stage;

use crate::authority::AuthorityError;
use crate::caller::CallerError;
use crate::issuer::IssuerError;
use crate::lab_network::LabError;
use crate::model_host::ModelHostError;
use crate::model_server::ControlError;
use crate::narrator::{Narrator, Told};
use crate::preconditions::{Missing, require_testbed};
use crate::reaper::ReaperError;
use crate::system_box::BoxError;
use cast::Cast;
pub use stage::Stage;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Who plays.
pub enum Backend {
    /// The project's own model server, issuer and caller.
    Embedded,
    /// Others.
    Real(Box<dyn Cast>),
}

/// What the story is played with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `bailiwick` program.
    pub bailiwick: PathBuf,
    /// The `bailiwick-testbed` program.
    pub testbed: PathBuf,
    /// The directory with `bailiwick.service`, `bailiwick-agent.slice` and `model.conf`.
    pub units: PathBuf,
}

/// The story, as it went.
#[derive(Clone, Debug)]
pub struct Story {
    /// Everything that was tried, all of it as expected.
    pub attempts: Vec<Told>,
    /// From the first word to the last.
    pub took: Duration,
}

/// Why the story did not come to its good end.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// The machine lacks something.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A program that is needed is not there.
    #[error("{} is not there; build it first: {cure}", .path.display())]
    NotBuilt {
        /// The program.
        path: PathBuf,
        /// How.
        cure: &'static str,
    },
    /// Reality differs.
    #[error("{step}: {tried}: expected {expected}, but: {happened}")]
    Unexpected {
        /// The step.
        step: String,
        /// What was tried.
        tried: String,
        /// What should have happened.
        expected: String,
        /// What did.
        happened: String,
    },
    /// A unit in the box does not run.
    #[error("{unit} did not {verb}\n{journal}")]
    Unit {
        /// The unit.
        unit: String,
        /// What it was told to do.
        verb: &'static str,
        /// Its last words.
        journal: String,
    },
    /// Something was to be found, and is not.
    #[error("{0}")]
    Absent(String),
    /// The testbed.
    #[error(transparent)]
    Reaper(#[from] ReaperError),
    /// The system box.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// The network.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The agent's files are not where they should be.
    #[error(transparent)]
    Host(#[from] ModelHostError),
    /// The certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The model server.
    #[error(transparent)]
    Model(#[from] ControlError),
    /// The caller.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// Another player.
    #[error("{0}")]
    Cast(String),
    /// A thread, process or file.
    #[error("{0}")]
    System(#[from] io::Error),
    /// JSON that is none.
    #[error("unreadable JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Plays the whole story.
///
/// # Errors
/// The first thing that is missing or not as expected. Everything is taken down in any case.
pub fn play(backend: Backend, narrator: &mut Narrator, options: &Options) -> Result<Story, StoryError> {
    require_testbed()?;
    for (path, cure) in [
        (&options.bailiwick, "cargo xtask setup && cargo build -p bailiwick"),
        (&options.testbed, "cargo build -p bailiwick-tests"),
    ] {
        if !path.is_file() {
            return Err(StoryError::NotBuilt { path: path.clone(), cure });
        }
    }
    let mut cast: Box<dyn Cast> = match backend {
        Backend::Embedded => Box::new(embedded::Embedded::default()),
        Backend::Real(cast) => cast,
    };
    let mut stage = Stage::set(cast.as_mut(), narrator, options)?;
    let told = scenes::all(&mut stage, cast.as_mut(), narrator);
    drop(cast);
    let struck = stage.strike();
    told?;
    struck?;
    narrator.step("The end");
    narrator.says(&format!(
        "{} attempts, all as expected, in {:.1} s. Nothing remains: no process, cgroup, pin, namespace or mount.",
        narrator.attempts().len(),
        narrator.elapsed().as_secs_f32()
    ));
    Ok(Story { attempts: narrator.attempts().to_vec(), took: narrator.elapsed() })
}
