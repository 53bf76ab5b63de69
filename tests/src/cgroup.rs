//! The few things the testbed does with cgroup v2 directories: find, make, enter, kill, remove.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where cgroup v2 is mounted, read from `/proc/self/mountinfo` (proc(5)): `/sys/fs/cgroup` on most machines,
/// `/sys/fs/cgroup/unified` on hybrid ones, nowhere on some.
pub(crate) fn unified_mount() -> io::Result<Option<PathBuf>> {
    Ok(find_unified(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// Makes a cgroup directory; an existing one is kept.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Puts the calling process into a cgroup.
pub(crate) fn enter(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.procs"), "0")
}

/// Kills every process in the cgroup and below it, waits until they are gone, and removes the directories.
/// A directory that is already gone counts as removed.
pub(crate) fn kill_and_remove(path: &Path, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        kill(path);
        match remove_tree(path) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// `cgroup.kill` where the kernel has it (5.14), else every process by its id. Errors show up as a directory
/// that cannot be removed.
fn kill(path: &Path) {
    if fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for directory in tree(path) {
        let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1) {
            let _gone_is_fine =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Removes a cgroup and those below it, deepest first.
fn remove_tree(path: &Path) -> io::Result<()> {
    for directory in tree(path).into_iter().rev() {
        match fs::remove_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The directory and those below it, parents first.
fn tree(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_path_buf()];
    let mut next = 0;
    while next < found.len() {
        if let Ok(entries) = fs::read_dir(&found[next]) {
            found.extend(
                entries
                    .flatten()
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        next += 1;
    }
    found
}

fn find_unified(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let whole_tree = before.split(' ').nth(3)? == "/";
        (whole_tree && after.starts_with("cgroup2 ")).then(|| before.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_says_where_cgroup_v2_is() {
        let rows = [
            ("26 20 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw", Some("/sys/fs/cgroup"), "usual"),
            ("9 8 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", None, "version 1 is not it"),
            (
                "9 8 0:1 / /a rw - cgroup cgroup rw\n31 8 0:29 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 c rw",
                Some("/sys/fs/cgroup/unified"),
                "hybrid, with an optional field",
            ),
            ("26 20 0:23 /sub /mnt rw - cgroup2 cgroup2 rw", None, "a bind mount of a part is not the whole"),
        ];
        for (mountinfo, expected, reason) in rows {
            assert_eq!(find_unified(mountinfo), expected.map(PathBuf::from), "{reason}");
        }
    }
}
