//! Where an address lies, and why.

use crate::dataset::{Claim, Evidence, Origin, Place};
use crate::{Country, Name};
use ipnet::IpNet;

/// Where an address lies, with the evidence for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In these regions, since the operator pinned a network to them; no dataset is asked.
    Pinned {
        /// Every region that pins exactly this network, in the config's order; never empty.
        regions: Vec<Name>,
        /// The prefix that decided: the longest match.
        network: IpNet,
    },
    /// In this country, as everybody says who says anything about the address.
    Country {
        /// The country.
        country: Country,
        /// Every region with this country, in the config's order; empty where none has it.
        regions: Vec<Name>,
        /// Who says so; never empty.
        evidence: Vec<Evidence>,
    },
    /// In no place that can be relied on, and so in no region: denied everywhere.
    Unplaced {
        /// Why.
        reason: Unplaced,
        /// What there is to show for it.
        evidence: Vec<Evidence>,
    },
}

/// Why an address lies in no region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unplaced {
    /// Nobody says anything about it.
    Unknown,
    /// A private, local, tunnelled or reserved address: no dataset can know where it is.
    SpecialPurpose,
    /// It is announced in many places at once.
    Anycast,
    /// Its provider calls it global.
    Global,
    /// Its provider names no region.
    NoRegion,
    /// Its region, or its code, has no country that is known here.
    UnknownRegion,
    /// Two sources, or one of them twice, say different things.
    Conflict,
}

impl Unplaced {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::SpecialPurpose,
        Self::Anycast,
        Self::Global,
        Self::NoRegion,
        Self::UnknownRegion,
        Self::Conflict,
    ];

    /// The word for it in records, alerts and answers; the same as its serialised form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::SpecialPurpose => "special-purpose",
            Self::Anycast => "anycast",
            Self::Global => "global",
            Self::NoRegion => "no-region",
            Self::UnknownRegion => "unknown-region",
            Self::Conflict => "conflict",
        }
    }

    /// What it means, for people: follows "the address".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unknown => "is in no dataset",
            Self::SpecialPurpose => "is of special purpose, and only a pinned network can say where it is",
            Self::Anycast => "is anycast: it is in many places at once",
            Self::Global => "is global, as its provider calls it",
            Self::NoRegion => "is in no region that its provider names",
            Self::UnknownRegion => "is in a place whose country is not known",
            Self::Conflict => "is in different places, as its sources say",
        }
    }
}

impl Location {
    /// Nobody says anything about the address.
    pub const UNKNOWN: Self = Self::Unplaced { reason: Unplaced::Unknown, evidence: Vec::new() };

    /// Whether the address lies in one of `allowed`. What is not placed lies in none.
    #[must_use]
    pub fn is_in(&self, allowed: &[Name]) -> bool {
        self.regions().iter().any(|region| allowed.contains(region))
    }

    /// The regions it lies in, in the config's order.
    #[must_use]
    pub fn regions(&self) -> &[Name] {
        match self {
            Self::Pinned { regions, .. } | Self::Country { regions, .. } => regions,
            Self::Unplaced { .. } => &[],
        }
    }

    /// Its country, where one is known.
    #[must_use]
    pub fn country(&self) -> Option<Country> {
        match self {
            Self::Country { country, .. } => Some(*country),
            Self::Pinned { .. } | Self::Unplaced { .. } => None,
        }
    }

