//! `build`: the agent, with the eBPF programs inside it, and the testbed's own programs.

use std::path::PathBuf;

use crate::process::Step;
use crate::{Outcome, house, setup};

/// How to build.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Optimized, as it is shipped.
    #[arg(long)]
    release: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    setup::ensure(false)?;
    programs(arguments.release)?;
    println!("built: {}", agent(arguments.release).display());
    Ok(())
}

/// Builds the agent and the testbed's programs.
pub(crate) fn programs(release: bool) -> Outcome {
    println!("==> building the agent and the testbed{}", if release { " (release)" } else { "" });
    let mut build = house::cargo();
    build.args(["build", "--quiet", "--bins", "--package", "bailiwick", "--package", "bailiwick-tests"]);
    if release {
        build.arg("--release");
    }
    Step::new("cargo build").run(build).map(|_| ())
}

/// Where cargo put the agent.
pub(crate) fn agent(release: bool) -> PathBuf {
    directory(release).join("bailiwick")
}

/// Where cargo put the testbed's program.
pub(crate) fn testbed(release: bool) -> PathBuf {
    directory(release).join("bailiwick-testbed")
}

fn directory(release: bool) -> PathBuf {
    house::target().join(if release { "release" } else { "debug" })
}
