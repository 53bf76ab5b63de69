//! AWS `ip-ranges.json`.

use super::{Reading, day, json, network};
use crate::{FormatError, cloud};
use bailiwick_policy::Place;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Ranges<'a> {
    #[serde(borrow, rename = "syncToken")]
    sync_token: Cow<'a, str>,
    #[serde(borrow, rename = "createDate")]
    create_date: Cow<'a, str>,
    #[serde(borrow)]
    prefixes: Vec<Prefix4<'a>>,
    #[serde(borrow)]
    ipv6_prefixes: Vec<Prefix6<'a>>,
}

#[derive(Deserialize)]
struct Prefix4<'a> {
    #[serde(borrow)]
    ip_prefix: Cow<'a, str>,
    #[serde(borrow)]
    region: Cow<'a, str>,
    #[serde(borrow)]
    network_border_group: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Prefix6<'a> {
    #[serde(borrow)]
    ipv6_prefix: Cow<'a, str>,
    #[serde(borrow)]
    region: Cow<'a, str>,
    #[serde(borrow)]
    network_border_group: Option<Cow<'a, str>>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Reading, FormatError> {
    let ranges: Ranges<'_> = json(bytes)?;
    let mut reading = Reading {
        version: Some(ranges.sync_token.into_owned()),
        date: Some(day(&ranges.create_date, "createDate")?),
        ..Reading::default()
    };
    for (index, prefix) in ranges.prefixes.iter().enumerate() {
        let network = network(&prefix.ip_prefix, || format!("prefixes[{index}].ip_prefix"))?;
        let claim = claim(&mut reading, &prefix.region, prefix.network_border_group.as_deref())?;
        reading.builder.add(network, claim);
    }
    for (index, prefix) in ranges.ipv6_prefixes.iter().enumerate() {
        let network = network(&prefix.ipv6_prefix, || format!("ipv6_prefixes[{index}].ipv6_prefix"))?;
        let claim = claim(&mut reading, &prefix.region, prefix.network_border_group.as_deref())?;
        reading.builder.add(network, claim);
    }
    Ok(reading)
}

/// The border group is where the addresses are announced: a region, or one of its zones.
fn claim(
    reading: &mut Reading,
    region: &str,
    group: Option<&str>,
) -> Result<bailiwick_policy::ClaimId, FormatError> {
    let group = group.filter(|group| !group.is_empty()).unwrap_or(region);
    match (region, group) {
        ("", _) => reading.claim(Place::NoRegion, ""),
        ("GLOBAL", _) | (_, "GLOBAL") => reading.claim(Place::Global, "GLOBAL"),
        _ => reading.region(cloud::aws(group), group),
    }
}
