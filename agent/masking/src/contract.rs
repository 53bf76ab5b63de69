//! The interface that the proxy and `protocol` use. Split into files by the room's builder.
use std::collections::BTreeMap;
use std::sync::Arc;

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// RFC 5322 address
    Email,
    /// ISO 13616
    Iban,
    /// ISO/IEC 7812, Luhn
    Card,
}

/// What is done with a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `[email]` in its place
    Redact,
    /// `[email:9f3a…]`, keyed
    Hash,
    /// refuse the request, cut the answer
    Block,
}

/// What was found, never where nor what: safe to record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// matches by kind
    pub entities: BTreeMap<Entity, u64>,
    /// fields masked
    pub fields: u64,
}

/// One `[[mask]]` of the config, compiled. `field` paths are RFC 9535 singular/wildcard paths.
#[derive(Debug)]
pub struct Mask {}

/// Why text could not be passed on. Never carries the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// a `block` mask matched
    #[error("blocked: the text holds personal data of kind {0:?}")]
    Blocked(Entity),
    /// not JSON, duplicate key, too deep …
    #[error("{0}")]
    Unreadable(&'static str),
}

impl Mask {
    /// `key` keys the hash action (per tenant); `fields` are JSONPath (RFC 9535) expressions.
    /// # Errors
    /// names the field expression that does not parse
    pub fn new(
        _entities: &[Entity],
        _fields: &[String],
        _action: Action,
        _key: [u8; 32],
    ) -> Result<Self, String> {
        unimplemented!()
    }
}

/// Every mask that applies to one direction of one request; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Masker {
    /// in order
    pub masks: Vec<Arc<Mask>>,
}

impl Masker {
    /// No mask: everything passes as it came (still parsed by the caller where policy asks).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }
    /// Masks a whole JSON document: fields by path, every string, key and number by entity. What is not
    /// masked stays byte for byte. Strings that hold JSON (tool arguments) stay valid JSON.
    /// # Errors
    /// [`MaskError`]
    pub fn json(&self, _document: &[u8], _findings: &mut Findings) -> Result<Vec<u8>, MaskError> {
        unimplemented!()
    }
    /// A stream of decoded text (one logical channel: choice × content).
    #[must_use]
    pub fn channel(&self) -> Channel {
        unimplemented!()
    }
}

/// The stream machine of one channel. Output for any cutting of the input equals the output for the whole.
#[derive(Debug)]
pub struct Channel {}
impl Channel {
    /// Takes text, gives what may be released now.
    /// # Errors
    /// [`MaskError::Blocked`]
    pub fn push(&mut self, _text: &str, _findings: &mut Findings) -> Result<String, MaskError> {
        unimplemented!()
    }
    /// The rest, at the end of the stream.
    /// # Errors
    /// [`MaskError::Blocked`]
    pub fn finish(&mut self, _findings: &mut Findings) -> Result<String, MaskError> {
        unimplemented!()
    }
}
