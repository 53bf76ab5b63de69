//! What others say about where addresses are: a provider's published ranges, or a table of countries.

use crate::interval::{Bits, Entry, Runs, Value, cover, walk};
use crate::{Country, Name};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Who a dataset is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The operator of the addresses: it knows where they are.
    Provider,
    /// Somebody who says of every address in which country it is.
    CountryTable,
}

/// Which dataset it is; part of every piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DatasetInfo {
    /// What it is called here.
    pub name: Name,
    /// Who it is by.
    pub origin: Origin,
    /// Its own version, or its date where it has none.
    pub version: String,
    /// The day that it describes (ISO 8601).
    pub date: String,
    /// SHA-256 of the file it was read from, hex.
    pub sha256: String,
}

impl fmt::Display for DatasetInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.date)
    }
}

/// Where a dataset puts a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In this country.
    Country(Country),
    /// In many places at once: which one answers depends on who asks.
    Anycast,
    /// In no single region, in the provider's own words.
    Global,
    /// The provider names no region.
    NoRegion,
    /// In a region, or under a code, that this version knows no country of.
    UnknownRegion,
    /// The dataset says two things about the same network.
    Contradiction,
}

/// A dataset's claim about a network, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Claim {
    /// What it means.
    pub place: Place,
    /// What is written there: a region's name, a country's code.
    pub label: Arc<str>,
}

/// Which claim of a [`DatasetBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId(u32);

/// A dataset makes more different claims than any real one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} different regions", Value::LARGEST_TAG)]
pub struct TooManyClaims;

/// A claim with where it comes from: what a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Evidence {
    /// The dataset.
    pub dataset: Arc<DatasetInfo>,
    /// The network in it that decided.
    pub network: IpNet,
    /// What it says.
    pub claim: Claim,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dataset, network, claim } = self;
        match claim.place {
            Place::Country(country) if claim.label.as_ref() == country.as_str() => {
                write!(f, "{dataset}: {network} is in {country}")
            }
            Place::Country(country) => write!(f, "{dataset}: {network} is in {} ({country})", claim.label),
            Place::Anycast => write!(f, "{dataset}: {network} is anycast"),
            Place::Global => write!(f, "{dataset}: {network} is \"{}\", which is no region", claim.label),
            Place::NoRegion => write!(f, "{dataset}: {network} has no region"),
            Place::UnknownRegion => {
                write!(f, "{dataset}: {network} is in \"{}\", whose country is not known", claim.label)
            }
            Place::Contradiction => write!(f, "{dataset}: {network} is in {}", claim.label),
        }
    }
}

/// A network of which two editions of a dataset say different things.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// The network.
    pub network: IpNet,
    /// What the older says; `None` where it says nothing.
    pub before: Option<Claim>,
    /// What the newer says.
    pub after: Option<Claim>,
}

/// A dataset, ready to be asked.
#[derive(Clone, Debug)]
pub struct Dataset {
    info: Arc<DatasetInfo>,
    /// By tag, from 1.
    claims: Vec<Claim>,
    pub(crate) v4: Runs<u32>,
    pub(crate) v6: Runs<u128>,
    networks: usize,
}

impl Dataset {
    /// Which one it is.
    #[must_use]
    pub fn info(&self) -> &Arc<DatasetInfo> {
        &self.info
    }

    /// How many networks it has.
    #[must_use]
    pub fn networks(&self) -> usize {
        self.networks
    }

    /// How many stretches of addresses it tells apart.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// What it says about an address; IPv4-mapped addresses are not unmapped here.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<Evidence> {
        let value = self.value_at(address);
        let claim = self.claim(value)?.clone();
        let network = match address {
            IpAddr::V4(v4) => v4.to_bits().network(value.length()),
            IpAddr::V6(v6) => v6.to_bits().network(value.length()),
        }?;
        Some(Evidence { dataset: Arc::clone(&self.info), network, claim })
    }

    /// Where another edition of this dataset says something else, upwards.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.changes_in(&self.v4, newer, &newer.v4, &mut changes);
        self.changes_in(&self.v6, newer, &newer.v6, &mut changes);
        changes
    }

    fn changes_in<A: Bits>(&self, own: &Runs<A>, newer: &Self, other: &Runs<A>, changes: &mut Vec<Change>) {
        let mut begun: Option<(A, Option<&Claim>, Option<&Claim>)> = None;
        let mut end = |begun: Option<(A, Option<&Claim>, Option<&Claim>)>, last: A| {
            if let Some((first, before, after)) = begun.filter(|(_, before, after)| before != after) {
                let mut networks = Vec::new();
                cover(first, last, &mut networks);
                let change = |network| Change { network, before: before.cloned(), after: after.cloned() };
                changes.extend(networks.into_iter().map(change));
            }
        };
        walk(&[own, other], |first, values| {
            let (before, after) = (self.claim(values[0]), newer.claim(values[1]));
            if begun.is_none_or(|(_, was, is)| (was, is) != (before, after)) {
                if let Some(last) = first.previous() {
                    end(begun, last);
                }
                begun = Some((first, before, after));
            }
        });
        end(begun, A::LAST);
    }

    pub(crate) fn value_at(&self, address: IpAddr) -> Value {
        match address {
            IpAddr::V4(v4) => self.v4.at(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.at(v6.to_bits()),
        }
    }

    pub(crate) fn claim(&self, value: Value) -> Option<&Claim> {
        let index = usize::try_from(value.tag()).ok()?.checked_sub(1)?;
        self.claims.get(index)
    }
}

