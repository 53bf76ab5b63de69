//! What passes, as the programs observe it: who opens what, how much goes where, and the first words of connections.
//!
//! ```text
//!   OBSERVED ─▶ next ─┬─▶ Opened      a process named a destination: it can still be looked at
//!                     ├─▶ Captured    bytes that may hold the name of a destination
//!                     └─▶ Counted ◀── a place in FLOWS changes hands: the last of its counters
//!   FLOWS ─────────────▶ drain        what every place counted since it was last read
//! ```
//!
//! A counter is told of once: what was read of a place is remembered until the place changes hands and the record of that
//! has come. What passed while no agent read is not told of, except for what was opened then.

use std::{
    collections::HashMap,
    fmt,
    mem::size_of,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use aya::maps::{MapData, PerCpuArray, RingBuf};
use bailiwick_abi as abi;
use bailiwick_abi::{FlowRecord, HeadRecord};
use bailiwick_policy::Name;
use tokio::{io::unix::AsyncFd, time::timeout};
use zeroize::Zeroizing;

use crate::{
    KernelError, Process, Reason,
    events::{comm, socket_address, unknown},
    maps::{Names, Wire},
};

/// One thing that was observed.
#[derive(Clone, Debug)]
pub enum Observation {
    /// See [`Opened`].
    Opened(Opened),
    /// See [`Captured`].
    Captured(Captured),
    /// See [`FlowCount`].
    Counted(FlowCount),
}

/// A held process began a flow that was let pass: told at once, and then at most once a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The model or workload; `None` if the scope is gone.
    pub scope: Option<Name>,
    /// Who opened it; `None` where the hook does not know.
    pub process: Option<Process>,
    /// IANA number: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// Where to.
    pub destination: SocketAddr,
    /// Why enforcing would have refused it; `None` when the policy allows it.
    pub would_deny: Option<Reason>,
}

/// The head of what a held socket sent or heard, read for the name in it and for nothing else.
///
/// The bytes may be part of a payload: they are zeroized when dropped, and `Debug` does not show them.
#[derive(Clone)]
pub struct Captured {
    /// The model or workload; `None` if the scope is gone.
    pub scope: Option<Name>,
    /// The socket's cookie (`SO_COOKIE`, socket(7)): unique on this host until it boots again.
    pub socket: u64,
    /// IANA number: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// The other end.
    pub remote: SocketAddr,
    /// Sent by the held socket; heard by it otherwise.
    pub sent: bool,
    /// TCP: where these bytes lie in their direction of the stream, the first byte being 0. UDP: 0, a piece is a
    /// datagram.
    pub offset: u32,
    /// What was sent or heard, from its beginning.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured")
            .field("scope", &self.scope)
            .field("socket", &self.socket)
            .field("protocol", &self.protocol)
            .field("remote", &self.remote)
            .field("sent", &self.sent)
            .field("offset", &self.offset)
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Counters of one flow since they were last drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowCount {
    /// The model or workload; `None` if the scope is gone.
    pub scope: Option<Name>,
    /// The process's name for itself when it opened the flow; empty where the kernel does not know it.
    pub comm: String,
    /// IANA number: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// The other end's address.
    pub destination: IpAddr,
    /// The other end's port; 0 for protocols without ports.
    pub port: u16,
    /// What was decided about it.
    pub verdict: FlowVerdict,
    /// How often it was opened, or tried.
    pub opened: u64,
    /// Bytes sent, IP headers included.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received, IP headers included.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// When it was first seen since it was last drained, to about a second.
    pub first_seen: SystemTime,
    /// When it was last seen, to about a second.
    pub last_seen: SystemTime,
}

/// What was decided about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowVerdict {
    /// The policy allows it.
    Allowed,
    /// Let pass, since the scope does not enforce; enforcing would have refused it.
    WouldDeny(Reason),
    /// Refused.
    Denied(Reason),
}

/// Sockets whose process is remembered; more than can have a place at the same time on a large host.
const MOST_SOCKETS: usize = 65_536;
/// Places that changed hands without a record of it yet; a record that was lost leaves one behind.
const MOST_DISPLACED: usize = 65_536;

/// How long an observation may lie in the buffer, if the programs did not wake anybody for it.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where a flow is counted: the CPU and its place there.
type Place = (u32, u32);

