//! Models, workloads and the agent: whose sockets the kernel watches, and where each may send.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::raw;
use super::super::report::{At, Place, Report};
use super::super::settings::{Model, ModelAddress, ServerPreset};
use super::{Declared, declare, described, files, line_of_text, peers, port, regions, upstreams, word};
use bailiwick_kernel::{Peer, RuleProblem, Rules, Scope, ScopeKind, slice_path};
use bailiwick_policy::{EgressException, EgressPolicy, Mode, Name, RegionTable};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The agent's own scope; no model or workload may have its name.
const AGENT: &str = "agent";

/// What came out: the models, and what the kernel is told of them and of all others.
pub(super) struct Scopes {
    pub(super) models: BTreeMap<Name, Arc<Model>>,
    pub(super) scopes: Vec<Scope>,
}

/// Every scope that could be read: the agent's first (`own` are the regions that it may send to), then models, then workloads, in the file's order.
pub(super) fn compile(
    raw: &raw::Config,
    regions: &RegionTable,
    region_names: &Declared<'_>,
    own: &[Name],
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Scopes {
    let agent_place = Place { key: "the agent itself".to_owned(), start: 0, value: None };
    let mut ground = Ground {
        taken: vec![(agent_place, host.agent_cgroup.clone())],
        names: Vec::new(),
        addresses: Vec::new(),
    };
    let mut models = BTreeMap::new();
    let mut scopes: Vec<Scope> = agent(own, regions, host).into_iter().collect();

    if raw.models.is_empty() {
        let place = Place { key: "model".to_owned(), start: 0, value: None };
        let cure = "add [[model]] with name, slice, port (or socket) and server";
        report.error(&place, Problem::MissingKey, "missing: there is nothing to guard", cure);
    }
    for model in &raw.models {
        let name = model.name.as_ref().and_then(|name| ground.name(name, report));
        let slice = model.slice.as_ref().and_then(|slice| Some((&slice.value, ground.slice(slice, report)?)));
        let server = model
            .server
            .as_ref()
            .and_then(|server| word(server, "a model server", &ServerPreset::ALL, report));
        let called = model.name.as_ref().map_or("?", |name| name.value.as_str());
        let upstream =
            ground.address(model.port.as_ref(), model.socket.as_ref(), called, host, report, warnings);
        let credential = model.credential.as_ref().and_then(|text| {
            let what = format!("model \"{called}\": its credential");
            files::credential(text, &what, host, report, warnings)
        });
        let egress = egress(model.egress.as_ref(), regions, region_names, report);
        let peers = peers::compile(&model.peers, &raw.models, report);
        if let (Some(name), Some((slice, cgroup)), Some(upstream), Some(server)) =
            (name, slice, upstream, server)
        {
            let health = upstreams::health(model, server, raw.metrics.is_some(), report);
            let settled = Model {
                name: name.clone(),
                slice: slice.clone(),
                upstream,
                server,
                credential: credential.clone(),
                replicas: upstreams::compile(model, credential.as_ref(), &mut ground, host, report, warnings),
                health,
                fetch_urls: model.fetch_urls.as_ref().is_some_and(|flag| flag.value),
            };
            scopes.extend(held(&settled, &cgroup, &egress, &peers));
            models.insert(name, Arc::new(settled));
        }
    }
    for workload in &raw.workloads {
        let name = workload.name.as_ref().and_then(|name| ground.name(name, report));
        let cgroup = match (&workload.unit, &workload.slice) {
            (Some(unit), None) => ground.unit(unit, report),
            (None, Some(slice)) => ground.slice(slice, report),
            (Some(_), Some(slice)) => {
                let message = "a workload is a unit or a slice, not both";
                report.error(&slice.place, Problem::Conflict, message, "take one of the two out");
                None
            }
            (None, None) => {
                if workload.is_blank {
                    let cure = "add unit = \"….service\" or slice = \"….slice\"";
                    report.error(&workload.place, Problem::MissingKey, "neither unit nor slice", cure);
                }
                None
            }
        };
        let egress = egress(workload.egress.as_ref(), regions, region_names, report);
        if let (Some(name), Some(cgroup)) = (name, cgroup) {
            scopes.push(Scope { name, kind: ScopeKind::Workload, cgroup, egress, peers: Vec::new() });
        }
    }
    Scopes { models, scopes }
}

/// A model's servers as the kernel is told of them: each has a port and a slice of its own, and the model's one policy.
fn held<'a>(
    model: &'a Model,
    cgroup: &'a Path,
    egress: &'a EgressPolicy,
    peers: &'a [Peer],
) -> impl Iterator<Item = Scope> + use<'a> {
    model.servers().into_iter().map(move |server| {
        let kind = match &server.address {
            ModelAddress::Port(address) => ScopeKind::Model { port: address.port() },
            ModelAddress::Socket(_) => ScopeKind::SealedModel,
        };
        let own = server.name == model.name;
        let cgroup = if own { cgroup.to_owned() } else { slice_path(&server.slice) };
        Scope { name: server.name, kind, cgroup, egress: egress.clone(), peers: peers.to_vec() }
    })
}