/// The tag of a contradiction in no particular words; every builder has it.
const SEVERAL: u32 = 1;

/// Collects what a dataset says.
#[derive(Debug)]
pub struct DatasetBuilder {
    claims: Vec<Claim>,
    ids: HashMap<Claim, ClaimId>,
    /// Networks whose claim counts, and those that say nothing of a place: they count where no other does.
    strong: (Vec<Entry<u32>>, Vec<Entry<u128>>),
    weak: (Vec<Entry<u32>>, Vec<Entry<u128>>),
    networks: usize,
}

impl Default for DatasetBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl DatasetBuilder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let several = Claim { place: Place::Contradiction, label: "several regions".into() };
        Self {
            claims: vec![several.clone()],
            ids: HashMap::from([(several, ClaimId(SEVERAL))]),
            strong: (Vec::new(), Vec::new()),
            weak: (Vec::new(), Vec::new()),
            networks: 0,
        }
    }

    /// The id of a claim.
    ///
    /// # Errors
    /// [`TooManyClaims`].
    pub fn claim(&mut self, place: Place, label: &str) -> Result<ClaimId, TooManyClaims> {
        let claim = Claim { place, label: label.into() };
        if let Some(id) = self.ids.get(&claim) {
            return Ok(*id);
        }
        let tag = u32::try_from(self.claims.len() + 1).map_err(|_| TooManyClaims)?;
        if tag > Value::LARGEST_TAG {
            return Err(TooManyClaims);
        }
        self.claims.push(claim.clone());
        self.ids.insert(claim, ClaimId(tag));
        Ok(ClaimId(tag))
    }

    /// Adds a network. Host bits are cleared, and IPv4 written as IPv6 is taken as IPv4.
    pub fn add(&mut self, network: IpNet, ClaimId(tag): ClaimId) {
        self.networks += 1;
        let silent = usize::try_from(tag)
            .is_ok_and(|tag| self.claims.get(tag - 1).is_some_and(|claim| claim.place == Place::NoRegion));
        let (v4, v6) = if silent { &mut self.weak } else { &mut self.strong };
        match unmapped(network) {
            IpNet::V4(network) => {
                v4.push(Entry { first: network.addr().to_bits(), length: network.prefix_len(), tag });
            }
            IpNet::V6(network) => {
                v6.push(Entry { first: network.addr().to_bits(), length: network.prefix_len(), tag });
            }
        }
    }

    /// How many networks were added.
    #[must_use]
    pub fn networks(&self) -> usize {
        self.networks
    }

    /// The dataset.
    #[must_use]
    pub fn finish(mut self, info: DatasetInfo) -> Dataset {
        let (strong, weak) = (std::mem::take(&mut self.strong), std::mem::take(&mut self.weak));
        let v4 = self.flatten(strong.0, weak.0);
        let v6 = self.flatten(strong.1, weak.1);
        Dataset { info: Arc::new(info), claims: self.claims, v4, v6, networks: self.networks }
    }

    fn flatten<A: Bits>(&mut self, strong: Vec<Entry<A>>, weak: Vec<Entry<A>>) -> Runs<A> {
        let strong = Runs::of(strong, |one, other| self.both(one, other));
        if weak.is_empty() {
            return strong;
        }
        strong.over(&Runs::of(weak, |one, other| self.both(one, other)))
    }

    /// What two claims about the same network come to.
    fn both(&mut self, one: u32, other: u32) -> u32 {
        let claim = |tag: u32| usize::try_from(tag).ok().and_then(|tag| self.claims.get(tag - 1));
        let (Some(first), Some(second)) = (claim(one), claim(other)) else { return one };
        if first.place == second.place {
            return one;
        }
        // Anycast is not undone by an entry that names a region as well.
        if first.place == Place::Anycast || second.place == Place::Anycast {
            return if first.place == Place::Anycast { one } else { other };
        }
        let words = |claim: &Claim| match claim.place {
            Place::Country(country) if claim.label.as_ref() != country.as_str() => {
                format!("{} ({country})", claim.label)
            }
            Place::Country(_)
            | Place::Anycast
            | Place::Global
            | Place::NoRegion
            | Place::UnknownRegion
            | Place::Contradiction => claim.label.to_string(),
        };
        let label = format!("{} and in {}", words(first), words(second));
        // Without room for the words it is a contradiction all the same.
        self.claim(Place::Contradiction, &label).map_or(SEVERAL, |ClaimId(tag)| tag)
    }
}

