//! What the processes of a slice have: capabilities, devices, packet sockets, and who else listens on the model's port.
//! Kernel truth from /proc, in each process's own network namespace.

use super::{Finding, Grade, Subject, Weakness, inside};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Bits of `CapEff`, linux/capability.h.
const CAPABILITIES: [(Weakness, &str, u32); 6] = [
    (Weakness::RawSockets, "CAP_NET_RAW", 13),
    (Weakness::NetworkAdmin, "CAP_NET_ADMIN", 12),
    (Weakness::SystemAdmin, "CAP_SYS_ADMIN", 21),
    (Weakness::SystemAdmin, "CAP_SYS_MODULE", 16),
    (Weakness::SystemAdmin, "CAP_BPF", 39),
    (Weakness::Ptrace, "CAP_SYS_PTRACE", 19),
];

/// Devices that reach a network by themselves.
const DEVICES: [(&str, &str); 3] =
    [("RDMA", "/dev/infiniband"), ("vfio", "/dev/vfio"), ("vsock", "/dev/vsock")];

const SLICE_CURE: &str = "restart the unit under the drop-in that takes it away";

/// A process and what it holds open.
struct Process {
    pid: u32,
    name: String,
    files: Vec<PathBuf>,
}

/// Everything about the processes of one model, and about who has its port; when none runs, only the latter.
pub(super) fn findings(subject: &Subject, cgroup_root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pids = pids_in(&cgroup_root.join(&subject.cgroup));
    for (kind, device) in DEVICES {
        if Path::new(device).exists() {
            let found = format!("{device} ({kind}) is on this host; no hook sees what goes through it");
            let cure = "keep it from the model: PrivateDevices=yes, or DevicePolicy= without it";
            findings.push(Finding::new("devices", Grade::Note, found, Some(cure.to_owned())).about(subject));
        }
    }
    for process in pids.iter().filter_map(|pid| Process::read(*pid)) {
        findings.extend(of_capabilities(&process, subject));
        findings.extend(of_devices(&process, subject));
        findings.extend(of_packet_sockets(&process, subject));
    }
    // Where no process of the model says which network is its own, it is taken to be the host's.
    let network = pids.first().map_or_else(|| "self".to_owned(), ToString::to_string);
    findings.extend(of_listeners(&network, subject));
    findings
}

fn of_capabilities(process: &Process, subject: &Subject) -> Vec<Finding> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let mut by_weakness: BTreeMap<Weakness, Vec<&str>> = BTreeMap::new();
    for (weakness, name, bit) in CAPABILITIES {
        if held & (1 << bit) != 0 {
            by_weakness.entry(weakness).or_default().push(name);
        }
    }
    let weak = |(weakness, names): (Weakness, Vec<&str>)| {
        let found = format!("{process} has {}", names.join(", "));
        Finding::weak(weakness, subject, found, SLICE_CURE.to_owned())
    };
    by_weakness.into_iter().map(weak).collect()
}

fn of_devices(process: &Process, subject: &Subject) -> Vec<Finding> {
    let opened = |(kind, device): &(&'static str, &'static str)| {
        process.files.iter().find(|file| file.starts_with(device)).map(|file| (*kind, file))
    };
    let weak = |(kind, file): (&str, &PathBuf)| {
        let found = format!("{process} has {} ({kind}) open", file.display());
        Finding::weak(
            Weakness::Devices,
            subject,
            found,
            "PrivateDevices=yes, or DevicePolicy= without it".to_owned(),
        )
    };
    DEVICES.iter().filter_map(opened).map(weak).collect()
}

fn of_packet_sockets(process: &Process, subject: &Subject) -> Option<Finding> {
    // /proc/PID/net/packet: the inode is the last field.
    let table = fs::read_to_string(format!("/proc/{}/net/packet", process.pid)).ok()?;
    let inodes: BTreeSet<u64> =
        table.lines().skip(1).filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect();
    let held = process.sockets().find(|inode| inodes.contains(inode))?;
    let found = format!("{process} holds an AF_PACKET socket (inode {held})");
    Some(Finding::weak(Weakness::RawSockets, subject, found, SLICE_CURE.to_owned()))
}

/// Processes outside of the slice that hold a listening socket on the model's port, in the network namespace of `process`
/// (a pid or `self`).
fn of_listeners(process: &str, subject: &Subject) -> Vec<Finding> {
    let Some(port) = subject.port else {
        return Vec::new();
    };
    let listening: BTreeSet<u64> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/{process}/net/{table}")).ok())
        .flat_map(|table| table.lines().filter_map(|line| listener(line, port)).collect::<Vec<_>>())
        .collect();
    if listening.is_empty() {
        return Vec::new();
    }
    let foreign = |process: &Process| {
        process.sockets().any(|inode| listening.contains(&inode))
            && !cgroup_of(process.pid).is_some_and(|cgroup| inside(subject, &cgroup))
    };
    let weak = |process: Process| {
        let found = format!("{process}, outside {}, listens on port {port}", subject.slice);
        let cure = "let the model server open its port itself: no socket unit, no inherited socket";
        Finding::weak(Weakness::ForeignListener, subject, found, cure.to_owned())
    };
    all_pids().into_iter().filter_map(Process::read).filter(foreign).map(weak).collect()
}

/// The inode of a line of /proc/net/tcp that listens (state 0A) on `port`.
fn listener(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    let listens = fields.get(3) == Some(&"0A") && u16::from_str_radix(local, 16).ok() == Some(port);
    listens.then(|| fields.get(9)?.parse().ok())?
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
        let links = fs::read_dir(format!("/proc/{pid}/fd")).ok();
        let files =
            links.into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        Some(Self { pid, name, files: files.collect() })
    }

    fn sockets(&self) -> impl Iterator<Item = u64> {
        self.files
            .iter()
            .filter_map(|file| file.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The processes of a cgroup and of those below it.
pub(super) fn pids_in(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(pids_in(&entry.path()));
        }
    }
    pids
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Its cgroup in the v2 hierarchy, relative to the root.
fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::/")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let line = |local: &str, state: &str| {
            format!(
                "0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 4711 1 0 100"
            )
        };
        assert_eq!(listener(&line("0100007F:1F40", "0A"), 8000), Some(4711));
        assert_eq!(listener(&line("0100007F:1F40", "01"), 8000), None, "established");
        assert_eq!(listener(&line("0100007F:1F41", "0A"), 8000), None, "another port");
        assert_eq!(listener("  sl  local_address rem_address   st", 8000), None, "the heading");
    }
}
