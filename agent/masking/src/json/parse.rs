//! The reader: RFC 8259, strictly, into a tree of spans.

use crate::MaskError;
use crate::bytes::find;
use std::borrow::Cow;
use std::collections::HashSet;

/// Deepest nesting of arrays and objects that is read.
pub const MOST_DEPTH: usize = 128;

/// Most values in a document that is read. A value takes forty bytes of memory and may take two to write (`0,`), so that
/// without a bound a body of megabytes would become a tree of gigabytes. A thousand embeddings of 4,096 numbers fit.
pub const MOST_VALUES: usize = 1 << 22;

/// A document that has been read.
pub struct Document<'a> {
    bytes: &'a [u8],
    root: Node<'a>,
}

/// A value and where it stands.
pub struct Node<'a> {
    /// Its first byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a value is.
pub enum Kind<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as written in its span.
    Number,
    /// A string; [`Document::text`] decodes it.
    String,
    /// The elements, in order.
    Array(Vec<Node<'a>>),
    /// The members, in order; no two have the same key.
    Object(Vec<Member<'a>>),
}

/// A member of an object.
pub struct Member<'a> {
    /// The key's span.
    pub key: Node<'a>,
    /// The key, decoded.
    pub name: Cow<'a, str>,
    /// The value.
    pub value: Node<'a>,
}

/// Reads a whole document.
///
/// # Errors
/// [`MaskError::DuplicateKey`], or [`MaskError::Unreadable`] with what is wrong, in words of this module only.
pub fn parse(bytes: &[u8]) -> Result<Document<'_>, MaskError> {
    let text = std::str::from_utf8(bytes).map_err(|_| MaskError::Unreadable("the JSON is not UTF-8"))?;
    let mut reader = Reader { text, bytes, at: 0, values: 0 };
    reader.space();
    let root = reader.value(0)?;
    reader.space();
    if reader.at != bytes.len() {
        return Err(MaskError::Unreadable("there is something after the JSON document"));
    }
    Ok(Document { bytes, root })
}

impl<'a> Document<'a> {
    /// The outermost value.
    #[must_use]
    pub const fn root(&self) -> &Node<'a> {
        &self.root
    }

    /// The bytes it was read from.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A value as it is written.
    #[must_use]
    pub fn raw(&self, node: &Node<'_>) -> &'a [u8] {
        &self.bytes[node.start..node.end]
    }

    /// A string, decoded; `None` when the value is not a string.
    #[must_use]
    pub fn text(&self, node: &Node<'_>) -> Option<Cow<'a, str>> {
        matches!(node.kind, Kind::String).then(|| decode(self.raw(node)))
    }
}

impl<'a> Node<'a> {
    /// A member of an object by its key.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|member| member.name == name).map(|member| &member.value)
    }

    /// The members of an object; none when it is something else.
    #[must_use]
    pub fn members(&self) -> &[Member<'a>] {
        match &self.kind {
            Kind::Object(members) => members,
            Kind::Null | Kind::Bool(_) | Kind::Number | Kind::String | Kind::Array(_) => &[],
        }
    }

    /// The elements of an array; none when it is something else.
    #[must_use]
    pub fn elements(&self) -> &[Self] {
        match &self.kind {
            Kind::Array(elements) => elements,
            Kind::Null | Kind::Bool(_) | Kind::Number | Kind::String | Kind::Object(_) => &[],
        }
    }
}

/// The characters of a string as written (quotes included, checked by the reader), each with the bytes
/// `start..end` that it is written in, counted from the opening quote.
pub(crate) fn characters(raw: &[u8]) -> impl Iterator<Item = (char, usize, usize)> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    let text = std::str::from_utf8(inner).unwrap_or_default();
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &text[at..];
        let c = rest.chars().next()?;
        let (c, length) = if c == '\\' { escape(rest) } else { (c, c.len_utf8()) };
        let start = at + 1;
        at += length;
        Some((c, start, at + 1))
    })
}

