//! # Where text lives in requests
//!
//! Where a mask applies, every string, key and number of a JSON body is scanned, whatever its name. What is left to know of
//! each dialect is where something *else* may stand in the place of text, which no scan can see through: token ids, images,
//! sounds, files, embeddings, encrypted reasoning. This room knows those places, a dialect a file, and refuses what stands there.
//!
//! ```text
//! body ──json──▶ remote      what would make the server fetch, or ask another service (always)
//!               ├ openai     chat, completions, embeddings, rerank, score, images
//!               ├ responses  items                       anthropic  blocks
//!               ├ ollama     messages, prompts           tgi, kserve inputs, tensors     (these where a mask applies)
//! body ──form──▶ form        fields are text, files cannot be inspected
//! ```
//!
//! ## Invariants
//! * A type of part, item, block or tensor that is not known may be anything, and is refused.
//! * A list of numbers where a text could stand may be token ids, whatever it is called, and is refused; the few lists of
//!   token ids that are settings have names.
//! * Names are compared as the most forgiving server does: Go's JSON ignores case, and folds two letters beyond ASCII.
//!
//! ## What it does not do
//! It does not say which requests a model would accept, and does not read JSON within strings: the mask does.

mod anthropic;
mod form;
mod kserve;
mod ollama;
mod openai;
mod remote;
mod responses;
mod texts;

pub(super) use form::form;
pub(super) use remote::{shows_no_images, stays_here};
pub(super) use texts::{fold, unmasked};

use super::{Dialect, Endpoint, ProtocolError};
use bailiwick_masking::json::Document;

/// Everything in it that a model would read is text that can be scanned.
pub(super) fn inspectable(document: &Document<'_>, endpoint: &Endpoint) -> Result<(), ProtocolError> {
    match endpoint.dialect {
        Dialect::OpenAi => openai::inspectable(document),
        Dialect::Responses => responses::inspectable(document),
        Dialect::Anthropic => anthropic::inspectable(document),
        Dialect::Ollama => ollama::inspectable(document),
        Dialect::Tgi => kserve::generation(document),
        Dialect::Kserve if endpoint.name == "infer" => kserve::tensors(document),
        Dialect::Kserve => kserve::generation(document),
    }
}

#[cfg(test)]
mod tests;
