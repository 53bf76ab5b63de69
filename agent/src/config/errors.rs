//! What is wrong with a config: every error, each with its place and its cure.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with a config file, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One thing that is wrong. Holds no file's contents and no credential.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConfigError {
    /// The config file.
    pub file: PathBuf,
    /// The line, from 1; `None` when the file as a whole could not be read.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The key's path, e.g. `model[0].egress.regions[1]`; empty when no key is at fault.
    pub key: String,
    /// The offending value as the file writes it, shortened; `None` where there is none or it may be secret.
    pub value: Option<String>,
    /// The kind of error, for programs.
    pub problem: Problem,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
    /// The nearest thing that would have been valid.
    pub nearest: Option<String>,
}

/// The kinds of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// The file cannot be read.
    Unreadable,
    /// The text is not TOML.
    Syntax,
    /// No such key.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// The value has another type.
    WrongType,
    /// A list or a text without anything in it.
    Empty,
    /// The value does not have the form that it must have.
    Invalid,
    /// A number that is too small or too large.
    OutOfRange,
    /// A word that is none of the words allowed here.
    UnknownWord,
    /// A name that nothing in this file has.
    UnknownName,
    /// A name, a port or a slice that something else has already.
    Duplicate,
    /// Two things that cannot both be.
    Conflict,
    /// A file that is not there or cannot be used.
    MissingFile,
}

impl ConfigErrors {
    /// The errors, sorted by place.
    #[must_use]
    pub fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| (error.line, error.column));
        Self(errors)
    }

    /// Every error, in the order of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.0
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            writeln!(f, "{error}")?;
        }
        let count = self.0.len();
        write!(f, "{count} {}; nothing was changed", if count == 1 { "error" } else { "errors" })
    }
}

/// Longer than this and the cure goes on a line of its own.
const LINE_WIDTH: usize = 100;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.file.display().to_string();
        if let (Some(line), Some(column)) = (self.line, self.column) {
            text.push_str(&format!(":{line}:{column}"));
        }
        for part in [Some(self.key.as_str()), self.value.as_deref(), Some(self.message.as_str())] {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                text.push_str(": ");
                text.push_str(part);
            }
        }
        let hint = match &self.nearest {
            Some(nearest) => format!("did you mean \"{nearest}\"?"),
            None => self.cure.clone(),
        };
        if hint.is_empty() {
            f.write_str(&text)
        } else if text.chars().count() + hint.chars().count() + 2 <= LINE_WIDTH {
            write!(f, "{text}; {hint}")
        } else {
            write!(f, "{text}\n    {hint}")
        }
    }
}
