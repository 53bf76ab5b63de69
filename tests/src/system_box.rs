//! A machine in a box: a real systemd as PID 1 with journald, on an overlay of this machine's root.
//!
//! ```text
//!   owner ── box-holder (subreaper, outside the box's cgroup)
//!              └── PID 1: /lib/systemd/systemd     own pid, mnt, net, uts, ipc and cgroup namespaces
//!                    ├── systemd-journald, …       root: overlay(/) with its upper layer on a private tmpfs
//!                    └── units of the test         cgroup root: the box's own
//! ```
//!
//! Invariants:
//! - every mount is made inside the box's private mount namespace, so it ends with the box's processes;
//! - every process of the box, and every command run in it, lies below the reaper's cgroup, so it ends with it;
//! - nothing written in the box reaches the machine's disk, and none of the machine's enabled services start.
//!
//! It is not a security boundary (root in the box is root of the machine), it has no devices, and resource
//! limits work only where the machine's own cgroup v2 tree has the controllers.

pub mod enter;
pub mod init;

use crate::cgroup;
use crate::net_namespace::NetNamespace;
use crate::preconditions::{Missing, require_testbed};
use crate::reaper::Reaper;
use init::{Bind, Plan};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a command in the box may take unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running box. It ends when dropped, or with its [`Reaper`].
#[derive(Debug)]
pub struct SystemBox {
    program: PathBuf,
    holder: Child,
    init: i32,
    cgroup: PathBuf,
    commands: AtomicU32,
}

