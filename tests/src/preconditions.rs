//! What the testbed needs of the machine. What is missing is an error that names the cure, never a reason to skip.

use std::path::Path;

/// Something the testbed cannot do without is missing.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// Not root.
    #[error(
        "the testbed makes namespaces, mounts and cgroups and loads BPF programs, which needs root; \
         run the same command as root (for example with sudo -E)"
    )]
    Root,
    /// A program is not installed.
    #[error("{path} is not there; install it: apt-get install {package}")]
    Program {
        /// Where it should be.
        path: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A kernel feature is not there.
    #[error("the kernel has no {feature}; {cure}")]
    Kernel {
        /// What is missing.
        feature: &'static str,
        /// What to do about it.
        cure: &'static str,
    },
}

/// Checks that the process is root with every capability that counts.
///
/// # Errors
/// [`Missing::Root`]
pub fn require_root() -> Result<(), Missing> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(Missing::Root) }
}

/// Checks everything a system box and a lab network need.
///
/// # Errors
/// The first thing that is missing, with its cure.
pub fn require_testbed() -> Result<(), Missing> {
    require_root()?;
    for (path, package) in [
        ("/lib/systemd/systemd", "systemd"),
        ("/usr/bin/systemctl", "systemd"),
        ("/usr/bin/journalctl", "systemd"),
        ("/usr/sbin/ip", "iproute2"),
    ] {
        if !Path::new(path).exists() && !Path::new(path.trim_start_matches("/usr")).exists() {
            return Err(Missing::Program { path, package });
        }
    }
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for (name, feature, cure) in [
        ("overlay", "overlay file system", "load it: modprobe overlay"),
        ("cgroup2", "cgroup v2", "boot a kernel with CONFIG_CGROUPS"),
        ("bpf", "BPF file system", "boot a kernel with CONFIG_BPF_SYSCALL"),
        ("tmpfs", "tmpfs", "boot a kernel with CONFIG_TMPFS"),
    ] {
        let found = known.lines().any(|line| line.split_whitespace().next_back() == Some(name));
        // A module is loaded by the first mount, so only a kernel without modules is known to lack it.
        if !found && !Path::new("/proc/modules").exists() {
            return Err(Missing::Kernel { feature, cure });
        }
    }
    for (path, feature) in [
        ("/proc/self/ns/cgroup", "cgroup namespaces"),
        ("/proc/self/ns/net", "network namespaces"),
        ("/proc/self/ns/pid", "PID namespaces"),
        ("/proc/sys/net/ipv6", "IPv6"),
    ] {
        if !Path::new(path).exists() {
            return Err(Missing::Kernel { feature, cure: "boot a kernel that has it enabled" });
        }
    }
    Ok(())
}