/// An escape that the reader has checked: the character and the length of its escape.
fn escape(text: &str) -> (char, usize) {
    let bytes = text.as_bytes();
    let simple = |c| (c, 2);
    match bytes.get(1) {
        Some(b'n') => simple('\n'),
        Some(b't') => simple('\t'),
        Some(b'r') => simple('\r'),
        Some(b'b') => simple('\u{8}'),
        Some(b'f') => simple('\u{c}'),
        Some(b'u') => {
            let first = hex4(bytes, 2).unwrap_or(0);
            match (char::from_u32(first), hex4(bytes, 8)) {
                (Some(c), _) => (c, 6),
                (None, Some(second)) => {
                    let code = 0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
                    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                (None, None) => (char::REPLACEMENT_CHARACTER, 6),
            }
        }
        Some(other) => simple(char::from(*other)),
        None => ('\\', 1),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

fn decode(raw: &[u8]) -> Cow<'_, str> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if inner.contains(&b'\\') {
        Cow::Owned(characters(raw).map(|(c, _, _)| c).collect())
    } else {
        Cow::Borrowed(std::str::from_utf8(inner).unwrap_or_default())
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// How many were begun.
    values: usize,
}

const NOT_JSON: MaskError = MaskError::Unreadable("it is not JSON (RFC 8259)");
const CUT_SHORT: MaskError = MaskError::Unreadable("the JSON is cut short");
const TOO_DEEP: MaskError = MaskError::Unreadable("the JSON is nested more than 128 levels deep");
const TOO_MANY: MaskError = MaskError::Unreadable("the JSON has more than 4,194,304 values");
const LONE_SURROGATE: MaskError = MaskError::Unreadable("a JSON string holds half of a surrogate pair");

/// Up to here, keys are compared one by one.
const FEW_MEMBERS: usize = 16;

impl<'a> Reader<'a> {
    fn peek(&self) -> Result<u8, MaskError> {
        self.bytes.get(self.at).copied().ok_or(CUT_SHORT)
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, MaskError> {
        let start = self.at;
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(TOO_MANY);
        }
        let kind = match self.peek()? {
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word("true", Kind::Bool(true))?,
            b'f' => self.word("false", Kind::Bool(false))?,
            b'n' => self.word("null", Kind::Null)?,
            _ => return Err(NOT_JSON),
        };
        Ok(Node { start, end: self.at, kind })
    }

    fn word(&mut self, word: &str, kind: Kind<'a>) -> Result<Kind<'a>, MaskError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NOT_JSON);
        }
        self.at += word.len();
        Ok(kind)
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'a>, MaskError> {
        if depth == MOST_DEPTH {
            return Err(TOO_DEEP);
        }
        self.at += 1;
        let mut members: Vec<Member<'a>> = Vec::new();
        let mut names: HashSet<Cow<'a, str>> = HashSet::new();
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(Kind::Object(members));
        }
        loop {
            self.space();
            let start = self.at;
            if self.peek()? != b'"' {
                return Err(NOT_JSON);
            }
            let kind = self.string()?;
            let key = Node { start, end: self.at, kind };
            let name = decode(&self.bytes[key.start..key.end]);
            let again = if members.len() < FEW_MEMBERS {
                members.iter().any(|member| member.name == name)
            } else {
                if names.is_empty() {
                    names.extend(members.iter().map(|member| member.name.clone()));
                }
                !names.insert(name.clone())
            };
            if again {
                return Err(MaskError::DuplicateKey);
            }
            self.space();
            if self.peek()? != b':' {
                return Err(NOT_JSON);
            }
            self.at += 1;
            self.space();
            let value = self.value(depth + 1)?;
            members.push(Member { key, name, value });
            if self.closes(b'}')? {
                return Ok(Kind::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind<'a>, MaskError> {
        if depth == MOST_DEPTH {
            return Err(TOO_DEEP);
        }
        self.at += 1;
        let mut elements = Vec::new();
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(Kind::Array(elements));
        }
        loop {
            self.space();
            elements.push(self.value(depth + 1)?);
            if self.closes(b']')? {
                return Ok(Kind::Array(elements));
            }
        }
    }

    /// After an element: a comma, or the end.
    fn closes(&mut self, bracket: u8) -> Result<bool, MaskError> {
        self.space();
        let c = self.peek()?;
        self.at += 1;
        match c {
            b',' => Ok(false),
            c if c == bracket => Ok(true),
            _ => Err(NOT_JSON),
        }
    }

    fn string(&mut self) -> Result<Kind<'a>, MaskError> {
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let plain = find(rest, |b| (b == b'"') | (b == b'\\') | (b < b' ')).ok_or(CUT_SHORT)?;
            self.at += plain;
            match rest[plain] {
                b'"' => {
                    self.at += 1;
                    return Ok(Kind::String);
                }
                b'\\' => self.escape()?,
                _ => return Err(MaskError::Unreadable("a JSON string holds a control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), MaskError> {
        match self.bytes.get(self.at + 1).ok_or(CUT_SHORT)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let first = hex4(self.bytes, self.at + 2).ok_or(NOT_JSON)?;
                self.at += 6;
                match first {
                    0xd800..=0xdbff => {
                        let pair = self.bytes[self.at..].starts_with(b"\\u");
                        match hex4(self.bytes, self.at + 2) {
                            Some(0xdc00..=0xdfff) if pair => self.at += 6,
                            _ => return Err(LONE_SURROGATE),
                        }
                    }
                    0xdc00..=0xdfff => return Err(LONE_SURROGATE),
                    _ => {}
                }
            }
            _ => return Err(NOT_JSON),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Kind<'a>, MaskError> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return Err(NOT_JSON),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<(), MaskError> {
        let count = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(NOT_JSON) } else { Ok(()) }
    }
}
