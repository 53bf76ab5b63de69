//! Oracle `public_ip_ranges.json`.

use super::{Reading, day, json, network};
use crate::{FormatError, cloud};
use bailiwick_policy::Place;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Ranges<'a> {
    #[serde(borrow)]
    last_updated_timestamp: Cow<'a, str>,
    #[serde(borrow)]
    regions: Vec<Region<'a>>,
}

#[derive(Deserialize)]
struct Region<'a> {
    #[serde(borrow)]
    region: Cow<'a, str>,
    #[serde(borrow)]
    cidrs: Vec<Cidr<'a>>,
}

#[derive(Deserialize)]
struct Cidr<'a> {
    #[serde(borrow)]
    cidr: Cow<'a, str>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Reading, FormatError> {
    let ranges: Ranges<'_> = json(bytes)?;
    let date = day(&ranges.last_updated_timestamp, "last_updated_timestamp")?;
    let version = Some(ranges.last_updated_timestamp.into_owned());
    let mut reading = Reading { version, date: Some(date), ..Reading::default() };
    for (index, region) in ranges.regions.iter().enumerate() {
        let name = region.region.as_ref();
        let claim = if name.is_empty() {
            reading.claim(Place::NoRegion, "")?
        } else {
            reading.region(cloud::oracle(name), name)?
        };
        for (number, cidr) in region.cidrs.iter().enumerate() {
            let network = network(&cidr.cidr, || format!("regions[{index}].cidrs[{number}].cidr"))?;
            reading.builder.add(network, claim);
        }
    }
    Ok(reading)
}
