//! What was found: counts, nothing else.

use crate::Entity;
use std::collections::BTreeMap;

/// What was found, never where nor what: safe to record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Matches by kind.
    pub entities: BTreeMap<Entity, u64>,
    /// Fields masked.
    pub fields: u64,
}

impl Findings {
    /// Nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty() && self.fields == 0
    }

    /// Counts one match.
    pub(crate) fn count(&mut self, entity: Entity) {
        *self.entities.entry(entity).or_default() += 1;
    }
}
