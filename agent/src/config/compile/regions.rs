//! Regions: countries, groups and networks.

use super::super::errors::Problem;
use super::super::raw;
use super::super::report::{At, Place, Report};
use super::{declare, described, report_repeats};
use bailiwick_policy::{Country, CountryGroup, Region};
use ipnet::IpNet;
use std::net::IpAddr;
use std::rc::Rc;

/// Every region that could be read.
pub(super) fn compile(raw: &[raw::Region], report: &Report<'_>) -> Vec<Region> {
    let mut taken = Vec::new();
    let mut regions = Vec::new();
    let mut pins: Vec<Pin<'_>> = Vec::new();
    for region in raw {
        let name = declare(&region.name, &mut taken, report);
        let mut countries = Vec::new();
        if let Some(list) = &region.countries {
            report_repeats(&list.value, report);
            countries = list.value.iter().flat_map(|code| expand(code, report)).collect();
            countries.sort_unstable();
            countries.dedup();
        }
        let mut networks = Vec::new();
        if let Some(list) = &region.networks {
            report_repeats(&list.value, report);
            let shared: Rc<[Country]> = countries.as_slice().into();
            for text in &list.value {
                let Some(network) = network(text, report) else { continue };
                networks.push(network);
                pins.push(Pin {
                    network,
                    place: &text.place,
                    region: &region.name.value,
                    countries: Rc::clone(&shared),
                });
            }
        }
        if region.is_blank {
            empty_region(region, report);
        }
        if let Some(name) = name {
            regions.push(Region { name, countries, networks });
        }
    }
    report_contradictions(pins, report);
    regions
}

/// A network where it is pinned.
struct Pin<'a> {
    network: IpNet,
    place: &'a Place,
    region: &'a str,
    countries: Rc<[Country]>,
}

/// Pins that say nothing beside another one, and pins of one network to two regions that have no country in common.
/// A network inside one of another region is neither: the longest decides.
fn report_contradictions(mut pins: Vec<Pin<'_>>, report: &Report<'_>) {
    // Sorted, a network stands before those that lie inside it, and next to itself in the order of the file.
    pins.sort_by_key(|pin| (pin.network, pin.place.start));
    let mut around: Vec<&[Pin<'_>]> = Vec::new();
    for same in pins.chunk_by(|one, other| one.network == other.network) {
        while around.last().is_some_and(|wider| !wider[0].network.contains(&same[0].network)) {
            around.pop();
        }
        for (index, pin) in same.iter().enumerate() {
            // What another region pins in between would be undone by the inner one, so that it is no repetition.
            let nearest = around.last().copied().unwrap_or_default();
            if let Some(wider) = nearest.iter().find(|wider| wider.region == pin.region) {
                let message = format!(
                    "lies inside {}, {}, of the same region",
                    wider.network,
                    described(wider.place, report)
                );
                report.error(pin.place, Problem::Duplicate, message, "take one of the two out");
            }
            if let Some(other) = same[..index].iter().find(|other| other.contradicts(pin)) {
                let message = format!(
                    "{} pins it as well, and regions \"{}\" and \"{}\" have no country in common",
                    described(other.place, report),
                    other.region,
                    pin.region
                );
                report.error(pin.place, Problem::Conflict, message, "pin it to the region that it is in");
            }
        }
        around.push(same);
    }
}

impl Pin<'_> {
    fn contradicts(&self, other: &Self) -> bool {
        self.region != other.region
            && !self.countries.is_empty()
            && !other.countries.is_empty()
            && !self.countries.iter().any(|country| other.countries.contains(country))
    }
}

/// A network in CIDR notation with its host bits clear.
pub(super) fn network(text: &At<String>, report: &Report<'_>) -> Option<IpNet> {
    let Ok(network) = text.value.parse::<IpNet>() else {
        if let Some((address, scope)) = text.value.split_once('%') {
            let length = scope.split_once('/').map_or_else(String::new, |(_, length)| format!("/{length}"));
            let cure = format!(
                "a scope is the name of an interface, which no network has; write \"{address}{length}\""
            );
            report.error(&text.place, Problem::Invalid, "an IPv6 address with a scope", cure);
            return None;
        }
        let cure = match text.value.parse::<IpAddr>() {
            Ok(address) => format!("for the one address write \"{}\"", IpNet::from(address)),
            Err(_) => "write it as address/length, such as \"192.0.2.0/24\" or \"2001:db8::/32\"".to_owned(),
        };
        report.error(&text.place, Problem::Invalid, "not a network", cure);
        return None;
    };
    if network.trunc() != network {
        let cure =
            format!("write \"{}\"; for the one address \"{}\"", network.trunc(), IpNet::from(network.addr()));
        report.error(&text.place, Problem::Invalid, "bits are set beyond the prefix", cure);
        return None;
    }
    let mapped = match network.addr() {
        IpAddr::V6(address) => address.to_ipv4_mapped().filter(|_| network.prefix_len() >= 96),
        IpAddr::V4(_) => None,
    };
    if let Some(v4) = mapped {
        let cure = format!("write \"{v4}/{}\"", network.prefix_len() - 96);
        report.error(&text.place, Problem::Invalid, "IPv4 written as IPv6", cure);
        return None;
    }
    Some(network)
}

/// The countries that a code or a group means.
fn expand(code: &At<String>, report: &Report<'_>) -> Vec<Country> {
    let text = code.value.as_str();
    if text.starts_with('@') {
        if let Some(group) = CountryGroup::find(text) {
            return group.countries();
        }
        let groups = CountryGroup::ALL.map(CountryGroup::as_str);
        report.unknown(&code.place, Problem::UnknownWord, text, "not a group of countries", groups);
    } else if let Ok(country) = Country::new(text) {
        return vec![country];
    } else {
        let upper = text.to_uppercase();
        let cure = match upper.as_str() {
            "UK" => "the United Kingdom is \"GB\"".to_owned(),
            "EU" | "EEA" => format!("the group is \"@{}\"", text.to_lowercase()),
            _ if Country::new(&upper).is_ok() => format!("write \"{upper}\""),
            _ => "use a code of ISO 3166-1 alpha-2, such as \"DE\", or a group: @eu, @eea, @eu-adequate"
                .to_owned(),
        };
        report.error(&code.place, Problem::UnknownWord, "not a country", cure);
    }
    Vec::new()
}

fn empty_region(region: &raw::Region, report: &Report<'_>) {
    report.error(
        &region.place,
        Problem::Empty,
        "the region has neither countries nor networks",
        "add countries = [\"@eea\"] or networks = [\"192.0.2.0/24\"]",
    );
}
