//! Access rules.

use super::super::raw;
use super::super::report::{At, Report};
use super::{Declared, declare, line_of_text, report_repeats, rules, word};
use bailiwick_policy::{AccessRule, Name, Operation, RegionTable, RuleMasks};

/// Every rule that could be read, in the file's order.
pub(super) fn compile(
    raw: &raw::Config,
    models: &Declared<'_>,
    (regions, region_table): (&Declared<'_>, &RegionTable),
    masks: &Declared<'_>,
    report: &Report<'_>,
) -> Vec<AccessRule> {
    let mut taken = Vec::new();
    let mut compiled = Vec::new();
    for rule in &raw.access {
        let name = rule.name.as_ref().and_then(|name| declare(name, &mut taken, report));
        let issuer = rule.issuer.as_ref().map(|issuer| rules::issuer(issuer, raw, report));
        let subjects = rule.subjects.as_ref().map(|subjects| lines(&subjects.value, report));
        let groups = rule.groups.as_ref().map(|groups| lines(&groups.value, report));
        let claims = rules::claims(&rule.claims, report);
        let certificates = rule.certificates.as_ref().map(|names| rules::certificates(names, raw, report));
        let opened =
            rule.models.as_ref().map(|list| models.resolve_all(&list.value, report)).unwrap_or_default();
        let from = rule.from.as_ref().map(|list| regions.resolve_all(&list.value, report));
        let from_claim = rules::country(rule, from.as_deref(), region_table, report);
        let when = rule.when.as_ref().map(|when| rules::schedule(when, report));
        let limits = rule.limits.as_ref().map(|limits| rules::limits(limits, report)).unwrap_or_default();
        let endpoints = rule.endpoints.as_ref().map(|list| operations(&list.value, report));
        let side = |list: &Option<At<Vec<At<String>>>>| -> Vec<Name> {
            list.as_ref().map(|list| masks.resolve_all(&list.value, report)).unwrap_or_default()
        };
        let masks = RuleMasks { request: side(&rule.request_masks), response: side(&rule.response_masks) };
        if let Some(name) = name {
            compiled.push(AccessRule {
                // What could not be read was reported, and nothing is made of it.
                issuer: issuer.flatten(),
                subjects,
                groups,
                claims,
                certificates,
                from,
                from_claim,
                endpoints,
                when: when.flatten(),
                masks,
                limits,
                ..AccessRule::open(name, opened)
            });
        }
    }
    compiled
}

fn lines(texts: &[At<String>], report: &Report<'_>) -> Vec<String> {
    report_repeats(texts, report);
    texts.iter().filter_map(|text| line_of_text(text, report)).map(str::to_owned).collect()
}

fn operations(words: &[At<String>], report: &Report<'_>) -> Vec<Operation> {
    report_repeats(words, report);
    let valid = Operation::ALL.map(|operation| (operation.as_str(), operation));
    words.iter().filter_map(|text| word(text, "an endpoint", &valid, report)).collect()
}
