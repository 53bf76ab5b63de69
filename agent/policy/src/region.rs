//! From an address to a jurisdiction.

use crate::{Country, Name};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A named set of countries and networks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
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

impl Location {
    /// Whether the address lies in one of `allowed`. An unknown location lies in none.
    #[must_use]
    pub fn is_in(&self, allowed: &[Name]) -> bool {
        match self {
            Self::Known { regions, .. } => regions.iter().any(|region| allowed.contains(region)),
            Self::Unknown => false,
        }
    }
}

/// Every region, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct RegionTable {
    regions: Vec<Region>,
    /// Who pins a network: indices into `regions`, in order. IPv4-mapped networks are kept as IPv4. The
    /// order of the keys puts a network before those that lie inside it.
    pins: BTreeMap<IpNet, Vec<usize>>,
    /// The prefix lengths that occur, so that a look-up tries no others.
    lengths: [BTreeSet<u8>; 2],
}

impl RegionTable {
    /// A table of these regions.
    #[must_use]
    pub fn new(regions: Vec<Region>) -> Self {
        let mut pins: BTreeMap<IpNet, Vec<usize>> = BTreeMap::new();
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for (index, region) in regions.iter().enumerate() {
            for network in &region.networks {
                let network = unmapped(*network);
                lengths[family(network.addr())].insert(network.prefix_len());
                let pinned_by = pins.entry(network).or_default();
                if !pinned_by.contains(&index) {
                    pinned_by.push(index);
                }
            }
        }
        Self { regions, pins, lengths }
    }

    /// Every region, in the config's order.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region of that name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == *name)
    }

    /// Where `address` lies: by the longest pinned network that holds it. IPv4-mapped IPv6 addresses are
    /// unmapped first (RFC 4291, 2.5.5.2).
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Location {
        let address = address.to_canonical();
        for length in self.lengths[family(address)].iter().rev() {
            let Ok(network) = IpNet::new(address, *length) else {
                continue;
            };
            let network = network.trunc();
            if let Some(pinned_by) = self.pins.get(&network) {
                let regions = pinned_by.iter().map(|index| self.regions[*index].name.clone()).collect();
                return Location::Known { regions, network };
            }
        }
        Location::Unknown
    }

    /// The networks that hold exactly the addresses that [`Self::locate`] puts in one of `allowed`: what the
    /// kernel, which knows networks and no regions, is given to allow.
    ///
    /// A network that only other regions pin, inside a network of an allowed one, is cut out: the longest
    /// match decides here as it does everywhere.
    #[must_use]
    pub fn networks_of(&self, allowed: &[Name]) -> Vec<IpNet> {
        let opens =
            |pinned_by: &[usize]| pinned_by.iter().any(|index| allowed.contains(&self.regions[*index].name));
        let holes: Vec<IpNet> = self
            .pins
            .iter()
            .filter(|(_, pinned_by)| !opens(pinned_by))
            .map(|(network, _)| *network)
            .collect();
        let mut networks = Vec::new();
        for (network, pinned_by) in &self.pins {
            if opens(pinned_by) {
                subtract(*network, &holes, &mut networks);
            }
        }
        IpNet::aggregate(&networks)
    }
}

/// Adds to `rest` what is left of `network` without `holes`; these are sorted.
fn subtract(network: IpNet, holes: &[IpNet], rest: &mut Vec<IpNet>) {
    // Sorted by family, address and length, the networks inside `network` stand together.
    let first = holes.partition_point(|hole| *hole < network);
    let inside = holes[first..].iter().take_while(|hole| network.contains(*hole)).count();
    let holes = &holes[first..first + inside];
    if holes.is_empty() {
        rest.push(network);
    } else if !holes.contains(&network)
        && let Ok(halves) = network.subnets(network.prefix_len() + 1)
    {
        for half in halves {
            subtract(half, holes, rest);
        }
    }
}

