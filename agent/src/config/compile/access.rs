//! Access rules.

use super::super::raw;
use super::super::report::{At, Report};
use super::{Declared, declare, line_of_text, report_repeats, word};
use bailiwick_policy::{AccessRule, Name, Operation, RuleMasks};

/// Every rule that could be read, in the file's order.
pub(super) fn compile(
    raw: &[raw::Access],
    models: &Declared<'_>,
    regions: &Declared<'_>,
    masks: &Declared<'_>,
    report: &Report<'_>,
) -> Vec<AccessRule> {
    let mut taken = Vec::new();
    let mut rules = Vec::new();
    for rule in raw {
        let name = rule.name.as_ref().and_then(|name| declare(name, &mut taken, report));
        let groups = rule.groups.as_ref().map(|groups| group_names(&groups.value, report));
        let opened =
            rule.models.as_ref().map(|list| models.resolve_all(&list.value, report)).unwrap_or_default();
        let from = rule.from.as_ref().map(|list| regions.resolve_all(&list.value, report));
        let endpoints = rule.endpoints.as_ref().map(|list| operations(&list.value, report));
        let side = |list: &Option<At<Vec<At<String>>>>| -> Vec<Name> {
            list.as_ref().map(|list| masks.resolve_all(&list.value, report)).unwrap_or_default()
        };
        let masks = RuleMasks { request: side(&rule.request_masks), response: side(&rule.response_masks) };
        if let Some(name) = name {
            rules.push(AccessRule { name, groups, models: opened, from, endpoints, masks });
        }
    }
    rules
}

fn group_names(groups: &[At<String>], report: &Report<'_>) -> Vec<String> {
    report_repeats(groups, report);
    groups.iter().filter_map(|group| line_of_text(group, report)).map(str::to_owned).collect()
}

fn operations(words: &[At<String>], report: &Report<'_>) -> Vec<Operation> {
    report_repeats(words, report);
    let valid = Operation::ALL.map(|operation| (operation.as_str(), operation));
    words.iter().filter_map(|text| word(text, "an endpoint", &valid, report)).collect()
}
