//! Countries and the built-in, dated groups of countries.

use std::fmt;

/// An ISO 3166-1 alpha-2 country code that is officially assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

/// A string that is no assigned ISO 3166-1 alpha-2 code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an assigned ISO 3166-1 alpha-2 country code")]
pub struct InvalidCountry;

impl Country {
    /// The country of that code: two upper-case letters, as ISO 3166-1 writes them.
    ///
    /// # Errors
    /// [`InvalidCountry`] when the code is not assigned. Reserved codes (`EU`, `UK`, `XK`) are not assigned.
    pub fn new(code: &str) -> Result<Self, InvalidCountry> {
        let Ok(bytes) = <[u8; 2]>::try_from(code.as_bytes()) else {
            return Err(InvalidCountry);
        };
        if ASSIGNED.split_ascii_whitespace().any(|assigned| assigned == code) {
            Ok(Self(bytes))
        } else {
            Err(InvalidCountry)
        }
    }

    /// Every assigned country, in alphabetical order of the codes.
    pub fn all() -> impl Iterator<Item = Self> {
        codes(ASSIGNED)
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The bytes come from `ASSIGNED`, which is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Country {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A built-in set of countries. Membership changes with treaties and decisions, so each group carries the
/// date on which its list was last compared with its source.
///
/// Territories that have a code of their own (`AX`, `GF`, `GP`, `MF`, `MQ`, `RE`, `YT`) are in no group,
/// although Union law applies in them: name them next to the group where they are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CountryGroup {
    /// `@eu`: the 27 member states of the European Union.
    Eu,
    /// `@eea`: the European Economic Area, which is the Union and Iceland, Liechtenstein and Norway.
    Eea,
    /// `@eu-adequate`: the countries outside the EEA for which an adequacy decision of the European
    /// Commission (GDPR, Article 45) holds without a condition on who receives the data. The United States
    /// (only organisations certified under the Data Privacy Framework) and Canada (only commercial
    /// organisations under its federal law) are conditional and therefore left out: name `US` or `CA`
    /// where the receiving organisation meets the condition. The EEA itself is not in it.
    EuAdequate,
}

impl CountryGroup {
    /// Every group.
    pub const ALL: [Self; 3] = [Self::Eu, Self::Eea, Self::EuAdequate];

    /// The group of that name, with its `@`.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == name)
    }

    /// Its name in the config.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eu => "@eu",
            Self::Eea => "@eea",
            Self::EuAdequate => "@eu-adequate",
        }
    }

    /// The day (ISO 8601) that the list of members describes.
    #[must_use]
    pub fn as_of(self) -> &'static str {
        match self {
            // Croatia's accession (2013) and the United Kingdom's departure (2020) are the last changes.
            Self::Eu | Self::Eea => "2026-02-09",
            // With the decision on Brazil of January 2026 and the United Kingdom's renewal of December 2025.
            Self::EuAdequate => "2026-02-09",
        }
    }

    /// The countries that are left out because what holds for them holds on a condition, which no address shows: code,
    /// and the condition. Name the code next to the group where the receiving organisation meets it.
    #[must_use]
    pub fn conditional(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Eu | Self::Eea => &[],
            Self::EuAdequate => &[
                ("CA", "commercial organisations under its federal law only"),
                ("US", "organisations certified under the Data Privacy Framework only"),
            ],
        }
    }

    /// Its countries, in alphabetical order of the codes.
    #[must_use]
    pub fn countries(self) -> Vec<Country> {
        let mut countries: Vec<Country> = match self {
            Self::Eu => codes(EU).collect(),
            Self::Eea => codes(EU).chain(codes(EFTA_IN_EEA)).collect(),
            Self::EuAdequate => codes(ADEQUATE).collect(),
        };
        countries.sort_unstable();
        countries
    }
}

fn codes(list: &'static str) -> impl Iterator<Item = Country> {
    list.split_ascii_whitespace().filter_map(|code| <[u8; 2]>::try_from(code.as_bytes()).ok()).map(Country)
}

const EU: &str = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK";
const EFTA_IN_EEA: &str = "IS LI NO";
const ADEQUATE: &str = "AD AR BR CH FO GB GG IL IM JE JP KR NZ UY";

/// ISO 3166-1, officially assigned alpha-2 codes: 249 of them.
const ASSIGNED: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR \
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT \
    JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY \
    MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM \
    PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW \
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ \
    UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_an_assigned_upper_case_code() {
        for (code, valid, reason) in [
            ("DE", true, "assigned"),
            ("SS", true, "assigned last, in 2011"),
            ("BQ", true, "a territory with a code of its own"),
            ("de", false, "lower case is not how ISO writes it"),
            ("UK", false, "reserved for the United Kingdom, whose code is GB"),
            ("EU", false, "reserved, no country; the group is @eu"),
            ("XK", false, "user-assigned"),
            ("AN", false, "withdrawn in 2010"),
            ("DEU", false, "alpha-3"),
            ("D", false, "too short"),
            ("", false, "empty"),
            ("é", false, "two bytes, one letter"),
            ("A ", false, "a separator of the list"),
        ] {
            assert_eq!(Country::new(code).is_ok(), valid, "{code:?}: {reason}");
        }
    }

    #[test]
    fn the_list_of_countries_is_whole_and_sorted() {
        let all: Vec<Country> = Country::all().collect();
        assert_eq!(all.len(), 249);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "a code is out of order or there twice");
        assert!(all.iter().all(|country| Country::new(country.as_str()) == Ok(*country)));
    }

    #[test]
    fn groups_hold_who_is_in_and_nobody_else() {
        for (group, code, member, reason) in [
            (CountryGroup::Eu, "HR", true, "joined in 2013"),
            (CountryGroup::Eu, "GB", false, "left in 2020"),
            (CountryGroup::Eu, "NO", false, "in the EEA, not in the Union"),
            (CountryGroup::Eea, "NO", true, "EFTA state in the EEA"),
            (CountryGroup::Eea, "CH", false, "EFTA state that stayed out of the EEA"),
            (CountryGroup::Eea, "GF", false, "has a code of its own: to be named"),
            (CountryGroup::EuAdequate, "BR", true, "decision of January 2026"),
            (CountryGroup::EuAdequate, "GB", true, "renewed in December 2025"),
            (CountryGroup::EuAdequate, "CH", true, "decision of 2000"),
            (CountryGroup::EuAdequate, "US", false, "certified organisations only"),
            (CountryGroup::EuAdequate, "CA", false, "commercial organisations only"),
            (CountryGroup::EuAdequate, "DE", false, "third countries only"),
        ] {
            let country = Country::new(code).unwrap();
            assert_eq!(group.countries().contains(&country), member, "{} {code}: {reason}", group.as_str());
        }
    }

    #[test]
    fn groups_have_assigned_members_a_size_and_a_date() {
        for (group, size) in [(CountryGroup::Eu, 27), (CountryGroup::Eea, 30), (CountryGroup::EuAdequate, 14)]
        {
            let countries = group.countries();
            assert_eq!(countries.len(), size, "{}", group.as_str());
            assert!(countries.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(countries.iter().all(|country| Country::new(country.as_str()).is_ok()));
            assert_eq!(group.as_of().len(), "2026-01-01".len());
            assert_eq!(CountryGroup::find(group.as_str()), Some(group));
            for (code, condition) in group.conditional() {
                assert!(
                    !countries.contains(&Country::new(code).unwrap()) && !condition.is_empty(),
                    "{code} is left out"
                );
            }
        }
        assert_eq!(CountryGroup::find("eu"), None, "a group's name starts with @");
    }
}
