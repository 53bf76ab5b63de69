//! What can go wrong between the agent and the kernel, each with its place and its cure.

use std::{io, path::PathBuf};

use bailiwick_policy::Name;

/// Why the kernel could not be told, or asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The mount table or the process's cgroup could not be read.
    #[error("cannot read {path}: {source}; is /proc mounted?")]
    Proc {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No cgroup v2 hierarchy is mounted.
    #[error("no cgroup2 file system is mounted; boot with systemd.unified_cgroup_hierarchy=1, or mount one")]
    NoCgroup2,
    /// No bpffs is mounted.
    #[error("no bpf file system is mounted; run `mount -t bpf bpf /sys/fs/bpf`")]
    NoBpffs,
    /// This process is in no slice.
    #[error(
        "this process runs in no slice (cgroup {cgroup}); start it as a systemd service: systemctl start bailiwick"
    )]
    NoSlice {
        /// The cgroup it runs in.
        cgroup: String,
    },
    /// A directory is not on the file system that it must be on.
    #[error("{path} is not on a {expected} file system")]
    WrongFileSystem {
        /// The directory.
        path: PathBuf,
        /// `cgroup2` or `bpf`.
        expected: &'static str,
    },
    /// A file or directory could not be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the programs or the maps.
    #[error(
        "cannot load the eBPF programs: {message}; the agent needs root or CAP_BPF and CAP_NET_ADMIN, Linux 5.10 or later"
    )]
    Load {
        /// What the loader and the verifier said.
        message: String,
    },
    /// The kernel refused one program.
    #[error("the kernel refused the program {program}: {message}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the verifier said.
        message: String,
    },
    /// A program could not be attached, updated or pinned.
    #[error("cannot {action} {program} at {path}: {source}")]
    Link {
        /// What was tried.
        action: &'static str,
        /// The program.
        program: &'static str,
        /// The cgroup or the pin.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A pinned map is not what this agent would make.
    #[error(
        "the pinned map {path} has {found}, expected {expected}; run `bailiwick release` first, it opens the guard"
    )]
    IncompatibleMap {
        /// The pin.
        path: PathBuf,
        /// Its shape.
        found: String,
        /// The shape that was expected.
        expected: String,
    },
    /// A map could not be read or written.
    #[error("cannot {action} the map {map}: {message}")]
    Map {
        /// What was tried.
        action: &'static str,
        /// The map.
        map: &'static str,
        /// Why.
        message: String,
    },
    /// The rules contradict themselves; nothing was changed.
    #[error("the rules cannot be applied: {}", list(.0))]
    Rules(Vec<RuleProblem>),
    /// The event stream was taken before.
    #[error("the event stream was taken before; there is one")]
    EventsTaken,
    /// The event stream broke.
    #[error("cannot read events: {0}")]
    Events(io::Error),
    /// The tree of cgroups cannot be listened to.
    #[error(
        "cannot listen for slices that come and go: {0}; see fs.inotify.max_user_instances and max_user_watches"
    )]
    Watch(io::Error),
    /// An event that this agent does not understand: it was not made by this agent's programs.
    #[error("an event with an unknown {set} tag {tag}")]
    UnknownEvent {
        /// Which tag.
        set: &'static str,
        /// Its value.
        tag: u8,
    },
    /// An event of the wrong size.
    #[error("an event of {0} bytes")]
    EventSize(usize),
}

/// One contradiction in [`crate::Rules`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleProblem {
    /// The cgroup is the root, absolute beyond it, or contains `..`.
    #[error("{name}: {cgroup} is not a cgroup below the root")]
    NotBelowRoot {
        /// The scope.
        name: Name,
        /// Its cgroup.
        cgroup: PathBuf,
    },
    /// Deeper than the programs look.
    #[error("{name}: {cgroup} lies deeper than {limit} levels; move the slice up", limit = bailiwick_abi::MAX_DEPTH)]
    TooDeep {
        /// The scope.
        name: Name,
        /// Its cgroup.
        cgroup: PathBuf,
    },
    /// Two scopes with one cgroup.
    #[error("{first} and {second} have the same cgroup; give each its own slice")]
    SameCgroup {
        /// One.
        first: Name,
        /// The other.
        second: Name,
    },
    /// A scope inside the proxy's or a model's cgroup: it would be both.
    #[error("{inner} lies inside {outer}; give each its own slice")]
    Nested {
        /// The one inside.
        inner: Name,
        /// The proxy or model around it.
        outer: Name,
    },
    /// Two models with one port.
    #[error("{first} and {second} have the same port {port}; a guarded port belongs to one model")]
    SamePort {
        /// One.
        first: Name,
        /// The other.
        second: Name,
        /// The port.
        port: u16,
    },
    /// Peers of something that takes no connections from outside in any case.
    #[error("{name}: only a model has peers")]
    PeersOfNoModel {
        /// The scope.
        name: Name,
    },
    /// The guarded port is the proxy's alone.
    #[error("{name}: port {port} is the guarded one; a peer cannot have it")]
    PeerOnGuardedPort {
        /// The scope.
        name: Name,
        /// Its port.
        port: u16,
    },
    /// A peer that opens nothing.
    #[error("{name}: a peer without ports; name them")]
    PeerWithoutPorts {
        /// The scope.
        name: Name,
    },
    /// More networks than the kernel is to hold.
    #[error(
        "the networks of all regions that are allowed would take {} MiB of the kernel's memory, and may take {}; let \
         models that may reach the same regions have the same regions and exceptions (then they share them), or allow \
         fewer countries", needed.div_ceil(1 << 20), most >> 20
    )]
    TooManyNetworks {
        /// In bytes.
        needed: usize,
        /// In bytes.
        most: usize,
    },
    /// Port 0 guards nothing.
    #[error("{name}: port 0 is not a port")]
    PortZero {
        /// The scope.
        name: Name,
    },
}

fn list(problems: &[RuleProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl KernelError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    pub(crate) fn map(action: &'static str, map: &'static str, error: impl ToString) -> Self {
        Self::Map { action, map, message: error.to_string() }
    }
}
