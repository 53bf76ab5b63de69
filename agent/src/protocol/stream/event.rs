//! One event: its pieces go through their channels, the rest of it is scanned as it stands.

use super::super::ProtocolError;
use super::super::document::{NUMBERS, has_numbers};
use super::super::grammar::{Finishes, Row, Speaks};
use super::Stream;
use super::place::{Block, Place, Step, index, number};
use super::scan::OPAQUE_ANSWER;
use super::voices::Piece;
use bailiwick_masking::Findings;
use bailiwick_masking::json::{self, Document, Edits, Kind, Node, quote};

/// What an event becomes.
pub(super) struct Masked {
    pub(super) data: Vec<u8>,
    /// Events that follow at once, not masked yet: texts that a block began with.
    pub(super) then: Vec<String>,
}

/// One walk through an event.
struct Walk<'a, 'd> {
    document: &'a Document<'d>,
    speaks: Speaks,
    /// Where it is.
    place: Place,
    /// Texts end with this event.
    last: bool,
    edits: Edits,
    then: Vec<String>,
}

/// What a row-less dialect's events are.
const PLAIN: Row =
    Row { stem: "", ending: "", speaks: Speaks::Nothing, repeats: &[], finishes: Finishes::Nothing };

/// An error: clients read no further, so that what is held goes before it.
const ERROR: Row = Row { finishes: Finishes::All, ..PLAIN };

