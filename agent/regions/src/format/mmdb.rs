//! A table of countries in the MaxMind DB format, version 2.
//!
//! The search tree is walked here, within bounds that hold for any bytes: no deeper than an address is long, and no
//! more nodes than a tree of that size has. `maxminddb` reads the metadata and the records.

use super::{FETCH_AGAIN, Reading};
use crate::FormatError;
use bailiwick_policy::{ClaimId, Country, Place};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use maxminddb::Reader;
use serde_json::Value;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use time::OffsetDateTime;

/// What stands before the metadata, near the end of the file.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// The metadata is no longer than this.
const LONGEST_METADATA: usize = 128 * 1024;

/// Whether it looks like such a file.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    let end = &bytes[bytes.len().saturating_sub(LONGEST_METADATA + MARKER.len())..];
    end.windows(MARKER.len()).any(|window| window == MARKER)
}

pub(super) fn read(bytes: &[u8]) -> Result<Reading, FormatError> {
    if !is_one(bytes) {
        let message = "no metadata at its end, where a MaxMind DB file has it";
        return Err(FormatError::new(message, "it is cut short, or of another kind: fetch it again")
            .at_byte(bytes.len()));
    }
    let reader =
        Reader::from_source(bytes).map_err(|error| FormatError::new(error.to_string(), FETCH_AGAIN))?;
    let metadata = reader.metadata();
    let date = i64::try_from(metadata.build_epoch)
        .ok()
        .and_then(|epoch| OffsetDateTime::from_unix_timestamp(epoch).ok());
    let Some(date) = date else {
        let error = FormatError::new("not a time", FETCH_AGAIN).at_key("build_epoch".to_owned());
        return Err(error.showing(&metadata.build_epoch.to_string()));
    };
    let mut walk = Walk {
        reading: Reading {
            version: Some(format!("{} {}", metadata.database_type, metadata.build_epoch)),
            date: Some(date.date()),
            ..Reading::default()
        },
        tree: Tree { bytes, nodes: metadata.node_count, record_bits: metadata.record_size },
        records: HashMap::new(),
        steps: u64::from(metadata.node_count).saturating_mul(4) + 1024,
        reader: &reader,
    };
    match metadata.ip_version {
        4 => walk.v4(0)?,
        6 => {
            let start = walk.tree.zeros(96)?;
            walk.v4(start)?;
            walk.v6()?;
        }
        version => {
            let error = FormatError::new("neither 4 nor 6", FETCH_AGAIN).at_key("ip_version".to_owned());
            return Err(error.showing(&version.to_string()));
        }
    }
    if !walk.records.values().any(Option::is_some) {
        let cure = "import a table of countries, not of networks or organisations";
        return Err(FormatError::new("no record has a country", cure));
    }
    Ok(walk.reading)
}

/// The search tree.
#[derive(Clone, Copy)]
struct Tree<'a> {
    bytes: &'a [u8],
    nodes: u32,
    record_bits: u16,
}

impl Tree<'_> {
    /// The left or right record of a node (MaxMind DB, "Node Layout").
    fn child(&self, node: u32, right: bool) -> Result<u32, FormatError> {
        let size = usize::from(self.record_bits) / 4;
        let start = usize::try_from(node).unwrap_or(usize::MAX).saturating_mul(size);
        let found = self.bytes.get(start..start.saturating_add(size)).and_then(|node| match (node, right) {
            ([a, b, c, _, _, _], false) | ([_, _, _, a, b, c], true) => {
                Some(u32::from_be_bytes([0, *a, *b, *c]))
            }
            ([a, b, c, middle, _, _, _], false) => Some(u32::from_be_bytes([middle >> 4, *a, *b, *c])),
            ([_, _, _, middle, a, b, c], true) => Some(u32::from_be_bytes([middle & 0x0f, *a, *b, *c])),
            ([a, b, c, d, _, _, _, _], false) | ([_, _, _, _, a, b, c, d], true) => {
                Some(u32::from_be_bytes([*a, *b, *c, *d]))
            }
            _ => None,
        });
        found.ok_or_else(|| FormatError::new("a node lies outside the file", FETCH_AGAIN).at_byte(start))
    }

    /// Where so many zero bits lead.
    fn zeros(&self, bits: u8) -> Result<u32, FormatError> {
        let mut node = 0;
        for _ in 0..bits {
            if node >= self.nodes {
                break;
            }
            node = self.child(node, false)?;
        }
        Ok(node)
    }
}

