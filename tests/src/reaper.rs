//! The process that outlives its owner just long enough to clean up.
//!
//! ```text
//!   owner (test, demo) ──pipe──▶ reaper           the pipe's end closes when the owner ends, however it ends
//!     │                            │
//!     └── processes in one cgroup ◀┘ cgroup.kill, then rmdir of the cgroups, then of the directory
//! ```
//!
//! Everything the testbed starts runs in the reaper's cgroup, and everything it mounts is mounted in namespaces
//! that only those processes hold. So killing the cgroup ends all of it, and two names remain to remove: the
//! cgroup directory and one temporary directory. The reaper is in its own session with every signal blocked:
//! an interrupt at the terminal ends the owner, and the reaper then does its work.
//!
//! It does not survive SIGKILL of itself. It never removes a directory that something is mounted below.

use crate::cgroup;
use crate::preconditions::{Missing, require_root};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the processes of a testbed may take to die.
const PATIENCE: Duration = Duration::from_secs(20);

/// Owns a testbed's cgroup and directory. Dropping it removes both and everything that runs in the cgroup.
#[derive(Debug)]
pub struct Reaper {
    testbed: PathBuf,
    child: Child,
    lifeline: Option<ChildStdin>,
    cgroup: PathBuf,
    directory: PathBuf,
}

/// Why a testbed cannot be set up or taken down.
#[derive(Debug, thiserror::Error)]
pub enum ReaperError {
    /// The machine lacks something.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The testbed's own program cannot be started.
    #[error("{} cannot be started: {source}; build it: cargo build -p bailiwick-tests", .path.display())]
    Program {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The reaper could not set up.
    #[error("the testbed cannot be set up: {0}")]
    SetUp(String),
    /// Something remained.
    #[error("the testbed was not fully removed: {0}")]
    Left(String),
}

impl Reaper {
    /// Starts a reaper: `testbed` is the `bailiwick-testbed` program.
    ///
    /// # Errors
    /// When not root, or when the cgroup or directory cannot be made.
    pub fn start(testbed: &Path) -> Result<Self, ReaperError> {
        require_root()?;
        let mut child = Command::new(testbed)
            .arg("reaper")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| ReaperError::Program { path: testbed.to_path_buf(), source })?;
        let lifeline = child.stdin.take();
        let mut answer = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut answer)
                .map_err(|error| ReaperError::SetUp(error.to_string()))?;
        }
        match answer.trim_end().split('\t').collect::<Vec<_>>().as_slice() {
            ["ready", cgroup, directory] => Ok(Self {
                testbed: testbed.to_path_buf(),
                child,
                lifeline,
                cgroup: PathBuf::from(cgroup),
                directory: PathBuf::from(directory),
            }),
            other => {
                drop(lifeline);
                let _reaped = child.wait();
                Err(ReaperError::SetUp(other.join(" ")))
            }
        }
    }

    /// The `bailiwick-testbed` program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.testbed
    }

    /// The cgroup v2 directory that everything of this testbed runs in or below.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The temporary directory, mode 0700. Nothing may be mounted on it outside of private mount namespaces.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The reaper's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A cgroup below this testbed's, made now.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn make_cgroup(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.cgroup.join(name);
        cgroup::make(&path)?;
        Ok(path)
    }

    /// Ends the testbed now and says whether anything remained.
    ///
    /// # Errors
    /// [`ReaperError::Left`]
    pub fn finish(mut self) -> Result<(), ReaperError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ReaperError> {
        if self.lifeline.take().is_none() {
            return Ok(());
        }
        let status = self.child.wait().map_err(|error| ReaperError::Left(error.to_string()))?;
        if status.success() {
            Ok(())
        } else {
            Err(ReaperError::Left(format!("the reaper ended with {status}")))
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            let _nowhere_else_to_say_it = writeln!(io::stderr(), "{error}");
        }
    }
}

/// The reaper's own process: sets up, says so on stdout, waits for the end of stdin, and cleans up.
///
/// # Errors
/// When something cannot be set up, or remains.
pub fn serve() -> Result<(), ReaperError> {
    nix::sys::signal::SigSet::all().thread_block().map_err(|errno| ReaperError::SetUp(errno.to_string()))?;
    let _already_a_leader = nix::unistd::setsid();
    let (cgroup, directory) = set_up()?;
    let announced = announce(&cgroup, &directory);
    if announced.is_ok() {
        let mut nothing = [0; 64];
        while matches!(io::stdin().read(&mut nothing), Ok(read) if read > 0) {}
    }
    clean_up(&cgroup, &directory)
}

fn announce(cgroup: &Path, directory: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready\t{}\t{}", cgroup.display(), directory.display())?;
    out.flush()
}

fn set_up() -> Result<(PathBuf, PathBuf), ReaperError> {
    let fail = |what: &str, error: &dyn std::fmt::Display| ReaperError::SetUp(format!("{what}: {error}"));
    let name = format!("bailiwick-testbed-{}", std::process::id());
    let directory = std::env::temp_dir().join(&name);
    if directory.exists() {
        remove_directory(&directory)?; // left by a reaper that was itself killed
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&directory)
        .map_err(|error| fail("temporary directory", &error))?;
    let mount_point = match cgroup::unified_mount().map_err(|error| fail("mount table", &error))? {
        Some(path) => path,
        None => mount_privately(&directory).map_err(|error| {
            fail("cgroup v2 is mounted nowhere and cannot be mounted (boot with cgroup v2 enabled)", &error)
        })?,
    };
    let cgroup = mount_point.join(&name);
    cgroup::make(&cgroup).map_err(|error| {
        fail(
            &format!("cgroup {} cannot be made (is {} writable?)", cgroup.display(), mount_point.display()),
            &error,
        )
    })?;
    Ok((cgroup, directory))
}

/// Mounts cgroup v2 in a mount namespace of the reaper's own; others reach it through `/proc/PID/root`.
fn mount_privately(directory: &Path) -> nix::Result<PathBuf> {
    let point = directory.join("cgroup2");
    nix::unistd::mkdir(&point, nix::sys::stat::Mode::S_IRWXU)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("cgroup2"), &point, Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
    Ok(PathBuf::from(format!("/proc/{}/root{}", std::process::id(), point.display())))
}

fn clean_up(cgroup: &Path, directory: &Path) -> Result<(), ReaperError> {
    let killed = cgroup::kill_and_remove(cgroup, PATIENCE)
        .map_err(|error| ReaperError::Left(format!("cgroup {}: {error}", cgroup.display())));
    let private = directory.join("cgroup2");
    if private.exists() {
        let _reported_below = nix::mount::umount(&private);
    }
    let removed = remove_directory(directory);
    killed.and(removed)
}

fn remove_directory(directory: &Path) -> Result<(), ReaperError> {
    let left = |error: String| ReaperError::Left(format!("{}: {error}", directory.display()));
    let below = format!(" {}/", directory.display());
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| left(error.to_string()))?;
    if let Some(line) = mounts.lines().find(|line| line.contains(&below)) {
        return Err(left(format!("something is mounted below it, so it is kept: {line}")));
    }
    // A mount namespace that was just torn down may hold the directory busy for a moment.
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match fs::remove_dir_all(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(left(error.to_string())),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
