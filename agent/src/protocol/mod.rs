//! # Protocol: what model APIs look like
//!
//! Which endpoints a model server has, and where text lives in their requests, answers and events. Pure: bytes in, bytes
//! out; the proxy moves them. What is masked, and how, is the `bailiwick-masking` crate's matter; *where* is this room's.
//!
//! ```text
//! request  method and path ──find──▶ endpoint and its dialect (presets, exact)
//!          body ──request──▶ read, held to this host, identity stripped, bounded, masked (requests/, a dialect a file)
//! answer   content type ──▶ text/event-stream    ──sse────▶ events ──stream──▶ one channel a block and path
//!                           application/x-ndjson ──ndjson─▶ lines  ──stream──▶ the same (Ollama alone)
//!                           JSON, transcripts    ──▶ held whole (64 MiB), masked by document
//!                           anything else        ──▶ refused: it cannot be inspected
//! ```
//!
//! ## Invariants
//! * An endpoint is an exact method and path, or one with a strictly spelled name in it. There are no prefixes: model servers
//!   have dangerous ones next to useful ones.
//! * A request makes the model's server fetch nothing, hand nothing on and keep nothing for another request.
//! * Where a mask applies, every string, key and number that goes through has been scanned, whatever its name. Known names
//!   only say *how*: as a piece of a longer text, as a text of its own, or not at all because it cannot be scanned.
//! * A stream's text, put together per block (choice, content block, part of an item) and path, is what masking the whole text
//!   gives, wherever the network cut it. Text that is held back is released as an event of the same shape before the block
//!   finishes, and a text that a later event repeats whole becomes what its pieces became.
//! * A stream is of the events in its dialect's table (`grammar`), or of an error; pieces of text in another shape could not be
//!   put together, so such a stream is refused.
//! * What cannot be scanned is refused (images, audio, files, token ids in a request) or taken out (log probabilities and
//!   token ids in an answer: they spell the text out, token by token; `null`, an empty list or zero takes their place).
//! * What is not changed stays byte for byte. Without masks an answer is not even read.
//! * Errors hold no text of a request or an answer.
//!
//! ## Tool calls
//! The arguments of a tool call are JSON, useless before they are complete. They are held whole (1 MiB), masked as JSON,
//! and released in one piece before the block finishes, so that a caller always gets valid JSON.
//!
//! ## What it does not do
//! It does not decode content encodings (the proxy asks for none), and does not check that a request is one the model would
//! accept, or an answer one that its server would send.

mod answer;
mod dialect;
mod document;
mod endpoint;
mod error;
mod finale;
mod grammar;
mod length;
mod multipart;
mod ndjson;
mod presets;
mod request;
mod requests;
mod rewrite;
mod shape;
mod sse;
mod stream;

pub use answer::{Answer, Form, error_event};
pub use dialect::Dialect;
pub use endpoint::{BodyForm, Endpoint, find, offers};
pub use error::{ProtocolError, error_body, error_in};
pub use finale::{Tail, Unsent};
pub use request::{Request, request, scan_path};
pub use rewrite::Rewriting;
