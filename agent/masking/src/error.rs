//! Why text could not be passed on.

use crate::Entity;

/// Why text could not be passed on. Never carries the text, nor where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// A `block` mask found an entity.
    #[error("blocked: the text holds personal data of kind {0}")]
    Blocked(Entity),
    /// A `block` mask's field is in the document.
    #[error("blocked: the document holds a field that the policy blocks")]
    BlockedField,
    /// An object names a member twice (RFC 8259 leaves open which one counts, so two readers may disagree).
    #[error("a JSON object has the same key twice; send each key once")]
    DuplicateKey,
    /// Not JSON, or JSON beyond the bounds.
    #[error("{0}")]
    Unreadable(&'static str),
}
