//! What the programs report, decoded.

use std::{
    mem::size_of,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use aya::maps::{MapData, RingBuf};
use bailiwick_abi as abi;
use bailiwick_abi::{Address, NO_SCOPE, UnknownTag};
use bailiwick_policy::Name;
use tokio::io::unix::AsyncFd;

use crate::{KernelError, maps::Names, places::Places};

/// One refusal (or would-be refusal) by the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it was seen.
    pub hook: Hook,
    /// What was decided.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The model or workload; `None` if the scope is gone.
    pub scope: Option<Name>,
    /// IANA number: 6 TCP, 17 UDP, …
    pub protocol: u8,
    /// `None` where the hook does not know it.
    pub source: Option<SocketAddr>,
    /// Where to; for bind the address asked for.
    pub destination: SocketAddr,
    /// `None` at packet hooks.
    pub process: Option<Process>,
    /// Whose act it was: the cgroup of the process, or of the socket that sent the packet. 0 for a packet from
    /// elsewhere, whose sender this host does not know.
    pub cgroup_id: u64,
    /// Where that cgroup is or was, relative to the cgroup root; `None` when it is not known, or came and went too
    /// fast to be looked up.
    pub cgroup: Option<PathBuf>,
    /// How many identical events this one stands for, itself included: the first comes at once, later ones at
    /// most once a second.
    pub count: u64,
}

impl Event {
    /// The unit or container whose act it was: the innermost service or scope of systemd around it. A container is
    /// the scope that its runtime makes for it, such as `docker-….scope`.
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        let parts = self.cgroup.as_deref()?.components().rev();
        let mut names = parts.filter_map(|part| part.as_os_str().to_str());
        names.find(|name| [".service", ".scope"].iter().any(|suffix| name.ends_with(suffix)))
    }

    /// What lies in the ring buffer as `bytes`; `name_of` names a generation's scope by its index, `place_of` says
    /// where a cgroup is or was.
    ///
    /// # Errors
    /// [`KernelError::EventSize`] or [`KernelError::UnknownEvent`]: programs of another build reported it.
    pub fn decode(
        bytes: &[u8],
        name_of: impl FnOnce(u32, u32) -> Option<Name>,
        place_of: impl FnOnce(u64) -> Option<PathBuf>,
    ) -> Result<Self, KernelError> {
        decode(&read(bytes)?, name_of, place_of)
    }
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// As the initial pid namespace numbers it.
    pub pid: u32,
    /// As the initial user namespace numbers it.
    pub uid: u32,
    /// Its name for itself (prctl(2), PR_SET_NAME); bytes that are not UTF-8 are replaced.
    pub comm: String,
}

/// The hook that saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// connect(2).
    Connect,
    /// sendto(2), sendmsg(2) with a destination.
    SendMessage,
    /// bind(2).
    Bind,
    /// A packet to a socket.
    Ingress,
    /// A packet from a socket.
    Egress,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Refused.
    Deny,
    /// Let pass by shadow mode.
    WouldDeny,
}

/// Why. Kebab-case names reach the journal and the trail through [`Reason::as_str`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Towards a guarded port, not from the proxy.
    NotProxy,
    /// A new inbound connection to a sealed slice.
    Sealed,
    /// A guarded port in the hands of something outside the model's slice: it wants to bind it (hook bind), or
    /// the proxy was about to talk to it (hook egress).
    PortReserved,
    /// No rule of the scope covers the destination.
    DestinationNotAllowed,
    /// Neither TCP nor UDP.
    ProtocolNotAllowed,
    /// Cannot be parsed, options, source route, fragments without a header.
    Malformed,
    /// A loopback destination that is not named.
    LoopbackNotNamed,
    /// A map entry that should be there is missing.
    PolicyMissing,
    /// A resolver's port at a destination that a region allows and no exception names.
    ResolverNotNamed,
}

impl Reason {
    /// Its name in alerts and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotProxy => "not-proxy",
            Self::Sealed => "sealed",
            Self::PortReserved => "port-reserved",
            Self::DestinationNotAllowed => "destination-not-allowed",
            Self::ProtocolNotAllowed => "protocol-not-allowed",
            Self::Malformed => "malformed",
            Self::LoopbackNotNamed => "loopback-not-named",
            Self::PolicyMissing => "policy-missing",
            Self::ResolverNotNamed => "resolver-not-named",
        }
    }
}