/// The observations. Those that came while nobody listened are still there, as far as the buffer had room;
/// [`crate::Status::lost_observations`] counts the rest.
pub struct Flows {
    ring: AsyncFd<RingBuf<MapData>>,
    places: PerCpuArray<MapData, Wire<abi::Flow>>,
    names: Names,
    counted: Counted,
}

impl Flows {
    pub(crate) fn new(
        ring: RingBuf<MapData>,
        places: PerCpuArray<MapData, Wire<abi::Flow>>,
        names: Names,
    ) -> Result<Self, KernelError> {
        // SAFETY: the ring buffer owns its map's descriptor, never changes it, and is dropped with this value.
        let ring = unsafe { AsyncFd::register(ring) }.map_err(|error| KernelError::Events(error.into()))?;
        let mut flows = Self { ring, places, names, counted: Counted::default() };
        // What was counted before now was told of by whoever read before.
        flows.read(|counted, place, flow| {
            counted.since(place, flow);
        })?;
        Ok(flows)
    }

    /// The next observation; waits for one. Most of them wake nobody, so that waiting for one that came alone may take
    /// [`PATIENCE`]. Safe to cancel: it is taken only when it is returned.
    ///
    /// # Errors
    /// [`KernelError`] when the stream broke, or for one observation that cannot be understood; the next call goes on
    /// with the next one.
    pub async fn next(&mut self) -> Result<Observation, KernelError> {
        loop {
            if let Some(observation) = self.take()? {
                return Ok(observation);
            }
            // Cleared before it is looked again: readiness comes on edges.
            if let Ok(ready) = timeout(PATIENCE, self.ring.readable_mut()).await {
                ready.map_err(KernelError::Events)?.clear_ready();
            }
        }
    }

    /// The next observation, if one is there.
    ///
    /// # Errors
    /// As [`Flows::next`].
    pub fn take(&mut self) -> Result<Option<Observation>, KernelError> {
        while let Some(bytes) = self.ring.get_mut().next() {
            let kind = bytes.first_chunk().map(|kind| u32::from_ne_bytes(*kind));
            if kind == Some(HeadRecord::KIND) {
                return captured(&bytes, &self.names).map(|captured| Some(Observation::Captured(captured)));
            }
            let record = flow_record(&bytes)?;
            drop(bytes);
            self.counted.remember(&record.flow);
            if record.kind == FlowRecord::OPENED {
                return opened(&record, &self.names).map(|opened| Some(Observation::Opened(opened)));
            }
            if let Some(more) = self.counted.last((record.cpu, record.slot), &record.flow) {
                let count = self.counted.tell(&more, &self.names, SystemTime::now())?;
                return Ok(Some(Observation::Counted(count)));
            }
        }
        Ok(None)
    }

    /// What was counted since this was last called, one entry a flow. To be called about once a second: it reads a
    /// thousand places of each CPU.
    ///
    /// # Errors
    /// [`KernelError`] when the counters cannot be read.
    pub fn drain(&mut self) -> Result<Vec<FlowCount>, KernelError> {
        let mut more = Vec::new();
        self.read(|counted, place, flow| {
            counted.remember(flow);
            more.extend(counted.since(place, flow));
        })?;
        let now = SystemTime::now();
        let mut told: HashMap<Key, FlowCount> = HashMap::new();
        for flow in &more {
            let count = self.counted.tell(flow, &self.names, now)?;
            told.entry(Key::of(&count)).and_modify(|known| add(known, &count)).or_insert(count);
        }
        Ok(told.into_values().collect())
    }

    fn read(&mut self, mut each: impl FnMut(&mut Counted, Place, &abi::Flow)) -> Result<(), KernelError> {
        for slot in 0..abi::Flow::SLOTS {
            let flows =
                self.places.get(&slot, 0).map_err(|error| KernelError::map("read", "FLOWS", error))?;
            for (cpu, Wire(flow)) in (0_u32..).zip(flows.iter()) {
                // Torn while it changes hands: its record comes, and the new one is read the next time.
                if flow.cookie != 0 && flow.begun == flow.ready {
                    each(&mut self.counted, (cpu, slot), flow);
                }
            }
        }
        Ok(())
    }
}