/// What a command in the box did.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// What can go wrong with a box.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// The machine lacks something.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It did not come up.
    #[error("the system box did not come up: {0}")]
    Boot(String),
    /// A command could not be run.
    #[error("{command}: cannot be run in the system box: {source}")]
    Run {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command took too long and was killed.
    #[error("{command}: no end after {} s in the system box, killed", .after.as_secs())]
    TimedOut {
        /// The command.
        command: String,
        /// How long it had.
        after: Duration,
    },
    /// A command failed that had to succeed.
    #[error("{command}: {status} in the system box\n{stderr}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Its words.
        stderr: String,
    },
    /// A file could not be written or read.
    #[error("{}: {source} (in the system box)", .path.display())]
    File {
        /// Its path in the box.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The journal's words are not JSON.
    #[error("journalctl wrote a line that is not JSON: {0}")]
    Journal(#[from] serde_json::Error),
}

impl SystemBox {
    /// Boots a box and waits until systemd has started everything.
    ///
    /// # Errors
    /// [`BoxError::Missing`] names a missing privilege or feature; [`BoxError::Boot`] says how far it came.
    pub fn boot(reaper: &Reaper, name: &str, binds: Vec<Bind>) -> Result<Self, BoxError> {
        require_testbed()?;
        let boot = |error: io::Error| BoxError::Boot(error.to_string());
        let cgroup = reaper.make_cgroup(&format!("box-{name}")).map_err(boot)?;
        let base = reaper.directory().join(format!("box-{name}"));
        fs::create_dir(&base).map_err(boot)?;
        let outside = reaper.make_cgroup("holders").map_err(boot)?;
        let plan = Plan { name: name.to_owned(), base, cgroup: cgroup.clone(), outside, binds };
        let mut holder = Command::new(reaper.program())
            .arg("box-holder")
            .arg(serde_json::to_string(&plan)?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(boot)?;
        let mut answer = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut answer).map_err(boot)?;
        }
        let Some(init) = answer.trim().strip_prefix("up ").and_then(|pid| pid.parse().ok()) else {
            let _ended = holder.wait();
            return Err(BoxError::Boot(answer.trim().to_owned()));
        };
        let program = reaper.program().to_path_buf();
        let made = Self { program, holder, init, cgroup, commands: AtomicU32::new(0) };
        made.wait_until_up()?;
        Ok(made)
    }

    /// Runs a command in the box (within [`PATIENCE`]) and gives what it did, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn exec(&self, command: &[&str]) -> Result<Output, BoxError> {
        self.exec_within(command, PATIENCE)
    }

    /// As [`Self::exec`], but another exit status than 0 is an error that shows stderr.
    ///
    /// # Errors
    /// [`BoxError::Failed`] and as [`Self::exec`]
    pub fn run(&self, command: &[&str]) -> Result<String, BoxError> {
        let Output { status, stdout, stderr } = self.exec(command)?;
        if status.success() {
            Ok(stdout)
        } else {
            Err(BoxError::Failed { command: command.join(" "), status, stderr: format!("{stdout}{stderr}") })
        }
    }

    /// Runs a command with a time limit of its own; it is killed with all its children when it takes longer.
    ///
    /// # Errors
    /// As [`Self::exec`]
    pub fn exec_within(&self, command: &[&str], patience: Duration) -> Result<Output, BoxError> {
        let name = || command.join(" ");
        let failed = |source| BoxError::Run { command: name(), source };
        let place = self.new_command_cgroup().map_err(failed)?;
        let spawned = self
            .entering(&place)
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let ended = spawned.map_err(failed).and_then(|mut child| {
            let stdout = child.stdout.take().map(gather);
            let stderr = child.stderr.take().map(gather);
            let status = wait_until(&mut child, Instant::now() + patience).map_err(failed)?;
            if status.is_none() {
                let _removed_below = cgroup::kill_and_remove(&place, Duration::from_secs(5));
                let _ended = child.wait();
            }
            let text = |thread: Option<std::thread::JoinHandle<String>>| {
                thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
            };
            // A daemonised child may hold the pipes open: what was started by a command ends with it.
            let removed = cgroup::kill_and_remove(&place, Duration::from_secs(5));
            let (stdout, stderr) = (text(stdout), text(stderr));
            removed.map_err(failed)?;
            match status {
                Some(status) => Ok(Output { status, stdout, stderr }),
                None => Err(BoxError::TimedOut { command: name(), after: patience }),
            }
        });
        if ended.is_err() {
            let _already_reported = cgroup::kill_and_remove(&place, Duration::from_secs(1));
        }
        ended
    }

    /// A command that will run in the box, in a cgroup of its own outside of every unit. It ends with the box.
    ///
    /// # Errors
    /// When the cgroup cannot be made.
    pub fn command(&self, command: &[&str]) -> io::Result<Command> {
        let mut entering = self.entering(&self.new_command_cgroup()?);
        entering.args(command);
        Ok(entering)
    }

    /// The journal's entries that match `filter` (arguments of journalctl(1), such as `-u NAME` or
    /// `SYSLOG_IDENTIFIER=bailiwick`), oldest first, each as its JSON object.
    ///
    /// # Errors
    /// When journalctl fails.
    pub fn journal(&self, filter: &[&str]) -> Result<Vec<serde_json::Value>, BoxError> {
        let command = [&["journalctl", "--no-pager", "--quiet", "-o", "json"], filter].concat();
        self.run(&command)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Waits until the journal has an entry for which `wanted` holds, and gives the first such.
    ///
    /// # Errors
    /// When journalctl fails. `Ok(None)` when none came in time.
    pub fn wait_for_journal(
        &self,
        filter: &[&str],
        patience: Duration,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<Option<serde_json::Value>, BoxError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(entry) = self.journal(filter)?.into_iter().find(|entry| wanted(entry)) {
                return Ok(Some(entry));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes a file in the box, with its directories, and sets its mode.
    ///
    /// # Errors
    /// [`BoxError::File`]
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>, mode: u32) -> Result<(), BoxError> {
        let target = self.path(path);
        let write = || -> io::Result<()> {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file =
                fs::File::options().write(true).create(true).truncate(true).mode(mode).open(&target)?;
            io::Write::write_all(&mut file, contents.as_ref())?;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))
        };
        write().map_err(|source| BoxError::File { path: path.into(), source })
    }

    /// Reads a file in the box.
    ///
    /// # Errors
    /// [`BoxError::File`]
    pub fn read(&self, path: &str) -> Result<Vec<u8>, BoxError> {
        fs::read(self.path(path)).map_err(|source| BoxError::File { path: path.into(), source })
    }

    /// Where a path of the box is seen from outside. Absolute symbolic links in it lead out of the box.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{}", self.init, path.trim_start_matches('/')))
    }

    /// The box's PID 1, as the machine numbers it.
    #[must_use]
    pub fn init_pid(&self) -> i32 {
        self.init
    }

    /// The box's cgroup, as the machine sees it: the root of the tree inside.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The box's network namespace.
    ///
    /// # Errors
    /// When the box has died.
    pub fn network(&self) -> io::Result<NetNamespace> {
        NetNamespace::of_process(self.init)
    }

    fn wait_until_up(&self) -> Result<(), BoxError> {
        let deadline = Instant::now() + PATIENCE;
        let socket = self.path("/run/systemd/private");
        let mut state = String::from("systemd opened no socket");
        while Instant::now() < deadline {
            if socket.exists() {
                let left = deadline.saturating_duration_since(Instant::now());
                let said = self.exec_within(&["systemctl", "is-system-running", "--wait"], left)?;
                said.stdout.trim().clone_into(&mut state);
                if matches!(state.as_str(), "running" | "degraded") {
                    return Ok(());
                }
            }
            if !Path::new(&format!("/proc/{}/ns", self.init)).exists() {
                return Err(BoxError::Boot("PID 1 died while starting".into()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let jobs = self.exec(&["systemctl", "list-jobs"]).map(|said| said.stdout).unwrap_or_default();
        Err(BoxError::Boot(format!("not up after {} s: {state}\n{jobs}", PATIENCE.as_secs())))
    }

    fn new_command_cgroup(&self) -> io::Result<PathBuf> {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let place = self.cgroup.join("commands").join(number.to_string());
        cgroup::make(&place)?;
        Ok(place)
    }

    fn entering(&self, place: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("box-enter").arg(self.init.to_string()).arg(place).arg("--");
        command
    }
}

impl Drop for SystemBox {
    fn drop(&mut self) {
        let _reaper_tries_again = cgroup::kill_and_remove(&self.cgroup, Duration::from_secs(10));
        let _ended = self.holder.wait();
    }
}

fn gather(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _what_came_counts = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
