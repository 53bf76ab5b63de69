//! Values that are complete where they stand: scanned on their own, taken out, or refused.

use super::super::ProtocolError;
use super::super::grammar::{Grammar, SAID};
use bailiwick_masking::json::{self, Document, Edits, Kind, Node, quote};
use bailiwick_masking::{Findings, MaskError, Masker};
use std::collections::HashSet;

/// How many complete values are remembered as clean, and how long they may be.
const MOST_CLEAN: usize = 64;
const LONGEST_CLEAN: usize = 256;

pub(in super::super) const OPAQUE_ANSWER: &str =
    "the model's answer has audio, images or encrypted parts, which cannot be masked";

/// Scans complete values by the masks of one answer.
pub(in super::super) struct Scanner {
    pub(in super::super) grammar: &'static Grammar,
    pub(in super::super) masker: Masker,
    /// The masked fields alone: applied to an event or answer as a whole.
    fields: Masker,
    /// The entities alone: applied to values within.
    entities: Masker,
    /// Complete values that were scanned and hold nothing: `"chat.completion.chunk"` comes with every event.
    clean: HashSet<Vec<u8>>,
}

impl Scanner {
    pub(in super::super) fn new(grammar: &'static Grammar, masker: Masker) -> Self {
        let (fields, entities) = (masker.fields(), masker.entities());
        Self { grammar, masker, fields, entities, clean: HashSet::new() }
    }

    /// Masks the named fields of an event, and of the answer within it. `None` where there is nothing to do.
    pub(in super::super) fn fields(
        &self,
        data: &[u8],
        findings: &mut Findings,
    ) -> Result<Option<Vec<u8>>, ProtocolError> {
        if self.fields.is_empty() {
            return Ok(None);
        }
        let masked = self.fields.json(data, findings).map_err(ProtocolError::of_answer)?;
        let document = json::parse(&masked).map_err(ProtocolError::of_answer)?;
        let mut edits = Edits::default();
        for member in document.root().members() {
            if self.grammar.answers.contains(&&*member.name) {
                let answer = self.fields.json(document.raw(&member.value), findings);
                edits.replace(member.value.span(), answer.map_err(ProtocolError::of_answer)?);
            }
        }
        let masked_within = edits.apply(&masked);
        Ok(Some(masked_within))
    }

    /// A value that is complete where it stands.
    pub(in super::super) fn complete(
        &mut self,
        document: &Document<'_>,
        node: &Node<'_>,
        findings: &mut Findings,
        edits: &mut Edits,
    ) -> Result<(), ProtocolError> {
        let raw = document.raw(node);
        if self.clean.contains(raw) {
            return Ok(());
        }
        let mut silenced = Edits::default();
        self.silence_within(node, &mut silenced);
        let quiet = silenced.is_empty();
        let masked = if quiet {
            self.entities.json(raw, findings)
        } else {
            self.entities.json(&silenced.apply_within(document.bytes(), node.span()), findings)
        };
        let masked = masked.map_err(ProtocolError::of_answer)?;
        if masked != raw {
            edits.replace(node.span(), masked);
        } else if raw.len() <= LONGEST_CLEAN && self.clean.len() < MOST_CLEAN {
            self.clean.insert(raw.to_vec());
        }
        Ok(())
    }

    /// The same, as bytes of its own.
    pub(super) fn masked(
        &mut self,
        document: &Document<'_>,
        node: &Node<'_>,
        name: &str,
        findings: &mut Findings,
    ) -> Result<Vec<u8>, ProtocolError> {
        let mut edits = Edits::default();
        if !self.silenced(name, node, &mut edits) {
            self.complete(document, node, findings, &mut edits)?;
        }
        Ok(edits.apply_within(document.bytes(), node.span()))
    }

    /// A key that goes into an event of our own; counted where it stood.
    pub(super) fn key(&self, key: &str) -> Result<String, ProtocolError> {
        self.text(key, &mut Findings::default())
    }

