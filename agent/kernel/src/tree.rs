//! Hears at once when a scope's cgroup comes or goes, or a pin is removed.
//!
//! inotify(7) works on cgroupfs and bpffs for what is made and removed through the file system; what a link loses by
//! bpf(2) alone (detach, update) is not heard here, and is found by looking.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

use crate::{KernelError, Rules, Site};

/// An ear on the directories where something may come or go.
pub struct TreeWatch {
    inotify: AsyncFd<Listener>,
}

struct Listener(Inotify);

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl TreeWatch {
    /// Hears nothing yet. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When this process may have no more inotify instances (fs.inotify.max_user_instances).
    pub fn new() -> Result<Self, KernelError> {
        let init = || Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(io::Error::from);
        let listener = init().map(Listener).map_err(KernelError::Watch)?;
        // SAFETY: the listener owns its descriptor, always gives the same one, and closes it only when dropped.
        let inotify =
            unsafe { AsyncFd::register(listener) }.map_err(|error| KernelError::Watch(error.into()))?;
        Ok(Self { inotify })
    }

    /// Listens at every directory that exists on the way to a scope, and at the pins. Call it again *before* each
    /// look at the tree: what appears after the call is heard, what appeared before it is seen.
    ///
    /// # Errors
    /// When the kernel allows no more watches (fs.inotify.max_user_watches).
    pub fn follow(&self, site: &Site, rules: &Rules) -> Result<(), KernelError> {
        let mask = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ONLYDIR;
        for directory in directories(site, rules) {
            // The kernel knows a directory that is watched already and changes nothing.
            match self.inotify.get_ref().0.add_watch(&directory, mask) {
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(KernelError::Watch(errno.into())),
            }
        }
        Ok(())
    }

    /// Resolves when something was heard. Safe to drop and call again.
    ///
    /// # Errors
    /// When the ear is broken.
    pub async fn heard(&self) -> Result<(), KernelError> {
        loop {
            let mut ready = self.inotify.readable().await.map_err(KernelError::Watch)?;
            match ready.try_io(|inner| inner.get_ref().0.read_events().map_err(io::Error::from)) {
                // What it was does not matter: whoever hears looks for himself. Nor does an overflow, therefore.
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(KernelError::Watch(error)),
                Err(_would_block) => {}
            }
        }
    }
}

fn directories(site: &Site, rules: &Rules) -> BTreeSet<PathBuf> {
    let schema = site.schema_directory();
    let mut directories =
        BTreeSet::from([schema.join("links"), schema.join("maps"), site.cgroup_root.clone()]);
    for scope in &rules.scopes {
        directories.extend(scope.cgroup.ancestors().skip(1).map(|path| site.cgroup_root.join(path)));
    }
    directories
}
