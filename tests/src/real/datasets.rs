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
        let expect = |directory: PathBuf, what: &'static str, pleases: &dyn Fn(&str) -> bool| {
            find(&directory, pleases).ok_or(RealError::Absent { what, place: directory })
        };
        let ranges = place.join("ranges");
        let files: [(&str, &dyn Fn(&str) -> bool); 5] = [
            ("AWS's ranges", &|name| name == "ip-ranges.json"),
            ("GCP's ranges", &|name| name == "cloud.json"),
            ("Azure's ranges", &|name| name.starts_with("ServiceTags_Public_")),
            ("Oracle's ranges", &|name| name == "public_ip_ranges.json"),
            ("Cloudflare's ranges", &|name| name.starts_with("ips-")),
        ];
        let ranges = files.into_iter().map(|(what, pleases)| expect(ranges.clone(), what, pleases));
        let table = |package: &str, name: &'static str| {
            let directory = place.join("node_modules/@ip-location-db").join(package);
            expect(directory, name, &|found| found == name)
        };
        Ok(Self {
            ranges: ranges.collect::<Result<_, _>>()?,
            dbip: table("dbip-country-mmdb", "dbip-country.mmdb")?,
            iptoasn: table("iptoasn-country-mmdb", "iptoasn-country.mmdb")?,
        })
    }
}
