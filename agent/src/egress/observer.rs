//! What is known of all flows at this moment: every report goes in, and what is to be said and written comes out.
//!
//! No I/O but the look at `/proc` for an executable, and no clock but the one that is handed in.

use super::Alert;
use super::alert::executable;
use super::fold::{Folds, Pace};
use super::journal::Entry;
use super::names::{Named, Names, Tunnel};
use super::place::{Place, UNKNOWN};
use super::register::{Deed, Flow, FlowKey, Pending, Seen};
use super::report::Report;
use crate::app::control;
use bailiwick_audit::Record;
use bailiwick_kernel::{Captured, Event, FlowCount, FlowVerdict, Hook, Opened, Process, Reason, Verdict};
use bailiwick_policy::{Name, RegionTable};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

/// Executables that are remembered for the counters, which know a process's name only.
const MOST_EXECUTABLES: usize = 4096;
/// A tunnel is said again after this long, if it goes on.
const TUNNEL_AGAIN: Duration = Duration::from_secs(600);
/// Tunnels that are told apart.
const MOST_TUNNELS: usize = 1024;

/// See the head of this file.
pub(super) struct Observer {
    names: Names,
    folds: Folds,
    pending: Pending,
    executables: HashMap<(String, String), String>,
    tunnels: HashMap<(Option<Name>, String), Instant>,
}

/// What is to be recorded and what is to be said.
#[derive(Default)]
pub(super) struct Told {
    pub(super) record: Option<Record>,
    pub(super) entry: Option<Entry>,
}

/// Both clocks, read once.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) time: SystemTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }
}

impl Observer {
    pub(super) fn new() -> Self {
        Self {
            names: Names::default(),
            folds: Folds::new(Pace::OURS),
            pending: Pending::default(),
            executables: HashMap::new(),
            tunnels: HashMap::new(),
        }
    }

    /// One report, as the policy that is current names regions.
    pub(super) fn take(&mut self, report: &Report, regions: &RegionTable, now: Now) -> Told {
        match report {
            Report::Refused(event) => return self.refused(event, regions, now),
            Report::Captured(captured) => return self.heard(captured, now),
            Report::Opened(opened) => self.opened(opened, regions, now),
            Report::Counted(count) => self.counted(count, regions, now),
        }
        Told::default()
    }

    /// A refusal: always recorded, said when it is due, and in the register if it was on the way out.
    fn refused(&mut self, event: &Event, regions: &RegionTable, now: Now) -> Told {
        let named = self.names.of(event.scope.as_ref(), event.destination, now.instant);
        let alert = Alert::new(event, regions).named(named.clone());
        let record = Some(alert.record());
        if is_way_out(event) {
            let deed = match event.verdict {
                Verdict::Deny => Deed::Denied,
                Verdict::WouldDeny => Deed::WouldDeny,
            };
            let comm = event.process.as_ref().map(|process| process.comm.as_str()).unwrap_or_default();
            let key =
                key(event.scope.as_ref(), comm, event.protocol, event.destination, deed, Some(event.reason));
            let mut seen = seen(alert.place(), named, now.time);
            seen.told = event.count;
            seen.executable = alert.executable().map(ToOwned::to_owned);
            self.remember(&key, seen.executable.as_deref());
            self.pending.add(Flow { key, seen });
        }
        Told { record, entry: self.folds.add(alert, now.instant).map(Entry::from) }
    }

    /// A flow that was let pass began: the process is still there to be looked at. It is counted by the counters.
    fn opened(&mut self, opened: &Opened, regions: &RegionTable, now: Now) {
        let deed = if opened.would_deny.is_some() { Deed::WouldDeny } else { Deed::Allowed };
        let comm = opened.process.as_ref().map(|process| process.comm.as_str()).unwrap_or_default();
        let key =
            key(opened.scope.as_ref(), comm, opened.protocol, opened.destination, deed, opened.would_deny);
        let named = self.names.of(opened.scope.as_ref(), opened.destination, now.instant);
        let mut seen = seen(&Place::of(regions, opened.destination.ip()), named, now.time);
        seen.executable =
            opened.process.as_ref().and_then(|Process { pid, comm, .. }| executable(*pid, comm));
        self.remember(&key, seen.executable.as_deref());
        self.pending.add(Flow { key, seen });
    }

    /// Counters of one flow since the last time.
    fn counted(&mut self, count: &FlowCount, regions: &RegionTable, now: Now) {
        let (deed, reason) = match count.verdict {
            FlowVerdict::Allowed => (Deed::Allowed, None),
            FlowVerdict::WouldDeny(reason) => (Deed::WouldDeny, Some(reason)),
            FlowVerdict::Denied(reason) => (Deed::Denied, Some(reason)),
        };
        let destination = SocketAddr::new(count.destination, count.port);
        let key = key(count.scope.as_ref(), &count.comm, count.protocol, destination, deed, reason);
        let named = self.names.of(count.scope.as_ref(), destination, now.instant);
        let place = Place::of(regions, count.destination);
        let mut seen = Seen {
            opened: count.opened,
            sent_bytes: count.sent_bytes,
            sent_packets: count.sent_packets,
            received_bytes: count.received_bytes,
            received_packets: count.received_packets,
            ..seen(&place, named, count.last_seen)
        };
        seen.begin(count.first_seen);
        seen.executable = self.executables.get(&(key.scope.clone(), key.process.clone())).cloned();
        self.pending.add(Flow { key, seen });
    }

