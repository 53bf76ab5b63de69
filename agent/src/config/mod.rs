//! # Config: file → raw → compiled
//!
//! ```text
//!   text ──toml──▶ spanned tables ──reader──▶ raw::Config ──compile──▶ Settings     (one immutable policy)
//!                        │                        │                │
//!                        └────────── Report ──────┴────────────────┴──▶ ConfigErrors (all of them)
//! ```
//!
//! `raw` mirrors the file and [`compile`](compile()) gives it a meaning; nothing in [`settings`] can be made
//! from a file in any other way. Every stage reports what is wrong and carries on with the rest, so that one
//! run names every error: the line, the column, the key, the value, what is wrong and what to do.
//!
//! Invariants:
//! - A config with an error makes nothing: there is no partial [`Settings`].
//! - What could not be read reports itself once. A name whose definition is at fault still counts as defined,
//!   so that one mistake is not reported again wherever the name is used.
//! - Unknown keys are errors at every depth. The valid keys are those that `raw` asks for.
//! - An error or a warning shows a value only as the config writes it: no file's contents, no credential and
//!   no value of a key that is not known.
//! - Compiling is a function of the text, of [`HostFacts`] and of the datasets; but for the existence of the named
//!   files it reads nothing else. The policy's id is that of the text and the datasets together.
//! - A dataset that is kept and cannot be used is an error like any other: there is no policy without it.
//!
//! What it does not do: resolve host names, reach the network or change anything. A region's countries mean nothing
//! until there is a dataset to join them with, and a warning says so.

mod compile;
mod errors;
mod host;
mod nearest;
mod raw;
mod reader;
mod report;
pub mod settings;

pub(crate) use compile::{DEFAULT_DIRECTORY as DATASETS_DIRECTORY, MAX_AGE, stale};
pub use errors::{ConfigError, ConfigErrors, Problem};
pub use host::{AGENT_SLICE, HostFacts};

use report::{Place, Report};
use settings::Settings;
use std::io::Read;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// No config is this long; a device or a mistaken path may be.
const LONGEST_FILE: u64 = 1 << 20;

/// Reads and compiles the config at `path`.
///
/// # Errors
/// Everything that is wrong with it; nothing was changed.
pub fn load(path: &Path, host: &HostFacts) -> Result<Settings, ConfigErrors> {
    let text = read(path).map_err(|(message, cure)| {
        ConfigErrors::new(vec![ConfigError {
            file: path.to_owned(),
            line: None,
            column: None,
            key: String::new(),
            value: None,
            problem: Problem::Unreadable,
            message,
            cure: cure.to_owned(),
            nearest: None,
        }])
    })?;
    compile(&text, path, host)
}

/// Compiles a config's text; `path` is what errors call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn compile(text: &str, path: &Path, host: &HostFacts) -> Result<Settings, ConfigErrors> {
    let report = Report::new(text, path);
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    let settings = {
        let raw = raw::Config::read(reader::Table::root(root.get_ref(), &report));
        compile::settings(&raw, host, &report)
    };
    if !syntax_errors.is_empty() {
        add_syntax_errors(&syntax_errors, &report);
    }
    match settings {
        Some(settings) if report.is_empty() => Ok(settings),
        _ => Err(report.into_errors()),
    }
}

/// The directory and the age in days of `[datasets]` alone, whatever else is wrong with the file: a dataset that the
/// config waits for can be imported.
///
/// # Errors
/// Why they cannot be told, with a cure.
pub(crate) fn datasets_of(path: &Path) -> Result<(PathBuf, u32), String> {
    let text = read(path).map_err(|(message, cure)| format!("{} {message}; {cure}", path.display()))?;
    let (root, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        return Err(format!("{} is not TOML: see bailiwick check", path.display()));
    }
    let table = root.get_ref().get("datasets").and_then(|table| table.get_ref().as_table());
    let written = |key: &str| table.and_then(|table| table.get(key)).map(|value| value.get_ref());
    let directory = match written("directory") {
        None => PathBuf::from(DATASETS_DIRECTORY),
        Some(value) => match value.as_str().filter(|directory| directory.starts_with('/')) {
            Some(directory) => PathBuf::from(directory),
            None => return Err(format!("{}: datasets.directory is not an absolute path", path.display())),
        },
    };
    let max_age = match written("max_age") {
        None => MAX_AGE,
        Some(value) => match value.as_integer().and_then(|days| days.as_str().parse().ok()) {
            Some(days) => days,
            None => return Err(format!("{}: datasets.max_age is not a number of days", path.display())),
        },
    };
    Ok((directory, max_age))
}

fn read(path: &Path) -> Result<String, (String, &'static str)> {
    const NAME_IT: &str = "name the file with --config";
    let file = std::fs::File::open(path).map_err(|error| {
        let cure = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "run this as root (sudo), or name another file with --config"
            }
            _ => NAME_IT,
        };
        (format!("cannot be read: {error}"), cure)
    })?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| (format!("cannot be read: {error}"), NAME_IT))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(("is longer than 1 MiB".to_owned(), NAME_IT));
    }
    String::from_utf8(bytes).map_err(|error| {
        let lines = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        (format!("is not UTF-8 in line {}", lines + 1), "save it as UTF-8")
    })
}

/// Adds what is not TOML, one error a line, and takes out the errors that only follow from it.
fn add_syntax_errors(syntax_errors: &[toml::de::Error], report: &Report<'_>) {
    let mut lines: Vec<usize> = Vec::new();
    // A broken header or an unclosed bracket moves or swallows what comes after it.
    let mut displaced = false;
    for error in syntax_errors {
        let start = error.span().map_or(0, |span| span.start);
        let (line, _) = report.position(start);
        let text = report.line(line).trim_start();
        displaced |= text.starts_with('[')
            || text.starts_with("name")
            || !text.contains('=')
            || error.message().contains("unclosed");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    report.retain(|error| {
        let follows = match error.problem {
            Problem::UnknownKey | Problem::MissingKey | Problem::UnknownName | Problem::WrongType => {
                displaced
            }
            Problem::Unreadable
            | Problem::Syntax
            | Problem::Empty
            | Problem::Invalid
            | Problem::OutOfRange
            | Problem::UnknownWord
            | Problem::Duplicate
            | Problem::Conflict
            | Problem::MissingFile => false,
        };
        !follows && !error.line.is_some_and(|line| lines.contains(&line))
    });
    for error in syntax_errors {
        let start = error.span().map_or(0, |span| span.start);
        let (line, _) = report.position(start);
        if let Some(first) = lines.iter().position(|reported| *reported == line) {
            lines.swap_remove(first);
            let place = Place { key: String::new(), start, value: None };
            report.error(
                &place,
                Problem::Syntax,
                format!("not TOML: {}", error.message()),
                "see https://toml.io",
            );
        }
    }
}

#[cfg(test)]
mod tests;
