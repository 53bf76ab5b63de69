//! JSON as spans: a strict reader that keeps every byte's place, and edits of those bytes.
//!
//! Own code because a reader that rebuilds a document from values loses what this one must keep: the exact bytes of
//! everything that is not changed, and the fact that a key came twice.

mod edit;
mod parse;

pub use edit::{Edits, quote};
pub(crate) use parse::characters;
pub use parse::{Document, Kind, MOST_DEPTH, MOST_VALUES, Member, Node, parse};
