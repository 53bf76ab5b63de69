//! The interface that app, egress and status use. Split into files by the room's builder.
use bailiwick_policy::{EgressPolicy, Name};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the guard stands.
#[derive(Clone, Debug)]
pub struct Site {
    /// The cgroup v2 directory at whose root the programs are attached: the mount point of cgroup2.
    pub cgroup_root: PathBuf,
    /// The bpffs directory for pins, e.g. `/sys/fs/bpf/bailiwick`; a `v<schema>` directory is made below it.
    pub pins: PathBuf }

impl Site {
    /// From the mount table; names what is missing (cgroup2, bpffs) and the cure.
    /// # Errors
    /// [`KernelError`]
    pub fn find() -> Result<Self, KernelError> { unimplemented!() }
}

/// One thing whose sockets the kernel watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope { pub name: Name, pub kind: ScopeKind, /// a slice's or unit's cgroup, relative to the cgroup root, e.g. `bailiwick.slice/bailiwick-llama.slice`
    pub cgroup: PathBuf, pub egress: EgressPolicy }

/// What a scope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeKind {
    /// The agent itself: may reach the guarded ports; held at connect/sendmsg only (law 8); loopback is open to it.
    Proxy,
    /// A model: its port admits the proxy only, its slice admits nothing else new from outside, its egress is held.
    Model { port: u16 },
    /// Any other watched service: egress only.
    Workload }

/// Everything the kernel is told, applied as one generation.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rules { pub scopes: Vec<Scope> }

/// The standing guard. Dropping it leaves every pinned link in force.
pub struct Guard {}

#[derive(Debug, thiserror::Error)]
pub enum KernelError { #[error("{0}")] Placeholder(String) }

impl Guard {
    /// Loads, verifies, attaches and pins every program at the site's cgroup root, or updates what is pinned
    /// there already in place; rolls back on any failure.
    /// # Errors
    /// [`KernelError`] naming the program, the errno and the cure
    pub fn attach(_site: &Site) -> Result<Self, KernelError> { unimplemented!() }
    /// Puts `rules` in force as one generation; what was in force stays on any failure.
    /// # Errors
    /// [`KernelError`]
    pub fn apply(&mut self, _rules: &Rules) -> Result<u32, KernelError> { unimplemented!() }
    /// Looks again where the scopes' cgroups are (slices come and go) and tells the kernel; returns the names whose cgroup changed.
    /// # Errors
    /// [`KernelError`]
    pub fn refresh(&mut self) -> Result<Vec<Name>, KernelError> { unimplemented!() }
    /// The event stream; call once.
    /// # Errors
    /// when called twice
    pub fn events(&mut self) -> Result<Events, KernelError> { unimplemented!() }
}

/// Typed events from the ring buffer.
pub struct Events {}
impl Events {
    /// The next event; waits for one.
    /// # Errors
    /// [`KernelError`]
    pub async fn next(&mut self) -> Result<Event, KernelError> { unimplemented!() }
}

/// One refusal (or would-be refusal) by the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event { pub hook: Hook, pub verdict: Verdict, pub reason: Reason, /// the model or workload; `None` if the scope is gone
    pub scope: Option<Name>, /// IANA number: 6 TCP, 17 UDP, …
    pub protocol: u8, pub source: Option<SocketAddr>, pub destination: SocketAddr, /// `None` at packet hooks
    pub process: Option<Process>, pub cgroup_id: u64, /// identical events folded into this one since the last
    pub count: u64 }

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process { pub pid: u32, pub uid: u32, pub comm: String }

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook { Connect, SendMessage, Bind, Ingress, Egress }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict { Deny, WouldDeny }
/// Kebab-case names reach the journal and the trail through `as_str`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason { /// towards a guarded port, not from the proxy
    NotProxy, /// a new inbound connection to a sealed slice
    Sealed, /// bind of a guarded port from outside the model's slice
    PortReserved, /// no rule of the scope covers the destination
    DestinationNotAllowed, /// neither TCP nor UDP
    ProtocolNotAllowed, /// cannot be parsed, options, source route, fragments without a header
    Malformed, /// a loopback destination that is not named
    LoopbackNotNamed, /// a map entry that should be there is missing
    PolicyMissing }
impl Reason { #[must_use] pub fn as_str(self) -> &'static str { unimplemented!() } }

/// Kernel truth, read now (link → live cgroup → program), by anyone, agent or no agent.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status { pub guarded: bool, pub cgroup_root: PathBuf, pub generation: Option<u32>, pub hooks: Vec<HookStatus>, pub scopes: Vec<ScopeStatus>, /// reason → denied
    pub denied: std::collections::BTreeMap<String, u64>, pub lost_events: u64 }
#[derive(Clone, Debug, serde::Serialize)]
pub struct HookStatus { pub hook: String, pub attached: bool, /// link, cgroup and program ids as the kernel says them
    pub link_id: Option<u32>, pub cgroup_id: Option<u64>, pub program_id: Option<u32>, pub program_tag: Option<String>, /// why not, in words
    pub problem: Option<String> }
#[derive(Clone, Debug, serde::Serialize)]
pub struct ScopeStatus { pub name: String, pub cgroup: PathBuf, /// what the kernel's map holds
    pub guarded_id: Option<u64>, /// what the cgroup tree says now
    pub live_id: Option<u64> }

/// Reads the truth. `rules` says what ought to be guarded.
/// # Errors
/// [`KernelError`] when it cannot be read at all
pub fn status(_site: &Site, _rules: &Rules) -> Result<Status, KernelError> { unimplemented!() }

/// Detaches and unpins everything: the explicit way out.
/// # Errors
/// [`KernelError`]
pub fn release(_site: &Site) -> Result<(), KernelError> { unimplemented!() }

/// The cgroup of a systemd slice: dashes nest (`a-b.slice` lies in `a.slice/a-b.slice`, systemd.slice(5)).
#[must_use]
pub fn slice_path(_slice: &str) -> PathBuf { unimplemented!() }

/// The innermost slice that this process runs in, relative to the cgroup root (from /proc/self/cgroup).
/// # Errors
/// when it runs in no slice
pub fn own_slice() -> Result<PathBuf, KernelError> { unimplemented!() }