/// What was told of already.
#[derive(Default)]
struct Counted {
    /// As each place was last read.
    read: HashMap<Place, abi::Flow>,
    /// As places were last read that have changed hands since, until the record of that comes.
    displaced: HashMap<(Place, u64), abi::Flow>,
    /// By which process a socket was opened.
    openers: HashMap<u64, String>,
}

impl Counted {
    /// A place that stands; what it counted since it was last read, if anything.
    fn since(&mut self, place: Place, flow: &abi::Flow) -> Option<abi::Flow> {
        match self.read.insert(place, *flow) {
            Some(before) if before.begun == flow.begun => difference(flow, &before),
            Some(before) => {
                if self.displaced.len() >= MOST_DISPLACED {
                    self.displaced.clear();
                }
                self.displaced.insert((place, before.begun), before);
                difference(flow, &abi::Flow::default())
            }
            None => difference(flow, &abi::Flow::default()),
        }
    }

    /// The last counters of a place that changed hands; what of them was not told of yet.
    fn last(&mut self, place: Place, flow: &abi::Flow) -> Option<abi::Flow> {
        let before = match self.read.get(&place) {
            Some(before) if before.begun == flow.begun => self.read.remove(&place),
            _ => self.displaced.remove(&(place, flow.begun)),
        };
        difference(flow, &before.unwrap_or_default())
    }

    fn remember(&mut self, flow: &abi::Flow) {
        if flow.comm[0] == 0 {
            return;
        }
        if self.openers.len() >= MOST_SOCKETS {
            self.openers.clear();
        }
        self.openers.insert(flow.cookie, comm(&flow.comm));
    }

    fn tell(&self, flow: &abi::Flow, names: &Names, now: SystemTime) -> Result<FlowCount, KernelError> {
        let destination = socket_address(flow.address, flow.port);
        let verdict = reason(flow.reason)?.map_or(FlowVerdict::Allowed, FlowVerdict::WouldDeny);
        Ok(FlowCount {
            scope: names.get(flow.generation, flow.scope),
            comm: self.openers.get(&flow.cookie).cloned().unwrap_or_default(),
            protocol: flow.protocol,
            destination: destination.ip(),
            port: destination.port(),
            verdict,
            opened: flow.opened,
            sent_bytes: flow.sent_bytes,
            sent_packets: flow.sent_packets,
            received_bytes: flow.received_bytes,
            received_packets: flow.received_packets,
            first_seen: now,
            last_seen: now,
        })
    }
}

/// What makes two counts one flow's.
#[derive(PartialEq, Eq, Hash)]
struct Key(Option<Name>, String, u8, IpAddr, u16, FlowVerdict);

impl Key {
    fn of(count: &FlowCount) -> Self {
        let FlowCount { scope, comm, protocol, destination, port, verdict, .. } = count;
        Self(scope.clone(), comm.clone(), *protocol, *destination, *port, *verdict)
    }
}

fn add(known: &mut FlowCount, more: &FlowCount) {
    known.opened += more.opened;
    known.sent_bytes += more.sent_bytes;
    known.sent_packets += more.sent_packets;
    known.received_bytes += more.received_bytes;
    known.received_packets += more.received_packets;
}

/// `flow` with what its counters grew by; `None` when they did not.
fn difference(flow: &abi::Flow, before: &abi::Flow) -> Option<abi::Flow> {
    let more = abi::Flow {
        opened: flow.opened.wrapping_sub(before.opened),
        sent_bytes: flow.sent_bytes.wrapping_sub(before.sent_bytes),
        sent_packets: flow.sent_packets.wrapping_sub(before.sent_packets),
        received_bytes: flow.received_bytes.wrapping_sub(before.received_bytes),
        received_packets: flow.received_packets.wrapping_sub(before.received_packets),
        ..*flow
    };
    (more.opened | more.sent_packets | more.received_packets != 0).then_some(more)
}

fn opened(record: &FlowRecord, names: &Names) -> Result<Opened, KernelError> {
    let flow = &record.flow;
    Ok(Opened {
        scope: names.get(flow.generation, flow.scope),
        process: Some(Process { pid: record.pid, uid: record.uid, comm: comm(&flow.comm) }),
        protocol: flow.protocol,
        destination: socket_address(flow.address, flow.port),
        would_deny: reason(flow.reason)?,
    })
}

