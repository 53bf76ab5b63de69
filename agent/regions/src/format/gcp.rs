//! GCP `cloud.json`; also `goog.json`, whose prefixes have no scope.

use super::{FETCH_AGAIN, Reading, day, json, network};
use crate::{FormatError, cloud};
use bailiwick_policy::Place;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Ranges<'a> {
    #[serde(borrow, rename = "syncToken")]
    sync_token: Cow<'a, str>,
    #[serde(borrow, rename = "creationTime")]
    creation_time: Cow<'a, str>,
    #[serde(borrow)]
    prefixes: Vec<Prefix<'a>>,
}

#[derive(Deserialize)]
struct Prefix<'a> {
    #[serde(borrow, rename = "ipv4Prefix")]
    v4: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "ipv6Prefix")]
    v6: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scope: Option<Cow<'a, str>>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Reading, FormatError> {
    let ranges: Ranges<'_> = json(bytes)?;
    let mut reading = Reading {
        version: Some(ranges.sync_token.into_owned()),
        date: Some(day(&ranges.creation_time, "creationTime")?),
        ..Reading::default()
    };
    for (index, prefix) in ranges.prefixes.iter().enumerate() {
        let (text, key) = match (&prefix.v4, &prefix.v6) {
            (Some(v4), None) => (v4, "ipv4Prefix"),
            (None, Some(v6)) => (v6, "ipv6Prefix"),
            (Some(_), Some(_)) | (None, None) => {
                let message = "neither or both of ipv4Prefix and ipv6Prefix";
                return Err(FormatError::new(message, FETCH_AGAIN).at_key(format!("prefixes[{index}]")));
            }
        };
        let network = network(text, || format!("prefixes[{index}].{key}"))?;
        let claim = match prefix.scope.as_deref() {
            None | Some("") => reading.claim(Place::NoRegion, "")?,
            Some("global") => reading.claim(Place::Global, "global")?,
            Some(scope) => reading.region(cloud::gcp(scope), scope)?,
        };
        reading.builder.add(network, claim);
    }
    Ok(reading)
}
