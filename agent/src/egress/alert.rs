//! One refusal in words and in fields.

use super::fold::Said;
use super::kind::Kind;
use super::names::Named;
use super::place::Place;
use bailiwick_audit::Record;
use bailiwick_kernel::{Event, Hook, Reason, Verdict};
use bailiwick_policy::RegionTable;
use libsystemd::logging::Priority;
use std::net::SocketAddr;

/// What the journal is told of one event, or of many of the same kind.
#[derive(Clone, Debug)]
pub struct Alert {
    event: Event,
    /// Where the destination (the source, for inbound attempts) lies.
    place: Place,
    /// What the destination was called.
    named: Option<Named>,
    /// The executable of the process, where it could still be read under the same name.
    executable: Option<String>,
    /// What was said of this kind before.
    said: Said,
}

impl Alert {
    /// Adds what user space knows to `event`.
    #[must_use]
    pub fn new(event: &Event, regions: &RegionTable) -> Self {
        let subject = match (event.hook, event.source) {
            (Hook::Ingress, Some(source)) => source,
            (Hook::Connect | Hook::SendMessage | Hook::Bind | Hook::Ingress | Hook::Egress, _) => {
                event.destination
            }
        };
        let place = Place::of(regions, subject.ip());
        let executable = event.process.as_ref().and_then(|process| executable(process.pid, &process.comm));
        let said = Said::first(event.count);
        Self { event: event.clone(), place, named: None, executable, said }
    }

    /// The same with the name by which the destination was looked up.
    #[must_use]
    pub fn named(self, named: Option<Named>) -> Self {
        Self { named, ..self }
    }

    /// The same, standing for as many attempts as have not been said yet.
    #[must_use]
    pub(super) fn said(self, said: Said) -> Self {
        Self { said, ..self }
    }

    /// The event.
    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    /// The executable, where it is known.
    pub(super) fn executable(&self) -> Option<&str> {
        self.executable.as_deref()
    }

