//! A mask as the config compiles it, and the masks of one direction of one request.

use crate::json::{self, Document};
use crate::jsonpath::Path;
use crate::rules::Rules;
use crate::{Action, Channel, Entity, Findings, MaskError, document};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// One `[[mask]]` of the config, compiled. Its key is wiped when it is dropped.
pub struct Mask {
    entities: Vec<Entity>,
    fields: Vec<Path>,
    action: Action,
    key: Zeroizing<[u8; 32]>,
}

impl Mask {
    /// `key` keys the hash action (per tenant); `fields` are JSONPath (RFC 9535) expressions: names, `[n]`, `[*]`, `.*` and
    /// `..name`.
    ///
    /// # Errors
    /// One sentence that names the field expression that does not parse, and what is supported.
    pub fn new(
        entities: &[Entity],
        fields: &[String],
        action: Action,
        key: [u8; 32],
    ) -> Result<Self, String> {
        let fields = fields.iter().map(|field| Path::parse(field)).collect::<Result<_, _>>()?;
        Ok(Self { entities: entities.to_vec(), fields, action, key: Zeroizing::new(key) })
    }

    /// What it looks for.
    #[must_use]
    pub fn entities(&self) -> &[Entity] {
        &self.entities
    }

    /// What it does.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    pub(crate) fn fields(&self) -> &[Path] {
        &self.fields
    }

    fn part(&self, entities: &[Entity], fields: &[Path]) -> Self {
        Self {
            entities: entities.to_vec(),
            fields: fields.to_vec(),
            action: self.action,
            key: self.key.clone(),
        }
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mask")
            .field("entities", &self.entities)
            .field("fields", &self.fields)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// Every mask that applies to one direction of one request; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Masker {
    /// In the order of the rule. Where several name an entity or a field, `block` wins, otherwise the first.
    pub masks: Vec<Arc<Mask>>,
}

impl Masker {
    /// No mask: everything passes as it came (still parsed by the caller where policy asks).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    /// The same masks with their fields only: for a document whose text goes through channels.
    #[must_use]
    pub fn fields(&self) -> Self {
        let with_fields = self.masks.iter().filter(|mask| !mask.fields.is_empty());
        let part = |mask: &Arc<Mask>| mask.part(&[], &mask.fields);
        Self { masks: with_fields.map(|mask| Arc::new(part(mask))).collect() }
    }

    /// The same masks with their entities only: for a part of a document, where the fields' paths mean nothing.
    #[must_use]
    pub fn entities(&self) -> Self {
        let part = |mask: &Arc<Mask>| mask.part(&mask.entities, &[]);
        Self { masks: self.masks.iter().map(|mask| Arc::new(part(mask))).collect() }
    }

    /// Masks a whole JSON document: fields by path, every string, key and number by entity. What is not masked stays byte for
    /// byte. Strings that hold JSON (tool arguments) stay valid JSON.
    ///
    /// # Errors
    /// [`MaskError`]
    pub fn json(&self, document: &[u8], findings: &mut Findings) -> Result<Vec<u8>, MaskError> {
        let masked = self.document(&json::parse(document)?, findings)?;
        Ok(masked.unwrap_or_else(|| document.to_vec()))
    }

    /// The same of a document that has been read; `None` where nothing in it is masked.
    ///
    /// # Errors
    /// [`MaskError`]
    pub fn document(
        &self,
        document: &Document<'_>,
        findings: &mut Findings,
    ) -> Result<Option<Vec<u8>>, MaskError> {
        document::mask(document, self, findings)
    }

    /// Masks a whole text that stands where JSON may stand (tool-call arguments): as JSON if it is JSON, otherwise as text.
    /// The fields' paths start at its own root.
    ///
    /// # Errors
    /// [`MaskError`]
    pub fn text(&self, text: &str, findings: &mut Findings) -> Result<String, MaskError> {
        document::mask_text(text, self, findings)
    }

    /// A stream of decoded text (one logical channel: choice × content).
    #[must_use]
    pub fn channel(&self) -> Channel {
        Channel::new(Rules::new(&self.masks))
    }
}
