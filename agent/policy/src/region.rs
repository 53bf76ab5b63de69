//! From an address to a jurisdiction: the operator's pinned networks first, then what the datasets say.

use crate::dataset::{Dataset, Evidence, Origin, unmapped};
use crate::interval::{Bits, Entry, Runs, Value, cover, ranges, walk};
use crate::location::{Location, Unplaced, decide};
use crate::{Country, Name};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

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

/// Every region, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct RegionTable {
    regions: Vec<Region>,
    datasets: Arc<[Dataset]>,
    /// Who pins a network: indices into `regions`, in order. A tag of the runs is an index into it, from 1.
    pinned_by: Vec<Vec<usize>>,
    pins: Families,
    special: Families,
}

/// Runs of both families; IPv4-mapped networks are kept as IPv4.
#[derive(Clone, Debug, Default)]
struct Families {
    v4: Runs<u32>,
    v6: Runs<u128>,
}

/// No dataset can know where these are, whatever it says: they are not globally reachable, or they tunnel another
/// address (the special-purpose registries of IANA, RFC 6890). Outside `2000::/3` nothing is assigned. Networks for
/// documentation are not among them: nobody sends there.
const SPECIAL_PURPOSE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
    "::/3",
    "4000::/2",
    "8000::/1",
    "2001::/32",
    "2002::/16",
];

impl RegionTable {
    /// A table of these regions, without datasets: only pinned networks are known.
    #[must_use]
    pub fn new(regions: Vec<Region>) -> Self {
        Self::with_datasets(regions, Arc::default())
    }

    /// A table of these regions, whose countries the datasets join with addresses.
    #[must_use]
    pub fn with_datasets(regions: Vec<Region>, datasets: Arc<[Dataset]>) -> Self {
        let mut pins: BTreeMap<IpNet, Vec<usize>> = BTreeMap::new();
        for (index, region) in regions.iter().enumerate() {
            for network in &region.networks {
                let pinned_by = pins.entry(unmapped(*network)).or_default();
                if !pinned_by.contains(&index) {
                    pinned_by.push(index);
                }
            }
        }
        let mut pinned_by: Vec<Vec<usize>> = Vec::new();
        let mut tags: BTreeMap<Vec<usize>, u32> = BTreeMap::new();
        let mut tagged = Vec::new();
        for (network, by) in pins {
            let tag = *tags.entry(by).or_insert_with_key(|by| {
                pinned_by.push(by.clone());
                u32::try_from(pinned_by.len()).unwrap_or(u32::MAX)
            });
            tagged.push((network, tag));
        }
        let special = SPECIAL_PURPOSE.iter().filter_map(|network| Some((network.parse().ok()?, 1)));
        Self { regions, datasets, pinned_by, pins: Families::of(tagged), special: Families::of(special) }
    }

    /// Every region, in the config's order.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The datasets that it asks.
    #[must_use]
    pub fn datasets(&self) -> &[Dataset] {
        &self.datasets
    }

