//! Why a command stopped. Each reason names the place and the cure.

use std::io;
use std::path::{Path, PathBuf};

/// The one error of xtask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// Something that must be there is not, and xtask may not or cannot bring it.
    #[error("missing:\n{}", indented(.0))]
    Missing(Vec<String>),
    /// A step ran and failed; its output has been shown.
    #[error("{step} failed ({how}); its output is above")]
    Step {
        /// what was being done
        step: String,
        /// exit status or signal
        how: String,
    },
    /// A step took longer than it may.
    #[error("{step} was stopped after {seconds} s without an end")]
    Late {
        /// what was being done
        step: String,
        /// its limit
        seconds: u64,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// as it would be found in PATH
        program: String,
        /// the cause
        source: io::Error,
    },
    /// A file or directory could not be used.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// which
        path: PathBuf,
        /// the cause
        source: io::Error,
    },
    /// What a program printed was not what it is documented to print.
    #[error("cannot read the output of {step}: {reason}")]
    Output {
        /// what was being done
        step: String,
        /// what was expected
        reason: String,
    },
    /// A room of the project said no.
    #[error("{0}")]
    Room(String),
    /// Tests failed, or a runner ended without its summary.
    #[error("{0} failed")]
    Tests(u64),
    /// The user (or CI) asked to stop.
    #[error("interrupted; what was started has been taken down")]
    Interrupted,
}

impl Stop {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  - {}", line.replace('\n', "\n    "))).collect::<Vec<_>>().join("\n")
}
