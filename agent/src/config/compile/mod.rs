//! From what is written to what it means. Each file compiles one part; this one says in which order, and
//! what the parts of a file may call each other.

mod access;
mod datasets;
mod files;
mod issuers;
mod masks;
mod metrics;
mod peers;
mod proxy;
mod regions;
mod rules;
mod scopes;
mod traces;
mod upstreams;
mod warnings;

pub(crate) use datasets::{DEFAULT_DIRECTORY, MAX_AGE};
pub(crate) use warnings::stale;

use super::errors::Problem;
use super::host::HostFacts;
use super::raw;
use super::report::{At, Place, Report};
use super::settings::{Audit, Settings};
use crate::preflight::Weakness;
use bailiwick_kernel::Rules;
use bailiwick_policy::{AccessPolicy, Name};
use bailiwick_regions::Metadata;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::PathBuf;

/// The meaning of a whole config; `None` only when something was reported.
pub(super) fn settings(raw: &raw::Config, host: &HostFacts, report: &Report<'_>) -> Option<Settings> {
    let mut warnings = Vec::new();
    let (regions, datasets) = datasets::join(regions::compile(&raw.regions, report), raw, host, report);
    let region_names = Declared::new("region", raw.regions.iter().map(|region| &region.name));
    let origin = raw.host.as_ref().and_then(|this| host_origin(this, &region_names, host, report));
    let mut issuers = issuers::compile(&raw.issuers, &region_names, host, report, &mut warnings);
    let masks = masks::compile(&raw.masks, host, report);
    let mask_names = Declared::new("mask", raw.masks.iter().filter_map(|mask| mask.name.as_ref()));
    let traces = raw
        .traces
        .as_ref()
        .and_then(|traces| traces::compile(traces, &region_names, host, report, &mut warnings));
    let own = issuers.iter().map(|issuer| &issuer.region).chain(traces.iter().map(|traces| &traces.region));
    let own: Vec<Name> = own.cloned().collect();
    let scopes = scopes::compile(raw, &regions, &region_names, &own, host, report, &mut warnings);
    let model_names = Declared::new("model", raw.models.iter().filter_map(|model| model.name.as_ref()));
    let rules = access::compile(raw, &model_names, (&region_names, &regions), &mask_names, report);
    issuers::read_claims_for(&rules, &mut issuers);
    let proxy =
        raw.proxy.as_ref().and_then(|proxy| proxy::compile(proxy, &raw.models, host, report, &mut warnings));
    let metrics = raw.metrics.as_ref().map(|metrics| metrics::compile(metrics, raw, report, &mut warnings));
    let directory = raw.audit.as_ref().and_then(|audit| audit_directory(audit, host, report));

    let kernel = Rules { scopes: scopes.scopes };
    scopes::report_too_many_networks(&kernel, &raw.regions, report);

    let settings = Settings {
        id: policy_id(report.text(), &datasets.kept),
        models: scopes.models,
        proxy: proxy?,
        issuers,
        access: AccessPolicy::new(rules),
        masks,
        regions,
        datasets,
        audit: Audit { directory: directory?, origin: origin? },
        metrics: metrics.flatten(),
        traces,
        kernel,
        accepted: raw.host.as_ref().map(|this| accepted(this, report)).unwrap_or_default(),
        warnings,
    };
    Some(warnings::with(settings, host))
}

/// The names that the file gives to one kind of thing, valid or not.
pub(super) struct Declared<'a> {
    kind: &'static str,
    names: Vec<&'a str>,
}

impl<'a> Declared<'a> {
    fn new(kind: &'static str, names: impl Iterator<Item = &'a At<String>>) -> Self {
        Self { kind, names: names.map(|name| name.value.as_str()).collect() }
    }

    /// The name that is meant, if there is one.
    pub(super) fn resolve(&self, name: &At<String>, report: &Report<'_>) -> Option<Name> {
        if !self.names.contains(&name.value.as_str()) {
            let message = format!("there is no {} of this name", self.kind);
            report.unknown(
                &name.place,
                Problem::UnknownName,
                &name.value,
                message,
                self.names.iter().copied(),
            );
            return None;
        }
        // One that is declared and no name was reported where it is declared.
        Name::new(&name.value).ok()
    }

    /// Each name of a list; one that is there twice is reported.
    pub(super) fn resolve_all(&self, names: &[At<String>], report: &Report<'_>) -> Vec<Name> {
        report_repeats(names, report);
        names.iter().filter_map(|name| self.resolve(name, report)).collect()
    }
}

/// A name that something is given, checked for form and against those `taken` before.
pub(super) fn declare(
    name: &At<String>,
    taken: &mut Vec<(String, Place)>,
    report: &Report<'_>,
) -> Option<Name> {
    let earlier = taken.iter().find(|(other, _)| *other == name.value).map(|(_, place)| place.clone());
    if let Some(earlier) = earlier {
        report.error(
            &name.place,
            Problem::Duplicate,
            format!("the name is taken by {}", described(&earlier, report)),
            "give it another name",
        );
        return None;
    }
    taken.push((name.value.clone(), name.place.clone()));
    match Name::new(&name.value) {
        Ok(name) => Some(name),
        Err(error) => {
            report.error(&name.place, Problem::Invalid, "not a name", format!("{error}"));
            None
        }
    }
}

