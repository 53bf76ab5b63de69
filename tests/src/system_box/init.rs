//! The way from a plain process to PID 1 of a box. Runs in the `bailiwick-testbed` program, which has one thread.
//!
//! The holder forks a process that enters the box's cgroup, unshares the namespaces and forks PID 1; it then
//! ends, so that the box's cgroup root holds no process that systemd cannot see. PID 1 becomes the holder's
//! child (the holder is a subreaper), makes the root, and executes systemd.

use super::enter::ENVIRONMENT;
use crate::cgroup;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir, fork, mkdir, pivot_root, sethostname, setsid};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// One file or directory of the machine, shown in the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Its path on the machine.
    pub source: PathBuf,
    /// Its absolute path in the box.
    pub target: PathBuf,
    /// Whether the box may write to it.
    pub writable: bool,
}

impl Bind {
    /// A bind that the box cannot write to.
    #[must_use]
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), writable: false }
    }
}

/// What a box is made from.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) name: String,
    /// An empty directory; mounted over in the box's own mount namespace only.
    pub(super) base: PathBuf,
    /// The box's cgroup, empty.
    pub(super) cgroup: PathBuf,
    /// Where the holder stays.
    pub(super) outside: PathBuf,
    pub(super) binds: Vec<Bind>,
}

/// Units of the machine's distribution that make no sense in a box: consoles, clocks, networks, hardware.
const MASKED: [&str; 20] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "systemd-firstboot.service",
    "systemd-journald-audit.socket",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-update-utmp.service",
];

type Step = Result<(), String>;

/// The holder: writes `up PID` or why not to stdout, and ends when the box's PID 1 does.
///
/// # Errors
/// When stdout is closed or the plan cannot be read.
pub fn hold(plan: &str) -> io::Result<()> {
    let plan: Plan = serde_json::from_str(plan)?;
    let mut out = io::stdout().lock();
    match start(&plan) {
        Ok(init) => {
            writeln!(out, "up {init}")?;
            out.flush()?;
            drop(out);
            let _nothing_left_to_wait_for = waitpid(init, None);
            Ok(())
        }
        Err(error) => {
            writeln!(out, "{}", error.replace('\n', " "))?;
            out.flush()
        }
    }
}

fn start(plan: &Plan) -> Result<Pid, String> {
    cgroup::enter(&plan.outside).map_err(said("entering the testbed's cgroup"))?;
    let _already_a_leader = setsid();
    nix::sys::prctl::set_child_subreaper(true).map_err(said("becoming a subreaper"))?;
    // Both pipes close when PID 1 executes systemd: their ends are close-on-exec.
    let (mut trouble, mut trouble_in) = io::pipe().map_err(said("pipe"))?;
    let (mut number, mut number_in) = io::pipe().map_err(said("pipe"))?;
    // SAFETY: this process has a single thread, so the child may do whatever the parent might.
    match unsafe { fork() }.map_err(said("fork"))? {
        ForkResult::Parent { child } => {
            drop((trouble_in, number_in));
            let (mut error, mut init) = (String::new(), String::new());
            number.read_to_string(&mut init).map_err(said("pipe"))?;
            trouble.read_to_string(&mut error).map_err(said("pipe"))?;
            let _ended = waitpid(child, None);
            if !error.is_empty() {
                return Err(error);
            }
            init.trim().parse().map(Pid::from_raw).map_err(said("PID 1 did not come to be"))
        }
        ForkResult::Child => {
            let done = separate(plan).and_then(|()| {
                // SAFETY: still a single thread.
                match unsafe { fork() }.map_err(said("fork of PID 1"))? {
                    ForkResult::Parent { child } => {
                        writeln!(number_in, "{child}").map_err(said("pipe"))?;
                        Ok(())
                    }
                    ForkResult::Child => become_init(plan),
                }
            });
            if let Err(error) = done {
                let _holder_is_gone = trouble_in.write_all(error.as_bytes());
            }
            std::process::exit(0)
        }
    }
}

fn separate(plan: &Plan) -> Step {
    cgroup::enter(&plan.cgroup).map_err(said("entering the box's cgroup"))?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .map_err(said("making namespaces (needs CAP_SYS_ADMIN)"))
}

