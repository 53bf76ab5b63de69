//! Edits of a document's bytes, in their order.

use super::{Member, Node};
use std::fmt::Write;
use std::ops::Range;

/// Replacements of byte spans. They are given from the beginning to the end and do not overlap.
#[derive(Default)]
pub struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    /// Nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts `with` in the place of a span.
    pub fn replace(&mut self, span: Range<usize>, with: impl Into<Vec<u8>>) {
        self.0.push((span, with.into()));
    }

    /// Takes a member out of an object, with the one comma that has to go with it. `index` is its place in `members`;
    /// members that go together are taken out by one call each, in order, with `kept_before` telling whether an earlier
    /// member of the object stays.
    pub fn remove_member(&mut self, members: &[Member<'_>], index: usize, kept_before: bool) {
        let Some(member) = members.get(index) else {
            return;
        };
        // With a member before it that stays, the comma before goes; else the comma after, if there is one.
        let span = match (kept_before.then(|| index.checked_sub(1)).flatten(), members.get(index + 1)) {
            (Some(before), _) => members[before].value.end..member.value.end,
            (None, Some(next)) => member.key.start..next.key.start,
            (None, None) => member.key.start..member.value.end,
        };
        self.replace(span, Vec::new());
    }

    /// The document with the edits made.
    #[must_use]
    pub fn apply(self, bytes: &[u8]) -> Vec<u8> {
        self.apply_within(bytes, 0..bytes.len())
    }

    /// A span of the document with the edits made, which all lie in it.
    #[must_use]
    pub fn apply_within(mut self, bytes: &[u8], span: Range<usize>) -> Vec<u8> {
        self.0.sort_by_key(|(edited, _)| (edited.start, edited.end));
        let mut result = Vec::with_capacity(span.len());
        let mut copied = span.start;
        for (edited, with) in self.0 {
            debug_assert!(copied <= edited.start && edited.end <= span.end, "edits do not overlap");
            result.extend_from_slice(&bytes[copied..edited.start]);
            result.extend_from_slice(&with);
            copied = edited.end;
        }
        result.extend_from_slice(&bytes[copied..span.end]);
        result
    }
}

impl Node<'_> {
    /// The bytes of the value.
    #[must_use]
    pub const fn span(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A text as a JSON string, quotes included.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\u{1f}' => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
