//! `bailiwick audit`: verify the trail, or read it. Both work beside a running agent and on a copy.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::text::wrapped;
use bailiwick_audit::{AuditError, KeySource, Verified, records, verify_since};
use serde_json::{Value, json};

/// Where the trail is unless `--directory` or `--config` says otherwise.
const DEFAULT_DIRECTORY: &str = "/var/lib/bailiwick/audit";

/// Exit codes: it is so; it is not so; nothing can be said.
const VERIFIED: u8 = 0;
const TAMPERED: u8 = 1;
const UNUSABLE: u8 = 2;

/// Arguments of `bailiwick audit`.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Compute every hash again and hold the trail against its signature.
    Verify(VerifyArgs),
    /// Print the records, without verifying them.
    Show(ShowArgs),
}

#[derive(Debug, Default, clap::Args)]
struct TrailPlace {
    /// The trail, or a copy of one [default: /var/lib/bailiwick/audit].
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    directory: Option<PathBuf>,
    /// Take the directory from this config's [audit] section.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Default, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: TrailPlace,
    /// The verifier key kept elsewhere (`<origin>+<hash>+<base64>`), or a file with it; without it the trail's own is used.
    #[arg(long, value_name = "KEY_OR_FILE")]
    key: Option<String>,
    /// A checkpoint kept elsewhere: also show that the trail extends it.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    place: TrailPlace,
    /// Only the records of this request (the `x-request-id` of its answer).
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Print a JSON object a record, each on a line: `index` and `record`.
    #[arg(long)]
    json: bool,
}

/// What is printed, and the exit code.
struct Answer {
    code: u8,
    out: String,
    err: String,
}

/// Exit 0: verified, or shown; 1: the trail is not what was written, and which file was named; 2: it cannot be read.
pub(super) fn run(args: &AuditArgs) -> ExitCode {
    let answer = match &args.command {
        AuditCommand::Verify(args) => verify(args),
        AuditCommand::Show(args) => show(args),
    };
    // Folded for a terminal; one record a line for grep.
    let folds = matches!(&args.command, AuditCommand::Show(show) if !show.json) && io::stdout().is_terminal();
    let out =
        if folds { answer.out.lines().map(|line| wrapped(line, 10) + "\n").collect() } else { answer.out };
    // A reader that has seen enough (`| head`) closes the pipe: no reason to complain.
    let _ = io::stdout().lock().write_all(out.as_bytes());
    let _ = io::stderr().lock().write_all(answer.err.as_bytes());
    ExitCode::from(answer.code)
}

fn verify(args: &VerifyArgs) -> Answer {
    let prepared = directory(&args.place).and_then(|directory| {
        let key = args.key.as_deref().map(read_key).transpose()?;
        let kept = args.since.as_deref().map(|path| fs::read(path).map_err(|error| unreadable(path, &error)));
        Ok((directory, key, kept.transpose()?))
    });
    let (directory, key, kept) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => return refusal(args.json, UNUSABLE, &problem),
    };
    match verify_since(&directory, key.as_deref(), kept.as_deref()) {
        Ok(verified) if args.json => {
            let mut value = json!(verified);
            value["verified"] = true.into();
            Answer { code: VERIFIED, out: format!("{value}\n"), err: String::new() }
        }
        Ok(verified) => Answer { code: VERIFIED, out: summary(&verified), err: String::new() },
        Err(error) => refusal(args.json, code_of(&error), &error.to_string()),
    }
}

fn show(args: &ShowArgs) -> Answer {
    let found = directory(&args.place).map_err(|problem| (UNUSABLE, problem));
    let found =
        found.and_then(|directory| records(&directory).map_err(|error| (code_of(&error), error.to_string())));
    let found = match found {
        Ok(found) => found,
        Err((code, problem)) if args.json => {
            let out = format!("{}\n", json!({ "tampered": code == TAMPERED, "error": problem }));
            return Answer { code, out, err: String::new() };
        }
        Err((code, problem)) => return refusal(false, code, &problem),
    };
    let mut out = String::new();
    for (index, bytes) in found {
        // An entry that is no JSON was not written by the agent; show that there is one.
        let record: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if args.request.is_some() && record["request"].as_str() != args.request.as_deref() {
            continue;
        }
        let line = if args.json {
            json!({ "index": index.0, "record": record }).to_string()
        } else {
            row(index.0, &record)
        };
        out.push_str(&line);
        out.push('\n');
    }
    let err = match &args.request {
        Some(request) if out.is_empty() => format!("no record of request {request}\n"),
        Some(_) | None => String::new(),
    };
    Answer { code: VERIFIED, out, err }
}