/// Only comes back with an error: otherwise this process is systemd.
fn become_init(plan: &Plan) -> Step {
    let root = plan.base.join("root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(said("making mounts private"))?;
    filesystem("tmpfs", &plan.base, MsFlags::empty(), "mode=700")?;
    for directory in ["upper", "work", "root"] {
        fs::create_dir(plan.base.join(directory)).map_err(said(directory))?;
    }
    let layers = format!("lowerdir=/,upperdir={0}/upper,workdir={0}/work", plan.base.display());
    filesystem("overlay", &root, MsFlags::empty(), &layers)?;
    furnish(plan, &root)?;
    kernel_filesystems(&root)?;
    devices(&root)?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    filesystem("tmpfs", &root.join("run"), quiet, "mode=755")?;
    filesystem("tmpfs", &root.join("tmp"), quiet, "mode=1777")?;
    for bind in &plan.binds {
        show(bind, &root)?;
    }
    sethostname(&plan.name).map_err(said("hostname"))?;
    chdir(&root).map_err(said("chdir"))?;
    pivot_root(".", ".").map_err(said("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(said("detaching the old root"))?;
    chdir("/").map_err(said("chdir"))?;
    // Shared within the box only: systemd hands a unit's credentials over by mount propagation, and leaves it to a
    // container's maker to allow that.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
        .map_err(said("making the box's mounts shared"))?;
    nix::sys::signal::SigSet::all().thread_unblock().map_err(said("signals"))?;
    let mut systemd = std::process::Command::new("/lib/systemd/systemd");
    systemd.args(["--system", "--show-status=no"]).env_clear().envs(ENVIRONMENT);
    systemd.env_remove("HOME").env("SYSTEMD_LOG_TARGET", "journal-or-kmsg");
    systemd.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    systemd.stderr(std::process::Stdio::null());
    Err(said("executing systemd")(std::os::unix::process::CommandExt::exec(&mut systemd)))
}

/// None of the machine's enabled services, an identity of its own.
fn furnish(plan: &Plan, root: &Path) -> Step {
    let units = root.join("etc/systemd/system");
    empty(&units)?;
    for level in "0123456S".chars() {
        let directory = root.join(format!("etc/rc{level}.d"));
        if directory.exists() {
            empty(&directory)?;
        }
    }
    for unit in MASKED {
        symlink("/dev/null", units.join(unit)).map_err(said(unit))?;
    }
    for gone in ["var/log/journal", "etc/machine-id"] {
        remove(&root.join(gone))?;
    }
    // Present in container images; it would keep a package's service from starting when it is installed.
    remove(&root.join("usr/sbin/policy-rc.d"))?;
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(said("machine-id"))?;
    for (file, text) in [
        ("etc/machine-id", id.replace('-', "")),
        ("etc/hostname", format!("{}\n", plan.name)),
        ("etc/fstab", String::new()),
    ] {
        fs::write(root.join(file), text).map_err(said(file))?;
    }
    for directory in ["proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(root.join(directory)).map_err(said(directory))?;
    }
    Ok(())
}

fn kernel_filesystems(root: &Path) -> Step {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    filesystem("proc", &root.join("proc"), quiet, "")?;
    // The machine's own settings are not the box's to change.
    let settings = root.join("proc/sys");
    bind(&settings, &settings, false)?;
    filesystem("sysfs", &root.join("sys"), quiet | MsFlags::MS_RDONLY, "")?;
    filesystem("cgroup2", &root.join("sys/fs/cgroup"), quiet, "")?;
    filesystem("bpf", &root.join("sys/fs/bpf"), quiet, "mode=700")?;
    Ok(())
}

fn devices(root: &Path) -> Step {
    let dev = root.join("dev");
    filesystem("tmpfs", &dev, MsFlags::MS_NOSUID, "mode=755")?;
    let everyone = Mode::from_bits_truncate(0o666);
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        mknod(&dev.join(name), SFlag::S_IFCHR, everyone, makedev(major, minor)).map_err(said(name))?;
        fs::set_permissions(dev.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .map_err(said(name))?;
    }
    for directory in ["pts", "shm"] {
        mkdir(&dev.join(directory), Mode::from_bits_truncate(0o755)).map_err(said(directory))?;
    }
    filesystem("devpts", &dev.join("pts"), MsFlags::empty(), "newinstance,ptmxmode=0666,mode=620")?;
    filesystem("tmpfs", &dev.join("shm"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    for (target, link) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("fd/0", "stdin"),
        ("fd/1", "stdout"),
        ("fd/2", "stderr"),
    ] {
        symlink(target, dev.join(link)).map_err(said(link))?;
    }
    Ok(())
}

fn show(wanted: &Bind, root: &Path) -> Step {
    let Ok(inside) = wanted.target.strip_prefix("/") else {
        return Err(format!("bind target {} is not absolute", wanted.target.display()));
    };
    let target = root.join(inside);
    let fail = |error: io::Error| format!("bind of {}: {error}", wanted.source.display());
    if wanted.source.is_dir() {
        fs::create_dir_all(&target).map_err(fail)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(fail)?;
        }
        fs::File::options().create(true).append(true).open(&target).map_err(fail)?;
    }
    bind(&wanted.source, &target, wanted.writable)
}

fn bind(source: &Path, target: &Path, writable: bool) -> Step {
    let fail = |error: nix::Error| format!("bind of {} to {}: {error}", source.display(), target.display());
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(fail)?;
    if !writable {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(fail)?;
    }
    Ok(())
}

fn filesystem(kind: &str, target: &Path, flags: MsFlags, options: &str) -> Step {
    mount(Some(kind), target, Some(kind), flags, Some(options))
        .map_err(|errno| format!("mounting {kind} on {}: {errno}", target.display()))
}

fn empty(directory: &Path) -> Step {
    for entry in fs::read_dir(directory).map_err(said("reading a directory"))?.flatten() {
        remove(&entry.path())?;
    }
    Ok(())
}

fn remove(path: &Path) -> Step {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(|error| format!("removing {}: {error}", path.display()))
}

fn said<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}
