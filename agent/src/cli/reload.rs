//! `bailiwick reload`: a running agent takes the config as it is now, and this waits until it has; what `systemctl reload
//! bailiwick` runs.

use super::ConfigPath;
use crate::config::{self, HostFacts};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const UNIT: &str = "bailiwick.service";
/// Between two looks at the agent's answer.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A reload takes milliseconds; big region data may take the kernel some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `bailiwick reload`.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    config: ConfigPath,
}

/// Exit 0: the config is in force; 1: the agent refused it or does not run; 2: the config has errors, all of them were
/// printed, and the agent was not asked. The old policy stays in force in both cases.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &ReloadArgs) -> ExitCode {
    if let Err(errors) = config::load(&args.config.config, &HostFacts::for_check()) {
        eprintln!("{errors}\nbailiwick reload: nothing was changed; the policy before stays in force");
        return ExitCode::from(2);
    }
    match ask() {
        Ok(status) => {
            println!("{status}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bailiwick reload: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the agent, and waits for what it says to systemd of it.
fn ask() -> Result<String, String> {
    let pid = show("MainPID")?.parse().ok().filter(|pid| *pid > 1);
    let pid = pid.ok_or("the agent does not run; start it: systemctl start bailiwick")?;
    let before = show("StatusText")?;
    kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|errno| format!("cannot signal the agent: {errno}"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = show("StatusText")?;
        if status != before {
            return if status.contains(super::RELOAD_REFUSED) { Err(status) } else { Ok(status) };
        }
        if Instant::now() >= deadline {
            return Err("the agent has not answered; see journalctl -u bailiwick".to_owned());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn show(property: &str) -> Result<String, String> {
    let output = Command::new("systemctl")
        .args(["show", "--value", "--property", property, UNIT])
        .output()
        .map_err(|error| format!("cannot run systemctl: {error}"))?;
    if !output.status.success() {
        return Err(format!("systemctl: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
