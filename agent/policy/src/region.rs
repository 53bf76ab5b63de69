//! From an address to a jurisdiction.

use crate::Name;
use ipnet::IpNet;
use std::net::IpAddr;

/// An ISO 3166-1 alpha-2 country code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

/// A string that is no assigned ISO 3166-1 alpha-2 code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an assigned ISO 3166-1 alpha-2 country code")]
pub struct InvalidCountry;

/// A named set of countries and networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name in the config.
    pub name: Name,
    /// Its countries, groups expanded, sorted.
    pub countries: Vec<Country>,
    /// The networks that the operator pinned to it; they win over every dataset.
    pub networks: Vec<IpNet>,
}

/// Where an address lies, with the evidence for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In these regions, by this network (the longest match).
    Known {
        /// Every region that pins exactly this network, in the config's order; never empty.
        regions: Vec<Name>,
        /// The prefix that decided.
        network: IpNet,
    },
    /// In no region that is known here; denied everywhere.
    Unknown,
}

/// Every region, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct RegionTable {
    regions: Vec<Region>,
}

impl RegionTable {
    /// A table of these regions.
    #[must_use]
    pub fn new(regions: Vec<Region>) -> Self {
        Self { regions }
    }

    /// The region of that name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == *name)
    }

    /// Where `address` lies. IPv4-mapped IPv6 addresses are unmapped first (RFC 4291, 2.5.5.2).
    #[must_use]
    pub fn locate(&self, _address: IpAddr) -> Location {
        unimplemented!()
    }
}
