//! A model's Unix socket, and whether it is the model that serves it.
//!
//! The kernel guards no Unix socket: whoever may open the file may connect to it, and whoever may write to its
//! directory may put another in its place. So before a prompt is sent, three questions: is the file a socket
//! that not every user can open, does it belong to the one who listens, and does the process that listens live
//! in the model's slice.
//!
//! Who listens is what the kernel noted at listen(2) (`SO_PEERCRED`, unix(7)). Its number may be another
//! process's by now, so the kernel is asked for a handle (`SO_PEERPIDFD`, Linux 6.5), and whether the handle
//! still has that number after its cgroup was read. Before Linux 6.5 there is no handle; then a process of the
//! model's own slice that has the number of a dead impostor would vouch for it.
//!
//! A socket that systemd listens on (socket activation) is systemd's, not the model's, and is refused.

use nix::errno::Errno;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use nix::sys::socket::{UnixCredentials, getsockopt};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Why a socket is not taken for the model's.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImpostorError {
    #[error("{0} is not a socket; see [[model]] socket")]
    NoSocket(PathBuf),
    #[error("every user of this host can connect to {0}; let the model server make it with mode 0660")]
    OpenToAll(PathBuf),
    #[error("{path} belongs to uid {owner}, and uid {listener} listens on it")]
    Owner { path: PathBuf, owner: u32, listener: u32 },
    #[error(
        "the process that listens on {0} is gone, or not to be seen from here; start the model server again"
    )]
    Gone(PathBuf),
    #[error(
        "{path} is served by pid {pid} in {cgroup}, which is not in the model's slice; see [[model]] slice"
    )]
    Elsewhere { path: PathBuf, pid: i32, cgroup: String },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Impostor(#[from] ImpostorError),
}

/// A connection to a process in the cgroup `slice` (relative to the cgroup root), or none.
pub(super) async fn dial(path: &Path, slice: &Path) -> Result<UnixStream, DialError> {
    // Before connecting: a connection alone wakes whoever listens.
    let owner = owner(path)?;
    let stream = UnixStream::connect(path).await?;
    let fd = stream.as_fd();
    let listener = getsockopt(&fd, PeerCredentials).map_err(io::Error::from)?;
    if owner != 0 && owner != listener.uid() {
        let listener = listener.uid();
        return Err(ImpostorError::Owner { path: path.to_owned(), owner, listener }.into());
    }
    let gone = || ImpostorError::Gone(path.to_owned());
    let (pid, cgroup) = listener_cgroup(fd, listener).ok_or_else(gone)?;
    if !lies_in(&cgroup, slice) {
        let cgroup = cgroup.lines().find(|line| line.starts_with("0::")).unwrap_or_default().to_owned();
        return Err(ImpostorError::Elsewhere { path: path.to_owned(), pid, cgroup }.into());
    }
    Ok(stream)
}

/// The owner of a socket that not everybody can open.
fn owner(path: &Path) -> Result<u32, DialError> {
    const OTHERS_MAY_WRITE: u32 = 0o002;
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(ImpostorError::NoSocket(path.to_owned()).into());
    }
    if found.mode() & OTHERS_MAY_WRITE != 0 {
        return Err(ImpostorError::OpenToAll(path.to_owned()).into());
    }
    Ok(found.uid())
}

/// The process that listens, and what /proc says of its cgroup; `None` for one that is gone or hidden.
fn listener_cgroup(fd: BorrowedFd<'_>, listener: UnixCredentials) -> Option<(i32, String)> {
    let cgroup_of = |pid: i32| {
        let text = (pid > 0).then(|| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()).flatten()?;
        Some((pid, text))
    };
    match getsockopt(&fd, PeerPidfd) {
        Ok(handle) => {
            let found = cgroup_of(number_of(handle.as_fd())?)?;
            // The same number after the reading as before: nobody else had it in between.
            (number_of(handle.as_fd()) == Some(found.0)).then_some(found)
        }
        Err(Errno::ENOPROTOOPT) => cgroup_of(listener.pid()),
        Err(_) => None,
    }
}

/// The number that a handle's process has here now; `None` when it has ended (pidfd_open(2), proc_pid_fdinfo(5)).
fn number_of(handle: BorrowedFd<'_>) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (number > 0).then_some(number)
}

/// Whether what /proc/PID/cgroup says (cgroups(7)) lies in `slice`.
fn lies_in(cgroup: &str, slice: &Path) -> bool {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"));
    !slice.as_os_str().is_empty() && path.is_some_and(|path| Path::new(path).starts_with(slice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tokio::net::UnixListener;

    #[test]
    fn only_what_lies_below_the_slice_is_the_models() {
        let slice = Path::new("bailiwick.slice/bailiwick-llama.slice");
        for (text, expected, why) in [
            ("0::/bailiwick.slice/bailiwick-llama.slice/llama.service\n", true, "a service in it"),
            ("4:memory:/x\n0::/bailiwick.slice/bailiwick-llama.slice\n", true, "a hybrid host"),
            ("0::/bailiwick.slice/bailiwick-llama.slice-2/x.service\n", false, "a name that starts alike"),
            ("0::/bailiwick.slice/x.service\n", false, "beside it"),
            ("0::/../bailiwick.slice/bailiwick-llama.slice\n", false, "outside this cgroup namespace"),
            ("4:memory:/bailiwick.slice/bailiwick-llama.slice\n0::/\n", false, "another hierarchy"),
            ("", false, "nothing"),
        ] {
            assert_eq!(lies_in(text, slice), expected, "{why}");
        }
        assert!(!lies_in("0::/x\n", Path::new("")), "everything lies in the root");
    }

    /// Where this process lives, as the parent slice of the model would be.
    fn own_cgroup() -> PathBuf {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = text.lines().find_map(|line| line.strip_prefix("0::/")).expect("cgroup v2");
        PathBuf::from(path)
    }

    #[tokio::test]
    async fn a_file_that_everybody_can_open_is_not_dialled() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.sock");
        let slice = Path::new("no-such.slice");
        assert!(matches!(dial(&path, slice).await, Err(DialError::Io(_))), "missing");
        fs::write(&path, "").unwrap();
        assert!(matches!(dial(&path, slice).await, Err(DialError::Impostor(ImpostorError::NoSocket(_)))));
        fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(dial(&path, slice).await, Err(DialError::Impostor(ImpostorError::OpenToAll(_)))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        let refused = dial(&path, slice).await;
        assert!(matches!(refused, Err(DialError::Impostor(ImpostorError::Elsewhere { .. }))), "{refused:?}");
        drop(listener);
        assert!(matches!(dial(&path, slice).await, Err(DialError::Io(_))), "nobody listens");
    }

    #[tokio::test]
    async fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("real.sock"), directory.path().join("model.sock"));
        let _listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let slice = own_cgroup();
        assert!(matches!(dial(&link, &slice).await, Err(DialError::Impostor(ImpostorError::NoSocket(_)))));
    }
}