fn captured(bytes: &[u8], names: &Names) -> Result<Captured, KernelError> {
    let head = record::<HeadRecord>(bytes)?;
    let length = usize::try_from(head.length).unwrap_or(usize::MAX);
    let said = head.bytes.get(..length).ok_or(KernelError::EventSize(length))?;
    Ok(Captured {
        scope: names.get(head.generation, head.scope),
        socket: head.cookie,
        protocol: head.protocol,
        remote: socket_address(head.address, head.port),
        sent: head.sent != 0,
        offset: head.offset,
        bytes: Zeroizing::new(said.to_vec()),
    })
}

fn flow_record(bytes: &[u8]) -> Result<FlowRecord, KernelError> {
    let record = *record::<FlowRecord>(bytes)?;
    match record.kind {
        FlowRecord::OPENED | FlowRecord::ENDED => Ok(record),
        kind => Err(KernelError::UnknownEvent { set: "observation", tag: kind.to_ne_bytes()[0] }),
    }
}

/// The record that lies there, where it lies.
fn record<T: Plain>(bytes: &[u8]) -> Result<&T, KernelError> {
    let record = bytes.as_ptr().cast::<T>();
    if bytes.len() != size_of::<T>() || !record.is_aligned() {
        return Err(KernelError::EventSize(bytes.len()));
    }
    // SAFETY: the length and the alignment fit, and any bytes are valid.
    Ok(unsafe { &*record })
}

/// # Safety
/// `repr(C)`, integers only, no padding: any bytes are a value.
unsafe trait Plain {}
// SAFETY: as the ABI crate asserts.
unsafe impl Plain for FlowRecord {}
// SAFETY: as the ABI crate asserts.
unsafe impl Plain for HeadRecord {}

fn reason(tag: u8) -> Result<Option<Reason>, KernelError> {
    if tag == 0 {
        return Ok(None);
    }
    Ok(Some(abi::Reason::try_from(tag).map_err(unknown)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(begun: u64, sent_packets: u64) -> abi::Flow {
        abi::Flow {
            cookie: 7,
            begun,
            ready: begun,
            sent_packets,
            sent_bytes: 100 * sent_packets,
            ..Default::default()
        }
    }

    fn packets(more: Option<abi::Flow>) -> u64 {
        more.map_or(0, |flow| flow.sent_packets)
    }

    #[test]
    fn what_is_counted_is_told_of_once() {
        let mut counted = Counted::default();
        let place = (1, 5);
        assert_eq!(packets(counted.since(place, &flow(1, 3))), 3);
        assert_eq!(packets(counted.since(place, &flow(1, 3))), 0);
        assert_eq!(packets(counted.since(place, &flow(1, 10))), 7);
        assert_eq!(
            packets(counted.last(place, &flow(1, 12))),
            2,
            "the record comes before the place is read again"
        );
        assert_eq!(packets(counted.since(place, &flow(2, 4))), 4);
        assert_eq!(
            packets(counted.since(place, &flow(3, 1))),
            1,
            "the place is read before the record comes"
        );
        assert_eq!(packets(counted.last(place, &flow(2, 9))), 5);
        assert_eq!(packets(counted.last((0, 5), &flow(1, 9))), 9, "came and went between two readings");
        assert_eq!((counted.displaced.len(), counted.read.len()), (0, 1));
    }

    #[test]
    fn what_was_captured_is_never_shown() {
        let captured = Captured {
            scope: None,
            socket: 7,
            protocol: 6,
            remote: "192.0.2.30:443".parse().unwrap(),
            sent: true,
            offset: 0,
            bytes: Zeroizing::new(b"secret".to_vec()),
        };
        let shown = format!("{captured:?}");
        assert!(
            shown.contains("length: 6") && !shown.contains("secret") && !shown.contains("115"),
            "{shown}"
        );
    }

    #[test]
    fn other_bytes_are_an_error() {
        for bytes in [&[][..], &[0; 8], &[0; 137]] {
            assert!(matches!(flow_record(bytes), Err(KernelError::EventSize(_))));
        }
    }
}