    /// A text that stands in no JSON.
    pub(in super::super) fn text(
        &self,
        text: &str,
        findings: &mut Findings,
    ) -> Result<String, ProtocolError> {
        self.entities.text(text, findings).map_err(ProtocolError::of_answer)
    }

    /// A text that was held until it was whole: JSON, or not.
    pub(super) fn held(&self, text: &str, findings: &mut Findings) -> Result<String, ProtocolError> {
        self.masker.text(text, findings).map_err(ProtocolError::of_answer)
    }

    /// A value that repeats what came in pieces: each text in it becomes what its pieces became, put together.
    pub(in super::super) fn repeat(
        &mut self,
        document: &Document<'_>,
        (name, node): (&str, &Node<'_>),
        findings: &mut Findings,
        edits: &mut Edits,
    ) -> Result<(), ProtocolError> {
        match &node.kind {
            Kind::String if self.grammar.held.contains(&name) || SAID.contains(&name) => {
                let text = document.text(node).unwrap_or_default();
                let masked = if self.grammar.held.contains(&name) {
                    self.held(&text, findings)?
                } else {
                    self.said(&text, findings).map_err(ProtocolError::of_answer)?
                };
                if masked != text {
                    edits.replace(node.span(), quote(&masked));
                }
                Ok(())
            }
            Kind::Array(elements) => {
                elements.iter().try_for_each(|element| self.repeat(document, ("", element), findings, edits))
            }
            Kind::Object(members) => members.iter().try_for_each(|member| {
                self.complete(document, &member.key, findings, edits)?;
                if self.silenced(&member.name, &member.value, edits) {
                    return Ok(());
                }
                self.repeat(document, (&member.name, &member.value), findings, edits)
            }),
            Kind::Null | Kind::Bool(_) | Kind::Number | Kind::String => {
                self.complete(document, node, findings, edits)
            }
        }
    }

    /// A whole text as its channel gives it.
    fn said(&self, text: &str, findings: &mut Findings) -> Result<String, MaskError> {
        let mut channel = self.masker.channel();
        Ok(channel.push(text, findings)? + &channel.finish(findings)?)
    }

    /// Takes a member out if it spells text out. Whether it did.
    pub(in super::super) fn silenced(&self, name: &str, node: &Node<'_>, edits: &mut Edits) -> bool {
        let with = match node.kind {
            Kind::Number if self.grammar.zeroed.contains(&name) => "0",
            _ if !self.grammar.spelled_out.contains(&name) => return false,
            Kind::Null => return true,
            Kind::Array(_) => self.grammar.hushed,
            Kind::Bool(_) | Kind::Number | Kind::String | Kind::Object(_) => "null",
        };
        edits.replace(node.span(), with);
        true
    }

    /// The same, for every such member within a value.
    pub(in super::super) fn silence_within(&self, node: &Node<'_>, edits: &mut Edits) {
        for member in node.members() {
            if !self.is_of_a_tool(&member.name, &member.value)
                && !self.silenced(&member.name, &member.value, edits)
            {
                self.silence_within(&member.value, edits);
            }
        }
        node.elements().iter().for_each(|element| self.silence_within(element, edits));
    }

    /// Whether something in it cannot be scanned.
    pub(in super::super) fn is_opaque(&self, node: &Node<'_>) -> bool {
        let opaque = |name: &str, value: &Node<'_>| {
            self.grammar.opaque.contains(&name)
                && !matches!(&value.kind, Kind::Null)
                && !matches!(&value.kind, Kind::Array(elements) if elements.is_empty())
        };
        node.members().iter().any(|member| {
            opaque(&member.name, &member.value)
                || (!self.is_of_a_tool(&member.name, &member.value) && self.is_opaque(&member.value))
        }) || node.elements().iter().any(|element| self.is_opaque(element))
    }

    /// A tool's arguments as an object: their names are the tool's own and say nothing here.
    fn is_of_a_tool(&self, name: &str, value: &Node<'_>) -> bool {
        matches!(value.kind, Kind::Object(_)) && (self.grammar.held.contains(&name) || name == "input")
    }
}
