//! # Selftest: the harmless attacks, on this very host
//!
//! ```text
//!   plan (per model) ─▶ attacker, a process like any other ──▶ the guarded port, every way       law 1
//!                   └─▶ attacker in <slice>/bailiwick-selftest ──▶ documentation addresses       egress
//!                                        │
//!                        rows {attack, expected, happened, ok} ─▶ terminal, journal, trail
//! ```
//!
//! The attackers are this program, started again: one as any local process, one in a cgroup below the model's slice
//! that exists for the test only. What they try is the part of [`catalog`] that a live host can bear.
//!
//! Invariants:
//! - Only an answer that the guard alone gives counts as held: EPERM, or silence on the way in. "Connection
//!   refused" says that nobody listens, not that nobody may.
//! - Nothing stays: no socket, no process, no cgroup. Nothing is sent that the guard should let pass, and what goes
//!   out is addressed to documentation networks (RFC 5737, RFC 3849), which are never routed.
//! - What could not be tried is said, and is neither held nor through.
//!
//! What it does not do: it proves nothing about another moment, and it cannot try what would disturb the host. The
//! suite does that, on a stage of its own.

pub mod attacker;
pub mod catalog;
mod evidence;
mod plan;

pub use evidence::Evidence;

use crate::config::settings::Settings;
use attacker::{Happened, Trial};
use bailiwick_kernel::{KernelError, Site, status};
use serde::Serialize;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One attempt and how it ended.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name in the catalog; `status` for the look at the kernel.
    pub attack: String,
    /// The model it is about.
    pub model: String,
    /// Where to, or what.
    pub target: String,
    /// What must happen.
    pub expected: &'static str,
    /// What happened.
    pub happened: String,
    /// Whether that is held; `None` when it could not be tried.
    pub ok: Option<bool>,
}

/// Why it could not run.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// Not root.
    #[error("a selftest enters the models' slices and opens raw sockets: run it as root")]
    NotRoot,
    /// The kernel cannot be asked.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// An attacker could not be started, or moved into the slice.
    #[error("the attacker in {}: {source}; check that the cgroup tree is writable", place.display())]
    Attacker {
        /// Where it should run.
        place: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The cgroup below a slice that exists for the test only.
const CGROUP: &str = "bailiwick-selftest";

/// Tries everything against every model of `settings`.
///
/// # Errors
/// [`SelftestError`] when nothing can be said.
pub fn run(settings: &Settings, site: &Site) -> Result<Vec<Row>, SelftestError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(SelftestError::NotRoot);
    }
    let truth = status(site, &settings.kernel)?;
    let mut rows = vec![Row {
        attack: "status".to_owned(),
        model: "all".to_owned(),
        target: site.cgroup_root.display().to_string(),
        expected: "guarded",
        happened: if truth.guarded { "guarded" } else { "not guarded" }.to_owned(),
        ok: Some(truth.guarded),
    }];
    for scope in &settings.kernel.scopes {
        let Some(plan) = plan::of(scope) else {
            continue;
        };
        let inward = attack(&plan.inward, None)?;
        rows.extend(judge(scope.name.as_str(), &plan.inward, &inward));
        let slice = site.cgroup_root.join(&scope.cgroup);
        let outward = if slice.is_dir() {
            attack(&plan.outward, Some(&slice))?
        } else {
            vec![
                Happened::NotTried("its slice does not exist: start the model".to_owned());
                plan.outward.len()
            ]
        };
        rows.extend(judge(scope.name.as_str(), &plan.outward, &outward));
    }
    Ok(rows)
}

fn judge<'a>(
    model: &'a str,
    trials: &'a [Trial],
    happened: &'a [Happened],
) -> impl Iterator<Item = Row> + 'a {
    trials.iter().zip(happened).map(move |(trial, happened)| Row {
        attack: trial.attack.clone(),
        model: model.to_owned(),
        target: trial.act.to_string(),
        expected: "refused",
        happened: happened.to_string(),
        ok: trial.held(happened),
    })
}

/// Starts an attacker, below `slice` where one is given, and lets it try all of it.
fn attack(trials: &[Trial], slice: Option<&Path>) -> Result<Vec<Happened>, SelftestError> {
    let place = slice.map(|slice| slice.join(CGROUP));
    let failed =
        |source| SelftestError::Attacker { place: place.clone().unwrap_or_else(|| "/".into()), source };
    let outcome = attack_in(trials, place.as_deref()).map_err(failed);
    if let Some(place) = &place {
        remove(place).map_err(failed)?;
    }
    outcome
}

fn attack_in(trials: &[Trial], place: Option<&Path>) -> io::Result<Vec<Happened>> {
    let mut child = Command::new("/proc/self/exe")
        .args(["selftest", "--attacker"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let outcome = (|| {
        if let Some(place) = place {
            std::fs::create_dir_all(place)?;
            std::fs::write(place.join("cgroup.procs"), child.id().to_string())?;
        }
        let mut orders = child.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?;
        // It waits for its orders, so that every socket it makes belongs to the slice.
        writeln!(orders, "{}", serde_json::to_string(trials)?)?;
        drop(orders);
        let mut line = String::new();
        let answers = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        BufReader::new(answers).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    })();
    if outcome.is_err() {
        let _gone_already = child.kill();
    }
    child.wait()?;
    outcome
}

/// A cgroup empties a moment after its last process.
fn remove(place: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match std::fs::remove_dir(place) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