/// What the kernel would refuse for its size, at the region that has the most countries.
pub(super) fn report_too_many_networks(rules: &Rules, regions: &[raw::Region], report: &Report<'_>) {
    let (needed, most) = (rules.kernel_memory(), Rules::MOST_KERNEL_MEMORY);
    let countries = |region: &&raw::Region| region.countries.as_ref().map_or(0, |list| list.value.len());
    if let (true, Some(widest)) = (needed > most, regions.iter().max_by_key(countries)) {
        let problem = RuleProblem::TooManyNetworks { needed, most }.to_string();
        let (message, cure) = problem.split_once("; ").unwrap_or((&problem, "allow fewer countries"));
        report.error(&widest.place, Problem::OutOfRange, message, cure);
    }
}

/// The agent obeys a policy too: its own connections go where its issuers and its collector are, and nowhere else.
fn agent(own: &[Name], regions: &RegionTable, host: &HostFacts) -> Option<Scope> {
    let mut names: Vec<Name> = Vec::new();
    for region in own {
        if !names.contains(region) {
            names.push(region.clone());
        }
    }
    let networks = regions.networks_of(&names);
    let egress = EgressPolicy { mode: Mode::Enforce, regions: names, networks, exceptions: Vec::new() };
    let name = Name::new(AGENT).ok()?;
    let cgroup = host.agent_cgroup.clone();
    Some(Scope { name, kind: ScopeKind::Proxy, cgroup, egress, peers: Vec::new() })
}

/// An egress policy; one that is not written allows nothing.
fn egress(
    raw: Option<&raw::Egress>,
    regions: &RegionTable,
    region_names: &Declared<'_>,
    report: &Report<'_>,
) -> EgressPolicy {
    let Some(raw) = raw else {
        return EgressPolicy::closed();
    };
    let modes = Mode::ALL.map(|mode| (mode.as_str(), mode));
    let mode =
        raw.mode.as_ref().and_then(|mode| word(mode, "a mode", &modes, report)).unwrap_or(Mode::Enforce);
    let allowed =
        raw.regions.as_ref().map(|list| region_names.resolve_all(&list.value, report)).unwrap_or_default();
    let networks = regions.networks_of(&allowed);
    let exceptions = raw.allow.iter().filter_map(|allow| exception(allow, report)).collect();
    EgressPolicy { mode, regions: allowed, networks, exceptions }
}

fn exception(raw: &raw::Exception, report: &Report<'_>) -> Option<EgressException> {
    let network = raw.network.as_ref().and_then(|text| regions::network(text, report));
    let port = match &raw.port {
        None => Some(None),
        Some(number) => port(number, report).map(Some),
    };
    let reason = raw.reason.as_ref().and_then(|reason| line_of_text(reason, report));
    Some(EgressException { network: network?, port: port?, reason: reason?.to_owned() })
}

/// What is spoken for: cgroups (each process must be in one scope at most), names, ports and sockets.
pub(super) struct Ground {
    taken: Vec<(Place, PathBuf)>,
    names: Vec<(String, Place)>,
    addresses: Vec<(ModelAddress, Place)>,
}

impl Ground {
    /// A name that nothing else has.
    pub(super) fn name(&mut self, name: &At<String>, report: &Report<'_>) -> Option<Name> {
        if name.value == AGENT {
            let message = "the name is the agent's own";
            report.error(&name.place, Problem::Duplicate, message, "give it another name");
            return None;
        }
        declare(name, &mut self.names, report)
    }

    /// Where a model server listens: a port or a socket that no other one has.
    pub(super) fn address(
        &mut self,
        number: Option<&At<i128>>,
        path: Option<&At<String>>,
        called: &str,
        host: &HostFacts,
        report: &Report<'_>,
        warnings: &mut Vec<String>,
    ) -> Option<ModelAddress> {
        let number = number.map(|number| (&number.place, port(number, report)));
        let path = path.map(|path| (&path.place, files::socket(path, called, host, report, warnings)));
        let (place, address, what) = match (number, path) {
            (Some(_), Some((place, _))) => {
                let message = "a model has a port or a socket, not both";
                report.error(place, Problem::Conflict, message, "take one of the two out");
                return None;
            }
            (Some((place, port)), None) => {
                (place, ModelAddress::Port(SocketAddr::from((Ipv4Addr::LOCALHOST, port?))), "port")
            }
            (None, Some((place, path))) => (place, ModelAddress::Socket(path?), "socket"),
            (None, None) => return None,
        };
        if let Some((_, earlier)) = self.addresses.iter().find(|(other, _)| *other == address) {
            let message = format!("the {what} is taken by {}", described(earlier, report));
            report.error(place, Problem::Duplicate, message, format!("give each model a {what} of its own"));
            return None;
        }
        self.addresses.push((address.clone(), place.clone()));
        Some(address)
    }

