//! Where an address lies, as alerts and the register say it.
//!
//! The one place that reads the evidence of [`RegionTable::locate`]: what it comes to know (a country, the dataset that says
//! so) is said here, and appears in every alert, in the register and in the trail.

use bailiwick_policy::{Location, RegionTable};
use std::net::IpAddr;

/// What is said where nothing is known.
pub(super) const UNKNOWN: &str = "unknown";

/// Where an address lies, and why that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Its region; `None` when it lies in none.
    pub(super) region: Option<String>,
    /// ISO 3166-1 alpha-2, where a dataset says so.
    pub(super) country: Option<String>,
    /// What put it there: the region's own network, in words that the config has.
    pub(super) rule: Option<String>,
    /// The dataset and its version, where one decided.
    pub(super) dataset: Option<String>,
}

impl Place {
    /// Asks the table.
    pub(super) fn of(regions: &RegionTable, address: IpAddr) -> Self {
        match regions.locate(address) {
            Location::Known { regions, network } => {
                let region = regions.first().map(ToString::to_string);
                let rule = region.as_ref().map(|region| format!("regions.{region}.networks {network}"));
                Self { region, rule, country: None, dataset: None }
            }
            Location::Unknown => Self::default(),
        }
    }

    /// The fields of an alert. The region is always said; the others where they are known.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let region = self.region.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        let mut fields = vec![("BAILIWICK_REGION", region)];
        let known = [
            ("BAILIWICK_COUNTRY", &self.country),
            ("BAILIWICK_RULE", &self.rule),
            ("BAILIWICK_DATASET", &self.dataset),
        ];
        fields.extend(known.into_iter().filter_map(|(field, value)| Some((field, value.clone()?))));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_policy::{Name, Region};

    #[test]
    fn a_place_says_what_put_it_there() {
        let abroad = Region {
            name: Name::new("abroad").unwrap(),
            countries: Vec::new(),
            networks: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let table = RegionTable::new(vec![abroad]);
        let place = Place::of(&table, "192.0.2.30".parse().unwrap());
        let said = place.fields();
        assert!(said.contains(&("BAILIWICK_REGION", "abroad".to_owned())), "{said:?}");
        assert!(
            said.contains(&("BAILIWICK_RULE", "regions.abroad.networks 192.0.2.0/24".to_owned())),
            "{said:?}"
        );
        let nowhere = Place::of(&table, "198.51.100.1".parse().unwrap());
        assert_eq!(nowhere.fields(), [("BAILIWICK_REGION", "unknown".to_owned())]);
    }
}