    /// Where the destination lies.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Its kind, with its fixed `MESSAGE_ID`.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match (self.event.hook, self.event.reason, self.event.verdict) {
            (Hook::Bind, _, _) => Kind::Port,
            (Hook::Ingress, _, _) | (_, Reason::NotProxy, _) => Kind::WayIn,
            (Hook::Connect | Hook::SendMessage | Hook::Egress, _, Verdict::Deny) => Kind::Refused,
            (Hook::Connect | Hook::SendMessage | Hook::Egress, _, Verdict::WouldDeny) => Kind::WouldRefuse,
        }
    }

    /// Whether something was blocked (as opposed to: would have been, in shadow mode).
    #[must_use]
    pub fn blocked(&self) -> bool {
        match self.event.verdict {
            Verdict::Deny => true,
            Verdict::WouldDeny => false,
        }
    }

    /// How urgent it is.
    pub(super) fn priority(&self) -> Priority {
        if self.blocked() { Priority::Warning } else { Priority::Notice }
    }

    /// A sentence with the cause, and one with the cure.
    #[must_use]
    pub fn message(&self) -> String {
        let event = &self.event;
        let scope = event.scope.as_ref().map_or("a model that is no longer configured", |name| name.as_str());
        let refused = match event.verdict {
            Verdict::Deny => "refused",
            Verdict::WouldDeny => "would be refused (shadow mode)",
        };
        let protocol = protocol(event.protocol);
        let destination = event.destination;
        let named = self.named.as_ref().map_or_else(String::new, |named| format!(" ({})", named.name));
        let who = self.who();
        let (cause, cure) = explain(event.reason);
        let cure =
            if scope == AGENT && event.reason == Reason::DestinationNotAllowed { AGENT_CURE } else { cure };
        let act = match event.hook {
            Hook::Connect => format!("{protocol} connection to {destination}{named}"),
            Hook::SendMessage => format!("{protocol} datagram to {destination}{named}"),
            Hook::Egress => format!("{protocol} packet to {destination}{named}"),
            Hook::Bind => format!("binding {destination}"),
            Hook::Ingress => match event.source {
                Some(source) => format!("{protocol} from {source} to {destination}"),
                None => format!("{protocol} to {destination}"),
            },
        };
        let place = match event.reason {
            Reason::DestinationNotAllowed => format!("; it {}", self.place.words()),
            Reason::NotProxy
            | Reason::Sealed
            | Reason::PortReserved
            | Reason::ProtocolNotAllowed
            | Reason::Malformed
            | Reason::LoopbackNotNamed
            | Reason::ResolverNotNamed
            | Reason::PolicyMissing => String::new(),
        };
        let times = self.said.words();
        format!("{scope}: {act} {refused}{times}{who}: {cause}{place}. {cure}")
    }

    /// The journal fields besides `MESSAGE`, `MESSAGE_ID`, `PRIORITY` and `SYSLOG_IDENTIFIER`.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let event = &self.event;
        let mut fields = vec![
            ("BAILIWICK_VERDICT", verdict(event.verdict).to_owned()),
            ("BAILIWICK_REASON", event.reason.as_str().to_owned()),
            ("BAILIWICK_HOOK", hook(event.hook).to_owned()),
            ("BAILIWICK_PROTOCOL", protocol(event.protocol)),
            ("BAILIWICK_DESTINATION", event.destination.ip().to_string()),
            ("BAILIWICK_PORT", event.destination.port().to_string()),
            ("BAILIWICK_COUNT", self.said.count.to_string()),
            ("BAILIWICK_TOTAL", self.said.total.to_string()),
        ];
        fields.extend(self.place.fields());
        if let Some(named) = &self.named {
            fields.push(("BAILIWICK_NAME", named.name.clone()));
            fields.push(("BAILIWICK_NAME_FROM", named.known.as_str().to_owned()));
        }
        if let Some(scope) = &event.scope {
            fields.push(("BAILIWICK_MODEL", scope.to_string()));
        }
        if let Some(source) = event.source {
            fields.push(("BAILIWICK_SOURCE", source.ip().to_string()));
            fields.push(("BAILIWICK_SOURCE_PORT", source.port().to_string()));
        }
        if let Some(process) = &event.process {
            fields.push(("BAILIWICK_PID", process.pid.to_string()));
            fields.push(("BAILIWICK_UID", process.uid.to_string()));
            fields.push(("BAILIWICK_COMM", process.comm.clone()));
        }
        if let Some(executable) = &self.executable {
            fields.push(("BAILIWICK_EXE", executable.clone()));
        }
        if let Some(unit) = event.unit() {
            fields.push(("BAILIWICK_UNIT", unit.to_owned()));
        }
        if let Some(cgroup) = &event.cgroup {
            fields.push(("BAILIWICK_CGROUP", format!("/{}", cgroup.display())));
        }
        fields
    }

    /// The same, as a record of the trail.
    #[must_use]
    pub fn record(&self) -> Record {
        let event = &self.event;
        Record::Violation {
            scope: event.scope.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string),
            hook: hook(event.hook).to_owned(),
            verdict: verdict(event.verdict).to_owned(),
            reason: event.reason.as_str().to_owned(),
            protocol: protocol(event.protocol),
            source: event.source.map_or_else(|| "local".to_owned(), |source: SocketAddr| source.to_string()),
            destination: event.destination.ip().to_string(),
            port: event.destination.port(),
            name: self.named.as_ref().map(|named| named.name.clone()),
            region: self.place.region(),
            country: self.place.country(),
            rule: Some(self.place.rule()),
            dataset: self.place.datasets(),
            process: event.process.as_ref().map(|process| process.comm.clone()),
            executable: self.executable.clone(),
            unit: event.unit().map(ToOwned::to_owned),
            pid: event.process.as_ref().map(|process| process.pid),
            uid: event.process.as_ref().map(|process| process.uid),
            count: event.count,
        }
    }

    fn who(&self) -> String {
        match &self.event.process {
            Some(process) => {
                let name = self.executable.as_deref().unwrap_or(&process.comm);
                let unit = self.event.unit().map_or_else(String::new, |unit| format!(", in {unit}"));
                format!(", by {name} (pid {}, uid {}{unit})", process.pid, process.uid)
            }
            None => self.event.unit().map_or_else(String::new, |unit| format!(", by {unit}")),
        }
    }
}

/// The agent's own scope (see `config`), which no [[model]] table describes.
const AGENT: &str = "agent";
const AGENT_CURE: &str = "If it is the issuer or its name server (port 53), add its address to the networks of \
    the region that the [[issuer]] names";

