//! Where the errors of one compilation are collected.

use super::errors::{ConfigError, ConfigErrors, Problem};
use super::nearest::nearest;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// A place in the file: what an error points at.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The key's path.
    pub(super) key: String,
    /// The byte offset in the file.
    pub(super) start: usize,
    /// The value as the file writes it, fit to be shown; `None` for tables, lists and secrets.
    pub(super) value: Option<String>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Collects errors; nothing stops at the first. Shared by reference, so that readers can nest.
#[derive(Debug)]
pub(super) struct Report<'t> {
    path: PathBuf,
    text: &'t str,
    line_starts: Vec<usize>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str, path: &Path) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        Self { path: path.to_owned(), text, line_starts, errors: RefCell::default() }
    }

    /// The file's text.
    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// Adds an error about the value at `place`.
    pub(super) fn error(
        &self,
        place: &Place,
        problem: Problem,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.push(place, problem, message.into(), cure.into(), None);
    }

    /// Adds an error about a word or name that is none of `valid`, and names the nearest one.
    pub(super) fn unknown<'a>(
        &self,
        place: &Place,
        problem: Problem,
        word: &str,
        message: impl Into<String>,
        valid: impl IntoIterator<Item = &'a str> + Clone,
    ) {
        let nearest = nearest(word, valid.clone());
        let valid: Vec<&str> = valid.into_iter().collect();
        let cure = match valid.as_slice() {
            [] => "there is none; define it, or take this out".to_owned(),
            [one] => format!("the only one is {one}"),
            some => format!("use one of {}", some.join(", ")),
        };
        self.push(place, problem, message.into(), cure, nearest);
    }

    /// The line and column, from 1, of a byte offset.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..offset).map_or(offset - start, |before| before.chars().count());
        (line, column + 1)
    }

    /// The text of a line, from 1, without its end.
    pub(super) fn line(&self, line: usize) -> &'t str {
        self.text.lines().nth(line - 1).unwrap_or_default()
    }

    /// Whether anything was reported.
    pub(super) fn is_empty(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// Drops the errors that `keep` does not want kept.
    pub(super) fn retain(&self, keep: impl FnMut(&ConfigError) -> bool) {
        self.errors.borrow_mut().retain(keep);
    }

    /// All that was reported.
    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors::new(self.errors.into_inner())
    }

    fn push(&self, place: &Place, problem: Problem, message: String, cure: String, nearest: Option<String>) {
        let (line, column) = self.position(place.start);
        self.errors.borrow_mut().push(ConfigError {
            file: self.path.clone(),
            line: Some(line),
            column: Some(column),
            key: place.key.clone(),
            value: place.value.clone(),
            problem,
            message,
            cure,
            nearest,
        });
    }
}

/// Text from the file, fit for a terminal and a log: control characters escaped, long values cut.
pub(super) fn shown(source: &str) -> String {
    const LONGEST: usize = 60;
    let mut text: String = source.chars().take(LONGEST).flat_map(escape).collect();
    if source.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}

fn escape(character: char) -> Vec<char> {
    // Bidirectional controls can make a terminal show another text than the one that is there.
    let hostile = character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if hostile { character.escape_default().collect() } else { vec![character] }
}
