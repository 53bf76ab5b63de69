//! # Masking: bytes in, bytes out
//!
//! Finds personal data in text and replaces it before the text goes on: in whole JSON documents ([`Masker::json`])
//! and in text that arrives in pieces ([`Masker::channel`]). Pure: no I/O, no clock, no async.
//!
//! ```text
//! text ──look──▶ nothing to be seen in its bytes: it goes on as it is (whole documents only)
//!   └───canonical──▶ characters with a map back to the text ──scan──▶ hits ──rules──▶ placeholders at the old spans
//!        (folding)    (full-width → ASCII, zero-width gone)     (recognizers, one pass)
//! ```
//!
//! ## The invariant
//! The output for any cutting of the input equals the output for the whole. It holds by construction:
//!
//! * A recognizer answers one question: *does a match start exactly here?* It says `Match`, `No`, or `More` when the
//!   answer depends on text that has not come yet. It may say `More` only when it ran into the end of the text, and
//!   once it says `Match` or `No`, no continuation of the text changes that answer.
//! * The scanner walks from left to right and stops at the first `More`. What lies before is released, what lies
//!   after is held. It never guesses and never overlaps.
//! * Every recognizer reads at most [`recognize::LONGEST`] characters, so `More` cannot go on for ever and what is
//!   held is bounded. Folding is per character, and a run of invisible characters is cut to a fixed length, so that
//!   they cannot stretch a match without end. Should the bound ever be passed, the text is refused, not released.
//!
//! ## Overlaps
//! The leftmost match wins, at one place the longest, of equals the first in [`Entity::ALL`]. Where several masks name
//! an entity, `block` wins; otherwise the first mask does.
//!
//! ## JSON
//! Read by an own strict scanner (RFC 8259; UTF-8; at most 128 levels and 4,194,304 values; duplicate keys refused), and rewritten by
//! byte spans: what is not masked stays byte for byte. Strings, keys and numbers are scanned; a string that holds a JSON
//! object or array is masked as JSON and stays valid JSON.
//!
//! ## What it does not do
//! * It does not find names of people, nor anything else that needs a model of the language.
//! * It does not join two strings of a document: an address split over two content parts is not seen.
//! * It decodes `%40`-like escapes and HTML references of `@` and `.`, not percent-encoding at large. Runs of base64
//!   and hexadecimal, and `\uXXXX` that is left in a text, are decoded in whole documents, one level, not in channels.
//! * It never says where or what it found: [`Findings`] counts, errors and `Debug` output hold no text.

mod bytes;
mod canonical;
mod channel;
mod document;
mod encoded;
mod entity;
mod error;
mod findings;
pub mod json;
mod jsonpath;
mod look;
mod mask;
mod recognize;
mod rules;
mod scan;

pub use channel::Channel;
pub use entity::{Action, Entity, UnknownName};
pub use error::MaskError;
pub use findings::Findings;
pub use mask::{Mask, Masker};
