//! A network namespace, held by a file descriptor and by nothing else: no name, no mount, no process. It is gone
//! when the descriptor is closed, which the kernel does when its owner dies.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// A network namespace.
#[derive(Clone, Debug)]
pub struct NetNamespace {
    descriptor: Arc<OwnedFd>,
}

impl NetNamespace {
    /// A new, empty namespace with nothing but a loopback device that is down.
    ///
    /// # Errors
    /// What the kernel said; EPERM without CAP_SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        let made = std::thread::spawn(|| -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        Ok(Self { descriptor: Arc::new(join(made.join())?.into()) })
    }

    /// The namespace that a process is in.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        Ok(Self { descriptor: Arc::new(File::open(format!("/proc/{pid}/ns/net"))?.into()) })
    }

    /// Runs a function on a thread of its own inside the namespace. Sockets it opens stay in the namespace
    /// wherever they are used afterwards.
    ///
    /// # Errors
    /// When the namespace cannot be entered; a panic of the function is passed on.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| -> io::Result<T> {
                self.enter()?;
                Ok(inside())
            });
            join(entered.join())
        })
    }

    /// Puts the calling thread into the namespace, for good: for threads that were made for this.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(self.descriptor.as_fd(), CloneFlags::CLONE_NEWNET)?)
    }

    /// A command that will run in the namespace and in the given cgroup (so that it ends with its testbed).
    ///
    /// # Errors
    /// When the cgroup cannot be opened.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, cgroup: &Path) -> io::Result<Command> {
        let processes = File::options().write(true).open(cgroup.join("cgroup.procs"))?;
        let namespace = self.clone();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec the closure makes two system calls (write, setns) on descriptors that
        // were opened before, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::write(&processes, b"0")?;
                setns(namespace.descriptor.as_fd(), CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
        Ok(command)
    }

    /// A path that names the namespace for as long as this process lives.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd())
    }
}

fn join<T>(joined: std::thread::Result<io::Result<T>>) -> io::Result<T> {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
