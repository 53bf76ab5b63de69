//! What is wrong with a file, and where.

use std::fmt;
use std::path::PathBuf;

/// Where in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Spot {
    /// The line, from 1, in a file of text.
    pub line: Option<usize>,
    /// The column in bytes, from 1.
    pub column: Option<usize>,
    /// The byte, from 0.
    pub byte: Option<u64>,
    /// The path of the value, e.g. `prefixes[17].ip_prefix`.
    pub key: Option<String>,
}

/// A file that is no dataset of its kind; nothing of it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
pub struct FormatError {
    /// Where; boxed, so that the error is no burden where there is none.
    pub spot: Box<Spot>,
    /// The value, shortened.
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

impl FormatError {
    pub(crate) fn new(message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { spot: Box::default(), value: None, message: message.into(), cure: cure.into() }
    }

    pub(crate) fn at_key(mut self, key: String) -> Self {
        self.spot.key = Some(key);
        self
    }

    pub(crate) fn at_byte(mut self, byte: usize) -> Self {
        self.spot.byte = u64::try_from(byte).ok();
        self
    }

    pub(crate) fn at_line(mut self, line: usize, column: usize) -> Self {
        self.spot.line = Some(line);
        self.spot.column = Some(column);
        self
    }

    /// With the value, fit for a terminal: escaped and cut.
    pub(crate) fn showing(mut self, value: &str) -> Self {
        const LONGEST: usize = 60;
        let mut shown: String = value.chars().take(LONGEST).flat_map(char::escape_debug).collect();
        if value.chars().nth(LONGEST).is_some() {
            shown.push('…');
        }
        self.value = Some(format!("\"{shown}\""));
        self
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match (self.spot.line, self.spot.column) {
            (Some(line), Some(column)) => parts.push(format!("line {line}, column {column}")),
            (Some(line), None) => parts.push(format!("line {line}")),
            (None, _) => {}
        }
        parts.extend(self.spot.byte.map(|byte| format!("byte {byte}")));
        parts.extend(self.spot.key.clone());
        parts.extend(self.value.clone());
        parts.push(self.message.clone());
        write!(f, "{}; {}", parts.join(": "), self.cure)
    }
}

/// A dataset that cannot be kept or used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be read or written.
    #[error("cannot {doing} {}: {source}; {cure}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
        /// What to do about it.
        cure: &'static str,
    },
    /// The file to be imported is not what it should be.
    #[error("{}: {error}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: FormatError,
    },
    /// A kept dataset is not what was imported.
    #[error("{}: {message}; import the dataset again: bailiwick regions import FILE --name {name}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The dataset.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// The new file has far fewer networks than the one it would replace.
    #[error(
        "{}: {count} networks, where the present dataset has {before}; it may be cut short: fetch it again, or import \
         it with --force", path.display()
    )]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// How many networks it has.
        count: usize,
        /// How many the present one has.
        before: usize,
    },
    /// The new file describes an earlier day than the one it would replace.
    #[error(
        "{}: of {date}, where the present dataset is of {before}; fetch today's, or import it with --force",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its date.
        date: String,
        /// The present one's.
        before: String,
    },
    /// The name is taken by a dataset of another kind.
    #[error("{}: dataset \"{name}\" is of kind {kind}; import this one under another --name", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// The dataset.
        name: String,
        /// Its kind.
        kind: &'static str,
    },
    /// Another import is under way.
    #[error("{}: another import is under way; wait for it", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
}