impl Stream {
    /// Masks one event's JSON. What has to go before it is written to `out`.
    pub(super) fn event(
        &mut self,
        data: &[u8],
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<Masked, ProtocolError> {
        let with_fields = self.scanner.fields(data, findings)?;
        let data = with_fields.as_deref().unwrap_or(data);
        let document = json::parse(data).map_err(ProtocolError::of_answer)?;
        let root = document.root();
        let row = self.kind(&document)?;
        if self.scanner.is_opaque(root) {
            return Err(ProtocolError::answer(OPAQUE_ANSWER));
        }
        self.voices.next_event();
        self.counter.begin(self.scanner.grammar.counter, &document);

        let last = row.finishes == Finishes::All;
        let block = Block::of(&document, &row, self.scanner.grammar.counter)?;
        let place = Place { block, path: Vec::new() };
        let (edits, then) = (Edits::default(), Vec::new());
        let mut walk = Walk { document: &document, speaks: row.speaks, place, last, edits, then };
        if row.speaks == Speaks::Anywhere {
            walk.place.block = Block::default();
            self.spoken(&mut walk, root, findings)?;
        } else {
            self.members(&mut walk, &row, findings, out)?;
        }
        self.end(&walk.place.block, row.finishes, findings, out)?;
        self.counter.end(&document, &mut walk.edits);
        Ok(Masked { data: walk.edits.apply(data), then: walk.then })
    }

    /// What kind of event it is; one that might hold pieces of text in an unknown shape is refused.
    fn kind(&self, document: &Document<'_>) -> Result<Row, ProtocolError> {
        use super::super::Dialect;
        let grammar = self.scanner.grammar;
        let root = document.root();
        let object = matches!(root.kind, Kind::Object(_));
        let is =
            |name: &str, kind: fn(&Kind<'_>) -> bool| root.get(name).is_some_and(|node| kind(&node.kind));
        let unknown =
            || ProtocolError::answer("an event of the model's answer has text in a shape that is not known");
        let row = root.get("type").and_then(|node| document.text(node)).and_then(|kind| grammar.row(&kind));
        let is_error = root.get("error").is_some_and(|error| !matches!(error.kind, Kind::Null));
        let row = match grammar.dialect {
            Dialect::OpenAi if is("choices", |kind| matches!(kind, Kind::Array(_))) => {
                Row { speaks: Speaks::Choices, ..PLAIN }
            }
            Dialect::OpenAi if root.get("choices").is_some() => return Err(unknown()),
            Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic => match row {
                Some(row) => *row,
                None if is_error => ERROR,
                None if object && grammar.dialect != Dialect::OpenAi && self.says_nothing(root) => PLAIN,
                None => return Err(unknown()),
            },
            Dialect::Tgi if root.get("token").is_some() => {
                let finishes = if is("generated_text", |kind| matches!(kind, Kind::String)) {
                    Finishes::All
                } else {
                    Finishes::Nothing
                };
                // A special token's text is no part of the answer's.
                let special = root.get("token").and_then(|token| token.get("special"));
                let special = special.is_some_and(|node| matches!(node.kind, Kind::Bool(true)));
                let speaks = if special { Speaks::Nothing } else { Speaks::In("token") };
                Row { speaks, finishes, repeats: &["generated_text"], ..PLAIN }
            }
            Dialect::Tgi if is_error => ERROR,
            Dialect::Tgi => return Err(unknown()),
            Dialect::Kserve if has_numbers(document) => return Err(ProtocolError::answer(NUMBERS)),
            Dialect::Ollama | Dialect::Kserve if object => {
                let done =
                    grammar.dialect == Dialect::Ollama && is("done", |kind| matches!(kind, Kind::Bool(true)));
                let finishes = if done || is_error { Finishes::All } else { Finishes::Nothing };
                Row { speaks: Speaks::Anywhere, finishes, ..PLAIN }
            }
            Dialect::Ollama | Dialect::Kserve => return Err(unknown()),
        };
        Ok(row)
    }

    /// Whether a value has no string but those that are known to be complete.
    fn says_nothing(&self, node: &Node<'_>) -> bool {
        let grammar = self.scanner.grammar;
        node.members().iter().all(|member| match &member.value.kind {
            Kind::String => grammar.complete.contains(&&*member.name),
            Kind::Array(_) | Kind::Object(_) => self.says_nothing(&member.value),
            Kind::Null | Kind::Bool(_) | Kind::Number => true,
        }) && node.elements().iter().all(|element| match &element.kind {
            Kind::String => false,
            Kind::Array(_) | Kind::Object(_) => self.says_nothing(element),
            Kind::Null | Kind::Bool(_) | Kind::Number => true,
        })
    }

    /// The members of an event that says where its pieces are.
    fn members(
        &mut self,
        walk: &mut Walk<'_, '_>,
        row: &Row,
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let document = walk.document;
        for member in document.root().members() {
            let name = &*member.name;
            self.scanner.complete(document, &member.key, findings, &mut walk.edits)?;
            if self.scanner.silenced(name, &member.value, &mut walk.edits) {
                continue;
            }
            match row.speaks {
                Speaks::Choices if name == "choices" => self.choices(walk, &member.value, findings, out)?,
                Speaks::Begun if name == "content_block" => self.begun(walk, &member.value, findings)?,
                Speaks::In(wanted) if name == wanted => {
                    walk.place.path.push(Step::Key(name.to_owned()));
                    self.spoken(walk, &member.value, findings)?;
                    walk.place.path.pop();
                }
                _ if self.scanner.grammar.counter == Some(name)
                    && number(document, &member.value).is_some() => {}
                _ if row.repeats.contains(&name) => {
                    self.scanner.repeat(document, (name, &member.value), findings, &mut walk.edits)?;
                }
                _ => self.scanner.complete(document, &member.value, findings, &mut walk.edits)?,
            }
        }
        Ok(())
    }

    /// The choices of an event, each with an end of its own.
    fn choices(
        &mut self,
        walk: &mut Walk<'_, '_>,
        choices: &Node<'_>,
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        for (at, choice) in choices.elements().iter().enumerate() {
            if !matches!(choice.kind, Kind::Object(_)) {
                return Err(ProtocolError::answer("the model's answer has a choice that is not an object"));
            }
            let index = index(walk.document, choice, "index")?.unwrap_or(at as u64);
            walk.place.block = Block { outer: Some(index), ..Block::default() };
            walk.last = choice.get("finish_reason").is_some_and(|reason| !matches!(reason.kind, Kind::Null));
            self.spoken(walk, choice, findings)?;
            if walk.last {
                self.end(&walk.place.block, Finishes::Item, findings, out)?;
            }
        }
        Ok(())
    }

    /// A content block as it begins. A text that is there already goes into a delta after it, so that its channel has
    /// all of it.
    fn begun(
        &mut self,
        walk: &mut Walk<'_, '_>,
        block: &Node<'_>,
        findings: &mut Findings,
    ) -> Result<(), ProtocolError> {
        let document = walk.document;
        if !matches!(block.kind, Kind::Object(_)) {
            return self.scanner.complete(document, block, findings, &mut walk.edits);
        }
        for member in block.members() {
            self.scanner.complete(document, &member.key, findings, &mut walk.edits)?;
            let begun = BEGUN.iter().find(|(name, _)| *name == member.name);
            match (begun, document.text(&member.value)) {
                (Some(_), Some(text)) if text.is_empty() => {}
                (Some((name, kind)), Some(text)) => {
                    let index = walk.place.block.outer.unwrap_or_default();
                    walk.then.push(format!(
                        "{{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"{kind}\",\"{name}\":{}}}}}",
                        quote(&text)
                    ));
                    walk.edits.replace(member.value.span(), "\"\"");
                }
                _ if self.scanner.silenced(&member.name, &member.value, &mut walk.edits) => {}
                _ => self.scanner.complete(document, &member.value, findings, &mut walk.edits)?,
            }
        }
        Ok(())
    }

    /// Everything in a value whose strings are pieces.
    fn spoken(
        &mut self,
        walk: &mut Walk<'_, '_>,
        node: &Node<'_>,
        findings: &mut Findings,
    ) -> Result<(), ProtocolError> {
        let document = walk.document;
        match &node.kind {
            Kind::Null | Kind::Bool(_) => {}
            Kind::Number => self.scanner.complete(document, node, findings, &mut walk.edits)?,
            Kind::String => self.piece(walk, node, findings)?,
            Kind::Array(elements) => {
                for (at, element) in elements.iter().enumerate() {
                    let index = index(document, element, "index")?;
                    walk.place.path.push(index.map_or(Step::At(at), Step::Indexed));
                    self.spoken(walk, element, findings)?;
                    walk.place.path.pop();
                }
            }
            Kind::Object(members) => {
                for member in members {
                    self.scanner.complete(document, &member.key, findings, &mut walk.edits)?;
                    let (name, value) = (&*member.name, &member.value);
                    if self.scanner.silenced(name, value, &mut walk.edits) {
                        continue;
                    }
                    let grammar = self.scanner.grammar;
                    let complete = grammar.complete.contains(&name) && matches!(value.kind, Kind::String);
                    // What a citation quotes, and the arguments that Ollama sends as an object, come whole.
                    if complete || (name == "citation" && matches!(value.kind, Kind::Object(_))) {
                        self.scanner.complete(document, value, findings, &mut walk.edits)?;
                    } else if grammar.held.contains(&name) && matches!(value.kind, Kind::Object(_)) {
                        let masked = self.scanner.masker.json(document.raw(value), findings);
                        walk.edits.replace(value.span(), masked.map_err(ProtocolError::of_answer)?);
                    } else {
                        walk.place.path.push(Step::Key(name.to_owned()));
                        self.spoken(walk, value, findings)?;
                        walk.place.path.pop();
                    }
                }
            }
        }
        Ok(())
    }

    /// A piece of the text at a place: what may be released takes its place.
    fn piece(
        &mut self,
        walk: &mut Walk<'_, '_>,
        node: &Node<'_>,
        findings: &mut Findings,
    ) -> Result<(), ProtocolError> {
        let text = walk.document.text(node).unwrap_or_default();
        let grammar = self.scanner.grammar;
        let held = match walk.place.path.last() {
            Some(Step::Key(key)) if key == "delta" => walk.place.block.stem.ends_with("_arguments"),
            Some(Step::Key(key)) => grammar.held.contains(&&**key),
            Some(Step::Indexed(_) | Step::At(_)) | None => false,
        };
        let piece =
            Piece { document: walk.document, speaks: walk.speaks, text: &text, held, last: walk.last };
        let released = self.voices.push(&mut self.scanner, &walk.place, &piece, findings)?;
        if released != text {
            walk.edits.replace(node.span(), quote(&released));
        }
        Ok(())
    }
}

/// Members of a content block that its deltas go on with, and what kind of delta does.
const BEGUN: [(&str, &str); 3] =
    [("text", "text_delta"), ("thinking", "thinking_delta"), ("signature", "signature_delta")];