    /// What it rests on; nothing where a pinned network decided.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        match self {
            Self::Country { evidence, .. } | Self::Unplaced { evidence, .. } => evidence,
            Self::Pinned { .. } => &[],
        }
    }

    /// The network that decided, where one did: the most specific of those in evidence.
    #[must_use]
    pub fn network(&self) -> Option<IpNet> {
        match self {
            Self::Pinned { network, .. } => Some(*network),
            Self::Country { evidence, .. } | Self::Unplaced { evidence, .. } => {
                evidence.iter().map(|evidence| evidence.network).max_by_key(IpNet::prefix_len)
            }
        }
    }

    /// The datasets in evidence, with their dates, in one line: `aws of 2026-06-01, country of 2026-06-03`.
    #[must_use]
    pub fn datasets(&self) -> Option<String> {
        let names: Vec<String> =
            self.evidence().iter().map(|evidence| evidence.dataset.to_string()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// Where it is or why it is nowhere, and who says so, for people: follows "the address".
    #[must_use]
    pub fn words(&self) -> String {
        let place = match self {
            Self::Pinned { network, .. } => format!("is pinned by {network}"),
            Self::Country { country, .. } => format!("is in {country}"),
            Self::Unplaced { reason, .. } => reason.words().to_owned(),
        };
        match self.datasets() {
            Some(datasets) => format!("{place} ({datasets})"),
            None => place,
        }
    }

    /// Why it lies in no region; `None` where its place is known.
    #[must_use]
    pub fn unplaced(&self) -> Option<Unplaced> {
        match self {
            Self::Unplaced { reason, .. } => Some(*reason),
            Self::Pinned { .. } | Self::Country { .. } => None,
        }
    }
}

/// What the claims about one address come to. Providers are asked first and must agree among themselves; a table that
/// names another country than they do makes a conflict, but cannot make a place of what its provider calls none.
pub(crate) fn decide<'a>(claims: impl Iterator<Item = (Origin, &'a Claim)>) -> Result<Country, Unplaced> {
    let mut provider: Option<Place> = None;
    let mut table: Option<Place> = None;
    for (origin, claim) in claims {
        let said = match origin {
            Origin::Provider => &mut provider,
            Origin::CountryTable => &mut table,
        };
        *said = Some(match *said {
            Some(before) if before != claim.place => Place::Contradiction,
            Some(_) | None => claim.place,
        });
    }
    match (provider, table) {
        (None, None) => Err(Unplaced::Unknown),
        (Some(Place::Country(country)), Some(table)) => match table {
            // A code that is no country's (`EU`, `ZZ`) says nothing against it.
            Place::UnknownRegion | Place::NoRegion => Ok(country),
            Place::Country(other) if other == country => Ok(country),
            Place::Country(_) | Place::Anycast | Place::Global | Place::Contradiction => {
                Err(Unplaced::Conflict)
            }
        },
        (Some(place), _) | (None, Some(place)) => match place {
            Place::Country(country) => Ok(country),
            Place::Anycast => Err(Unplaced::Anycast),
            Place::Global => Err(Unplaced::Global),
            Place::NoRegion => Err(Unplaced::NoRegion),
            Place::UnknownRegion => Err(Unplaced::UnknownRegion),
            Place::Contradiction => Err(Unplaced::Conflict),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_what_decides() {
        use Origin::{CountryTable as Table, Provider};
        let country = |code: &str| Place::Country(Country::new(code).unwrap());
        let (de, us) = (country("DE"), country("US"));
        let germany = Ok(Country::new("DE").unwrap());
        for (said, expected, reason) in [
            (&[][..], Err(Unplaced::Unknown), "nobody says anything"),
            (&[(Table, de)], germany, "the table alone"),
            (&[(Provider, de)], germany, "the provider alone"),
            (&[(Provider, de), (Table, de)], germany, "both agree"),
            (&[(Provider, de), (Table, us)], Err(Unplaced::Conflict), "provider against table"),
            (&[(Provider, de), (Provider, us)], Err(Unplaced::Conflict), "two providers"),
            (
                &[(Provider, de), (Provider, Place::Anycast)],
                Err(Unplaced::Conflict),
                "two providers, one anycast",
            ),
            (&[(Table, de), (Table, us)], Err(Unplaced::Conflict), "two tables"),
            (
                &[(Provider, de), (Table, Place::UnknownRegion)],
                germany,
                "a code that is no country says nothing",
            ),
            (&[(Table, Place::UnknownRegion)], Err(Unplaced::UnknownRegion), "but alone it is no place"),
            (
                &[(Provider, Place::Anycast), (Table, us)],
                Err(Unplaced::Anycast),
                "a table does not place anycast",
            ),
            (&[(Provider, Place::Global), (Table, de)], Err(Unplaced::Global), "nor what is global"),
            (&[(Provider, Place::NoRegion), (Table, de)], Err(Unplaced::NoRegion), "nor what has no region"),
            (
                &[(Provider, Place::UnknownRegion), (Table, de)],
                Err(Unplaced::UnknownRegion),
                "nor a new region",
            ),
            (&[(Provider, Place::Contradiction), (Table, de)], Err(Unplaced::Conflict), "one against itself"),
            (
                &[(Provider, de), (Table, Place::Anycast)],
                Err(Unplaced::Conflict),
                "a table that knows of anycast",
            ),
        ] {
            let claims: Vec<(Origin, Claim)> = said
                .iter()
                .map(|(origin, place)| (*origin, Claim { place: *place, label: "x".into() }))
                .collect();
            let forwards = decide(claims.iter().map(|(origin, claim)| (*origin, claim)));
            assert_eq!(forwards, expected, "{reason}");
            let backwards = decide(claims.iter().rev().map(|(origin, claim)| (*origin, claim)));
            assert_eq!(backwards, expected, "the order does not count: {reason}");
        }
    }

    #[test]
    fn words_are_the_same_everywhere() {
        for reason in Unplaced::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