    /// The head of what was said: a name, a query, or nothing.
    fn heard(&mut self, captured: &Captured, now: Now) -> Told {
        let tunnel = self.names.hear(captured, now.instant);
        tunnel.map_or(Told::default(), |tunnel| self.tunnel(&tunnel, now))
    }

    fn tunnel(&mut self, tunnel: &Tunnel, now: Now) -> Told {
        self.pending.add_suspect(scope_name(tunnel.scope.as_ref()), tunnel, now.time);
        let place = (tunnel.scope.clone(), tunnel.finding.domain.clone());
        let said = self.tunnels.get(&place);
        if said.is_some_and(|said| now.instant.saturating_duration_since(*said) < TUNNEL_AGAIN) {
            return Told::default();
        }
        if self.tunnels.len() >= MOST_TUNNELS {
            self.tunnels.retain(|_, said| now.instant.saturating_duration_since(*said) < TUNNEL_AGAIN);
        }
        if self.tunnels.len() >= MOST_TUNNELS {
            return Told::default();
        }
        self.tunnels.insert(place, now.instant);
        let (resolver, names) = (tunnel.resolver.to_string(), tunnel.finding.names.to_string());
        let record = control(
            "dns-tunnel-suspected",
            [
                ("scope", scope_name(tunnel.scope.as_ref())),
                ("resolver", &resolver),
                ("domain", &tunnel.finding.domain),
                ("names", &names),
            ],
        );
        Told { record: Some(record), entry: Some(Entry::from(tunnel)) }
    }

    /// What has waited long enough to be said.
    pub(super) fn due(&mut self, now: Now) -> Vec<Entry> {
        self.folds.due(now.instant).into_iter().map(Entry::from).collect()
    }

    /// What was counted and not said yet; for the end.
    pub(super) fn rest(&mut self, now: Now) -> Vec<Entry> {
        self.folds.rest(now.instant).into_iter().map(Entry::from).collect()
    }

    /// What is to be written into the register.
    pub(super) fn take_pending(&mut self, now: Now) -> Pending {
        for (scope, count) in self.names.take_queries() {
            self.pending.add_lookups(scope_name(scope.as_ref()), count, now.time);
        }
        std::mem::take(&mut self.pending)
    }

    /// What could not be written; it is tried again with what came since.
    pub(super) fn put_back(&mut self, pending: Pending) {
        self.pending.put_back(pending);
    }

    fn remember(&mut self, key: &FlowKey, executable: Option<&str>) {
        let Some(executable) = executable else { return };
        if self.executables.len() >= MOST_EXECUTABLES {
            self.executables.clear();
        }
        self.executables.insert((key.scope.clone(), key.process.clone()), executable.to_owned());
    }
}

/// The register is about what held processes send to; who tries to get in is in the trail and in the journal.
fn is_way_out(event: &Event) -> bool {
    match (event.hook, event.reason) {
        (Hook::Bind | Hook::Ingress, _) | (_, Reason::NotProxy) => false,
        (Hook::Connect | Hook::SendMessage | Hook::Egress, _) => true,
    }
}

fn scope_name(scope: Option<&Name>) -> &str {
    scope.map_or(UNKNOWN, Name::as_str)
}

fn key(
    scope: Option<&Name>,
    comm: &str,
    protocol: u8,
    destination: SocketAddr,
    deed: Deed,
    reason: Option<Reason>,
) -> FlowKey {
    let address: IpAddr = destination.ip().to_canonical();
    FlowKey {
        scope: scope_name(scope).to_owned(),
        process: comm.to_owned(),
        protocol,
        address,
        port: destination.port(),
        deed,
        reason: reason.map_or("", Reason::as_str),
    }
}

fn seen(place: &Place, named: Option<Named>, time: SystemTime) -> Seen {
    let mut seen = Seen::at(time, &place.region().unwrap_or_else(|| UNKNOWN.to_owned()));
    seen.named = named;
    seen
}

#[cfg(test)]
mod tests {
    use super::super::kind::Kind;
    use super::super::register::{Bounds, Filter, Reader, Row, Store};
    use super::*;
    use zeroize::Zeroizing;

    fn llama() -> Option<Name> {
        Some(Name::new("llama").unwrap())
    }

    fn refusal() -> Event {
        Event {
            hook: Hook::Connect,
            verdict: Verdict::Deny,
            reason: Reason::DestinationNotAllowed,
            scope: llama(),
            protocol: 6,
            source: None,
            destination: "192.0.2.30:443".parse().unwrap(),
            process: Some(Process { pid: u32::MAX, uid: 0, comm: "python3".to_owned() }),
            cgroup_id: 7,
            cgroup: None,
            count: 1,
        }
    }