    /// The region of that name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == *name)
    }

    /// Where `address` lies: by the longest pinned network that holds it, or else by the datasets. IPv4-mapped IPv6
    /// addresses are unmapped first (RFC 4291, 2.5.5.2).
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Location {
        let address = address.to_canonical();
        let pin = self.pins.at(address);
        if let Some(by) = self.pinned_by(pin)
            && let Some(network) = network_of(address, pin.length())
        {
            let regions = by.iter().map(|index| self.regions[*index].name.clone()).collect();
            return Location::Pinned { regions, network };
        }
        if self.special.at(address) != Value::NONE {
            return Location::Unplaced { reason: Unplaced::SpecialPurpose, evidence: Vec::new() };
        }
        let mut evidence: Vec<Evidence> =
            self.datasets.iter().filter_map(|dataset| dataset.at(address)).collect();
        // Told in the order in which they are asked.
        evidence.sort_by_key(|evidence| evidence.dataset.origin == Origin::CountryTable);
        match decide(evidence.iter().map(|evidence| (evidence.dataset.origin, &evidence.claim))) {
            Ok(country) => {
                let with = self.regions.iter().filter(|region| region.countries.contains(&country));
                Location::Country {
                    country,
                    regions: with.map(|region| region.name.clone()).collect(),
                    evidence,
                }
            }
            Err(reason) => Location::Unplaced { reason, evidence },
        }
    }

    /// The networks that hold exactly the addresses that [`Self::locate`] puts in one of `allowed`: what the
    /// kernel, which knows networks and no regions, is given to allow. The fewest there can be, sorted.
    #[must_use]
    pub fn networks_of(&self, allowed: &[Name]) -> Vec<IpNet> {
        let opens: Vec<bool> = self.regions.iter().map(|region| allowed.contains(&region.name)).collect();
        let countries = CountrySet::of(
            self.regions
                .iter()
                .filter(|region| allowed.contains(&region.name))
                .flat_map(|region| &region.countries),
        );
        let opened = Opened { table: self, opens, countries };
        let mut networks = Vec::new();
        opened.sweep(&self.pins.v4, &self.special.v4, |dataset| &dataset.v4, &mut networks);
        opened.sweep(&self.pins.v6, &self.special.v6, |dataset| &dataset.v6, &mut networks);
        networks
    }

    /// A network in parts, in each of which every address lies where its first one does, for the same reason: at most
    /// `most` of them, upwards.
    #[must_use]
    pub fn parts(&self, network: IpNet, most: usize) -> Vec<(IpNet, Location)> {
        let mut networks = Vec::new();
        match unmapped(network) {
            IpNet::V4(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                self.cut(
                    first,
                    last,
                    most,
                    (&self.pins.v4, &self.special.v4),
                    |dataset| &dataset.v4,
                    &mut networks,
                );
            }
            IpNet::V6(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                self.cut(
                    first,
                    last,
                    most,
                    (&self.pins.v6, &self.special.v6),
                    |dataset| &dataset.v6,
                    &mut networks,
                );
            }
        }
        networks.truncate(most);
        networks.into_iter().map(|network| (network, self.locate(network.addr()))).collect()
    }

    fn cut<'t, A: Bits + 't>(
        &'t self,
        first: A,
        last: A,
        most: usize,
        (pins, special): (&'t Runs<A>, &'t Runs<A>),
        runs: impl Fn(&'t Dataset) -> &'t Runs<A>,
        networks: &mut Vec<IpNet>,
    ) {
        let mut tables = vec![pins, special];
        tables.extend(self.datasets.iter().map(runs));
        let mut begun = first;
        walk(&tables, |boundary, _| {
            if boundary > begun
                && boundary <= last
                && networks.len() < most
                && let Some(before) = boundary.previous()
            {
                cover(begun, before, networks);
                begun = boundary;
            }
        });
        cover(begun, last, networks);
    }

    fn pinned_by(&self, pin: Value) -> Option<&[usize]> {
        let index = usize::try_from(pin.tag()).ok()?.checked_sub(1)?;
        self.pinned_by.get(index).map(Vec::as_slice)
    }
}

/// A question about the whole address space: what lies in some regions?
struct Opened<'a> {
    table: &'a RegionTable,
    /// By region.
    opens: Vec<bool>,
    countries: CountrySet,
}

impl Opened<'_> {
    /// One pass over every boundary of a family; neighbours that are allowed become one range.
    fn sweep<'t, A: Bits + 't>(
        &'t self,
        pins: &'t Runs<A>,
        special: &'t Runs<A>,
        runs: impl Fn(&'t Dataset) -> &'t Runs<A>,
        networks: &mut Vec<IpNet>,
    ) {
        let mut tables = vec![pins, special];
        // Without a country there is nothing to ask the datasets.
        if !self.countries.is_empty() {
            tables.extend(self.table.datasets.iter().map(runs));
        }
        ranges(&tables, |values| self.allows(values), |first, last| cover(first, last, networks));
    }

    fn allows(&self, values: &[Value]) -> bool {
        let [pin, special, said @ ..] = values else { return false };
        if let Some(by) = self.table.pinned_by(*pin) {
            return by.iter().any(|index| self.opens[*index]);
        }
        if *special != Value::NONE {
            return false;
        }
        let claims = self.table.datasets.iter().zip(said);
        let claims =
            claims.filter_map(|(dataset, value)| Some((dataset.info().origin, dataset.claim(*value)?)));
        decide(claims).is_ok_and(|country| self.countries.contains(country))
    }
}

/// A set of countries that is quick to ask: a bit for each pair of letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CountrySet([u64; 11]);

