//! The formats: each file of this folder reads one.

mod aws;
mod azure;
mod cloudflare;
mod gcp;
mod mmdb;
mod oracle;

use crate::FormatError;
use bailiwick_policy::{ClaimId, Country, Dataset, DatasetBuilder, DatasetInfo, Origin, Place};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::net::IpAddr;
use time::Date;
use time::macros::format_description;

/// The formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// AWS `ip-ranges.json`.
    Aws,
    /// GCP `cloud.json`.
    Gcp,
    /// Azure `ServiceTags_*.json`.
    Azure,
    /// Oracle `public_ip_ranges.json`.
    Oracle,
    /// Cloudflare's plain lists.
    Cloudflare,
    /// A country table in the MaxMind DB format.
    Mmdb,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Aws, Self::Gcp, Self::Azure, Self::Oracle, Self::Cloudflare, Self::Mmdb];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Oracle => "oracle",
            Self::Cloudflare => "cloudflare",
            Self::Mmdb => "mmdb",
        }
    }

    /// What a dataset of this kind is called unless somebody says otherwise.
    #[must_use]
    pub fn usual_name(self) -> &'static str {
        match self {
            Self::Mmdb => "country",
            Self::Aws | Self::Gcp | Self::Azure | Self::Oracle | Self::Cloudflare => self.as_str(),
        }
    }

    /// Who such a file is by.
    #[must_use]
    pub fn origin(self) -> Origin {
        match self {
            Self::Mmdb => Origin::CountryTable,
            Self::Aws | Self::Gcp | Self::Azure | Self::Oracle | Self::Cloudflare => Origin::Provider,
        }
    }
}

/// What a file says, before it has a name.
#[derive(Debug, Default)]
pub struct Reading {
    builder: DatasetBuilder,
    /// The file's own version.
    pub version: Option<String>,
    /// The day that the file says it is of.
    pub date: Option<Date>,
}

impl Reading {
    /// How many networks it has.
    #[must_use]
    pub fn networks(&self) -> usize {
        self.builder.networks()
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(self, info: DatasetInfo) -> Dataset {
        self.builder.finish(info)
    }

    fn claim(&mut self, place: Place, label: &str) -> Result<ClaimId, FormatError> {
        self.builder
            .claim(place, label)
            .map_err(|error| FormatError::new(error.to_string(), "is this a file of this kind?"))
    }

    /// A region of a provider: in its country, or in one that is not known.
    fn region(&mut self, country: Option<Country>, label: &str) -> Result<ClaimId, FormatError> {
        self.claim(country.map_or(Place::UnknownRegion, Place::Country), label)
    }

    /// One that has networks, that is.
    fn whole(self) -> Result<Self, FormatError> {
        if self.networks() == 0 {
            return Err(FormatError::new("there is no network in it", FETCH_AGAIN));
        }
        Ok(self)
    }
}

const FETCH_AGAIN: &str = "fetch the file again";

/// Reads a file of that kind.
///
/// # Errors
/// [`FormatError`]: where it broke.
pub fn read(kind: Kind, bytes: &[u8]) -> Result<Reading, FormatError> {
    match kind {
        Kind::Aws => aws::read(bytes),
        Kind::Gcp => gcp::read(bytes),
        Kind::Azure => azure::read(bytes),
        Kind::Oracle => oracle::read(bytes),
        Kind::Cloudflare => cloudflare::read(bytes),
        Kind::Mmdb => mmdb::read(bytes),
    }?
    .whole()
}

/// The keys by which the JSON files can be told apart.
#[derive(Deserialize)]
struct Outline {
    ipv6_prefixes: Option<IgnoredAny>,
    prefixes: Option<IgnoredAny>,
    values: Option<IgnoredAny>,
    regions: Option<IgnoredAny>,
}

/// Tells the kind of a file by what is in it.
///
/// # Errors
/// [`FormatError`] when it is of none.
pub fn detect(bytes: &[u8]) -> Result<Kind, FormatError> {
    const CURE: &str = "say what it is: --kind aws, gcp, azure, oracle, cloudflare or mmdb";
    if mmdb::is_one(bytes) {
        return Ok(Kind::Mmdb);
    }
    let text = bytes.trim_ascii_start();
    if text.is_empty() {
        return Err(FormatError::new("the file is empty", FETCH_AGAIN));
    }
    if text.first() == Some(&b'{') {
        let outline: Outline = json(bytes)?;
        return match outline {
            Outline { ipv6_prefixes: Some(_), .. } => Ok(Kind::Aws),
            Outline { values: Some(_), .. } => Ok(Kind::Azure),
            Outline { prefixes: Some(_), .. } => Ok(Kind::Gcp),
            Outline { regions: Some(_), .. } => Ok(Kind::Oracle),
            _ => Err(FormatError::new("JSON, but of none of the kinds that can be read", CURE)),
        };
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let network = std::str::from_utf8(line).ok().and_then(|line| line.trim().parse::<IpNet>().ok());
    network
        .map(|_| Kind::Cloudflare)
        .ok_or_else(|| FormatError::new("none of the kinds that can be read", CURE))
}

/// JSON, or where it is none.
fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FormatError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let before = bytes.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
        let byte = before.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1);
        let text = error.to_string();
        // Where it is, is said before.
        let message = text.split(" at line ").next().unwrap_or_default();
        let message = if error.is_eof() { "the file ends too early" } else { message };
        let cure = if error.is_eof() { "it is cut short: fetch it again" } else { FETCH_AGAIN };
        FormatError::new(message, cure).at_line(line, column).at_byte(byte.min(bytes.len()))
    })
}

/// A network as a provider writes it, with its host bits clear.
fn network(text: &str, key: impl Fn() -> String) -> Result<IpNet, FormatError> {
    let wrong = |message: &str| Err(FormatError::new(message, FETCH_AGAIN).at_key(key()).showing(text));
    match text.parse::<IpNet>() {
        Ok(network) if network.prefix_len() == 0 => wrong("a network of length 0 holds every address"),
        Ok(network) if network.trunc() != network => wrong("bits are set beyond the prefix"),
        Ok(network) => Ok(network),
        Err(_) if text.parse::<IpAddr>().is_ok() => wrong("an address, where a network is expected"),
        Err(_) => wrong("not a network"),
    }
}

/// A date at the beginning of a time stamp.
fn day(text: &str, key: &str) -> Result<Date, FormatError> {
    let format = format_description!("[year]-[month]-[day]");
    text.get(..10).and_then(|day| Date::parse(day, format).ok()).ok_or_else(|| {
        FormatError::new("not a date, which would be YYYY-MM-DD", FETCH_AGAIN)
            .at_key(key.to_owned())
            .showing(text)
    })
}

#[cfg(test)]
pub(crate) mod tests;