/// Host bits cleared, and a network of IPv4-mapped addresses (`::ffff:0:0/96`) as the IPv4 network it means.
pub(crate) fn unmapped(network: IpNet) -> IpNet {
    match network.trunc() {
        IpNet::V6(v6) => unmap_v6(v6).map_or(IpNet::V6(v6), IpNet::V4),
        IpNet::V4(v4) => IpNet::V4(v4),
    }
}

fn unmap_v6(network: Ipv6Net) -> Option<Ipv4Net> {
    let length = network.prefix_len().checked_sub(96)?;
    Ipv4Net::new(network.addr().to_ipv4_mapped()?, length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> DatasetInfo {
        DatasetInfo {
            name: Name::new("azure").unwrap(),
            origin: Origin::Provider,
            version: "7".to_owned(),
            date: "2026-06-01".to_owned(),
            sha256: String::new(),
        }
    }

    fn dataset(claims: &[(&str, Place, &str)]) -> Dataset {
        let mut builder = DatasetBuilder::new();
        for (network, place, label) in claims {
            let claim = builder.claim(*place, label).unwrap();
            builder.add(network.parse().unwrap(), claim);
        }
        builder.finish(info())
    }

    #[test]
    fn within_a_dataset_the_longest_network_decides_and_silence_gives_way() {
        let (nl, ie) =
            (Place::Country(Country::new("NL").unwrap()), Place::Country(Country::new("IE").unwrap()));
        let dataset = dataset(&[
            ("192.0.2.0/24", nl, "westeurope"),
            ("192.0.2.64/26", ie, "northeurope"),
            ("192.0.2.0/28", Place::NoRegion, ""),
            ("198.51.100.0/24", Place::NoRegion, ""),
            ("203.0.113.0/24", nl, "westeurope"),
            ("203.0.113.0/24", nl, "westeurope2"),
            ("2001:db8::/32", nl, "westeurope"),
            ("2001:db8::/32", ie, "northeurope"),
            ("2001:db8:f::/48", ie, "northeurope"),
            ("2001:db8:f::/48", Place::Anycast, "front door"),
            ("::ffff:192.0.2.192/124", Place::Global, "global"),
        ]);
        for (address, place, network, reason) in [
            ("192.0.2.1", Some(nl), "192.0.2.0/24", "a longer network without a region says nothing"),
            ("192.0.2.65", Some(ie), "192.0.2.64/26", "longer"),
            ("192.0.2.193", Some(Place::Global), "192.0.2.192/28", "IPv4 written as IPv6"),
            ("198.51.100.1", Some(Place::NoRegion), "198.51.100.0/24", "nothing else holds it"),
            ("203.0.113.9", Some(nl), "203.0.113.0/24", "two regions of one country do not contradict"),
            ("2001:db8::1", Some(Place::Contradiction), "2001:db8::/32", "two countries do"),
            ("2001:db8:f::1", Some(Place::Anycast), "2001:db8:f::/48", "anycast in a region stays anycast"),
            ("192.0.3.1", None, "", "next to it"),
        ] {
            let evidence = dataset.at(address.parse().unwrap());
            assert_eq!(evidence.as_ref().map(|evidence| evidence.claim.place), place, "{address}: {reason}");
            if let Some(evidence) = evidence {
                assert_eq!(evidence.network.to_string(), network, "{address}: {reason}");
            }
        }
        assert_eq!(dataset.networks(), 11);
        let words = dataset.at("2001:db8::1".parse().unwrap()).unwrap().to_string();
        assert_eq!(words, "azure of 2026-06-01: 2001:db8::/32 is in westeurope (NL) and in northeurope (IE)");
    }

    #[test]
    fn two_editions_differ_where_they_say_different_things() {
        let (nl, ie) =
            (Place::Country(Country::new("NL").unwrap()), Place::Country(Country::new("IE").unwrap()));
        let old = dataset(&[
            ("192.0.2.0/24", nl, "west"),
            ("2001:db8::/32", nl, "west"),
            ("198.51.100.0/24", ie, "north"),
        ]);
        // The same in halves, one of them elsewhere; one is gone; the order of the claims is another.
        let new = dataset(&[
            ("198.51.100.0/25", ie, "north"),
            ("198.51.100.128/25", ie, "north"),
            ("192.0.2.0/25", nl, "west"),
            ("192.0.2.128/25", ie, "north"),
            ("203.0.113.0/24", nl, "west"),
        ]);
        let shown: Vec<String> = old
            .changes(&new)
            .iter()
            .map(|change| {
                let label = |claim: &Option<Claim>| {
                    claim.as_ref().map_or("-".to_owned(), |claim| claim.label.to_string())
                };
                format!("{} {} {}", change.network, label(&change.before), label(&change.after))
            })
            .collect();
        assert_eq!(shown, ["192.0.2.128/25 west north", "203.0.113.0/24 - west", "2001:db8::/32 west -"]);
        assert_eq!(old.changes(&old), [], "nothing differs from itself");
    }
}
