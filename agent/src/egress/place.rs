//! Where an address lies, as alerts and the register say it.
//!
//! The one place that reads the evidence of [`RegionTable::locate`]: what it comes to know (a country, the dataset that says
//! so) is said here, and appears in every alert, in the register and in the trail.

use bailiwick_policy::{Location, RegionTable};
use std::net::IpAddr;

/// What is said where nothing is known.
pub(super) const UNKNOWN: &str = "unknown";

/// Where an address lies, and why that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(Location);

impl Place {
    /// Asks the table.
    pub(super) fn of(regions: &RegionTable, address: IpAddr) -> Self {
        Self(regions.locate(address))
    }

    /// The first region in the config that holds it; `None` when none does.
    pub(super) fn region(&self) -> Option<String> {
        self.0.regions().first().map(ToString::to_string)
    }

    /// ISO 3166-1 alpha-2, where a dataset says so.
    pub(super) fn country(&self) -> Option<String> {
        self.0.country().map(|country| country.to_string())
    }

    /// The datasets that say so, each with its date.
    pub(super) fn datasets(&self) -> Option<String> {
        self.0.datasets()
    }

    /// What put it there, in words that the config or the dataset has; for what is nowhere, why.
    pub(super) fn rule(&self) -> String {
        let region = self.region();
        match &self.0 {
            Location::Pinned { network, .. } => {
                format!("regions.{}.networks {network}", region.as_deref().unwrap_or(UNKNOWN))
            }
            Location::Country { country, .. } => match region {
                Some(region) => format!("regions.{region}.countries {country}"),
                None => format!("no region has {country}"),
            },
            Location::Unplaced { reason, .. } => format!("in no region: {}", reason.as_str()),
        }
    }

    /// Where it is or why it is nowhere, and who says so, for people: follows "the destination".
    pub(super) fn words(&self) -> String {
        self.0.words()
    }

    /// The fields of an alert. The region and what put it there are always said; the others where they are known.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let region = self.region().unwrap_or_else(|| UNKNOWN.to_owned());
        let mut fields = vec![("BAILIWICK_REGION", region), ("BAILIWICK_RULE", self.rule())];
        let known = [
            ("BAILIWICK_COUNTRY", self.country()),
            ("BAILIWICK_DATASET", self.datasets()),
            ("BAILIWICK_UNPLACED", self.0.unplaced().map(|reason| reason.as_str().to_owned())),
        ];
        fields.extend(known.into_iter().filter_map(|(field, value)| Some((field, value?))));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_policy::{Country, DatasetBuilder, DatasetInfo, Name, Origin, Place as Claimed, Region};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_place_says_what_put_it_there_and_who_says_so() {
        let mut builder = DatasetBuilder::new();
        let country = |code: &str| Claimed::Country(Country::new(code).unwrap());
        for (network, place) in [
            ("192.0.2.0/25", country("US")),
            ("192.0.2.128/25", Claimed::Anycast),
            ("203.0.113.0/24", country("NZ")),
        ] {
            let claim = builder.claim(place, "us-east-1").unwrap();
            builder.add(network.parse().unwrap(), claim);
        }
        let date = "2026-06-01".to_owned();
        let dataset = builder.finish(DatasetInfo {
            name: name("aws"),
            origin: Origin::Provider,
            version: date.clone(),
            date,
            sha256: String::new(),
        });
        let us =
            Region { name: name("us"), countries: vec![Country::new("US").unwrap()], networks: Vec::new() };
        let own = Region {
            name: name("own"),
            countries: Vec::new(),
            networks: vec!["198.51.100.0/24".parse().unwrap()],
        };
        let regions = RegionTable::with_datasets(vec![us, own], vec![dataset].into());
        let aws = Some("aws of 2026-06-01");
        for (address, region, country, unplaced, dataset, rule, words) in [
            (
                "192.0.2.30",
                "us",
                Some("US"),
                None,
                aws,
                "regions.us.countries US",
                "is in US (aws of 2026-06-01)",
            ),
            (
                "192.0.2.200",
                "unknown",
                None,
                Some("anycast"),
                aws,
                "in no region: anycast",
                "is anycast: it is in many places at once (aws of 2026-06-01)",
            ),
            (
                "203.0.113.1",
                "unknown",
                Some("NZ"),
                None,
                aws,
                "no region has NZ",
                "is in NZ (aws of 2026-06-01)",
            ),
            (
                "198.51.100.1",
                "own",
                None,
                None,
                None,
                "regions.own.networks 198.51.100.0/24",
                "is pinned by 198.51.100.0/24",
            ),
            (
                "2001:db8::1",
                "unknown",
                None,
                Some("unknown"),
                None,
                "in no region: unknown",
                "is in no dataset",
            ),
        ] {
            let place = Place::of(&regions, address.parse().unwrap());
            assert_eq!(place.words(), words, "{address}");
            let fields = place.fields();
            let get =
                |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
            assert_eq!(get("BAILIWICK_REGION"), Some(region), "{address}");
            assert_eq!(get("BAILIWICK_RULE"), Some(rule), "{address}");
            assert_eq!(get("BAILIWICK_COUNTRY"), country, "{address}");
            assert_eq!(get("BAILIWICK_UNPLACED"), unplaced, "{address}");
            assert_eq!(get("BAILIWICK_DATASET"), dataset, "{address}");
        }
    }
}
