//! Where an address or a network is, and by what evidence.

use super::verdict::Verdict;
use super::{Answer, LookupArgs, Refusal, settings};
use crate::cli::text::wrapped;
use bailiwick_policy::Location;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::IpAddr;

/// A network is told in no more parts than these.
const MOST_PARTS: usize = 256;

pub(super) fn run(args: &LookupArgs) -> Result<Answer, Refusal> {
    let subject = subject(&args.subject)?;
    let settings = settings(&args.config)?;
    let parts = settings.regions.parts(subject, MOST_PARTS + 1);
    let more = parts.len() > MOST_PARTS;
    let mut text = String::new();
    let mut told = Vec::new();
    for (network, location) in parts.iter().take(MOST_PARTS) {
        let single = network.prefix_len() == network.max_prefix_len();
        let shown = if single { network.addr().to_string() } else { network.to_string() };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{shown}: {}", place(location));
        for evidence in location.evidence() {
            let _ = writeln!(text, "{}", wrapped(&format!("  {evidence}"), 4));
        }
        let verdicts: Vec<_> =
            settings.kernel.scopes.iter().map(|scope| Verdict::of(scope, *network, location)).collect();
        for verdict in &verdicts {
            let _ = writeln!(text, "{}", wrapped(&format!("    {}", verdict.words()), 6));
        }
        told.push(json(*network, location, &verdicts));
    }
    if more {
        let _ = writeln!(text, "and more: ask for a smaller network");
    }
    Ok(Answer { code: 0, text, json: json!({"subject": args.subject, "parts": told, "more": more}) })
}

/// An address is a network of one.
fn subject(text: &str) -> Result<IpNet, Refusal> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    if let Some((address, _)) = text.split_once('%') {
        return Err(Refusal(format!("{text}: a scope is the name of an interface; look up {address}")));
    }
    text.parse::<IpNet>().map_err(|_| {
        Refusal(format!(
            "{text:?} is neither an address nor a network; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
        ))
    })
}

fn place(location: &Location) -> String {
    let names: Vec<&str> = location.regions().iter().map(|region| region.as_str()).collect();
    match location {
        Location::Pinned { network, .. } => {
            format!("region {}, by the pinned network {network}", names.join(", "))
        }
        Location::Country { country, .. } if names.is_empty() => format!("{country}, in no region"),
        Location::Country { country, .. } => format!("{country}, region {}", names.join(", ")),
        Location::Unplaced { reason, .. } => {
            format!("{}, in no region: it {}", reason.as_str(), reason.words())
        }
    }
}

fn json(network: IpNet, location: &Location, verdicts: &[Verdict<'_>]) -> Value {
    json!({
        "network": network,
        "source": match location {
            Location::Pinned { .. } => Some("pinned"),
            Location::Country { .. } => Some("datasets"),
            Location::Unplaced { .. } => None,
        },
        "pinned": match location {
            Location::Pinned { network, .. } => Some(network),
            Location::Country { .. } | Location::Unplaced { .. } => None,
        },
        "country": location.country(),
        "regions": location.regions(),
        "unplaced": location.unplaced(),
        "evidence": location.evidence(),
        "verdicts": verdicts.iter().map(Verdict::json).collect::<Vec<_>>(),
    })
}
