//! `setup`: finds, or announces and installs, what building, the demo and the tests need.
//!
//! The plan is made first, from what is missing now; nothing missing is the usual case and must stay fast. Packages
//! come from apt where apt is, the eBPF linker from cargo's registry, the real counterparts (`--real`) into the project's own
//! target directory. On another distribution the rustup way is explained and, once followed, found.

mod needs;
mod toolchain;

use std::io;
use std::io::{IsTerminal, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use bailiwick_tests::real;
use nix::unistd::Uid;

use crate::process::Step;
use crate::setup::toolchain::{Found, LINKER_VERSION, LLVM_PREFIX};
use crate::stop::Stop;
use crate::{Outcome, house, process};

/// What to set up.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Also the real counterparts: llama.cpp's server with a small language model, npm's oidc-provider, the openai
    /// client.
    #[arg(long)]
    real: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// What the other commands call before their own work: never asks.
pub(crate) fn ensure(real: bool) -> Outcome {
    run(&Arguments { real, yes: true })
}

/// For commands that may not install: an error that names what is missing.
pub(crate) fn require() -> Outcome {
    complete().map(|_| ())
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let began = Instant::now();
    let plan = Plan::make(arguments.real);
    if plan.is_empty() {
        println!(
            "setup: nothing to do: {}; {} ({} ms)",
            complete()?,
            if arguments.real { "tools and real counterparts are here" } else { "tools are here" },
            began.elapsed().as_millis()
        );
        return Ok(());
    }
    plan.announce();
    if !arguments.yes && io::stdin().is_terminal() && !confirmed()? {
        return Err(Stop::Missing(vec!["consent: nothing was installed".to_owned()]));
    }
    plan.carry_out()?;
    let found = complete()?;
    println!("setup: done in {} s: {found}", began.elapsed().as_secs());
    Ok(())
}

fn complete() -> Result<String, Stop> {
    match toolchain::find() {
        Found::Complete(words) => Ok(words),
        Found::Incomplete { missing, linker: false } => Err(Stop::Missing(vec![missing.to_string()])),
        Found::Incomplete { missing, linker: true } => {
            let linker = "a bpf-linker that starts (try: bpf-linker --version)".to_owned();
            Err(Stop::Missing(vec![missing.to_string(), linker]))
        }
    }
}

/// What is missing now, in the order in which it will be brought.
#[derive(Debug, Default)]
struct Plan {
    packages: Vec<&'static str>,
    linker: bool,
    real: bool,
}

impl Plan {
    fn make(real: bool) -> Self {
        let mut plan = Self { packages: needs::missing_packages(real), ..Self::default() };
        if let Found::Incomplete { missing, linker } = toolchain::find() {
            plan.packages.extend(toolchain::packages(&missing, linker));
            plan.linker = linker;
        }
        plan.real = real && real::installed().is_none();
        plan
    }

    fn is_empty(&self) -> bool {
        self.packages.is_empty() && !self.linker && !self.real
    }

    fn announce(&self) {
        println!("setup will install:");
        if !self.packages.is_empty() {
            println!("  - Debian packages, by apt-get: {}", self.packages.join(" "));
        }
        if self.linker {
            println!("  - bpf-linker {LINKER_VERSION}, by cargo install (two to five minutes)");
        }
        if self.real {
            println!("  - into {}:", real::directory().display());
            for line in real::CONTENTS {
                println!("      {line}");
            }
        }
    }

    fn carry_out(&self) -> Outcome {
        if !self.packages.is_empty() {
            self.install_packages()?;
        }
        if self.linker {
            println!("==> bpf-linker {LINKER_VERSION}");
            let mut install = house::cargo();
            install.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"]);
            install.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", LLVM_PREFIX);
            Step::new("cargo install bpf-linker").run(install)?;
        }
        if self.real {
            println!("==> real counterparts");
            let mut shown = |line: &str| println!("    {line}");
            real::install(&mut shown).map_err(|error| Stop::Room(error.to_string()))?;
        }
        Ok(())
    }

    fn install_packages(&self) -> Outcome {
        let packages = self.packages.join(" ");
        if house::find("apt-get").is_none() {
            return Err(Stop::Missing(vec![
                format!(
                    "apt-get, to install {packages}: install what gives the same tools with your own packages"
                ),
                toolchain::RUSTUP_WAY.to_owned(),
            ]));
        }
        if !Uid::effective().is_root() {
            return Err(Stop::Missing(vec![format!(
                "root, to install packages. Run these, then this command again:\nsudo apt-get update\n\
                 sudo apt-get install --no-install-recommends {packages}"
            )]));
        }
        println!("==> apt-get update");
        // A third-party source of the machine that is out of order must not stop us when the packages are there.
        if let Err(stop) = Step::new("apt-get update").limit(Duration::from_secs(600)).run(apt(&["update"])) {
            println!("    {stop}; going on with the lists that are here");
        }
        let unknown: Vec<String> = self
            .packages
            .iter()
            .filter(|package| !candidate(package))
            .map(|package| format!("{package}: unknown to this machine's apt sources"))
            .collect();
        if !unknown.is_empty() {
            return Err(Stop::Missing(
                unknown.into_iter().chain([toolchain::RUSTUP_WAY.to_owned()]).collect(),
            ));
        }
        println!("==> apt-get install");
        let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
        install.args(&self.packages);
        Step::new("apt-get install").run(install).map(|_| ())
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    // A lock held by the machine's own upgrades is waited for, not failed on.
    command.args(["--quiet=2", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn candidate(package: &str) -> bool {
    process::answer(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
        .is_some_and(|text| text.contains("Package: "))
}

fn confirmed() -> Result<bool, Stop> {
    print!("go on? [Y/n] ");
    let mut answer = String::new();
    io::stdout()
        .flush()
        .and_then(|()| io::stdin().read_line(&mut answer))
        .map_err(Stop::file("the terminal".as_ref()))?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}
