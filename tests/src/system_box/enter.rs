//! Runs one command inside a box: into its cgroup, into its namespaces, and then the command.

use crate::cgroup;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

/// The environment of everything that runs in a box; nothing of the machine's own reaches it.
pub(super) const ENVIRONMENT: [(&str, &str); 5] = [
    ("container", "bailiwick-testbed"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LANG", "C.UTF-8"),
    ("HOME", "/root"),
    ("SYSTEMD_PAGER", ""),
];

/// Enters the box whose PID 1 is `init` and runs `command` in the cgroup directory `place`. Gives the exit code,
/// 128 plus the number of a signal that ended it. Call it from a process with a single thread.
///
/// # Errors
/// When the box is gone or the command cannot be started.
pub fn run(init: i32, place: &Path, command: &[String]) -> io::Result<i32> {
    let [program, arguments @ ..] = command else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command given"));
    };
    cgroup::enter(place)?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    setns(pidfd(init)?, namespaces)?;
    std::env::set_current_dir("/")?;
    let status = Command::new(program).args(arguments).env_clear().envs(ENVIRONMENT).status()?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes a process id and flags and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = Errno::result(descriptor)?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the call succeeded, so the descriptor is open and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
