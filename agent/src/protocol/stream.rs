//! A stream of events, masked as it comes.
//!
//! Every string under a choice is a piece of a longer text, told apart by choice and path (`delta.content`,
//! `delta.reasoning_content`, `delta.tool_calls[0].function.arguments`, `text`, and whatever a server adds): it goes through a
//! channel of its own, and what may be released takes its place in the event. Names that are known to be complete are scanned
//! on their own, like everything outside of the choices.
//!
//! When a choice finishes, `[DONE]` comes or the stream ends, what is held goes out first: in the finishing event where it
//! has the same path, otherwise in an event of the same shape before it. An event whose text is all held goes on with an empty
//! text: the stream stays alive, and a caller sees time pass as the model spends it.

use super::ProtocolError;
use super::shape::{ARGUMENTS, COMPLETE, ENVELOPE, SPELLED_OUT};
use super::sse::{Line, Part, Reader, data};
use bailiwick_masking::json::{self, Document, Edits, Kind, Node, quote};
use bailiwick_masking::{Channel, Findings, MaskError, Masker};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The most channels a stream may open.
const MOST_CHANNELS: usize = 1024;
/// The most bytes of one tool call's arguments.
const LONGEST_ARGUMENTS: usize = 1024 * 1024;
/// How many complete texts are remembered as clean, and how long they may be.
const MOST_CLEAN: usize = 64;
const LONGEST_CLEAN: usize = 256;

/// The masking of one stream.
pub(super) struct Stream {
    reader: Reader,
    masker: Masker,
    /// The masked fields alone: applied to an event as a whole.
    fields: Masker,
    /// The entities alone: applied to values within an event.
    entities: Masker,
    channels: BTreeMap<Place, Text>,
    /// Members that an event of our own repeats, from the last event, as JSON.
    envelope: String,
    /// Complete texts that were scanned and hold nothing: `"chat.completion.chunk"` comes with every event.
    clean: HashSet<Vec<u8>>,
}

/// Where a text stands: in which choice, and where in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    choice: u64,
    path: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    /// An element that says its own `index`, as tool calls do.
    Indexed(u64),
    /// An element, by its place.
    At(usize),
}

/// The text of one place.
enum Text {
    Channel(Box<Channel>),
    /// Held until it is complete.
    Arguments(String),
}

impl Stream {
    pub(super) fn new(masker: Masker) -> Self {
        Self {
            reader: Reader::default(),
            fields: masker.fields(),
            entities: masker.entities(),
            masker,
            channels: BTreeMap::new(),
            envelope: String::new(),
            clean: HashSet::new(),
        }
    }

    /// Takes bytes, gives the events that may go on.
    pub(super) fn push(&mut self, bytes: &[u8], findings: &mut Findings) -> Result<Vec<u8>, ProtocolError> {
        let mut out = Vec::new();
        for part in self.reader.push(bytes)? {
            self.part(part, findings, &mut out)?;
        }
        Ok(out)
    }

    /// The end of the stream.
    pub(super) fn finish(&mut self, findings: &mut Findings) -> Result<Vec<u8>, ProtocolError> {
        let mut out = Vec::new();
        if let Some(part) = self.reader.finish() {
            self.part(part, findings, &mut out)?;
            // The block had no empty line at its end; a caller needs one.
            out.extend_from_slice(b"\n\n");
        }
        self.flush(|_| true, findings, &mut out)?;
        Ok(out)
    }

    fn part(&mut self, part: Part, findings: &mut Findings, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        match part {
            Part::LateLf => out.push(b'\n'),
            Part::Block(lines) => match data(&lines) {
                None => self.other_lines(&lines, findings, out)?,
                Some(data) if data.trim_ascii() == b"[DONE]" => {
                    self.flush(|_| true, findings, out)?;
                    self.write(&lines, None, findings, out)?;
                }
                Some(data) if data.is_empty() => self.write(&lines, None, findings, out)?,
                Some(data) => {
                    let masked = self.event(&data, findings, out)?;
                    self.write(&lines, (masked != data).then_some(&masked), findings, out)?;
                }
            },
        }
        Ok(())
    }

