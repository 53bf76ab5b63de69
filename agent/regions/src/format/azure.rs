//! Azure service tags (`ServiceTags_Public_*.json`).
//!
//! The same network is in several tags: `AzureCloud`, which has no region, lists what `AzureCloud.westeurope` lists. A
//! tag without a region says nothing of a place and gives way. The exception are those of Front Door, whose addresses
//! are announced everywhere: they are anycast whatever region another tag names.

use super::{Reading, json, network};
use crate::{FormatError, cloud};
use bailiwick_policy::Place;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Tags<'a> {
    #[serde(rename = "changeNumber")]
    change_number: u64,
    #[serde(borrow)]
    values: Vec<Tag<'a>>,
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    region: Cow<'a, str>,
    #[serde(borrow, rename = "addressPrefixes")]
    address_prefixes: Vec<Cow<'a, str>>,
}

/// Tags whose name begins so are anycast.
const ANYCAST: &str = "azurefrontdoor";

pub(super) fn read(bytes: &[u8]) -> Result<Reading, FormatError> {
    let tags: Tags<'_> = json(bytes)?;
    let mut reading = Reading { version: Some(tags.change_number.to_string()), ..Reading::default() };
    for (index, tag) in tags.values.iter().enumerate() {
        let region = tag.properties.region.as_ref();
        let claim = if tag.name.to_ascii_lowercase().starts_with(ANYCAST) {
            reading.claim(Place::Anycast, &tag.name)?
        } else if region.is_empty() {
            reading.claim(Place::NoRegion, "")?
        } else {
            reading.region(cloud::azure(region), region)?
        };
        for (number, prefix) in tag.properties.address_prefixes.iter().enumerate() {
            let key = || format!("values[{index}].properties.addressPrefixes[{number}]");
            reading.builder.add(network(prefix, key)?, claim);
        }
    }
    Ok(reading)
}