/// Cause and cure of each reason; the sentences of the alert.
fn explain(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::NotProxy => (
            "only the Bailiwick proxy may reach the model's port",
            "Send requests to the proxy's address with a token; see [proxy] listen",
        ),
        Reason::Sealed => (
            "the model's slice takes no new connections from outside it",
            "If another service must reach the model, let it call the proxy",
        ),
        Reason::PortReserved => (
            "the port belongs to the model, and the process is not in the model's slice",
            "Move the service to another port, or run the model server inside its slice",
        ),
        Reason::DestinationNotAllowed => (
            "the destination is in no region that it may reach",
            "If it must be reached, add its network to an allowed region or to [[model.egress.allow]] with a reason",
        ),
        Reason::ProtocolNotAllowed => (
            "only TCP and UDP can be held to a region",
            "Find what sends it and turn it off; there is no setting that allows it",
        ),
        Reason::Malformed => (
            "the packet carries IP options, a source route or a header that cannot be read",
            "Find what sends it and turn it off; there is no setting that allows it",
        ),
        Reason::LoopbackNotNamed => (
            "services on this host could pass data on, so loopback is closed unless it is named",
            "If the model needs this service, name its address and port in [[model.egress.allow]] with a reason",
        ),
        Reason::ResolverNotNamed => (
            "questions to a resolver can carry data to anywhere, so a region alone does not open ports 53 and 853",
            "If the model needs this resolver, name its address and port in [[model.egress.allow]] with a reason",
        ),
        Reason::PolicyMissing => (
            "the kernel holds no policy for it",
            "See `bailiwick status`, and the agent's own log: journalctl -u bailiwick",
        ),
    }
}

pub(super) fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Connect => "connect",
        Hook::SendMessage => "sendmsg",
        Hook::Bind => "bind",
        Hook::Ingress => "ingress",
        Hook::Egress => "egress",
    }
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Deny => "deny",
        Verdict::WouldDeny => "would-deny",
    }
}

/// IANA protocol number → name, for the few that people meet; the number otherwise.
#[must_use]
pub fn protocol(number: u8) -> String {
    match number {
        0 => "any".to_owned(),
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        47 => "gre".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        136 => "udplite".to_owned(),
        other => format!("ip-{other}"),
    }
}