impl CountrySet {
    fn of<'a>(countries: impl Iterator<Item = &'a Country>) -> Self {
        let mut set = Self::default();
        for country in countries {
            let (word, bit) = Self::place(*country);
            set.0[word] |= bit;
        }
        set
    }

    fn contains(&self, country: Country) -> bool {
        let (word, bit) = Self::place(country);
        self.0[word] & bit != 0
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn place(country: Country) -> (usize, u64) {
        let letters = country.as_str().bytes().map(|letter| usize::from(letter.saturating_sub(b'A')).min(25));
        let index = letters.fold(0, |index, letter| (index * 26 + letter) % (26 * 26));
        (index / 64, 1 << (index % 64))
    }
}

impl Families {
    fn of(networks: impl IntoIterator<Item = (IpNet, u32)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, tag) in networks {
            let length = network.prefix_len();
            match network {
                IpNet::V4(network) => v4.push(Entry { first: network.addr().to_bits(), length, tag }),
                IpNet::V6(network) => v6.push(Entry { first: network.addr().to_bits(), length, tag }),
            }
        }
        // A network is there once: who pins it is in its tag.
        Self { v4: Runs::of(v4, |one, _| one), v6: Runs::of(v6, |one, _| one) }
    }

    fn at(&self, address: IpAddr) -> Value {
        match address {
            IpAddr::V4(v4) => self.v4.at(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.at(v6.to_bits()),
        }
    }
}