impl From<abi::Reason> for Reason {
    fn from(reason: abi::Reason) -> Self {
        match reason {
            abi::Reason::NotProxy => Self::NotProxy,
            abi::Reason::Sealed => Self::Sealed,
            abi::Reason::PortReserved => Self::PortReserved,
            abi::Reason::DestinationNotAllowed => Self::DestinationNotAllowed,
            abi::Reason::ProtocolNotAllowed => Self::ProtocolNotAllowed,
            abi::Reason::Malformed => Self::Malformed,
            abi::Reason::LoopbackNotNamed => Self::LoopbackNotNamed,
            abi::Reason::PolicyMissing => Self::PolicyMissing,
            abi::Reason::ResolverNotNamed => Self::ResolverNotNamed,
        }
    }
}

impl From<abi::Hook> for Hook {
    fn from(hook: abi::Hook) -> Self {
        match hook {
            abi::Hook::Connect => Self::Connect,
            abi::Hook::SendMessage => Self::SendMessage,
            abi::Hook::Bind => Self::Bind,
            abi::Hook::Ingress => Self::Ingress,
            abi::Hook::Egress => Self::Egress,
        }
    }
}

impl From<abi::Verdict> for Verdict {
    fn from(verdict: abi::Verdict) -> Self {
        match verdict {
            abi::Verdict::Deny => Self::Deny,
            abi::Verdict::WouldDeny => Self::WouldDeny,
        }
    }
}

/// Typed events from the ring buffer. Events that came while nobody listened are still there, as far as the
/// buffer had room; [`crate::Status::lost_events`] counts the rest.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    names: Names,
    places: Places,
}

impl Events {
    pub(crate) fn new(ring: RingBuf<MapData>, names: Names, places: Places) -> Result<Self, KernelError> {
        // SAFETY: the ring buffer owns its map's descriptor, never changes it, and is dropped with this value.
        let ring = unsafe { AsyncFd::register(ring) }.map_err(|error| KernelError::Events(error.into()))?;
        Ok(Self { ring, names, places })
    }

    /// The next event; waits for one. Safe to cancel: an event is taken only when it is returned.
    ///
    /// # Errors
    /// [`KernelError`] when the stream broke, or for one event that cannot be understood; the next call goes on
    /// with the next one.
    pub async fn next(&mut self) -> Result<Event, KernelError> {
        loop {
            let mut ready = self.ring.readable_mut().await.map_err(KernelError::Events)?;
            if let Some(bytes) = ready.get_inner_mut().next() {
                let Self { names, places, .. } = self;
                return Event::decode(
                    &bytes,
                    |generation, scope| names.get(generation, scope),
                    |cgroup_id| places.find(cgroup_id),
                );
            }
            // Only now: readiness comes on edges, and an edge cleared too early is an event forgotten.
            ready.clear_ready();
        }
    }
}

fn read(bytes: &[u8]) -> Result<abi::Event, KernelError> {
    if bytes.len() != size_of::<abi::Event>() {
        return Err(KernelError::EventSize(bytes.len()));
    }
    // SAFETY: the length fits, the type is plain integers, and the read does not ask for alignment.
    Ok(unsafe { bytes.as_ptr().cast::<abi::Event>().read_unaligned() })
}

fn decode(
    raw: &abi::Event,
    name_of: impl FnOnce(u32, u32) -> Option<Name>,
    place_of: impl FnOnce(u64) -> Option<PathBuf>,
) -> Result<Event, KernelError> {
    let hook = Hook::from(abi::Hook::try_from(raw.hook).map_err(unknown)?);
    let has_process = match hook {
        Hook::Connect | Hook::SendMessage | Hook::Bind => true,
        Hook::Ingress | Hook::Egress => false,
    };
    let known_source = raw.source != Address::UNSPECIFIED || raw.source_port != 0;
    Ok(Event {
        hook,
        verdict: abi::Verdict::try_from(raw.verdict).map_err(unknown)?.into(),
        reason: abi::Reason::try_from(raw.reason).map_err(unknown)?.into(),
        scope: (raw.scope != NO_SCOPE).then(|| name_of(raw.generation, raw.scope)).flatten(),
        protocol: raw.protocol,
        source: known_source.then(|| socket_address(raw.source, raw.source_port)),
        destination: socket_address(raw.destination, raw.destination_port),
        process: has_process.then(|| process(raw)),
        cgroup_id: raw.cgroup_id,
        cgroup: if raw.cgroup_id == 0 { None } else { place_of(raw.cgroup_id) },
        count: raw.count,
    })
}

fn process(raw: &abi::Event) -> Process {
    Process { pid: raw.pid, uid: raw.uid, comm: comm(&raw.comm) }
}

/// A process's name for itself, without the zeros behind it.
pub(crate) fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

pub(crate) fn socket_address(address: Address, port: u16) -> SocketAddr {
    let v6 = Ipv6Addr::from(address.octets());
    let ip = v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4);
    SocketAddr::new(ip, port)
}

pub(crate) fn unknown(error: UnknownTag) -> KernelError {
    KernelError::UnknownEvent { set: error.set, tag: error.tag }
}
