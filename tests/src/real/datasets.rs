//! Real datasets: the providers' published ranges and two tables of countries, as an operator would import them.

use std::path::{Path, PathBuf};

use super::RealError;
use super::install::find;

/// Which files there are.
#[derive(Clone, Debug)]
pub struct Datasets {
    /// What AWS, GCP, Azure, Oracle and Cloudflare publish, each in its own format: some 130,000 networks.
    pub ranges: Vec<PathBuf>,
    /// DB-IP Lite: a table by measurement (CC BY 4.0, db-ip.com).
    pub dbip: PathBuf,
    /// IPtoASN: a table by registration (public domain), which puts much of the clouds where their owner is.
    pub iptoasn: PathBuf,
}

impl Datasets {
    /// Those that were installed below the directory of the real counterparts.
    pub(super) fn at(directory: &Path) -> Result<Self, RealError> {
        let place = directory.join("datasets");
        // The name of a file, or how it begins where the rest is its date.
        let expect = |directory: PathBuf, what: &'static str, begins: &str| {
            find(&directory, |name| name.starts_with(begins))
                .ok_or(RealError::Absent { what, place: directory })
        };
        let files = [
            ("AWS's ranges", "ip-ranges.json"),
            ("GCP's ranges", "cloud.json"),
            ("Azure's ranges", "ServiceTags_Public_"),
            ("Oracle's ranges", "public_ip_ranges.json"),
            ("Cloudflare's ranges", "ips-"),
        ];
        let ranges = files.map(|(what, begins)| expect(place.join("ranges"), what, begins));
        let table = |package: &str, name: &'static str| {
            let directory = place.join("node_modules/@ip-location-db").join(package);
            expect(directory, name, name)
        };
        Ok(Self {
            ranges: ranges.into_iter().collect::<Result<_, _>>()?,
            dbip: table("dbip-country-mmdb", "dbip-country.mmdb")?,
            iptoasn: table("iptoasn-country-mmdb", "iptoasn-country.mmdb")?,
        })
    }
}