    /// Masks one event's JSON. What has to go before it is written to `out`.
    fn event(
        &mut self,
        data: &[u8],
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<Vec<u8>, ProtocolError> {
        let with_fields;
        let data = if self.fields.is_empty() {
            data
        } else {
            with_fields = self.fields.json(data, findings).map_err(ProtocolError::of_answer)?;
            &with_fields
        };
        let document = json::parse(data).map_err(ProtocolError::of_answer)?;
        let root = document.root();
        let mut edits = Edits::default();
        let Kind::Object(members) = &root.kind else {
            self.complete(&document, root, findings, &mut edits)?;
            return Ok(edits.apply(data));
        };

        let choices = root.get("choices").filter(|choices| matches!(choices.kind, Kind::Array(_)));
        let mut seen = BTreeSet::new();
        let mut envelope = String::new();
        for member in members {
            self.key(&document, &member.key, findings, &mut edits)?;
            if SPELLED_OUT.contains(&&*member.name) {
                silence(&member.value, &mut edits);
            } else if member.name != "choices" || choices.is_none() {
                let whole = self.complete(&document, &member.value, findings, &mut edits)?;
                if ENVELOPE.contains(&&*member.name) {
                    envelope.push_str(&format!(
                        "{}:{},",
                        quote(&member.name),
                        String::from_utf8_lossy(&whole)
                    ));
                }
            }
        }
        if choices.is_some() {
            self.envelope = envelope;
        }
        for (at, choice) in choices.map_or(&[][..], Node::elements).iter().enumerate() {
            let index = choice.get("index").and_then(|node| number(&document, node)).unwrap_or(at as u64);
            let finishes =
                choice.get("finish_reason").is_some_and(|reason| !matches!(reason.kind, Kind::Null));
            let place = Place { choice: index, path: Vec::new() };
            let mut walk = Walk { document: &document, finishes, seen: &mut seen, edits: &mut edits };
            self.walk(&mut walk, choice, place, findings)?;
            if finishes {
                self.flush(|place| place.choice == index && !seen.contains(place), findings, out)?;
            }
        }
        Ok(edits.apply(data))
    }

    /// Everything under a choice.
    fn walk(
        &mut self,
        walk: &mut Walk<'_, '_>,
        node: &Node<'_>,
        place: Place,
        findings: &mut Findings,
    ) -> Result<(), ProtocolError> {
        match &node.kind {
            Kind::Null | Kind::Bool(_) => {}
            Kind::Number => {
                self.complete(walk.document, node, findings, walk.edits)?;
            }
            Kind::String => self.piece(walk, node, place, findings)?,
            Kind::Array(elements) => {
                for (at, element) in elements.iter().enumerate() {
                    let index = element.get("index").and_then(|node| number(walk.document, node));
                    let step = index.map_or(Step::At(at), Step::Indexed);
                    self.walk(walk, element, place.with(step), findings)?;
                }
            }
            Kind::Object(members) => {
                for member in members {
                    self.key(walk.document, &member.key, findings, walk.edits)?;
                    let name = &*member.name;
                    if SPELLED_OUT.contains(&name) {
                        silence(&member.value, walk.edits);
                    } else if COMPLETE.contains(&name) && matches!(member.value.kind, Kind::String) {
                        self.complete(walk.document, &member.value, findings, walk.edits)?;
                    } else {
                        self.walk(walk, &member.value, place.with(Step::Key(name.to_owned())), findings)?;
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
        place: Place,
        findings: &mut Findings,
    ) -> Result<(), ProtocolError> {
        let piece = walk.document.text(node).unwrap_or_default();
        if !walk.seen.insert(place.clone()) {
            return Err(ProtocolError::answer(
                "an event of the model's answer has two texts in the same place",
            ));
        }
        if !self.channels.contains_key(&place) {
            if self.channels.len() == MOST_CHANNELS {
                return Err(ProtocolError::answer("the model's answer has more than 1024 texts at once"));
            }
            let text = if matches!(place.path.last(), Some(Step::Key(key)) if key == ARGUMENTS) {
                Text::Arguments(String::new())
            } else {
                Text::Channel(Box::new(self.masker.channel()))
            };
            self.channels.insert(place.clone(), text);
        }
        let Some(text) = self.channels.get_mut(&place) else {
            return Ok(());
        };
        let mut released = text.push(&piece, findings)?;
        if walk.finishes {
            released.push_str(&text.finish(&self.masker, findings)?);
            self.channels.remove(&place);
        }
        if released != piece {
            walk.edits.replace(node.span(), quote(&released));
        }
        Ok(())
    }

    /// A key: complete in its event.
    fn key(
        &mut self,
        document: &Document<'_>,
        key: &Node<'_>,
        findings: &mut Findings,
        edits: &mut Edits,
    ) -> Result<(), ProtocolError> {
        self.complete(document, key, findings, edits).map(|_| ())
    }

    /// A value that is complete in its event. Gives it as it goes on.
    fn complete(
        &mut self,
        document: &Document<'_>,
        node: &Node<'_>,
        findings: &mut Findings,
        edits: &mut Edits,
    ) -> Result<Vec<u8>, ProtocolError> {
        let raw = document.raw(node);
        if self.clean.contains(raw) {
            return Ok(raw.to_vec());
        }
        let mut silenced = Edits::default();
        silence_within(node, &mut silenced);
        let heard = silenced.apply_within(document.bytes(), node.span());
        let masked = self.entities.json(&heard, findings).map_err(ProtocolError::of_answer)?;
        if masked != raw {
            edits.replace(node.span(), masked.clone());
        } else if raw.len() <= LONGEST_CLEAN && self.clean.len() < MOST_CLEAN {
            self.clean.insert(raw.to_vec());
        }
        Ok(masked)
    }

    /// Releases what is held at some places, each in an event of its own.
    fn flush(
        &mut self,
        which: impl Fn(&Place) -> bool,
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let places: Vec<Place> = self.channels.keys().filter(|place| which(place)).cloned().collect();
        for place in places {
            let Some(mut text) = self.channels.remove(&place) else {
                continue;
            };
            let released = text.finish(&self.masker, findings)?;
            if released.is_empty() {
                continue;
            }
            let nested = self.nest(&place.path, &released, findings)?;
            let members = nested.strip_prefix('{').unwrap_or(&nested);
            let members = members.strip_suffix('}').unwrap_or(members);
            let event = format!(
                "data: {{{}\"choices\":[{{\"index\":{},{members},\"finish_reason\":null}}]}}\n\n",
                self.envelope, place.choice
            );
            out.extend_from_slice(event.as_bytes());
        }
        Ok(())
    }

    /// A text as JSON at the end of a path.
    fn nest(&self, path: &[Step], text: &str, findings: &mut Findings) -> Result<String, ProtocolError> {
        let Some((step, rest)) = path.split_first() else {
            return Ok(quote(text));
        };
        let inner = self.nest(rest, text, findings)?;
        match step {
            Step::Key(key) => {
                // Counted when the event with the key went by.
                let key =
                    self.entities.text(key, &mut Findings::default()).map_err(ProtocolError::of_answer)?;
                Ok(format!("{{{}:{inner}}}", quote(&key)))
            }
            Step::Indexed(index) => match inner.strip_prefix('{') {
                Some(members) => Ok(format!("[{{\"index\":{index},{members}]")),
                None => Ok(format!("[{inner}]")),
            },
            Step::At(0) => Ok(format!("[{inner}]")),
            Step::At(_) => Err(ProtocolError::answer(
                "the model's answer has a list of texts whose elements say no index; their rest cannot be placed",
            )),
        }
    }

    /// Lines of a block: the data as masked, the others scanned.
    fn write(
        &mut self,
        lines: &[Line],
        masked: Option<&Vec<u8>>,
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let mut masked = masked;
        let changed = masked.is_some();
        for line in lines {
            if line.data().is_none() {
                self.other_lines(std::slice::from_ref(line), findings, out)?;
            } else if let Some(data) = masked.take() {
                for part in data.split(|b| *b == b'\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(part);
                    out.extend_from_slice(&line.end);
                }
            } else if !changed {
                out.extend_from_slice(&line.text);
                out.extend_from_slice(&line.end);
            }
        }
        Ok(())
    }

    /// Comments, event names, ids: complete in their line.
    fn other_lines(
        &mut self,
        lines: &[Line],
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        for line in lines {
            let text = std::str::from_utf8(&line.text)
                .map_err(|_| ProtocolError::answer("a line of the model's answer is not UTF-8"))?;
            let masked = self.entities.text(text, findings).map_err(ProtocolError::of_answer)?;
            out.extend_from_slice(masked.as_bytes());
            out.extend_from_slice(&line.end);
        }
        Ok(())
    }
}

/// One walk through an event's choice.
struct Walk<'a, 'd> {
    document: &'a Document<'d>,
    /// The choice finishes with this event.
    finishes: bool,
    /// The places that had a text in this event.
    seen: &'a mut BTreeSet<Place>,
    edits: &'a mut Edits,
}

impl Place {
    fn with(&self, step: Step) -> Self {
        let path = self.path.iter().cloned().chain([step]).collect();
        Self { choice: self.choice, path }
    }
}

impl Text {
    fn push(&mut self, piece: &str, findings: &mut Findings) -> Result<String, ProtocolError> {
        match self {
            Self::Channel(channel) => channel.push(piece, findings).map_err(ProtocolError::of_answer),
            Self::Arguments(held) if held.len() + piece.len() > LONGEST_ARGUMENTS => {
                Err(ProtocolError::answer("the arguments of a tool call are longer than 1 MiB"))
            }
            Self::Arguments(held) => {
                held.push_str(piece);
                Ok(String::new())
            }
        }
    }

    fn finish(&mut self, masker: &Masker, findings: &mut Findings) -> Result<String, ProtocolError> {
        let rest: Result<String, MaskError> = match self {
            Self::Channel(channel) => channel.finish(findings),
            Self::Arguments(held) => masker.text(&std::mem::take(held), findings),
        };
        rest.map_err(ProtocolError::of_answer)
    }
}

/// `null` in the place of a value that spells text out.
fn silence(node: &Node<'_>, edits: &mut Edits) {
    if !matches!(node.kind, Kind::Null) {
        edits.replace(node.span(), "null");
    }
}

/// The same, for every such member within a value.
pub(super) fn silence_within(node: &Node<'_>, edits: &mut Edits) {
    for member in node.members() {
        if SPELLED_OUT.contains(&&*member.name) {
            silence(&member.value, edits);
        } else {
            silence_within(&member.value, edits);
        }
    }
    node.elements().iter().for_each(|element| silence_within(element, edits));
}

fn number(document: &Document<'_>, node: &Node<'_>) -> Option<u64> {
    std::str::from_utf8(document.raw(node)).ok()?.parse().ok()
}
