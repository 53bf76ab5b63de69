//! The datasets: read from their directory where a region has countries, and joined with the regions.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::raw;
use super::super::report::{At, Place, Report};
use super::super::settings::Datasets;
use super::{bounded, files, report_repeats};
use bailiwick_policy::{Region, RegionTable};
use bailiwick_regions::{Store, StoreError};
use std::path::PathBuf;

/// Where datasets are kept unless the config says otherwise.
pub(crate) const DEFAULT_DIRECTORY: &str = "/var/lib/bailiwick/datasets";
/// In days: the providers publish anew every week, tables of countries every month.
pub(crate) const MAX_AGE: u32 = 45;
const LARGEST_MAX_AGE: u64 = 3650;

/// The regions as a table that can be asked, and which datasets answer.
pub(super) fn join(
    regions: Vec<Region>,
    raw: &raw::Config,
    host: &HostFacts,
    report: &Report<'_>,
) -> (RegionTable, Datasets) {
    let raw = raw.datasets.as_ref();
    let written = raw.and_then(|raw| raw.directory.as_ref());
    let directory = match written {
        None => Some(PathBuf::from(DEFAULT_DIRECTORY)),
        Some(directory) => files::absolute(directory, report),
    };
    let max_age = raw.and_then(|raw| raw.max_age.as_ref());
    let max_age = max_age.and_then(|days| bounded(days, 1, LARGEST_MAX_AGE, "days", report));
    let max_age = max_age.and_then(|days| u32::try_from(days).ok()).unwrap_or(MAX_AGE);
    let required =
        raw.and_then(|raw| raw.require.as_ref()).map(|list| list.value.as_slice()).unwrap_or_default();
    report_repeats(required, report);

    let mut datasets = Datasets { directory: directory.unwrap_or_default(), max_age, kept: Vec::new() };
    let needed = regions.iter().any(|region| !region.countries.is_empty());
    if !needed || !host.read_datasets || datasets.directory.as_os_str().is_empty() {
        return (RegionTable::new(regions), datasets);
    }
    let place = written
        .map_or_else(|| Place { key: "datasets".to_owned(), start: 0, value: None }, |at| at.place.clone());
    let loaded = match Store::new(&datasets.directory).load() {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors {
                report_unusable(&place, &error, report);
            }
            return (RegionTable::new(regions), datasets);
        }
    };
    let (kept, said): (Vec<_>, Vec<_>) = loaded.into_iter().map(|kept| (kept.metadata, kept.dataset)).unzip();
    for name in required {
        report_missing(name, kept.iter().map(|dataset| dataset.name.as_str()), report);
    }
    datasets.kept = kept;
    (RegionTable::with_datasets(regions, said.into()), datasets)
}

/// Without it, its addresses would be looked for in the others.
fn report_missing<'a>(name: &At<String>, kept: impl Iterator<Item = &'a str> + Clone, report: &Report<'_>) {
    if kept.clone().any(|kept| kept == name.value) {
        return;
    }
    let kept: Vec<&str> = kept.collect();
    let message = match kept.as_slice() {
        [] => "there is no dataset at all".to_owned(),
        kept => format!("there is no dataset of this name, only {}", kept.join(", ")),
    };
    let cure = format!("import it: bailiwick regions import FILE --name {}", name.value);
    report.error(&name.place, Problem::MissingFile, message, cure);
}

/// The error's own words end with its cure.
fn report_unusable(place: &Place, error: &StoreError, report: &Report<'_>) {
    let words = error.to_string();
    let (message, cure) = words.rsplit_once("; ").unwrap_or((&words, "import the dataset again"));
    report.error(place, Problem::Invalid, message, cure);
}
