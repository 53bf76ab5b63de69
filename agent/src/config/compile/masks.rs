//! Masks: what is hidden, and how.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::raw;
use super::super::report::Report;
use super::{declare, report_repeats, word};
use bailiwick_masking::{Action, Entity, Mask};
use bailiwick_policy::Name;
use std::collections::BTreeMap;
use std::sync::Arc;

const ENTITIES: [(&str, Entity); 3] =
    [("email", Entity::Email), ("iban", Entity::Iban), ("card", Entity::Card)];
const ACTIONS: [(&str, Action); 3] =
    [("redact", Action::Redact), ("hash", Action::Hash), ("block", Action::Block)];

/// Every mask that could be read.
pub(super) fn compile(raw: &[raw::Mask], host: &HostFacts, report: &Report<'_>) -> BTreeMap<Name, Arc<Mask>> {
    let mut taken = Vec::new();
    let mut masks = BTreeMap::new();
    for mask in raw {
        let name = mask.name.as_ref().and_then(|name| declare(name, &mut taken, report));
        let mut entities = Vec::new();
        if let Some(list) = &mask.entities {
            report_repeats(&list.value, report);
            entities =
                list.value.iter().filter_map(|text| word(text, "an entity", &ENTITIES, report)).collect();
        }
        let mut fields = Vec::new();
        if let Some(list) = &mask.fields {
            report_repeats(&list.value, report);
            for field in &list.value {
                // Alone first, so that each bad path is reported in its own place.
                match Mask::new(&[], std::slice::from_ref(&field.value), Action::Redact, host.mask_key) {
                    Ok(_) => fields.push(field.value.clone()),
                    Err(_) => {
                        let cure = "write a JSONPath of names, indices and wildcards, such as \"$.metadata.customer_id\"";
                        report.error(&field.place, Problem::Invalid, "not a field's path", cure);
                    }
                }
            }
        }
        if mask.is_blank {
            let cure = "add entities = [\"email\"] or fields = [\"$.metadata.customer_id\"]";
            report.error(&mask.place, Problem::Empty, "the mask has neither entities nor fields", cure);
        }
        let action = mask.action.as_ref().and_then(|action| word(action, "an action", &ACTIONS, report));
        if let (Some(name), Some(action)) = (name, action) {
            match Mask::new(&entities, &fields, action, host.mask_key) {
                Ok(mask) => {
                    masks.insert(name, Arc::new(mask));
                }
                Err(message) => report.error(&mask.place, Problem::Invalid, message, "change the mask"),
            }
        }
    }
    masks
}