struct Walk<'a> {
    reading: Reading,
    tree: Tree<'a>,
    reader: &'a Reader<&'a [u8]>,
    /// What the record at a pointer claims; nothing where it has no country.
    records: HashMap<u32, Option<ClaimId>>,
    /// How many more nodes may be looked at.
    steps: u64,
}

impl Walk<'_> {
    fn v4(&mut self, start: u32) -> Result<(), FormatError> {
        let mut waiting = vec![(start, 0_u32, 0_u8)];
        while let Some((node, address, depth)) = waiting.pop() {
            if node >= self.tree.nodes {
                let network = || Ipv4Net::new(Ipv4Addr::from_bits(address), depth).ok().map(IpNet::V4);
                self.leaf(node, network)?;
                continue;
            }
            self.step(node, depth, 32)?;
            let bit = 1 << (31 - depth);
            waiting.push((self.tree.child(node, true)?, address | bit, depth + 1));
            waiting.push((self.tree.child(node, false)?, address, depth + 1));
        }
        Ok(())
    }

    fn v6(&mut self) -> Result<(), FormatError> {
        let mut waiting = vec![(0_u32, 0_u128, 0_u8)];
        while let Some((node, address, depth)) = waiting.pop() {
            // IPv4 again, under prefixes that embed it, and what is not assigned.
            let elsewhere = depth >= 3 && address >> 125 != 1;
            if elsewhere || is_tunnel(address, depth) {
                continue;
            }
            if node >= self.tree.nodes {
                let network = || Ipv6Net::new(Ipv6Addr::from_bits(address), depth).ok().map(IpNet::V6);
                self.leaf(node, network)?;
                continue;
            }
            self.step(node, depth, 128)?;
            let bit = 1 << (127 - depth);
            waiting.push((self.tree.child(node, true)?, address | bit, depth + 1));
            waiting.push((self.tree.child(node, false)?, address, depth + 1));
        }
        Ok(())
    }

    fn step(&mut self, node: u32, depth: u8, longest: u8) -> Result<(), FormatError> {
        let byte = usize::try_from(node).unwrap_or_default() * usize::from(self.tree.record_bits) / 4;
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 || depth >= longest {
            return Err(FormatError::new("the search tree turns back on itself", FETCH_AGAIN).at_byte(byte));
        }
        Ok(())
    }

    fn leaf(&mut self, pointer: u32, network: impl Fn() -> Option<IpNet>) -> Result<(), FormatError> {
        // The number of nodes itself means that there is no record.
        if pointer == self.tree.nodes {
            return Ok(());
        }
        let Some(network) = network() else { return Ok(()) };
        let claim = match self.records.get(&pointer) {
            Some(known) => *known,
            None => {
                let claim = self.record(network)?;
                self.records.insert(pointer, claim);
                claim
            }
        };
        let Some(claim) = claim else { return Ok(()) };
        if network.prefix_len() == 0 {
            let message = "one record for every address";
            return Err(FormatError::new(message, FETCH_AGAIN).at_key(network.to_string()));
        }
        self.reading.builder.add(network, claim);
        Ok(())
    }

    /// What the record of a network says.
    fn record(&mut self, network: IpNet) -> Result<Option<ClaimId>, FormatError> {
        let found = self.reader.lookup(network.addr()).and_then(|found| found.decode::<Value>());
        let record = found.map_err(|error| {
            FormatError::new(error.to_string(), FETCH_AGAIN).at_key(format!("the record of {network}"))
        })?;
        let Some(record) = record else { return Ok(None) };
        if record["traits"]["is_anycast"] == true || record["is_anycast"] == true {
            return self.reading.claim(Place::Anycast, "anycast").map(Some);
        }
        let code = [&record["country_code"], &record["country"]["iso_code"], &record["country"]];
        let Some(code) = code.into_iter().find_map(Value::as_str) else { return Ok(None) };
        let place = Country::new(code).map_or(Place::UnknownRegion, Place::Country);
        self.reading.claim(place, code).map(Some)
    }
}

/// Teredo and 6to4 hold IPv4 addresses, not places.
fn is_tunnel(address: u128, depth: u8) -> bool {
    (depth >= 32 && address >> 96 == 0x2001_0000) || (depth >= 16 && address >> 112 == 0x2002)
}