fn summary(verified: &Verified) -> String {
    let mut lines = vec![
        format!("verified: the trail of {}", verified.origin),
        format!("  signed    {} records, root {}", verified.size, verified.root),
    ];
    if verified.unsigned > 0 {
        lines.push(format!(
            "  unsigned  {} newer records, durable, not signed yet (checksums hold)",
            verified.unsigned
        ));
    }
    if verified.torn_bytes > 0 {
        lines.push(format!(
            "  torn      {} bytes of an interrupted last write; the next start of the agent cuts them off",
            verified.torn_bytes
        ));
    }
    if verified.open_requests > 0 {
        lines.push(format!(
            "  open      {} requests admitted without an outcome: in flight, or cut off by a crash",
            verified.open_requests
        ));
    }
    if let Some(since) = verified.since {
        lines.push(format!("  since     extends the kept checkpoint of {since} records"));
    }
    lines.push(match verified.key {
        KeySource::Given => "  key       the one given".into(),
        KeySource::Trail => "  key       keys/verifier.pub of the trail itself, which proves less: keep a copy off this host, give it with --key".into(),
    });
    lines.join("\n") + "\n"
}

/// One record for people: index, time, type, then the other fields.
fn row(index: u64, record: &Value) -> String {
    let text = |name: &str| record[name].as_str().unwrap_or("?").to_owned();
    let mut line = format!("{index:>8}  {:<24}  {:<9}", text("time"), text("type"));
    for (name, value) in record.as_object().into_iter().flatten() {
        if ["time", "type", "v"].contains(&name.as_str())
            || value.as_object().is_some_and(serde_json::Map::is_empty)
        {
            continue;
        }
        let value = value.as_str().map_or_else(|| value.to_string(), quoted);
        line.push_str(&format!(" {name}={value}"));
    }
    line
}

/// As it is when it is plain, otherwise in quotes with escapes: nothing in a record may move the terminal's cursor.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '=');
    if plain { text.to_owned() } else { format!("{text:?}") }
}

fn refusal(as_json: bool, code: u8, problem: &str) -> Answer {
    if as_json {
        let value = json!({ "verified": false, "tampered": code == TAMPERED, "error": problem });
        return Answer { code, out: format!("{value}\n"), err: String::new() };
    }
    let what = if code == TAMPERED { "tampered" } else { "error" };
    Answer { code, out: String::new(), err: format!("{what}: {problem}\n") }
}

fn code_of(error: &AuditError) -> u8 {
    if error.is_tampering() { TAMPERED } else { UNUSABLE }
}

