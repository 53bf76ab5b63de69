//! Runs one installer: its output goes to a log file, its silence is filled with the seconds elapsed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::RealError;

const HEARTBEAT: Duration = Duration::from_secs(5);

/// Runs `command`; `progress` gets a line at the start and one every few seconds.
pub(super) fn run(
    name: &str,
    mut command: Command,
    log: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), RealError> {
    let unusable = |source| RealError::File { path: log.to_owned(), source };
    let output = File::create(log).map_err(unusable)?;
    let errors = output.try_clone().map_err(unusable)?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe and touches no memory of ours.
    unsafe {
        // An installer whose starter was killed would write on into a directory that the next one is making anew.
        command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGTERM).map_err(Into::into));
    }
    progress(name);
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| RealError::Start { program: program.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    let mut beat = started;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if beat.elapsed() >= HEARTBEAT {
            progress(&format!("... {name} ({} s)", started.elapsed().as_secs()));
            beat = Instant::now();
        }
        thread::sleep(Duration::from_millis(20));
    };
    if status.success() {
        return Ok(());
    }
    Err(RealError::Step { step: name.to_owned(), log: log.to_owned(), tail: tail(log) })
}

/// The standard output of a quick command, or None when it cannot be started or fails.
pub(super) fn answer(program: impl AsRef<Path>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program.as_ref()).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
