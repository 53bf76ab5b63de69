//! What compiles but deserves a word: each a full sentence with its cure.

use super::super::host::HostFacts;
use super::super::settings::{Datasets, Settings};
use super::issuers::is_on_this_host;
use crate::identity::okta::is_org_server;
use crate::protocol::offers;
use bailiwick_kernel::ScopeKind;
use bailiwick_policy::{AccessRule, Mode, Name, Operation, Origin, Principal};
use bailiwick_regions::{Metadata, today};
use std::sync::Arc;

/// The settings with their warnings.
pub(super) fn with(mut settings: Settings, host: &HostFacts) -> Settings {
    let mut warnings = std::mem::take(&mut settings.warnings);
    about_regions(&settings, host, &mut warnings);
    about_issuers(&settings, &mut warnings);
    about_access(&settings, &mut warnings);
    about_masks(&settings, &mut warnings);
    about_egress(&settings, &mut warnings);
    settings.warnings = warnings;
    settings
}

/// A country means nothing until something says where addresses are.
fn about_regions(settings: &Settings, host: &HostFacts, warnings: &mut Vec<String>) {
    let scopes = &settings.kernel.scopes;
    let rules = settings.access.rules();
    let used = |name: &Name| {
        scopes.iter().any(|scope| scope.egress.regions.contains(name))
            || rules.iter().any(|rule| {
                // A claim brings its country along.
                rule.from_claim.is_none() && rule.from.as_ref().is_some_and(|from| from.contains(name))
            })
    };
    for region in settings.regions.regions() {
        let (name, wide) = (&region.name, region.networks.iter().any(|network| network.prefix_len() == 0));
        if wide {
            warnings.push(format!(
                "region \"{name}\" has a network of length 0, which holds every address; pin the networks that you know"
            ));
        }
        if region.countries.is_empty()
            || !used(name)
            || !host.read_datasets
            || !settings.datasets.kept.is_empty()
        {
            continue;
        }
        let rest = if region.networks.is_empty() {
            format!("nothing in region \"{name}\" is allowed")
        } else {
            format!("only the networks of region \"{name}\" are allowed")
        };
        warnings.push(format!(
            "countries are unknown until a dataset is imported, and {rest}: bailiwick regions import FILE"
        ));
    }
    about_datasets(settings, warnings);
}

/// A table of countries knows little of clouds, and any dataset grows old.
fn about_datasets(settings: &Settings, warnings: &mut Vec<String>) {
    let Datasets { kept, max_age, .. } = &settings.datasets;
    let providers = kept.iter().filter(|dataset| dataset.kind.origin() == Origin::Provider).count();
    if !kept.is_empty() && providers == 0 {
        warnings.push(
            "no provider's ranges are imported, and a table of countries alone puts cloud networks in wrong countries; \
             import those of AWS, GCP, Azure, Oracle and Cloudflare"
                .to_owned(),
        );
    }
    for dataset in settings.datasets.stale(today()) {
        warnings.push(stale(dataset, *max_age));
    }
}

/// What is said of a dataset that is too old, here and by the alert.
pub(crate) fn stale(dataset: &Metadata, max_age: u32) -> String {
    format!(
        "dataset \"{}\" describes {}, {} days ago, and may be {max_age} days old; fetch the file anew, then: bailiwick \
         regions import FILE && systemctl reload bailiwick",
        dataset.name,
        dataset.date,
        dataset.age(today())
    )
}

/// Groups, subjects and claims are names, and a rule asks whose only where it says so.
fn about_issuers(settings: &Settings, warnings: &mut Vec<String>) {
    let identify = settings.proxy.clients.as_ref().is_some_and(|clients| clients.identify);
    let mut who: Vec<&str> = settings.issuers.iter().map(|issuer| issuer.url.as_str()).collect();
    who.extend(identify.then_some(Principal::BY_CERTIFICATE));
    let trusts_all = |rule: &&Arc<AccessRule>| {
        rule.issuer.is_none() && (rule.groups.is_some() || rule.subjects.is_some() || !rule.claims.is_empty())
    };
    let all: Vec<_> =
        settings.access.rules().iter().filter(trusts_all).map(|rule| format!("\"{}\"", rule.name)).collect();
    if who.len() > 1 && !all.is_empty() {
        warnings.push(format!(
            "each of the issuers {} may vouch for every group that access rule {} names; add issuer = \"…\" to say whom it trusts",
            who.join(", "),
            all.join(", ")
        ));
    }
    for issuer in settings.issuers.iter().filter(|issuer| is_org_server(&issuer.url)) {
        warnings.push(format!(
            "{} is Okta's org authorization server, whose access tokens only Okta can verify, and which carry no groups; \
             name a custom authorization server, such as {}/oauth2/default",
            issuer.url,
            issuer.url.trim_end_matches('/')
        ));
    }
}

fn about_access(settings: &Settings, warnings: &mut Vec<String>) {
    for (rule, earlier) in settings.access.shadowed() {
        warnings.push(format!(
            "access rule \"{rule}\" never decides, since \"{earlier}\" before it matches all that it does; \
             put it before \"{earlier}\" or take it out"
        ));
    }
    for rule in settings.access.rules() {
        let offered = |operation: &Operation| {
            let models = rule.models.iter().filter_map(|name| settings.models.get(name));
            models.into_iter().any(|model| offers(model.server, *operation))
        };
        let dead: Vec<_> = rule
            .endpoints
            .iter()
            .flatten()
            .filter(|operation| !offered(operation))
            .map(|o| o.as_str())
            .collect();
        if !dead.is_empty() {
            warnings.push(format!(
                "access rule \"{}\" opens {}, which no server of its models has; take it out, or see [[model]] server",
                rule.name,
                dead.join(", ")
            ));
        }
    }
    for model in settings.models.keys() {
        if !settings.access.rules().iter().any(|rule| rule.models.contains(model)) {
            warnings.push(format!(
                "no access rule opens model \"{model}\", so nobody can use it; add an [[access]]"
            ));
        }
    }
}

fn about_masks(settings: &Settings, warnings: &mut Vec<String>) {
    let rules = settings.access.rules();
    for mask in settings.masks.keys() {
        if !rules.iter().any(|rule| rule.masks.request.contains(mask) || rule.masks.response.contains(mask)) {
            warnings.push(format!(
                "no access rule uses mask \"{mask}\"; name it in a rule's mask, or take it out"
            ));
        }
    }
}

fn about_egress(settings: &Settings, warnings: &mut Vec<String>) {
    for scope in &settings.kernel.scopes {
        let (name, egress) = (&scope.name, &scope.egress);
        match egress.mode {
            Mode::Enforce => {}
            Mode::Monitor | Mode::Shadow => warnings.push(format!(
                "\"{name}\": egress is in {} mode, which blocks nothing; set mode = \"enforce\" when the alerts are as expected",
                egress.mode.as_str()
            )),
        }
        for exception in egress.exceptions.iter().filter(|exception| exception.network.prefix_len() == 0) {
            warnings.push(format!(
                "\"{name}\": the exception {} allows every address; narrow it",
                exception.network
            ));
        }
        if scope.kind == ScopeKind::Proxy && egress.networks.is_empty() {
            // Loopback is open to the agent whatever its policy says.
            if let Some(issuer) = settings.issuers.iter().find(|issuer| !is_on_this_host(&issuer.url)) {
                warnings.push(format!(
                    "the agent can reach no issuer, since region \"{}\" has no networks; pin the networks of {}",
                    issuer.region, issuer.url
                ));
            }
        }
    }
}
