//! Where a text stands in a stream, and the event that can carry the rest of it.

use super::super::ProtocolError;
use super::super::grammar::{Finishes, Grammar, Row, Speaks};
use super::scan::Scanner;
use bailiwick_masking::Findings;
use bailiwick_masking::json::{Document, Kind, Node, quote};

/// What no count of events or blocks comes to.
const MOST_COUNTED: u64 = 10_000_000;

/// Where a text stands: in which block, and where in its event.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) block: Block,
    pub(super) path: Vec<Step>,
}

/// The part of an answer that a text belongs to: a choice, a content block, a part of an item.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Block {
    /// What kind of text, where the events say so.
    pub(super) stem: &'static str,
    /// The choice, item or block.
    pub(super) outer: Option<u64>,
    /// The part of it.
    pub(super) inner: Option<u64>,
    /// The item's name, where it has no number.
    pub(super) item: Option<String>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    /// An element that says its own `index`, as tool calls do.
    Indexed(u64),
    /// An element, by its place.
    At(usize),
}

/// An event but for one text: what goes before it and after it.
pub(super) struct Skeleton {
    head: String,
    tail: String,
}

impl Block {
    /// The block that an event of a row is about. What numbers the events says nothing of that.
    pub(super) fn of(
        document: &Document<'_>,
        row: &Row,
        counter: Option<&str>,
    ) -> Result<Self, ProtocolError> {
        let root = document.root();
        let named = |name| if counter == Some(name) { Ok(None) } else { index(document, root, name) };
        let outer = named("output_index")?.or(named("index")?);
        let inner = named("content_index")?.or(named("summary_index")?);
        let item = root.get("item_id").or_else(|| root.get("item").and_then(|item| item.get("id")));
        let item = item.filter(|_| outer.is_none()).and_then(|node| document.text(node));
        Ok(Self { stem: row.stem, outer, inner, item: item.map(std::borrow::Cow::into_owned) })
    }

    /// Whether a text here ends before the event of another block.
    pub(super) fn ends(&self, at: &Self, finishes: Finishes) -> bool {
        let item = self.outer == at.outer && self.item == at.item;
        match finishes {
            Finishes::Nothing => false,
            Finishes::Same => item && self.inner == at.inner && self.stem == at.stem,
            // An item that says neither number nor name may be any.
            Finishes::Item => item || (at.outer.is_none() && at.item.is_none()),
            Finishes::All => true,
        }
    }
}

impl Skeleton {
    /// Of the event that a text was first seen in; `None` where an element says no index, so that its rest has no place.
    pub(super) fn new(
        scanner: &mut Scanner,
        document: &Document<'_>,
        speaks: Speaks,
        place: &Place,
    ) -> Result<Option<Self>, ProtocolError> {
        let mut path = Vec::new();
        let mut closing_after = 0;
        if speaks == Speaks::Choices {
            path.extend([Step::Key("choices".into()), Step::Indexed(place.block.outer.unwrap_or_default())]);
            closing_after = 2;
        }
        path.extend(place.path.iter().cloned());
        let mut nest = Nest { scanner, document, closing_at: path.len() - closing_after };
        let around = nest.around(Some(document.root()), &path)?;
        // Without the brace that opens it, where the event's number may go.
        Ok(around.map(|(head, tail)| Self { head: head.strip_prefix('{').unwrap_or(&head).to_owned(), tail }))
    }

    /// The event with a text in it, as JSON.
    pub(super) fn with(&self, text: &str, counter: Option<(&str, u64)>) -> String {
        let counted = counter.map(|(name, number)| format!("\"{name}\":{number},")).unwrap_or_default();
        format!("{{{counted}{}{}{}", self.head, quote(text), self.tail)
    }
}

struct Nest<'a, 'd> {
    scanner: &'a mut Scanner,
    document: &'a Document<'d>,
    /// How many steps are left where the event closes.
    closing_at: usize,
}

impl Nest<'_, '_> {
    /// What goes around the text at the end of a path.
    fn around(
        &mut self,
        node: Option<&Node<'_>>,
        path: &[Step],
    ) -> Result<Option<(String, String)>, ProtocolError> {
        let Some((step, rest)) = path.split_first() else {
            return Ok(Some((String::new(), String::new())));
        };
        let grammar = self.scanner.grammar;
        let inner = match step {
            Step::Key(key) => self.around(node.and_then(|node| node.get(key)), rest)?,
            Step::Indexed(index) => {
                let says = |element: &&Node<'_>| {
                    element.get("index").and_then(|node| number(self.document, node)) == Some(*index)
                };
                let elements = node.map(Node::elements).unwrap_or_default();
                let at = usize::try_from(*index).ok();
                let element = elements.iter().find(says).or_else(|| elements.get(at?));
                self.around(element, rest)?
            }
            Step::At(at) => self.around(node.and_then(|node| node.elements().get(*at)), rest)?,
        };
        let Some((head, tail)) = inner else { return Ok(None) };
        Ok(match step {
            Step::Key(key) => {
                let mut before = self.siblings(node, key)?;
                before.push_str(&quote(&self.scanner.key(key)?));
                let closing = if path.len() == self.closing_at { grammar.closing } else { "" };
                Some((format!("{{{before}:{head}"), format!("{tail}{closing}}}")))
            }
            Step::Indexed(index) => match head.strip_prefix('{') {
                Some(members) => Some((format!("[{{\"index\":{index},{members}"), format!("{tail}]"))),
                None => Some((format!("[{head}"), format!("{tail}]"))),
            },
            Step::At(0) => Some((format!("[{head}"), format!("{tail}]"))),
            Step::At(_) => None,
        })
    }

    /// The members beside a key that an event of our own repeats.
    fn siblings(&mut self, node: Option<&Node<'_>>, key: &str) -> Result<String, ProtocolError> {
        let mut siblings = String::new();
        for member in node.map(Node::members).unwrap_or_default() {
            let grammar: &Grammar = self.scanner.grammar;
            // A list that is taken out has no text in it any more; clients want to find it all the same.
            let short = grammar.spelled_out.contains(&&*member.name)
                || !matches!(member.value.kind, Kind::Array(_) | Kind::Object(_));
            if short && member.name != key && grammar.repeated.contains(&&*member.name) {
                // Counted where it stands.
                let value = self.scanner.masked(
                    self.document,
                    &member.value,
                    &member.name,
                    &mut Findings::default(),
                )?;
                siblings.push_str(&format!("{}:{},", quote(&member.name), String::from_utf8_lossy(&value)));
            }
        }
        Ok(siblings)
    }
}

/// A number that counts something. A larger one may be a card or a person: it is scanned like any other value.
pub(super) fn number(document: &Document<'_>, node: &Node<'_>) -> Option<u64> {
    let number = std::str::from_utf8(document.raw(node)).ok()?.parse().ok()?;
    (number < MOST_COUNTED).then_some(number)
}

/// The member that says where a text belongs. One that is there and does not count would leave texts in the wrong place,
/// where the pieces of one could part those of another.
pub(super) fn index(
    document: &Document<'_>,
    node: &Node<'_>,
    name: &str,
) -> Result<Option<u64>, ProtocolError> {
    let Some(said) = node.get(name).filter(|said| !matches!(said.kind, Kind::Null)) else { return Ok(None) };
    let refused = || ProtocolError::answer("the model's answer has an index that does not count");
    number(document, said).ok_or_else(refused).map(Some)
}
