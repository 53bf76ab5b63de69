//! What the kernel and the user must allow before the demo or the tests can mean anything.
//!
//! Read from /proc, so that it costs nothing and changes nothing. A test that finds more missing fails by itself.

use std::fs;

use nix::unistd::Uid;

use crate::Outcome;
use crate::stop::Stop;

/// Bits of CapEff (capability.h).
const CAPABILITIES: &[(u32, &str)] = &[(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];
/// What `/proc/filesystems` must list.
const FILESYSTEMS: &[(&str, &str)] = &[
    ("cgroup2", "CONFIG_CGROUPS"),
    ("bpf", "CONFIG_BPF_SYSCALL"),
    ("overlay", "CONFIG_OVERLAY_FS; modprobe overlay"),
    ("tmpfs", "CONFIG_TMPFS"),
];

/// An error that lists everything that is missing.
pub(crate) fn check() -> Outcome {
    let mut missing = Vec::new();
    if !Uid::effective().is_root() {
        missing.push("root: namespaces, cgroups and BPF need it. Run this command with sudo".to_owned());
    } else if let Some(effective) = effective_capabilities() {
        let absent = CAPABILITIES.iter().filter(|(bit, _)| effective >> bit & 1 == 0);
        missing.extend(absent.map(|(_, name)| {
            format!("{name}: root here is without it (a container? run it privileged, or on the host)")
        }));
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let listed =
        |wanted: &str| filesystems.lines().any(|line| line.split_whitespace().last() == Some(wanted));
    for (name, cure) in FILESYSTEMS {
        if !listed(name) {
            missing.push(format!("the kernel's {name} file system ({cure})"));
        }
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if !mounts.lines().any(|line| line.split_whitespace().nth(2) == Some("cgroup2")) {
        missing.push("a mounted cgroup2: mount -t cgroup2 none /sys/fs/cgroup (or …/unified)".to_owned());
    }
    if !fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
        missing.push("IPv6 in the kernel: the guarantees are for both, and so are the tests".to_owned());
    }
    if missing.is_empty() { Ok(()) } else { Err(Stop::Missing(missing)) }
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let hexadecimal = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hexadecimal.trim(), 16).ok()
}