/// One of the words that an enum has.
pub(super) fn word<T: Copy>(
    text: &At<String>,
    what: &str,
    words: &[(&'static str, T)],
    report: &Report<'_>,
) -> Option<T> {
    let found = words.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let valid = words.iter().map(|(word, _)| *word);
        report.unknown(&text.place, Problem::UnknownWord, &text.value, format!("not {what}"), valid);
    }
    found.map(|(_, meaning)| *meaning)
}

/// A TCP or UDP port, 1 to 65535.
pub(super) fn port(number: &At<i128>, report: &Report<'_>) -> Option<u16> {
    match u16::try_from(number.value) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            report.error(&number.place, Problem::OutOfRange, "not a port", "use a number from 1 to 65535");
            None
        }
    }
}

/// A number within bounds.
pub(super) fn bounded(
    number: &At<i128>,
    least: u64,
    most: u64,
    unit: &str,
    report: &Report<'_>,
) -> Option<u64> {
    let value = u64::try_from(number.value).ok().filter(|value| (least..=most).contains(value));
    if value.is_none() {
        let message = if number.value < i128::from(least) { "too small" } else { "too large" };
        report.error(&number.place, Problem::OutOfRange, message, format!("use {least} to {most} {unit}"));
    }
    value
}

/// Text that people read elsewhere (in the journal, in the evidence): one line, not blank.
pub(super) fn line_of_text<'a>(text: &'a At<String>, report: &Report<'_>) -> Option<&'a str> {
    if text.value.trim().is_empty() {
        report.error(&text.place, Problem::Empty, "there is nothing in it", "write it out");
        None
    } else if text.value.chars().any(char::is_control) || text.value.len() > 256 {
        report.error(
            &text.place,
            Problem::Invalid,
            "not one short line",
            "use at most 256 bytes, no line break",
        );
        None
    } else {
        Some(&text.value)
    }
}

/// Reports what a list holds twice.
pub(super) fn report_repeats(items: &[At<String>], report: &Report<'_>) {
    for (index, item) in items.iter().enumerate() {
        if items[..index].iter().any(|earlier| earlier.value == item.value) {
            report.error(&item.place, Problem::Duplicate, "in the list twice", "take one out");
        }
    }
}

/// A claim's name, or a dotted path into objects.
pub(super) fn claim_path<'a>(claim: &'a At<String>, report: &Report<'_>) -> Option<&'a str> {
    let path = line_of_text(claim, report)?;
    // A claim whose name is a URL (OpenID Connect Core 1.0, 5.1.2) is no path.
    if !path.contains("://") && path.split('.').any(str::is_empty) {
        let cure = "write a claim's name, such as \"groups\" or \"realm_access.roles\"";
        report.error(&claim.place, Problem::Invalid, "not a claim", cure);
        return None;
    }
    Some(path)
}

/// How an error points at another place: its key and line.
pub(super) fn described(place: &Place, report: &Report<'_>) -> String {
    format!("{} in line {}", place.key, report.position(place.start).0)
}

/// First 16 hexadecimal digits of the SHA-256 of the text, followed by those of the datasets: other datasets make
/// another policy.
fn policy_id(text: &str, datasets: &[Metadata]) -> String {
    let mut hash = Sha256::new_with_prefix(text);
    for dataset in datasets {
        hash.update(format!("\0{} {}", dataset.name, dataset.sha256));
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut id, byte| {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// The origin line of this host's trail.
fn host_origin(
    this: &raw::Host,
    regions: &Declared<'_>,
    host: &HostFacts,
    report: &Report<'_>,
) -> Option<String> {
    if let Some(region) = &this.region {
        regions.resolve(region, report);
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let valid = |name: &str| name.len() <= 253 && name.split('.').all(label);
    match &this.name {
        Some(name) if valid(&name.value) => Some(format!("bailiwick/{}", name.value)),
        Some(name) => {
            let cure = "use letters, digits and hyphens, with dots between labels";
            report.error(&name.place, Problem::Invalid, "not a host name", cure);
            None
        }
        None if valid(&host.hostname) => Some(format!("bailiwick/{}", host.hostname)),
        None => {
            // A name that is there but no string was reported by the reader; there is no telling here, and a
            // missing name on a host without one is the same to cure.
            let place = Place { key: "host.name".to_owned(), start: 0, value: None };
            report.error(
                &place,
                Problem::MissingKey,
                "missing, and this host has no name to use",
                "add name",
            );
            None
        }
    }
}

/// The weaknesses that the operator accepts.
fn accepted(this: &raw::Host, report: &Report<'_>) -> Vec<Weakness> {
    let names = this.accept.as_ref().map(|accept| accept.value.as_slice()).unwrap_or_default();
    report_repeats(names, report);
    names.iter().filter_map(|name| word(name, "a weakness", Weakness::ALL, report)).collect()
}

fn audit_directory(audit: &raw::Audit, host: &HostFacts, report: &Report<'_>) -> Option<PathBuf> {
    let directory = audit.directory.as_ref()?;
    let path = files::absolute(directory, report)?;
    if path.parent().is_none() || path.components().any(|part| part == std::path::Component::ParentDir) {
        let cure = "use a directory of its own, such as /var/lib/bailiwick/audit";
        report.error(&directory.place, Problem::Invalid, "not a directory for the audit trail", cure);
        return None;
    }
    if host.check_files {
        // It is made when it is missing; but it cannot be made where something else is.
        let obstacle = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok());
        if obstacle.is_some_and(|obstacle| !obstacle.is_dir()) {
            let message = "not a directory, or below a file";
            report.error(&directory.place, Problem::Invalid, message, "move what is in its place");
            return None;
        }
    }
    Some(path)
}
