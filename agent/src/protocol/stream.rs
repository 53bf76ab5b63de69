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
use super::shape::{ARGUMENTS, COMPLETE, ENVELOPE, OPAQUE, SPELLED_OUT};
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
        let choices = root.get("choices");
        let known = choices
            .map_or_else(|| root.get("error").is_some(), |choices| matches!(choices.kind, Kind::Array(_)));
        if !known {
            return Err(ProtocolError::answer(
                "an event of the model's answer has neither choices nor an error",
            ));
        }
        let mut seen = BTreeSet::new();
        let mut envelope = String::new();
        for member in root.members() {
            self.key(&document, &member.key, findings, &mut edits)?;
            if SPELLED_OUT.contains(&&*member.name) {
                silence(&member.value, &mut edits);
            } else if member.name != "choices" {
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
            if !matches!(choice.kind, Kind::Object(_)) {
                return Err(ProtocolError::answer("the model's answer has a choice that is not an object"));
            }
            if is_opaque(choice) {
                return Err(ProtocolError::answer(OPAQUE_ANSWER));
            }
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
            let nested = self.nest(&place.path, &released)?;
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
    fn nest(&self, path: &[Step], text: &str) -> Result<String, ProtocolError> {
        let Some((step, rest)) = path.split_first() else {
            return Ok(quote(text));
        };
        let inner = self.nest(rest, text)?;
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
                    out.extend_from_slice(if line.end.is_empty() { b"\n" } else { &line.end });
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

pub(super) const OPAQUE_ANSWER: &str = "the model's answer has audio or images, which cannot be masked";

/// Whether something in it cannot be scanned.
pub(super) fn is_opaque(node: &Node<'_>) -> bool {
    let named = |name: &str, value: &Node<'_>| OPAQUE.contains(&name) && !matches!(value.kind, Kind::Null);
    node.members().iter().any(|member| named(&member.name, &member.value) || is_opaque(&member.value))
        || node.elements().iter().any(is_opaque)
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

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_masking::{Action, Entity, Mask};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn masker(action: Action, fields: &[&str]) -> Masker {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &fields, action, [7; 32]).unwrap())] }
    }

    fn through(masker: &Masker, pieces: &[&[u8]]) -> Result<String, ProtocolError> {
        let (mut stream, mut findings, mut out) =
            (Stream::new(masker.clone()), Findings::default(), Vec::new());
        for piece in pieces {
            out.extend(stream.push(piece, &mut findings)?);
        }
        out.extend(stream.finish(&mut findings)?);
        Ok(String::from_utf8(out).unwrap())
    }

    fn redacted(stream: &str) -> Result<String, ProtocolError> {
        let masker = masker(Action::Redact, &[]);
        let whole = through(&masker, &[stream.as_bytes()]);
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(through(&masker, &bytes), whole, "byte by byte");
        whole
    }

    /// The JSON of every event.
    fn events(stream: &str) -> Vec<Value> {
        let mut reader = Reader::default();
        let mut parts = reader.push(stream.as_bytes()).unwrap();
        parts.extend(reader.finish());
        parts
            .iter()
            .filter_map(|part| match part {
                Part::Block(lines) => data(lines),
                Part::LateLf => None,
            })
            .filter(|data| data != b"[DONE]")
            .map(|data| serde_json::from_slice(&data).unwrap())
            .collect()
    }

    /// The texts of a stream, put together as a client does, by choice and path; and where each choice finished.
    fn texts(stream: &str) -> BTreeMap<(u64, String), String> {
        let mut texts = BTreeMap::new();
        let mut finished = BTreeSet::new();
        for event in events(stream) {
            for choice in event["choices"].as_array().into_iter().flatten() {
                let index = choice["index"].as_u64().unwrap();
                assert!(!finished.contains(&index), "text after the end of the choice");
                let mut add = |path: String, text: &Value| {
                    if let Some(text) = text.as_str() {
                        texts.entry((index, path)).or_insert_with(String::new).push_str(text);
                    }
                };
                add("text".into(), &choice["text"]);
                for name in ["content", "reasoning_content", "refusal", "new_thing"] {
                    add(name.into(), &choice["delta"][name]);
                }
                for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                    add(format!("call {}", call["index"]), &call["function"]["arguments"]);
                }
                if !choice["finish_reason"].is_null() {
                    finished.insert(index);
                }
            }
        }
        texts
    }

    #[test]
    fn what_is_clean_stays_byte_for_byte() {
        let stream = ": ping\r\n\r\nevent: x\r\ndata: {\"id\":\"c-1\", \"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi, \\u0041! \"}}]}\r\n\r\ndata: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\r\n\r\ndata: [DONE]\r\n\r\n";
        assert_eq!(redacted(stream).as_deref(), Ok(stream));
    }

    #[test]
    fn held_text_goes_out_before_its_choice_finishes() {
        let stream = concat!(
            "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Mail alice@exa\"}}]}\n\n",
            "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"mple.com\"}}]}\n\n",
            "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            "data: [DONE]\n\n",
        );
        let expected = concat!(
            "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Mail \"}}]}\n\n",
            "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n",
            "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"[email]\"},\"finish_reason\":null}]}\n\n",
            "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            "data: [DONE]\n\n",
        );
        assert_eq!(redacted(stream).as_deref(), Ok(expected));
    }

    #[test]
    fn the_end_comes_in_many_ways() {
        let first = r#"data: {"choices":[{"index":0,"text":"4111 1111 1111 "}]}"#;
        for (rest, why) in [
            (
                "\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\",\"finish_reason\":\"stop\"}]}\n\n",
                "in the last text",
            ),
            ("\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\"}]}\n\ndata: [DONE]\n\n", "[DONE] alone"),
            ("\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\"}]}\n\n", "nothing at all"),
            ("\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\"}]}", "not even an empty line"),
            (
                "\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"1111\"}]}\n\ndata: {\"error\":{\"message\":\"x\"}}\n\n",
                "an error",
            ),
        ] {
            let out = redacted(&format!("{first}{rest}")).unwrap();
            assert_eq!(texts(&out)[&(0, "text".to_owned())], "[card]", "{why}");
        }
    }

    #[test]
    fn everything_else_in_an_event_is_scanned_too() {
        for (event, masked, why) in [
            (r#"{"error":{"message":"to a@b.io"}}"#, r#"{"error":{"message":"to [email]"}}"#, "errors"),
            (
                r#"{"something":["a@b.io"],"choices":[]}"#,
                r#"{"something":["[email]"],"choices":[]}"#,
                "what stands beside the choices",
            ),
            (r#"{"model":"a@b.io","choices":[]}"#, r#"{"model":"[email]","choices":[]}"#, "names"),
            (
                r#"{"choices":[{"index":0,"a@b.io":4111111111111111,"logprobs":{"content":[{"token":"a@"}]}}]}"#,
                r#"{"choices":[{"index":0,"[email]":"[card]","logprobs":null}]}"#,
                "keys, numbers, log probabilities",
            ),
            (
                r#"{"x":{"logprobs":[1]},"__verbose":{"content":"al"},"choices":[]}"#,
                r#"{"x":{"logprobs":null},"__verbose":null,"choices":[]}"#,
                "what spells the text out",
            ),
        ] {
            assert_eq!(redacted(&format!("data: {event}\n\n")), Ok(format!("data: {masked}\n\n")), "{why}");
        }
        assert_eq!(
            redacted(": a@b.io\nid: c@d.io\n\n").as_deref(),
            Ok(": [email]\nid: [email]\n\n"),
            "other lines"
        );
        let lines = redacted("data: {\"error\":\ndata: \"a@b.io\"}\n\n");
        assert_eq!(lines.as_deref(), Ok("data: {\"error\":\ndata: \"[email]\"}\n\n"), "data in two lines");
    }

    #[test]
    fn fields_are_masked_in_every_event() {
        let masker = masker(Action::Redact, &["$.system_fingerprint"]);
        let out = through(&masker, &[b"data: {\"system_fingerprint\":\"fp\",\"choices\":[]}\n\n"]);
        assert_eq!(out.as_deref(), Ok("data: {\"system_fingerprint\":\"[masked]\",\"choices\":[]}\n\n"));
    }

    #[test]
    fn arguments_stay_json() {
        let call = |arguments: &str, finish: Value| {
            let delta = json!({"tool_calls": [{"index": 1, "function": {"arguments": arguments}}]});
            format!(
                "data: {}\n\n",
                json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            )
        };
        let whole = r#"{"to":"bob@example.com","card":4111111111111111,"text":"\u0061\u0040b.io"}"#;
        let pieces: Vec<String> = whole.chars().map(|c| call(&c.to_string(), Value::Null)).collect();
        let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
        for stream in [format!("{}{end}", pieces.concat()), pieces.concat() + &call("", json!("tool_calls"))]
        {
            let out = redacted(&stream).unwrap();
            let arguments = &texts(&out)[&(0, "call 1".to_owned())];
            assert_eq!(arguments, r#"{"to":"[email]","card":"[card]","text":"[email]"}"#);
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_stream() {
        for (stream, why) in [
            ("data: hello\n\n", "not JSON"),
            ("data: {\"a\":1,\"a\":2}\n\n", "a key twice"),
            ("data: {\"choices\":[{\"index\":0,\"te", "cut short"),
            ("data: {\"choices\":[\"x\"]}\n\n", "a choice that is none"),
            ("data: {\"delta\":{\"text\":\"al\"}}\n\n", "a shape whose pieces cannot be put together"),
            ("data: {\"choices\":{\"0\":{\"text\":\"al\"}}}\n\n", "choices in another shape"),
            ("data: {\"choices\":null,\"text\":\"al\"}\n\n", "no choices, and text beside them"),
            ("data: \"al\"\n\n", "not even an object"),
            ("data: {\"choices\":[{\"delta\":{\"audio\":{\"data\":\"AAAA\"}}}]}\n\n", "audio"),
            (
                "data: {\"choices\":[{\"index\":0,\"text\":\"a\"},{\"index\":0,\"text\":\"b\"}]}\n\n",
                "one place twice",
            ),
        ] {
            let error = redacted(stream).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (502, "answer-not-inspectable"), "{why}");
        }
        let blocked =
            through(&masker(Action::Block, &[]), &[b"data: {\"choices\":[{\"text\":\"a@b.io \"}]}\n\n"]);
        assert_eq!(blocked.unwrap_err().code, "blocked-by-mask");
        let invalid = through(&masker(Action::Redact, &[]), &[b"data: {\"a\":\"\xff\"}\n\n"]);
        assert_eq!(invalid.unwrap_err().code, "answer-not-inspectable");
    }

    #[test]
    fn what_a_stream_may_hold_is_bounded() {
        let mut stream = Stream::new(masker(Action::Redact, &[]));
        let many = (0..2000).find_map(|index| {
            let event = format!("data: {{\"choices\":[{{\"index\":{index},\"text\":\"a\"}}]}}\n\n");
            stream.push(event.as_bytes(), &mut Findings::default()).err()
        });
        assert_eq!(many.unwrap().code, "answer-not-inspectable");
        let piece = "x".repeat(64 * 1024);
        let delta = json!({"function_call": {"arguments": piece}});
        let event = format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}));
        let mut stream = Stream::new(masker(Action::Redact, &[]));
        let long = (0..17).find_map(|_| stream.push(event.as_bytes(), &mut Findings::default()).err());
        assert_eq!(long.unwrap().code, "answer-not-inspectable");
    }

    /// What a model says in one place, rich in matches.
    fn said() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "alice@example.com",
            "DE89 3704 0044 0532 0130 00",
            "4111-1111-1111-1111",
            "4111 1111 1111 1112",
            "a@b",
            " ",
            ".",
            "\"",
            "\\",
            "\n",
            "\r\n",
            "世界",
            "👩\u{200d}👧",
            "\u{200b}",
            "data: ",
            "[DONE]",
            "word",
            "12",
        ]);
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn texts_are_as_if_masked_whole(
            said in prop::collection::vec(said(), 6),
            order in prop::collection::vec((0usize..6, 1usize..6), 0..120),
            cuts in prop::collection::vec(0usize..20_000, 0..12),
            ends in prop::sample::select(vec!["\n", "\r\n", "\r"]),
            comments in any::<bool>(),
        ) {
            // Six places in two choices, in pieces, in any order.
            let places = [(0, "content"), (0, "reasoning_content"), (1, "content"), (1, "refusal"), (0, "new_thing"), (1, "call 3")];
            let event = |place: (u64, &str), piece: &str| {
                let delta = match place.1 {
                    "call 3" => json!({"tool_calls": [{"index": 3, "function": {"arguments": piece}}]}),
                    name => json!({name: piece}),
                };
                json!({"id": "c", "choices": [{"index": place.0, "delta": delta, "finish_reason": null}]}).to_string()
            };
            let mut rests: Vec<Vec<char>> = said.iter().map(|text| text.chars().collect()).collect();
            let mut stream = String::new();
            let all = (0..6).map(|place| (place, usize::MAX));
            for (place, length) in order.into_iter().chain(all) {
                let length = length.min(rests[place].len());
                let piece: String = rests[place].drain(..length).collect();
                stream += &format!("data: {}{ends}{ends}", event(places[place], &piece));
                if comments {
                    stream += &format!(": keep alive{ends}{ends}");
                }
            }
            for index in [1, 0] {
                let finish = json!({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]});
                stream += &format!("data: {finish}{ends}{ends}");
            }
            stream += &format!("data: [DONE]{ends}{ends}");

            let masker = masker(Action::Redact, &[]);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
            let out = through(&masker, &pieces).unwrap();
            prop_assert_eq!(&through(&masker, &[stream.as_bytes()]).unwrap(), &out);

            let texts = texts(&out);
            for ((index, path), text) in places.iter().zip(&said) {
                let mut channel = masker.channel();
                let expected = if *path == "call 3" {
                    masker.text(text, &mut Findings::default()).unwrap()
                } else {
                    let released = channel.push(text, &mut Findings::default()).unwrap();
                    released + &channel.finish(&mut Findings::default()).unwrap()
                };
                let given = texts.get(&(*index, (*path).to_owned())).cloned().unwrap_or_default();
                prop_assert_eq!(given, expected, "{} {}", index, path);
            }
        }
    }
}
