//! Peers: other hosts that may connect to a model's slice.

use super::super::errors::Problem;
use super::super::raw;
use super::super::report::{At, Report};
use super::{described, line_of_text, port, regions};
use bailiwick_kernel::Peer;
use ipnet::IpNet;

/// Every peer that could be read. `models` are all of the file: none of their ports is a peer's.
pub(super) fn compile(raw: &[raw::Peer], models: &[raw::Model], report: &Report<'_>) -> Vec<Peer> {
    let mut peers = Vec::new();
    for peer in raw {
        let network = peer.network.as_ref().and_then(|text| network(text, report));
        let ports = peer.ports.as_ref().map(|list| ports(&list.value, models, report));
        let reason = peer.reason.as_ref().and_then(|reason| line_of_text(reason, report));
        if let (Some(network), Some(ports), Some(reason)) = (network, ports, reason) {
            peers.push(Peer { network, ports, reason: reason.to_owned() });
        }
    }
    peers
}

/// Peers are other hosts, and known ones.
fn network(text: &At<String>, report: &Report<'_>) -> Option<IpNet> {
    let network = regions::network(text, report)?;
    let invalid = |message, cure| {
        report.error(&text.place, Problem::Invalid, message, cure);
        None
    };
    if network.prefix_len() == 0 {
        return invalid("every address there is", "name the hosts that run a part of the model");
    }
    if network.addr().is_loopback() {
        return invalid("this host itself", "a peer is another host; what is here goes through the proxy");
    }
    Some(network)
}

fn ports(numbers: &[At<i128>], models: &[raw::Model], report: &Report<'_>) -> Vec<u16> {
    let guarded = |number: &At<i128>| {
        let ports = models.iter().flat_map(|model| {
            model.port.iter().chain(model.upstreams.iter().filter_map(|upstream| upstream.port.as_ref()))
        });
        ports.into_iter().find(|port| port.value == number.value)
    };
    let mut found = Vec::new();
    for number in numbers {
        let Some(port) = port(number, report) else { continue };
        if let Some(guarded) = guarded(number) {
            let message = format!("a guarded port ({})", described(&guarded.place, report));
            let cure = "leave it out: only the proxy reaches a model's own port";
            report.error(&number.place, Problem::Conflict, message, cure);
        } else if found.contains(&port) {
            report.error(&number.place, Problem::Duplicate, "in the list twice", "take one out");
        } else {
            found.push(port);
        }
    }
    found
}
