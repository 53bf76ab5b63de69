//! One agent a host: whoever changes what the kernel holds has this lock first.
//!
//! It is an advisory lock (flock(2)) on the directory of the pins, so that it covers exactly what it protects,
//! and the kernel takes it back however its owner ends. Without it a second `bailiwick run` would put its own
//! policy in force over that of the first before it found the trail taken. Reading (`status`) needs no lock.

use bailiwick_kernel::Site;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Held until it is dropped.
#[derive(Debug)]
pub struct HostLock(#[expect(dead_code, reason = "held, never read")] Flock<File>);

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "another `bailiwick run`{} guards this host already; there can be one: systemctl status bailiwick",
        .0.map_or_else(String::new, |pid| format!(" (pid {pid})"))
    )]
    Held(Option<u32>),
    /// The directory cannot be made or opened.
    #[error("cannot lock {}: {source}; the agent keeps its pins there and needs root", .path.display())]
    File {
        /// The directory of the pins.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Takes the lock, or says at once who has it.
///
/// # Errors
/// [`LockError`]
pub fn take(site: &Site) -> Result<HostLock, LockError> {
    let path = site.pins.as_path();
    let fail = |source| LockError::File { path: path.to_owned(), source };
    loop {
        fs::create_dir_all(path).map_err(fail)?;
        let directory = File::open(path).map_err(fail)?;
        let locked = match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(LockError::Held(holder(path))),
            Err((_, errno)) => return Err(fail(errno.into())),
        };
        // `release` removes the directory while it holds the lock: a lock on what is gone protects nothing.
        let inode = locked.metadata().map_err(fail)?.ino();
        if fs::metadata(path).is_ok_and(|now| now.ino() == inode) {
            return Ok(HostLock(locked));
        }
    }
}

/// Who has the lock, from /proc/locks (proc(5)); `None` when it cannot be told.
fn holder(path: &Path) -> Option<u32> {
    let found = fs::metadata(path).ok()?;
    let (major, minor) = (nix::sys::stat::major(found.dev()), nix::sys::stat::minor(found.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let table = fs::read_to_string("/proc/locks").ok()?;
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|fields| {
        let held = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&place.as_str());
        held.then(|| fields.get(4)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_and_the_other_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let site = Site { cgroup_root: "/".into(), pins: directory.path().join("pins") };
        let first = take(&site).unwrap();
        let refused = take(&site).unwrap_err();
        assert!(matches!(refused, LockError::Held(_)), "{refused}");
        assert!(refused.to_string().contains("systemctl status bailiwick"), "{refused}");
        drop(first);
        take(&site).unwrap();
    }

    #[test]
    fn a_lock_on_what_was_removed_is_not_taken_for_one() {
        let directory = tempfile::tempdir().unwrap();
        let site = Site { cgroup_root: "/".into(), pins: directory.path().join("pins") };
        let releasing = take(&site).unwrap();
        fs::remove_dir(&site.pins).unwrap();
        let _running = take(&site).unwrap();
        drop(releasing);
        assert!(matches!(take(&site), Err(LockError::Held(_))), "the new directory is locked");
    }
}