/// The executable of `pid`, only while the process still has the name that the kernel saw: a reused pid
/// must not be blamed.
pub(super) fn executable(pid: u32, comm: &str) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let now = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (now.trim_end() == comm).then(|| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::names::Known;
    use super::*;
    use bailiwick_kernel::Process;
    use bailiwick_policy::Name;

    fn event(hook: Hook, reason: Reason) -> Event {
        Event {
            hook,
            verdict: Verdict::Deny,
            reason,
            scope: Some(Name::new("llama").unwrap()),
            protocol: 6,
            source: None,
            destination: "192.0.2.30:443".parse().unwrap(),
            process: Some(Process { pid: u32::MAX, uid: 0, comm: "python3".to_owned() }),
            cgroup_id: 7,
            cgroup: Some("system.slice/docker-4f1d.scope/payload".into()),
            count: 3,
        }
    }

    #[test]
    fn an_alert_says_what_who_why_and_what_to_do() {
        let alert = Alert::new(&event(Hook::Connect, Reason::DestinationNotAllowed), &RegionTable::default());
        let message = alert.message();
        for part in [
            "llama",
            "192.0.2.30:443",
            "refused",
            "3 times",
            "python3",
            "no region",
            "[[model.egress.allow]]",
        ] {
            assert!(message.contains(part), "{part:?} is missing in {message:?}");
        }
    }

    #[test]
    fn every_field_that_people_filter_by_is_there() {
        let alert = Alert::new(&event(Hook::Connect, Reason::DestinationNotAllowed), &RegionTable::default());
        let fields = alert.fields();
        let get = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!(get("BAILIWICK_MODEL"), Some("llama"));
        assert_eq!(get("BAILIWICK_DESTINATION"), Some("192.0.2.30"));
        assert_eq!(get("BAILIWICK_PORT"), Some("443"));
        assert_eq!(get("BAILIWICK_REGION"), Some("unknown"));
        assert_eq!(get("BAILIWICK_VERDICT"), Some("deny"));
        assert_eq!(get("BAILIWICK_REASON"), Some("destination-not-allowed"));
        assert_eq!(get("BAILIWICK_PID"), Some("4294967295"));
        assert_eq!(get("BAILIWICK_COUNT"), Some("3"));
    }

    #[test]
    fn a_packet_without_a_process_names_the_unit_or_container_that_sent_it() {
        let packet = Event { process: None, ..event(Hook::Egress, Reason::DestinationNotAllowed) };
        let alert = Alert::new(&packet, &RegionTable::default());
        let message = alert.message();
        assert!(message.contains("by docker-4f1d.scope:"), "{message}");
        let fields = alert.fields();
        assert!(fields.contains(&("BAILIWICK_UNIT", "docker-4f1d.scope".to_owned())));
        assert!(fields.contains(&("BAILIWICK_CGROUP", "/system.slice/docker-4f1d.scope/payload".to_owned())));
        let remote = Event { cgroup_id: 0, cgroup: None, ..packet };
        let alert = Alert::new(&remote, &RegionTable::default());
        assert!(!alert.fields().iter().any(|(key, _)| *key == "BAILIWICK_UNIT"), "nobody is made up");
    }

    #[test]
    fn the_unit_is_the_innermost_service_or_scope() {
        for (cgroup, expected, why) in [
            (Some("bailiwick.slice/bailiwick-llama.slice/llama.service"), Some("llama.service"), "a service"),
            (Some("system.slice/docker-1f2e.scope/inner"), Some("docker-1f2e.scope"), "below a scope"),
            (Some("user.slice"), None, "a slice is no unit"),
            (Some(""), None, "the root is no unit"),
            (None, None, "nothing"),
        ] {
            let event = Event {
                cgroup: cgroup.map(Into::into),
                ..event(Hook::Connect, Reason::DestinationNotAllowed)
            };
            assert_eq!(event.unit(), expected, "{why}");
            let fields = Alert::new(&event, &RegionTable::default()).fields();
            let told = fields.iter().find(|(key, _)| *key == "BAILIWICK_UNIT").map(|(_, unit)| unit.as_str());
            assert_eq!(told, expected, "{why}");
        }
    }

    #[test]
    fn the_agents_own_refusals_name_the_issuer() {
        let own = Event {
            scope: Some(Name::new("agent").unwrap()),
            ..event(Hook::Connect, Reason::DestinationNotAllowed)
        };
        let message = Alert::new(&own, &RegionTable::default()).message();
        assert!(message.contains("[[issuer]]") && !message.contains("[[model.egress.allow]]"), "{message}");
    }

    #[test]
    fn every_refusal_has_a_kind_of_its_own() {
        for (hook, reason, verdict, kind) in [
            (Hook::Connect, Reason::NotProxy, Verdict::Deny, Kind::WayIn),
            (Hook::Ingress, Reason::Sealed, Verdict::Deny, Kind::WayIn),
            (Hook::Bind, Reason::PortReserved, Verdict::Deny, Kind::Port),
            (Hook::Egress, Reason::DestinationNotAllowed, Verdict::Deny, Kind::Refused),
            (Hook::Connect, Reason::DestinationNotAllowed, Verdict::WouldDeny, Kind::WouldRefuse),
            (Hook::Egress, Reason::PortReserved, Verdict::Deny, Kind::Refused),
        ] {
            let alert = Alert::new(&Event { verdict, ..event(hook, reason) }, &RegionTable::default());
            assert_eq!(alert.kind(), kind, "{hook:?} {reason:?} {verdict:?}");
        }
    }

    #[test]
    fn a_name_stands_beside_the_address_and_how_it_is_known_with_it() {
        let named = Named { name: "mirror.example.eu".to_owned(), known: Known::Sni };
        let event = event(Hook::Connect, Reason::DestinationNotAllowed);
        let alert = Alert::new(&event, &RegionTable::default()).named(Some(named));
        assert!(
            alert.message().contains("192.0.2.30:443 (mirror.example.eu) refused"),
            "{}",
            alert.message()
        );
        let fields = alert.fields();
        assert!(fields.contains(&("BAILIWICK_NAME", "mirror.example.eu".to_owned())));
        assert!(fields.contains(&("BAILIWICK_NAME_FROM", "sni".to_owned())));
    }

    #[test]
    fn a_reused_pid_is_not_blamed() {
        assert_eq!(executable(std::process::id(), "not-this-process"), None);
    }
}