/// Only the one key is read, so that a trail can be verified beside a config that does not compile.
fn directory(place: &TrailPlace) -> Result<PathBuf, String> {
    let Some(config) = &place.config else {
        return Ok(place.directory.clone().unwrap_or_else(|| DEFAULT_DIRECTORY.into()));
    };
    let text = fs::read_to_string(config).map_err(|error| unreadable(config, &error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| format!("{}: {}", config.display(), error.message()))?;
    match table.get("audit").and_then(|audit| audit.get("directory")) {
        None => Ok(DEFAULT_DIRECTORY.into()),
        Some(toml::Value::String(directory)) => Ok(directory.into()),
        Some(_) => {
            Err(format!("{}: [audit] directory is not a string; write the path in quotes", config.display()))
        }
    }
}

fn read_key(text: &str) -> Result<String, String> {
    if text.contains('+') && !Path::new(text).exists() {
        return Ok(text.to_owned());
    }
    fs::read_to_string(text).map_err(|error| unreadable(Path::new(text), &error))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}; check the path and who may read it", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_audit::{Log, LogSettings, Record};
    use std::collections::BTreeMap;
    use tempfile::TempDir;

    async fn trail() -> (TempDir, String) {
        let directory = TempDir::new().unwrap();
        let settings =
            LogSettings { directory: directory.path().join("audit"), origin: "bailiwick/cli".into() };
        let log = Log::open(settings).unwrap();
        let client = log.pseudonym("198.51.100.7");
        let detail = BTreeMap::from([("version".to_owned(), "1 \u{1b}[2J".to_owned())]);
        log.append(Record::Control { event: "start".into(), detail }).await.unwrap();
        let denied = Record::Denied {
            request: "r-1".into(),
            subject: None,
            issuer: None,
            client,
            client_region: None,
            method: "POST".into(),
            endpoint: Some("chat".into()),
            model: None,
            status: 403,
            reason: "no-rule".into(),
            rule: None,
        };
        log.append(denied).await.unwrap();
        log.close().await.unwrap();
        (directory, log.verifier_key().to_owned())
    }

    fn at(directory: &Path) -> TrailPlace {
        TrailPlace { directory: Some(directory.into()), config: None }
    }

    #[tokio::test]
    async fn verify_says_what_holds_and_its_exit_code_means_something() {
        let (directory, key) = trail().await;
        let path = directory.path().join("audit");
        let verify_with = |key: Option<String>, json| {
            verify(&VerifyArgs { place: at(&path), key, json, since: Some(path.join("checkpoint")) })
        };
        let good = verify_with(Some(key.clone()), false);
        assert_eq!(
            (good.code, good.out.contains("2 records"), good.out.contains("the one given")),
            (0, true, true),
            "{}",
            good.out
        );
        assert!(verify_with(None, false).out.contains("proves less"));
        let value: Value = serde_json::from_str(&verify_with(Some(key.clone()), true).out).unwrap();
        assert_eq!(
            (&value["verified"], &value["size"], &value["key"], &value["since"]),
            (&json!(true), &json!(2), &json!("given"), &json!(2))
        );
        assert_eq!(verify_with(Some("bailiwick/cli+00000000+AAAA".into()), false).code, 2, "a malformed key");
        assert_eq!(verify_with(Some("/nonexistent/key".into()), false).code, 2, "no such key file");

        let bundle = path.join("tile/entries/000.p/2");
        let mut bytes = fs::read(&bundle).unwrap();
        bytes[40] ^= 1;
        fs::write(&bundle, bytes).unwrap();
        let bad = verify_with(Some(key.clone()), false);
        assert_eq!((bad.code, bad.out.as_str()), (1, ""));
        assert!(
            bad.err.contains("tile/entries/000.p/2") && bad.err.contains("keep the directory as evidence"),
            "{}",
            bad.err
        );
        let value: Value = serde_json::from_str(&verify_with(Some(key), true).out).unwrap();
        assert_eq!((&value["verified"], &value["tampered"]), (&json!(false), &json!(true)));

        let nowhere = verify(&VerifyArgs { place: at(directory.path()), ..VerifyArgs::default() });
        assert_eq!(
            (nowhere.code, nowhere.err.contains("holds no audit trail")),
            (2, true),
            "{}",
            nowhere.err
        );
    }

    #[tokio::test]
    async fn show_prints_rows_or_lines_of_json_and_finds_a_request() {
        let (directory, _) = trail().await;
        let config = directory.path().join("bailiwick.toml");
        let path = directory.path().join("audit");
        fs::write(&config, format!("unknown = 1\n[audit]\ndirectory = {path:?}\n")).unwrap();
        let show_with = |request: Option<&str>, json| {
            let place = TrailPlace { directory: None, config: Some(config.clone()) };
            show(&ShowArgs { place, request: request.map(str::to_owned), json })
        };
        let all = show_with(None, false);
        assert_eq!((all.code, all.out.lines().count()), (0, 2));
        assert!(!all.out.contains('\u{1b}'), "no control characters reach the terminal");
        let one = show_with(Some("r-1"), true);
        let value: Value = serde_json::from_str(one.out.trim()).unwrap();
        assert_eq!((&value["index"], &value["record"]["reason"]), (&json!(1), &json!("no-rule")));
        let none = show_with(Some("r-2"), false);
        assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "no record of request r-2\n"));
    }
}
