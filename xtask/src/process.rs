//! Runs one step of a command: its output is shown indented as it comes, silence has a heartbeat, time has a limit.
//!
//! Output of children is read by one thread per pipe and handed over a channel, so that the waiting side can notice
//! silence, lateness and interruption. The child leads its own process group: a step that is late or interrupted is
//! ended with its whole group (SIGTERM, then SIGKILL), so that a compiler or test started by it does not stay behind.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt;
use crate::stop::Stop;

/// Silence longer than this is broken by a line with the seconds elapsed.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a group has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// One step: what it is called, how long it may take, whether its output is shown.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    name: &'a str,
    limit: Duration,
    shown: Shown,
}

/// Which output of a step the user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// all of it, and heartbeats
    All,
    /// standard error, and heartbeats
    Errors,
    /// standard error, on standard error
    Apart,
}

/// How a step ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// as the kernel said it
    pub(crate) status: ExitStatus,
    /// from start to the end of output
    pub(crate) took: Duration,
}

impl<'a> Step<'a> {
    /// A step whose output is shown and which may take 30 minutes.
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, limit: Duration::from_secs(30 * 60), shown: Shown::All }
    }

    /// Another limit.
    pub(crate) fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Standard output goes to the caller's closure only.
    pub(crate) fn unshown(self) -> Self {
        Self { shown: Shown::Errors, ..self }
    }

    /// The same, and nothing is printed on our standard output.
    pub(crate) fn silent(self) -> Self {
        Self { shown: Shown::Apart, ..self }
    }

    fn say(&self, text: &str) {
        match self.shown {
            Shown::All | Shown::Errors => println!("    {text}"),
            Shown::Apart => eprintln!("    {text}"),
        }
    }

    /// Runs it; anything but success is an error.
    pub(crate) fn run(self, command: Command) -> Result<Duration, Stop> {
        let step = self.name.to_owned();
        let ended = self.run_with(command, |_| {})?;
        if ended.status.success() { Ok(ended.took) } else { Err(Stop::Step { step, how: how(ended.status) }) }
    }

    /// Runs it, gives each line of its standard output to `line`, and says how it ended.
    pub(crate) fn run_with(self, mut command: Command, mut line: impl FnMut(&str)) -> Result<Ended, Stop> {
        let started = Instant::now();
        let _busy = interrupt::busy();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|source| Stop::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
        let lines = read_both(&mut child);
        let mut beat = started;
        loop {
            match lines.recv_timeout(Duration::from_millis(500)) {
                Ok((source, text)) => {
                    if self.shown == Shown::All || source == Source::Error {
                        self.say(&text);
                    }
                    if source == Source::Output {
                        line(&text);
                    }
                    beat = Instant::now();
                }
                // All pipes are closed: the child and whoever inherited them are done.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if beat.elapsed() >= HEARTBEAT {
                self.say(&format!("... {} ({} s)", self.name, started.elapsed().as_secs()));
                beat = Instant::now();
            }
            if interrupt::requested() {
                end_group(&mut child);
                return Err(Stop::Interrupted);
            }
            if started.elapsed() >= self.limit {
                end_group(&mut child);
                return Err(Stop::Late { step: self.name.to_owned(), seconds: self.limit.as_secs() });
            }
        }
        let status = child.wait().map_err(|source| Stop::Start { program: self.name.to_owned(), source })?;
        Ok(Ended { status, took: started.elapsed() })
    }
}

/// The standard output of a quick, silent command, or None when it cannot be started or fails.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// An exit status in words.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Output,
    Error,
}

fn read_both(child: &mut Child) -> Receiver<(Source, String)> {
    let (sender, receiver) = channel();
    if let Some(pipe) = child.stdout.take() {
        read(pipe, Source::Output, sender.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        read(pipe, Source::Error, sender);
    }
    receiver
}

fn read(pipe: impl Read + Send + 'static, source: Source, sender: Sender<(Source, String)>) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        // Test output need not be UTF-8, and a bad byte must not end the reading.
        while matches!(pipe.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if sender.send((source, text)).is_err() {
                break;
            }
            bytes.clear();
        }
    });
}

fn end_group(child: &mut Child) {
    let Ok(id) = i32::try_from(child.id()) else { return };
    let group = Pid::from_raw(id);
    // Failure means that the group is gone already, which is what is wanted.
    let _ = killpg(group, Signal::SIGTERM);
    let since = Instant::now();
    while since.elapsed() < GRACE && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(100));
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_of_standard_output_reach_the_caller_and_the_status_is_told() {
        let mut seen = Vec::new();
        let ended = Step::new("sh").unshown().run_with(shell("echo one; printf two; exit 3"), |line| {
            seen.push(line.to_owned());
        });
        assert_eq!(seen, ["one", "two"]);
        assert_eq!(ended.unwrap().status.code(), Some(3));
    }

    #[test]
    fn a_late_step_is_ended_with_its_children() {
        let began = Instant::now();
        let stopped =
            Step::new("sh").unshown().limit(Duration::from_millis(600)).run(shell("sleep 30 & wait"));
        assert!(matches!(stopped, Err(Stop::Late { .. })), "{stopped:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_failed_step_says_how() {
        let stopped = Step::new("the step").unshown().run(shell("kill -9 $$")).unwrap_err();
        assert_eq!(stopped.to_string(), "the step failed (signal 9); its output is above");
    }
}
