//! Regions: countries, groups and networks.

use super::super::errors::Problem;
use super::super::raw;
use super::super::report::{At, Report};
use super::{declare, report_repeats};
use bailiwick_policy::{Country, CountryGroup, Region, RegionTable};
use ipnet::IpNet;
use std::net::IpAddr;

/// Every region that could be read.
pub(super) fn compile(raw: &[raw::Region], report: &Report<'_>) -> RegionTable {
    let mut taken = Vec::new();
    let mut regions = Vec::new();
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
            networks = list.value.iter().filter_map(|text| network(text, report)).collect();
        }
        if region.is_blank {
            empty_region(region, report);
        }
        if let Some(name) = name {
            regions.push(Region { name, countries, networks });
        }
    }
    RegionTable::new(regions)
}

/// A network in CIDR notation with its host bits clear.
pub(super) fn network(text: &At<String>, report: &Report<'_>) -> Option<IpNet> {
    let Ok(network) = text.value.parse::<IpNet>() else {
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
