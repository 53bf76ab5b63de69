//! Reads typed values out of spanned TOML, and reports what is not as it should be.
//!
//! A [`Table`] remembers which keys it was asked for. Those are the valid ones, so that there is no second
//! list of them, and whatever else the table holds is an unknown key ([`Table::finish`]).

use super::errors::Problem;
use super::report::{At, Place, Report, shown};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Whether a key must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

/// Lists of strings, each with the name that the file gives it.
pub(super) type NamedStrings = Vec<(At<String>, At<Vec<At<String>>>)>;

/// One table of the file, being read.
pub(super) struct Table<'a> {
    entries: Option<&'a DeTable<'a>>,
    place: Place,
    asked: Vec<&'static str>,
    report: &'a Report<'a>,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(super) fn root(entries: &'a DeTable<'a>, report: &'a Report<'a>) -> Self {
        let place = Place { key: String::new(), start: 0, value: None };
        Self { entries: Some(entries), place, asked: Vec::new(), report }
    }

    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Whether the key is written, whatever its value. A value that is no table holds anything, for all we know.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_none_or(|entries| entries.contains_key(key))
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str, need: Need) -> Option<At<String>> {
        let (place, value) = self.take(key, need)?;
        self.as_string(place, value)
    }

    /// A string whose value no error may show.
    pub(super) fn secret(&mut self, key: &'static str, need: Need) -> Option<At<String>> {
        let (mut place, value) = self.take(key, need)?;
        place.value = None;
        self.as_string(place, value)
    }

    /// An integer; one beyond 128 bits comes out as the largest, to be found out of range.
    pub(super) fn integer(&mut self, key: &'static str, need: Need) -> Option<At<i128>> {
        let (place, value) = self.take(key, need)?;
        self.as_integer(place, value)
    }

    /// A list of strings, with at least one in it.
    pub(super) fn strings(&mut self, key: &'static str, need: Need) -> Option<At<Vec<At<String>>>> {
        self.list(key, need, "a list of strings", "[\"…\", \"…\"]", Self::as_string)
    }

    /// A list of integers, with at least one in it.
    pub(super) fn integers(&mut self, key: &'static str, need: Need) -> Option<At<Vec<At<i128>>>> {
        self.list(key, need, "a list of integers", "[1, 2]", Self::as_integer)
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        need: Need,
        what: &str,
        example: &str,
        read: impl Fn(&Self, Place, &DeValue<'_>) -> Option<At<T>>,
    ) -> Option<At<Vec<At<T>>>> {
        let (place, value) = self.take(key, need)?;
        self.as_list(place, value, need, what, example, read)
    }

    fn as_list<T>(
        &self,
        mut place: Place,
        value: &DeValue<'_>,
        need: Need,
        what: &str,
        example: &str,
        read: impl Fn(&Self, Place, &DeValue<'_>) -> Option<At<T>>,
    ) -> Option<At<Vec<At<T>>>> {
        let DeValue::Array(items) = value else {
            let is_an_item = match value {
                DeValue::String(_) | DeValue::Integer(_) => true,
                DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => false,
            };
            let cure =
                if is_an_item { "put it in square brackets".to_owned() } else { format!("write {example}") };
            self.wrong_type(&place, what, value, &cure);
            return None;
        };
        place.value = None;
        if items.is_empty() {
            self.report.error(
                &place,
                Problem::Empty,
                "the list is empty",
                match need {
                    Need::Optional => "leave the key out, or put something in",
                    Need::Required => "put something in",
                },
            );
            return None;
        }
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let item_place = self.child(format!("{}[{index}]", place.key), item);
            found.extend(read(self, item_place, item.get_ref()));
        }
        Some(At { value: found, place })
    }

    /// True or false.
    pub(super) fn boolean(&mut self, key: &'static str, need: Need) -> Option<At<bool>> {
        let (place, value) = self.take(key, need)?;
        match value {
            DeValue::Boolean(value) => Some(At { value: *value, place }),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.wrong_type(&place, "true or false", value, "write true or false, without quotes");
                None
            }
        }
    }

    /// The lists of strings of a `key = { NAME = ["…"] }`, with their names, in the file's order.
    pub(super) fn named_strings(&mut self, key: &'static str) -> NamedStrings {
        let Some(mut table) = self.table(key, Need::Optional) else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in table.entries.take().into_iter().flatten() {
            let key = format!("{}.{}", table.place.key, key_text(name.get_ref()));
            let place = Place { key: key.clone(), start: name.span().start, value: None };
            let inner = table.child(key, value);
            let (what, example) = ("a list of strings", "[\"…\", \"…\"]");
            let list = table.as_list(inner, value.get_ref(), Need::Optional, what, example, Self::as_string);
            named.extend(list.map(|list| (At { value: name.get_ref().to_string(), place }, list)));
        }
        named.sort_by_key(|(name, _)| name.place.start);
        named
    }

    /// A table inside this one.
    pub(super) fn table(&mut self, key: &'static str, need: Need) -> Option<Table<'a>> {
        let (place, value) = self.take(key, need)?;
        Some(self.as_table(place, value, &format!("write [{}]", self.join(key))))
    }

    /// The tables of a `[[key]]`. One that is written as `[key]` is reported, and read all the same.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some((place, value)) = self.take(key, Need::Optional) else {
            return Vec::new();
        };
        let cure = format!("write [[{}]]", self.join(key));
        match value {
            DeValue::Array(items) => {
                let read = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| {
                    let item_place = self.child(format!("{}[{index}]", place.key), item);
                    self.as_table(item_place, item.get_ref(), &cure)
                };
                items.iter().enumerate().map(read).collect()
            }
            DeValue::Table(_) => {
                self.report.error(&place, Problem::WrongType, "there can be several of these", cure.as_str());
                vec![self.as_table(place, value, &cure)]
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                self.wrong_type(&place, "tables", value, &cure);
                Vec::new()
            }
        }
    }

    /// The tables `[key.NAME]`, with their names, in the file's order.
    pub(super) fn named_tables(&mut self, key: &'static str) -> Vec<(At<String>, Table<'a>)> {
        let Some(mut table) = self.table(key, Need::Optional) else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in table.entries.take().into_iter().flatten() {
            let key = format!("{}.{}", table.place.key, key_text(name.get_ref()));
            let name_place = Place {
                key: key.clone(),
                start: name.span().start,
                value: Some(format!("\"{}\"", shown(name.get_ref()))),
            };
            let inner_place = table.child(key.clone(), value);
            let inner = table.as_table(inner_place, value.get_ref(), &format!("write [{key}]"));
            named.push((At { value: name.get_ref().to_string(), place: name_place }, inner));
        }
        named.sort_by_key(|(name, _)| name.place.start);
        named
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(self) {
        let mut unknown: Vec<_> = self
            .entries
            .into_iter()
            .flatten()
            .filter(|(key, _)| !self.asked.contains(&key.get_ref().as_ref()))
            .collect();
        unknown.sort_by_key(|(key, _)| key.span().start);
        for (key, _) in unknown {
            // The value of a key that we do not know may be anything, a credential too: it is not shown.
            let place = Place { key: self.join(key.get_ref()), start: key.span().start, value: None };
            self.report.unknown(
                &place,
                Problem::UnknownKey,
                key.get_ref(),
                "unknown key",
                self.asked.iter().copied(),
            );
        }
    }

    fn take(&mut self, key: &'static str, need: Need) -> Option<(Place, &'a DeValue<'a>)> {
        self.asked.push(key);
        let entries = self.entries?;
        let Some(value) = entries.get(key) else {
            if need == Need::Required {
                let place = Place { key: self.join(key), value: None, ..self.place };
                self.report.error(&place, Problem::MissingKey, "missing", format!("add {key}"));
            }
            return None;
        };
        Some((self.child(self.join(key), value), value.get_ref()))
    }

    fn as_string(&self, place: Place, value: &DeValue<'_>) -> Option<At<String>> {
        match value.as_str() {
            Some(text) => Some(At { value: text.to_owned(), place }),
            None => {
                self.wrong_type(&place, "a string", value, "write it in quotes");
                None
            }
        }
    }

    fn as_integer(&self, place: Place, value: &DeValue<'_>) -> Option<At<i128>> {
        let DeValue::Integer(integer) = value else {
            let quoted_number = value.as_str().is_some_and(|text| text.parse::<i128>().is_ok());
            let cure = if quoted_number { "remove the quotes" } else { "write a whole number" };
            self.wrong_type(&place, "an integer", value, cure);
            return None;
        };
        let digits = integer.as_str().replace('_', "");
        let value = i128::from_str_radix(&digits, integer.radix()).unwrap_or(i128::MAX);
        Some(At { value, place })
    }

    /// A table that is none has no entries, and reports nothing as missing.
    fn as_table(&self, place: Place, value: &'a DeValue<'a>, cure: &str) -> Table<'a> {
        let entries = value.as_table();
        if entries.is_none() {
            self.wrong_type(&place, "a table", value, cure);
        }
        Table { entries, place: Place { value: None, ..place }, asked: Vec::new(), report: self.report }
    }

    fn wrong_type(&self, place: &Place, expected: &str, found: &DeValue<'_>, cure: &str) {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.report.error(place, Problem::WrongType, format!("expected {expected}, found {found}"), cure);
    }

    fn child(&self, key: String, value: &Spanned<DeValue<'_>>) -> Place {
        let source = self.report.text().get(value.span()).unwrap_or_default();
        let value_shown = match value.get_ref() {
            DeValue::Array(_) | DeValue::Table(_) => None,
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Some(shown(source)),
        };
        Place { key, start: value.span().start, value: value_shown }
    }

    fn join(&self, key: &str) -> String {
        let key = key_text(key);
        if self.place.key.is_empty() { key } else { format!("{}.{key}", self.place.key) }
    }
}

/// A key as TOML writes it: bare where it can be, in quotes otherwise.
fn key_text(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !key.is_empty() && key.bytes().all(bare) { shown(key) } else { format!("\"{}\"", shown(key)) }
}
