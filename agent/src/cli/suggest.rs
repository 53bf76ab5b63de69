//! `bailiwick suggest`: the lines of a config that would allow what was refused, each with its evidence.

use super::ConfigPath;
use super::since::{moment, since};
use super::text::{visible, wrapped};
use crate::config::{self, HostFacts};
use crate::egress::register::{self, Filter, Reader, instant};
use crate::egress::suggest::{Cure, Evidence, Suggestion, Suggestions};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `bailiwick suggest`.
#[derive(Debug, clap::Args)]
pub(super) struct SuggestArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Only for this model or workload.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only what was seen from then on: 15m, 2h, 3d ago, a date, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// The register, or a copy of one [default: /var/lib/bailiwick/register.sqlite].
    #[arg(long, value_name = "FILE")]
    register: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Exit 0: that is all there is to suggest; 2: the config or the register cannot be used.
#[expect(clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &SuggestArgs) -> ExitCode {
    match answer(args) {
        Ok(text) => {
            // A reader that has seen enough (`| head`) closes the pipe: no reason to complain.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bailiwick suggest: {error}");
            ExitCode::from(2)
        }
    }
}

fn answer(args: &SuggestArgs) -> Result<String, String> {
    let settings =
        config::load(&args.config.config, &HostFacts::for_look_ups()).map_err(|errors| errors.to_string())?;
    let reader = Reader::open(&args.register.clone().unwrap_or_else(register::path))
        .map_err(|error| error.to_string())?;
    let mut suggestions = Suggestions::new(&settings.kernel.scopes);
    let filter =
        Filter { scope: args.model.clone(), since: args.since.map(milliseconds), ..Filter::default() };
    reader
        .flows(&filter, |row| {
            suggestions.add(&row);
            true
        })
        .map_err(|error| error.to_string())?;
    let (suggestions, more) = suggestions.finish();
    if args.json {
        let with_times = |suggestion: &Suggestion| {
            let mut value = json!(suggestion);
            value["evidence"]["first_seen"] = instant(suggestion.evidence.first).into();
            value["evidence"]["last_seen"] = instant(suggestion.evidence.last).into();
            value
        };
        let lines: Vec<_> = suggestions.iter().map(with_times).collect();
        return Ok(format!("{:#}\n", json!({ "suggestions": lines, "more": more })));
    }
    Ok(page(&suggestions, more))
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// TOML with comments: to be pasted as it is, a line struck out at a time.
fn page(suggestions: &[Suggestion], more: u64) -> String {
    if suggestions.is_empty() {
        return "# Nothing to suggest: everything that was refused is allowed by now, or nothing was refused.\n".to_owned();
    }
    let mut text = String::new();
    let mut scope = None;
    for suggestion in suggestions {
        if scope != Some(&suggestion.scope) {
            let space = if scope.is_some() { "\n" } else { "" };
            let _ = write!(text, "{space}{}", comment(&introduction(suggestion)));
            scope = Some(&suggestion.scope);
        }
        let _ = write!(text, "\n{}{}", comment(&seen(&suggestion.evidence)), lines(suggestion));
    }
    if more > 0 {
        let words = format!(
            "{more} more destinations were tried less often: go through these first, or ask with --model or --since."
        );
        let _ = write!(text, "\n{}", comment(&words));
    }
    text
}

fn introduction(suggestion: &Suggestion) -> String {
    let name = &suggestion.scope;
    let what = match &suggestion.cure {
        Cure::Region { .. } => {
            "The agent obeys its own policy: an address goes into a region that an [[issuer]] names."
        }
        Cure::Allow { .. } | Cure::None { .. } => {
            "Put what you accept below its [….egress] table (written as a table, not as { … }), with your own reason; \
             strike out the rest. Then: bailiwick check && systemctl reload bailiwick"
        }
    };
    format!("---- {name} ---- {what}")
}

fn seen(evidence: &Evidence) -> String {
    let Evidence { count, region, first, last, .. } = evidence;
    let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
    let mut words = format!(
        "{times} ({}), {} ({}), by {}",
        joined(&evidence.protocols),
        joined(&evidence.verdicts),
        joined(&evidence.reasons),
        if evidence.processes.is_empty() {
            "an unknown process".to_owned()
        } else {
            joined(&evidence.processes)
        }
    );
    if !evidence.names.is_empty() {
        let _ = write!(words, ", as {}", joined(&evidence.names));
    }
    let _ = write!(words, "; region {}; {} to {} UTC", visible(region), moment(*first), moment(*last));
    words
}

fn lines(suggestion: &Suggestion) -> String {
    match &suggestion.cure {
        Cure::Allow { table, network, port } => format!(
            "[[{table}.egress.allow]]\nnetwork = \"{network}\"\nport = {port}\nreason = {}\n",
            toml::Value::String(reason(&suggestion.evidence))
        ),
        Cure::Region { network, regions } => {
            let regions =
                regions.iter().map(|region| format!("[regions.{region}]")).collect::<Vec<_>>().join(" or ");
            comment(&format!("add \"{network}\" to the networks of {regions}"))
        }
        Cure::None { destination, port, why } => comment(&format!("{destination} port {port}: {why}")),
    }
}

/// What stands in the config until a person writes a better one; 256 bytes at most, one line.
fn reason(evidence: &Evidence) -> String {
    let first = |words: &BTreeSet<String>| words.first().map(|word| visible(word));
    let who = first(&evidence.processes).unwrap_or_else(|| "an unknown process".to_owned());
    let name = first(&evidence.names).map_or_else(String::new, |name| format!(" to {name}"));
    let mut reason =
        format!("suggested: {who}{name}, seen {} times until {}", evidence.count, moment(evidence.last));
    while reason.len() > 256 {
        reason.pop();
    }
    reason
}

fn joined(words: &BTreeSet<String>) -> String {
    words.iter().map(|word| visible(word)).collect::<Vec<_>>().join(", ")
}

/// Every line of it is a comment, whatever a process calls itself.
fn comment(text: &str) -> String {
    wrapped(text, 2).lines().map(|line| format!("# {}\n", line.trim_start())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestion(process: &str) -> Suggestion {
        let one = |word: &str| BTreeSet::from([word.to_owned()]);
        Suggestion {
            scope: "llama".to_owned(),
            cure: Cure::Allow { table: "model", network: "192.0.2.30/32".parse().unwrap(), port: 443 },
            evidence: Evidence {
                count: 100,
                verdicts: one("deny"),
                reasons: one("destination-not-allowed"),
                protocols: one("tcp"),
                processes: one(process),
                names: one("mirror.example.eu"),
                region: "unknown".to_owned(),
                first: 1_780_272_000_000,
                last: 1_780_272_061_000,
            },
        }
    }

    #[test]
    fn the_page_is_toml_and_says_what_was_seen() {
        let text = page(&[suggestion("/usr/bin/python3")], 3);
        for part in [
            "100 times (tcp)",
            "python3",
            "mirror.example.eu",
            "2026-06-01 00:01:01",
            "3 more",
            "reload bailiwick",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let table: toml::Table = text.parse().unwrap();
        let allow = &table["model"]["egress"]["allow"][0];
        assert_eq!(
            (allow["network"].as_str(), allow["port"].as_integer()),
            (Some("192.0.2.30/32"), Some(443))
        );
        assert!(text.lines().all(|line| line.chars().count() <= 102), "{text}");
        assert!(page(&[], 0).starts_with("# Nothing"));
    }

    #[test]
    fn a_process_s_name_cannot_write_policy() {
        for name in [
            "x\"\nnetwork = \"0.0.0.0/0",
            "x\n[[model.egress.allow]]\nnetwork = \"::/0\"",
            "\u{2028}'''\r\n\u{1b}[2J",
        ] {
            let text = page(&[suggestion(name)], 0);
            let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
            let entries = table["model"]["egress"]["allow"].as_array().unwrap();
            assert_eq!((entries.len(), entries[0]["network"].as_str()), (1, Some("192.0.2.30/32")), "{text}");
        }
        let long = reason(&suggestion(&"ü".repeat(300)).evidence);
        assert!(long.len() <= 256 && !long.chars().any(char::is_control));
    }
}