    /// A slice that no other scope has, holds or lies in.
    pub(super) fn slice(&mut self, slice: &At<String>, report: &Report<'_>) -> Option<PathBuf> {
        if !is_slice(&slice.value) {
            let cure = "name a systemd slice other than the root, such as \"bailiwick-llama.slice\" (systemd.slice(5))";
            report.error(&slice.place, Problem::Invalid, "not a slice", cure);
            return None;
        }
        self.take(&slice.place, slice_path(&slice.value), report)
    }

    fn unit(&mut self, unit: &At<String>, report: &Report<'_>) -> Option<PathBuf> {
        let Some(path) = unit_path(&unit.value) else {
            let cure = "name a systemd service with its suffix, such as \"fluent-bit.service\"";
            report.error(&unit.place, Problem::Invalid, "not a service", cure);
            return None;
        };
        self.take(&unit.place, path, report)
    }

    fn take(&mut self, place: &Place, path: PathBuf, report: &Report<'_>) -> Option<PathBuf> {
        let relation = |taken: &Path| {
            if path == taken {
                Some((Problem::Duplicate, "is the one of"))
            } else if path.starts_with(taken) {
                Some((Problem::Conflict, "lies inside the one of"))
            } else if taken.starts_with(&path) {
                Some((Problem::Conflict, "holds the one of"))
            } else {
                None
            }
        };
        for (index, (earlier, taken)) in self.taken.iter().enumerate() {
            if let Some((problem, how)) = relation(taken) {
                let whose = if index == 0 {
                    format!("{} ({})", earlier.key, taken.display())
                } else {
                    described(earlier, report)
                };
                let cure = "use one that is beside it: dashes nest slices (systemd.slice(5))";
                report.error(place, problem, format!("the cgroup {how} {whose}"), cure);
                return None;
            }
        }
        self.taken.push((place.clone(), path.clone()));
        Some(path)
    }
}

/// The form of a slice's name (systemd.slice(5)): dashes separate, so none is first, last or doubled.
fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice").is_some_and(|stem| {
        name.len() <= 255 && stem.split('-').all(|part| !part.is_empty() && part.bytes().all(is_unit_byte))
    })
}

/// Where systemd puts a service that no slice is set for (systemd.slice(5), "Special slice units").
fn unit_path(unit: &str) -> Option<PathBuf> {
    let stem = unit.strip_suffix(".service")?;
    let (prefix, instance) =
        stem.split_once('@').map_or((stem, None), |(prefix, instance)| (prefix, Some(instance)));
    let valid = |part: &str| !part.is_empty() && part.bytes().all(|byte| is_unit_byte(byte) || byte == b'-');
    if unit.len() > 255 || !valid(prefix) || !instance.is_none_or(valid) {
        return None;
    }
    let slice = Path::new("system.slice");
    Some(match instance {
        None => slice.join(unit),
        // Instances of a template share a slice; a dash in its name is escaped, since it would nest.
        Some(_) => slice.join(format!("system-{}.slice", prefix.replace('-', "\\x2d"))).join(unit),
    })
}

/// What a part of a unit's name is made of (systemd.unit(5)).
fn is_unit_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_s_name_has_the_form_that_systemd_gives_it() {
        for (name, valid, reason) in [
            ("bailiwick-llama.slice", true, "nested"),
            ("gpu.slice", true, "at the top"),
            ("-.slice", false, "the root holds everything"),
            (".slice", false, "empty"),
            ("a--b.slice", false, "an empty part"),
            ("-a.slice", false, "an empty part"),
            ("a-.slice", false, "an empty part"),
            ("a/b.slice", false, "a path"),
            ("../x.slice", false, "a path"),
            ("llama.service", false, "not a slice"),
            ("llama", false, "no suffix"),
            ("a b.slice", false, "a blank"),
        ] {
            assert_eq!(is_slice(name), valid, "{name}: {reason}");
        }
    }

    #[test]
    fn a_service_lies_where_systemd_puts_it() {
        for (unit, path, reason) in [
            ("fluent-bit.service", Some("system.slice/fluent-bit.service"), "a plain service"),
            (
                "metrics@gpu0.service",
                Some("system.slice/system-metrics.slice/metrics@gpu0.service"),
                "an instance",
            ),
            ("a-b@c.service", Some("system.slice/system-a\\x2db.slice/a-b@c.service"), "dashes are escaped"),
            ("fluent-bit", None, "no suffix"),
            ("a@.service", None, "a template is not a service"),
            ("../x.service", None, "a path"),
            (".service", None, "empty"),
        ] {
            assert_eq!(unit_path(unit).as_deref(), path.map(Path::new), "{unit}: {reason}");
        }
    }
}