fn network_of(address: IpAddr, length: u8) -> Option<IpNet> {
    IpNet::new(address, length).ok().map(|network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{DatasetBuilder, DatasetInfo, Place};
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
            let known = Location::Pinned {
                regions: regions.iter().map(|region| name(region)).collect(),
                network: network.parse().unwrap(),
            };
            assert_eq!(table.locate(address.parse().unwrap()), known, "{address}: {reason}");
        }
    }

    #[test]
    fn everything_else_is_in_no_region() {
        for (address, why, reason) in [
            ("11.0.0.1", Unplaced::Unknown, "next to a network"),
            ("198.51.100.8", Unplaced::Unknown, "next to a single address"),
            ("2001:db9::", Unplaced::Unknown, "the first address after"),
            ("::10.1.2.3", Unplaced::SpecialPurpose, "IPv4-compatible (deprecated) is not IPv4-mapped"),
            ("64:ff9b::a01:203", Unplaced::SpecialPurpose, "a NAT64 address is not the IPv4 address in it"),
            ("0.0.0.0", Unplaced::SpecialPurpose, "unspecified"),
            ("::", Unplaced::SpecialPurpose, "unspecified"),
        ] {
            let location = Location::Unplaced { reason: why, evidence: Vec::new() };
            assert_eq!(example().locate(address.parse().unwrap()), location, "{address}: {reason}");
        }
        assert_eq!(RegionTable::default().locate([192, 0, 2, 1].into()), Location::UNKNOWN);
    }

    fn dataset(called: &str, origin: Origin, networks: &[(&str, Place)]) -> Dataset {
        let mut builder = DatasetBuilder::new();
        for (network, place) in networks {
            let claim = builder.claim(*place, "here").unwrap();
            builder.add(network.parse().unwrap(), claim);
        }
        let date = "2026-06-01".to_owned();
        builder.finish(DatasetInfo {
            name: name(called),
            origin,
            version: date.clone(),
            date,
            sha256: String::new(),
        })
    }

    fn country(code: &str) -> Country {
        Country::new(code).unwrap()
    }

    /// Two regions with countries, a cloud that is in both and anycast, a table that differs in places.
    fn with_datasets() -> RegionTable {
        let region = |region: &str, countries: &[&str], networks: &[&str]| Region {
            name: name(region),
            countries: countries.iter().map(|code| country(code)).collect(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        };
        let regions = vec![
            region("eu", &["DE", "FR"], &["198.51.100.16/28", "10.0.0.0/8"]),
            region("us", &["US"], &[]),
        ];
        let at = |code: &str| Place::Country(country(code));
        let cloud = dataset(
            "cloud",
            Origin::Provider,
            &[
                ("203.0.113.0/24", at("DE")),
                ("203.0.113.64/26", Place::Anycast),
                ("203.0.113.128/26", at("US")),
                ("2001:db8::/32", at("FR")),
                ("172.16.0.0/12", at("DE")),
            ],
        );
        let table = dataset(
            "country",
            Origin::CountryTable,
            &[
                ("203.0.113.0/25", at("DE")),
                ("203.0.113.128/25", at("US")),
                ("198.51.100.0/24", at("US")),
                ("192.0.2.0/24", at("CH")),
                ("2001:db8:f::/48", at("US")),
            ],
        );
        RegionTable::with_datasets(regions, vec![cloud, table].into())
    }

    #[test]
    fn datasets_place_what_is_not_pinned_and_conflicts_are_no_place() {
        let table = with_datasets();
        for (address, expected, reason) in [
            ("203.0.113.1", Ok(("DE", &["eu"][..])), "cloud and table agree"),
            ("203.0.113.65", Err(Unplaced::Anycast), "a hole in the cloud's network"),
            ("203.0.113.129", Ok(("US", &["us"])), "another hole, in another region"),
            ("203.0.113.200", Err(Unplaced::Conflict), "the cloud's DE is the table's US"),
            ("198.51.100.1", Ok(("US", &["us"])), "the table alone"),
            ("192.0.2.1", Ok(("CH", &[])), "a country of no region"),
            ("2001:db8::1", Ok(("FR", &["eu"])), "the cloud alone, IPv6"),
            ("2001:db8:f::1", Err(Unplaced::Conflict), "and against the table"),
            ("172.16.0.1", Err(Unplaced::SpecialPurpose), "whatever a dataset says"),
            ("192.0.3.1", Err(Unplaced::Unknown), "nobody says"),
        ] {
            let location = table.locate(address.parse().unwrap());
            let found = location.unplaced().map_or(Ok(()), Err);
            match expected {
                Ok((code, regions)) => {
                    assert_eq!(found, Ok(()), "{address}: {reason}");
                    assert_eq!(location.country(), Some(country(code)), "{address}: {reason}");
                    let expected: Vec<Name> = regions.iter().map(|region| name(region)).collect();
                    assert_eq!(location.regions(), expected, "{address}: {reason}");
                    assert!(!location.evidence().is_empty(), "{address}: {reason}");
                }
                Err(why) => assert_eq!(found, Err(why), "{address}: {reason}"),
            }
        }
        let pinned = table.locate("198.51.100.17".parse().unwrap());
        assert_eq!(
            (pinned.regions(), pinned.country()),
            (&[name("eu")][..], None),
            "a pin wins over the table"
        );
        let conflict = table.locate("203.0.113.200".parse().unwrap());
        assert_eq!(conflict.datasets().unwrap(), "cloud of 2026-06-01, country of 2026-06-01");
        assert_eq!(conflict.network().unwrap().to_string(), "203.0.113.128/25", "the longest in evidence");
    }

    #[test]
    fn networks_for_the_kernel_leave_out_every_hole() {
        let networks: Vec<String> =
            with_datasets().networks_of(&[name("eu")]).iter().map(ToString::to_string).collect();
        assert_eq!(
            networks,
            [
                "10.0.0.0/8",
                "198.51.100.16/28",
                "203.0.113.0/26",
                // 2001:db8::/32 without 2001:db8:f::/48
                "2001:db8::/45",
                "2001:db8:8::/46",
                "2001:db8:c::/47",
                "2001:db8:e::/48",
                "2001:db8:10::/44",
                "2001:db8:20::/43",
                "2001:db8:40::/42",
                "2001:db8:80::/41",
                "2001:db8:100::/40",
                "2001:db8:200::/39",
                "2001:db8:400::/38",
                "2001:db8:800::/37",
                "2001:db8:1000::/36",
                "2001:db8:2000::/35",
                "2001:db8:4000::/34",
                "2001:db8:8000::/33",
            ]
        );
    }

    #[test]
    fn a_network_is_told_in_parts_that_lie_in_one_place_each() {
        let table = with_datasets();
        let parts = |network: &str, most| -> Vec<(String, Option<String>)> {
            let parts = table.parts(network.parse().unwrap(), most);
            let each = |(network, location): (IpNet, Location)| {
                (network.to_string(), location.country().map(|country| country.to_string()))
            };
            parts.into_iter().map(each).collect()
        };
        let part = |network: &str, country: Option<&str>| (network.to_owned(), country.map(str::to_owned));
        assert_eq!(
            parts("203.0.113.0/24", 9),
            [
                part("203.0.113.0/26", Some("DE")),
                part("203.0.113.64/26", None),
                part("203.0.113.128/26", Some("US")),
                part("203.0.113.192/26", None),
            ]
        );
        assert_eq!(parts("203.0.113.0/24", 2).len(), 2, "no more than was asked for");
        assert_eq!(parts("192.0.2.128/25", 9), [part("192.0.2.128/25", Some("CH"))], "a part of a part");
        assert_eq!(
            parts("::ffff:192.0.2.0/121", 9),
            [part("192.0.2.0/25", Some("CH"))],
            "IPv4 written as IPv6"
        );
    }

    /// A claim about a network of few bits.
    fn crowded_claim() -> impl Strategy<Value = (bool, bool, IpNet, Place)> {
        let places = vec![
            Place::Country(country("DE")),
            Place::Country(country("US")),
            Place::Anycast,
            Place::NoRegion,
            Place::UnknownRegion,
        ];
        (any::<bool>(), any::<bool>(), crowded_network(), prop::sample::select(places))
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
            (0_u32..16).prop_map(|low| Ipv4Addr::from(0xcb00_7100 | low).into()),
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
                Location::Pinned { regions, network } => {
                    prop_assert_eq!(regions, expected);
                    prop_assert_eq!(Some(network.prefix_len()), longest);
                    prop_assert!(network.contains(&canonical));
                }
                Location::Country { .. } => prop_assert!(false, "no dataset"),
                Location::Unplaced { .. } => prop_assert!(expected.is_empty()),
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

        #[test]
        fn with_datasets_the_kernel_is_given_exactly_what_a_look_up_allows(
            pinned in prop::collection::vec((0_usize..2, crowded_network()), 0..4),
            claims in prop::collection::vec(crowded_claim(), 0..16),
            allowed in prop::sample::subsequence(vec!["a", "b"], 0..=2),
            address in crowded_address(),
        ) {
            let regions = ["a", "b"].iter().zip(["DE", "US"]).enumerate().map(|(index, (text, code))| Region {
                name: name(text),
                countries: vec![country(code)],
                networks: pinned.iter().filter(|(of, _)| *of == index).map(|(_, network)| *network).collect(),
            }).collect();
            let datasets: Vec<Dataset> = [("cloud", true, Origin::Provider), ("other", false, Origin::Provider),
                ("country", true, Origin::CountryTable)].into_iter().map(|(called, first, origin)| {
                let mut builder = DatasetBuilder::new();
                for (provider, one, network, place) in &claims {
                    if (*provider == (origin == Origin::Provider)) && (!provider || *one == first) {
                        let claim = builder.claim(*place, "here").unwrap();
                        builder.add(*network, claim);
                    }
                }
                let date = "2026-06-01".to_owned();
                builder.finish(DatasetInfo { name: name(called), origin, version: date.clone(), date, sha256: String::new() })
            }).collect();
            let table = RegionTable::with_datasets(regions, datasets.into());
            let allowed: Vec<Name> = allowed.into_iter().map(name).collect();
            let given = table.networks_of(&allowed);
            // At the probe, and at both ends of each network and just beyond them.
            let mut probes = vec![address.to_canonical()];
            for network in given.iter().copied().chain(claims.iter().map(|(.., network, _)| unmapped(*network))) {
                probes.extend(around(network));
            }
            for probe in probes {
                let location = table.locate(probe);
                prop_assert_eq!(
                    given.iter().filter(|network| network.contains(&probe)).count(),
                    usize::from(location.is_in(&allowed)),
                    "{} is {:?}; given {:?}", probe, location, given
                );
            }
            prop_assert_eq!(IpNet::aggregate(&given), given, "the fewest, and sorted");
        }
    }

    /// The first and last address of a network, and the ones before and after it.
    fn around(network: IpNet) -> Vec<IpAddr> {
        let (first, last) = (network.network(), network.broadcast());
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                [Some(first), Some(last), first.checked_sub(1), last.checked_add(1)]
                    .into_iter()
                    .flatten()
                    .map(|bits| Ipv4Addr::from_bits(bits).into())
                    .collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                [Some(first), Some(last), first.checked_sub(1), last.checked_add(1)]
                    .into_iter()
                    .flatten()
                    .map(|bits| Ipv6Addr::from_bits(bits).to_canonical())
                    .collect()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        }
    }
}