    fn counters(verdict: FlowVerdict) -> FlowCount {
        let time = SystemTime::now();
        FlowCount {
            scope: llama(),
            comm: "python3".to_owned(),
            protocol: 6,
            destination: "192.0.2.30".parse().unwrap(),
            port: 443,
            verdict,
            opened: 3,
            sent_bytes: 1000,
            sent_packets: 10,
            received_bytes: 5000,
            received_packets: 12,
            first_seen: time - Duration::from_secs(1),
            last_seen: time,
        }
    }

    fn rows(observer: &mut Observer) -> Vec<Row> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("register.sqlite");
        Store::open(&path, Bounds::OURS).unwrap().write(&observer.take_pending(Now::read())).unwrap();
        let mut rows = Vec::new();
        let mut each = |row| {
            rows.push(row);
            true
        };
        Reader::open(&path).unwrap().flows(&Filter::default(), &mut each).unwrap();
        rows
    }

    #[test]
    fn every_refusal_is_recorded_and_the_first_is_said() {
        let (mut observer, regions, now) = (Observer::new(), RegionTable::default(), Now::read());
        let told: Vec<Told> = (0..100).map(|_| observer.refused(&refusal(), &regions, now)).collect();
        assert_eq!(told.iter().filter(|told| told.record.is_some()).count(), 100);
        assert_eq!(told.iter().filter(|told| told.entry.is_some()).count(), 1);
        let rows = rows(&mut observer);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].count, rows[0].verdict.as_str(), rows[0].region.as_str()),
            (100, "deny", "unknown")
        );
    }

    #[test]
    fn who_tries_to_get_in_is_no_flow_of_the_model() {
        let (mut observer, regions, now) = (Observer::new(), RegionTable::default(), Now::read());
        for (hook, reason) in [
            (Hook::Connect, Reason::NotProxy),
            (Hook::Ingress, Reason::Sealed),
            (Hook::Bind, Reason::PortReserved),
        ] {
            assert!(
                observer.refused(&Event { hook, reason, ..refusal() }, &regions, now).entry.is_some(),
                "it is said"
            );
        }
        assert_eq!(rows(&mut observer), []);
    }

    #[test]
    fn reports_and_counters_of_a_flow_meet_in_one_row_with_its_name() {
        let (mut observer, regions, now) = (Observer::new(), RegionTable::default(), Now::read());
        let me = std::process::id();
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
        observer.opened(
            &Opened {
                scope: llama(),
                process: Some(Process { pid: me, uid: 0, comm: comm.clone() }),
                protocol: 6,
                destination: "192.0.2.30:443".parse().unwrap(),
                would_deny: None,
            },
            &regions,
            now,
        );
        let request = Captured {
            scope: llama(),
            socket: 1,
            protocol: 6,
            remote: "192.0.2.30:443".parse().unwrap(),
            sent: true,
            offset: 0,
            bytes: Zeroizing::new(b"GET / HTTP/1.1\r\nHost: mirror.example.eu\r\n\r\n".to_vec()),
        };
        assert!(observer.heard(&request, now).entry.is_none());
        observer.counted(&FlowCount { comm, ..counters(FlowVerdict::Allowed) }, &regions, now);
        let rows = rows(&mut observer);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.count, row.sent_bytes, row.received_packets), (3, 1000, 12));
        assert_eq!(
            (row.name.as_deref(), row.name_from.as_deref()),
            (Some("mirror.example.eu"), Some("host"))
        );
        assert!(row.executable.is_some(), "of this very test");
        assert!(row.first < row.last);
    }

    #[test]
    fn an_attempt_that_is_told_and_counted_is_one() {
        let (mut observer, regions, now) = (Observer::new(), RegionTable::default(), Now::read());
        observer.refused(&Event { count: 3, ..refusal() }, &regions, now);
        observer.counted(&counters(FlowVerdict::Denied(Reason::DestinationNotAllowed)), &regions, now);
        let rows = rows(&mut observer);
        assert_eq!((rows.len(), rows[0].count), (1, 3));
    }

    #[test]
    fn a_tunnel_is_said_once_and_recorded() {
        let (mut observer, now) = (Observer::new(), Now::read());
        let mut told = Vec::new();
        for number in 1..300_u64 {
            let name = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 16];
            query.extend(name.bytes());
            query.extend(*b"\x07example\x03net\x00\x00\x01\x00\x01");
            let captured = Captured {
                scope: llama(),
                socket: 1,
                protocol: 17,
                remote: "198.51.100.53:53".parse().unwrap(),
                sent: true,
                offset: 0,
                bytes: Zeroizing::new(query),
            };
            let Told { record, entry } = observer.heard(&captured, now);
            assert_eq!(record.is_some(), entry.is_some());
            told.extend(entry.zip(record));
        }
        assert_eq!(told.len(), 1, "while it lasts");
        let (entry, record) = &told[0];
        assert_eq!(entry.kind, Kind::Tunnel);
        assert!(
            entry.message.contains("*.example.net") && entry.message.contains("198.51.100.53:53"),
            "{}",
            entry.message
        );
        assert!(format!("{record:?}").contains("dns-tunnel-suspected"));
    }
}
