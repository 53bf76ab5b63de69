//! `bailiwick regions`: the datasets, and where an address is by them.

mod diff;
mod lookup;
mod shelf;
mod verdict;

use super::{ConfigPath, DEFAULT_CONFIG};
use crate::config::settings::Settings;
use crate::config::{self, HostFacts};
use bailiwick_policy::Name;
use bailiwick_regions::{Kind, Store};
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `bailiwick regions`.
#[derive(Debug, clap::Args)]
pub(super) struct RegionsArgs {
    #[command(subcommand)]
    command: RegionsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RegionsCommand {
    /// Put a file of published ranges or a table of countries in place: all of it, or nothing changes.
    ///
    /// Takes effect with `systemctl reload bailiwick`.
    Import(ImportArgs),
    /// List the datasets, the regions of the config and the built-in groups of countries.
    List(ShelfArgs),
    /// Say where an address or a network is, by what evidence, and who may send there.
    Lookup(LookupArgs),
    /// Say what a new file would change, and for whom a verdict would be another. Changes nothing.
    Diff(DiffArgs),
    /// Say how old the datasets are. Exit 1 when one is too old.
    Status(ShelfArgs),
}

/// Where the datasets are.
#[derive(Debug, clap::Args)]
struct Place {
    /// The directory of the datasets [default: that of the config's [datasets]].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigPath,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A file, and what it is.
#[derive(Debug, clap::Args)]
struct Given {
    /// The file, as its publisher has it.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What it is [default: told by its contents].
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// What the dataset is called [default: the kind; `country` for a table of countries].
    #[arg(long, value_parser = name)]
    name: Option<Name>,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    #[command(flatten)]
    given: Given,
    /// Also when it is older or much smaller than the present one.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct ShelfArgs {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct LookupArgs {
    /// An address, or a network in CIDR notation.
    #[arg(value_name = "ADDRESS|NETWORK")]
    subject: String,
    #[command(flatten)]
    config: ConfigPath,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DiffArgs {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    config: ConfigPath,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is printed, and the exit code.
struct Answer {
    code: u8,
    text: String,
    json: Value,
}

/// Why there is no answer; nothing was changed.
struct Refusal(String);

impl<E: Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Exit 0: done, or as it should be; 1: a dataset is too old or missing (`status`), a verdict would be another
/// (`diff`); 2: the input cannot be used, and nothing was changed.
pub(super) fn run(args: &RegionsArgs) -> ExitCode {
    let (answer, as_json) = match &args.command {
        RegionsCommand::Import(args) => (shelf::import(args), args.place.json),
        RegionsCommand::List(args) => (shelf::list(&args.place), args.place.json),
        RegionsCommand::Status(args) => (shelf::status(&args.place), args.place.json),
        RegionsCommand::Lookup(args) => (lookup::run(args), args.json),
        RegionsCommand::Diff(args) => (diff::run(args), args.json),
    };
    let (code, out, err) = match answer {
        Ok(Answer { code, json, .. }) if as_json => (code, format!("{json:#}\n"), String::new()),
        Ok(Answer { code, text, .. }) => (code, text, String::new()),
        Err(Refusal(error)) if as_json => (2, format!("{:#}\n", json!({ "error": error })), String::new()),
        Err(Refusal(error)) => (2, String::new(), format!("bailiwick regions: {error}\n")),
    };
    // A reader that has seen enough (`| head`) closes the pipe: no reason to complain.
    let _ = io::stdout().lock().write_all(out.as_bytes());
    let _ = io::stderr().lock().write_all(err.as_bytes());
    ExitCode::from(code)
}

impl Place {
    /// The store, and how many days a dataset may be old. A config whose other parts are at fault is no hindrance: a
    /// dataset that it waits for may be what is imported.
    fn store(&self) -> Result<(Store, u32), Refusal> {
        let found = config::datasets_of(&self.config.config);
        let (directory, max_age) = match (&self.directory, found) {
            (Some(directory), Ok((_, max_age))) => (directory.clone(), max_age),
            (Some(directory), Err(_)) => (directory.clone(), config::MAX_AGE),
            (None, Ok(found)) => found,
            // Datasets may come before there is a config.
            (None, Err(_))
                if self.config.config.as_os_str() == DEFAULT_CONFIG && !self.config.config.exists() =>
            {
                (PathBuf::from(config::DATASETS_DIRECTORY), config::MAX_AGE)
            }
            (None, Err(error)) => {
                return Err(Refusal(format!("{error}; or name the directory with --directory")));
            }
        };
        Ok((Store::new(directory), max_age))
    }
}

fn settings(config: &ConfigPath) -> Result<Settings, Refusal> {
    Ok(config::load(&config.config, &HostFacts::for_look_ups())?)
}

fn kind(word: &str) -> Result<Kind, String> {
    let words = Kind::ALL.map(Kind::as_str).join(", ");
    Kind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| format!("use one of {words}"))
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}
