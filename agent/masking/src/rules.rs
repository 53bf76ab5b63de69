//! The masks of one direction of one request, resolved: for each entity the one mask that decides.

use crate::recognize::{Set, canonical};
use crate::{Action, Entity, Findings, Mask, MaskError};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt::Write;
use std::sync::Arc;

/// What decides over each entity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    deciding: [Option<Arc<Mask>>; Entity::ALL.len()],
}

impl Rules {
    /// `block` wins, otherwise the first mask that names the entity.
    pub(crate) fn new(masks: &[Arc<Mask>]) -> Self {
        let mut rules = Self::default();
        for (entity, slot) in Entity::ALL.iter().zip(&mut rules.deciding) {
            let mut naming = masks.iter().filter(|mask| mask.entities().contains(entity));
            let first = naming.clone().next();
            *slot = naming.find(|mask| mask.action() == Action::Block).or(first).cloned();
        }
        rules
    }

    /// The entities to look for.
    pub(crate) fn wanted(&self) -> Set {
        let named = Entity::ALL.iter().zip(&self.deciding).filter(|(_, mask)| mask.is_some());
        named.fold(Set::default(), |set, (entity, _)| set.with(*entity))
    }

    /// Counts a match and gives what stands in its place.
    pub(crate) fn decide(
        &self,
        entity: Entity,
        matched: &[char],
        findings: &mut Findings,
    ) -> Result<String, MaskError> {
        findings.count(entity);
        let deciding = Entity::ALL.iter().zip(&self.deciding).find(|(candidate, _)| **candidate == entity);
        // An entity that nobody names is not looked for; should it be found all the same, it is redacted.
        let Some(mask) = deciding.and_then(|(_, mask)| mask.as_deref()) else {
            return Ok(format!("[{entity}]"));
        };
        match mask.action() {
            Action::Redact => Ok(format!("[{entity}]")),
            Action::Hash => Ok(hashed(entity.as_str(), mask.key(), canonical(entity, matched).as_bytes())),
            Action::Block => Err(MaskError::Blocked(entity)),
        }
    }
}

/// `[name:` 12 hexadecimal digits of HMAC-SHA-256 `]`.
pub(crate) fn hashed(name: &str, key: &[u8; 32], value: &[u8]) -> String {
    const SHOWN: usize = 6;
    let mut text = format!("[{name}:");
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) {
        mac.update(value);
        for byte in mac.finalize().into_bytes().iter().take(SHOWN) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
    }
    text.push(']');
    text
}