/// Host bits cleared, and a network of IPv4-mapped addresses (`::ffff:0:0/96`) as the IPv4 network it means.
fn unmapped(network: IpNet) -> IpNet {
    match network.trunc() {
        IpNet::V6(v6) => unmap_v6(v6).map_or(IpNet::V6(v6), IpNet::V4),
        IpNet::V4(v4) => IpNet::V4(v4),
    }
}

fn unmap_v6(network: Ipv6Net) -> Option<Ipv4Net> {
    let length = network.prefix_len().checked_sub(96)?;
    Ipv4Net::new(network.addr().to_ipv4_mapped()?, length).ok()
}

fn family(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn table(regions: &[(&str, &[&str])]) -> RegionTable {
        let region = |(region, networks): &(&str, &[&str])| Region {
            name: name(region),
            countries: Vec::new(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        };
        RegionTable::new(regions.iter().map(region).collect())
    }

    fn example() -> RegionTable {
        table(&[
            ("eu", &["10.0.0.0/8", "203.0.113.0/24", "2001:db8::/32", "198.51.100.7/32"]),
            ("lab", &["10.20.0.0/16", "203.0.113.0/24", "::ffff:192.0.2.0/120"]),
            ("abroad", &["10.20.30.0/24", "2001:db8:f::/48"]),
        ])
    }

    #[test]
    fn an_address_lies_where_its_longest_network_says() {
        let table = example();
        for (address, regions, network, reason) in [
            ("10.1.2.3", &["eu"][..], "10.0.0.0/8", "the only match"),
            ("10.20.1.1", &["lab"], "10.20.0.0/16", "longer than the /8"),
            ("10.20.30.255", &["abroad"], "10.20.30.0/24", "the longest of three"),
            ("203.0.113.9", &["eu", "lab"], "203.0.113.0/24", "two regions pin the same network"),
            ("198.51.100.7", &["eu"], "198.51.100.7/32", "a single address"),
            ("2001:db8::1", &["eu"], "2001:db8::/32", "IPv6"),
            ("2001:db8:f::1", &["abroad"], "2001:db8:f::/48", "IPv6, longer"),
            ("::ffff:10.20.30.1", &["abroad"], "10.20.30.0/24", "IPv4-mapped is IPv4"),
            ("192.0.2.1", &["lab"], "192.0.2.0/24", "a network written as mapped is IPv4 too"),
        ] {
            let known = Location::Known {
                regions: regions.iter().map(|region| name(region)).collect(),
                network: network.parse().unwrap(),
            };
            assert_eq!(table.locate(address.parse().unwrap()), known, "{address}: {reason}");
        }
    }

    #[test]
    fn everything_else_is_unknown() {
        for (address, reason) in [
            ("11.0.0.1", "next to a network"),
            ("198.51.100.8", "next to a single address"),
            ("2001:db9::", "the first address after"),
            ("::10.1.2.3", "IPv4-compatible (deprecated) is not IPv4-mapped"),
            ("64:ff9b::a01:203", "a NAT64 address is not the IPv4 address in it"),
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
        ] {
            assert_eq!(example().locate(address.parse().unwrap()), Location::Unknown, "{address}: {reason}");
        }
        assert_eq!(RegionTable::default().locate(Ipv4Addr::LOCALHOST.into()), Location::Unknown);
    }

    #[test]
    fn networks_for_the_kernel_leave_out_what_is_pinned_elsewhere() {
        let table = example();
        for (regions, inside, outside, reason) in [
            (&["eu"][..], "10.19.255.255", "10.20.0.0", "another region's network is a hole"),
            (&["eu"], "203.0.113.1", "10.20.30.1", "a network that eu pins as well is none"),
            (&["eu", "lab"], "10.20.29.255", "10.20.30.0", "a hole in the hole's filling"),
            (&["eu", "abroad"], "10.20.30.0", "10.20.31.0", "an allowed network in a hole"),
            (&["eu"], "2001:db8:e::", "2001:db8:f::", "IPv6"),
            (&["lab"], "192.0.2.255", "10.0.0.0", "the other way round"),
        ] {
            let allowed: Vec<Name> = regions.iter().map(|region| name(region)).collect();
            let networks = table.networks_of(&allowed);
            let holds = |text: &str| {
                let address: IpAddr = text.parse().unwrap();
                networks.iter().any(|network| network.contains(&address))
            };
            assert!(holds(inside), "{inside} for {regions:?}: {reason}: {networks:?}");
            assert!(!holds(outside), "{outside} for {regions:?}: {reason}: {networks:?}");
        }
        assert_eq!(table.networks_of(&[]), [], "no region, no network");
        assert_eq!(table.networks_of(&[name("nowhere")]), [], "an unknown region opens nothing");
    }

    /// Few distinct bits, so that networks nest, touch and coincide often.
    fn crowded_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0_u32..16).prop_map(|high| Ipv4Addr::from(0x0a00_0000 | high).into()),
            (0_u32..16).prop_map(|high| Ipv4Addr::from(high << 28).into()),
            (0_u128..16).prop_map(|low| Ipv6Addr::from((0x2001_0db8 << 96) | low).into()),
            (0_u32..16).prop_map(|low| Ipv4Addr::from(0x0a00_0000 | low).to_ipv6_mapped().into()),
        ]
    }

    fn crowded_network() -> impl Strategy<Value = IpNet> {
        (crowded_address(), any::<prop::sample::Index>()).prop_map(|(address, length)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, u8::try_from(length.index(longest + 1)).unwrap()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn locate_agrees_with_looking_at_every_network(
            networks in prop::collection::vec((0_usize..3, crowded_network()), 0..12),
            address in crowded_address(),
        ) {
            let regions: Vec<Region> = ["a", "b", "c"].iter().enumerate().map(|(index, text)| Region {
                name: name(text),
                countries: Vec::new(),
                networks: networks.iter().filter(|(of, _)| *of == index).map(|(_, network)| *network).collect(),
            }).collect();
            let canonical = address.to_canonical();
            let matching = |region: &Region| region.networks.iter().map(|network| unmapped(*network))
                .filter(|network| network.contains(&canonical)).map(|network| network.prefix_len()).max();
            let longest = regions.iter().filter_map(matching).max();
            let expected: Vec<Name> = regions.iter()
                .filter(|region| longest.is_some() && matching(region) == longest)
                .map(|region| region.name.clone()).collect();
            let table = RegionTable::new(regions);
            match table.locate(address) {
                Location::Known { regions, network } => {
                    prop_assert_eq!(regions, expected);
                    prop_assert_eq!(Some(network.prefix_len()), longest);
                    prop_assert!(network.contains(&canonical));
                }
                Location::Unknown => prop_assert!(expected.is_empty()),
            }
        }

        #[test]
        fn the_kernel_s_networks_hold_an_address_if_and_only_if_it_lies_in_an_allowed_region(
            networks in prop::collection::vec((0_usize..3, crowded_network()), 0..12),
            allowed in prop::sample::subsequence(vec!["a", "b", "c"], 0..=3),
            address in crowded_address(),
        ) {
            let regions = ["a", "b", "c"].iter().enumerate().map(|(index, text)| Region {
                name: name(text),
                countries: Vec::new(),
                networks: networks.iter().filter(|(of, _)| *of == index).map(|(_, network)| *network).collect(),
            }).collect();
            let table = RegionTable::new(regions);
            let allowed: Vec<Name> = allowed.into_iter().map(name).collect();
            let given = table.networks_of(&allowed);
            let canonical = address.to_canonical();
            prop_assert_eq!(
                given.iter().any(|network| network.contains(&canonical)),
                table.locate(address).is_in(&allowed),
                "{} in {:?}", address, given
            );
        }
    }
}
