//! `bailiwick alerts`: the agent's entries in the journal, in words or as JSON.
//!
//! Read through journalctl(1), which knows where the journal is, rotates and follows. An entry counts as an alert when
//! it has a kind's `MESSAGE_ID` and root wrote it: the journal vouches for `_UID`, and for nothing that a writer says.

use super::since::{moment, since};
use super::text::{visible, wrapped};
use crate::egress::Kind;
use crate::egress::register::instant;
use serde_json::{Map, Value};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `bailiwick alerts`.
#[derive(Debug, clap::Args)]
pub(super) struct AlertsArgs {
    /// Only those of this model or workload.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only those of this kind: refused, way-in, …
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Only those from then on: 15m, 2h, 3d ago, a date, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Only the last ones [default: all; with --follow 10].
    #[arg(short = 'n', long, value_name = "NUMBER")]
    lines: Option<u32>,
    /// Go on with new ones as they come.
    #[arg(short, long)]
    follow: bool,
    /// Print a JSON object an alert, each on a line.
    #[arg(long)]
    json: bool,
}

/// Exit 0: that is all there are; 2: the journal cannot be read.
#[expect(clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &AlertsArgs) -> ExitCode {
    match show(args) {
        Ok(0) if !args.json && !args.follow => {
            eprintln!("no alerts{}", if super::need_root().is_ok() { "" } else { NOT_ROOT });
            ExitCode::SUCCESS
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bailiwick alerts: {error}");
            ExitCode::from(2)
        }
    }
}

const NOT_ROOT: &str = " that you may see: the journal is for root and the group systemd-journal";

/// How many there were.
fn show(args: &AlertsArgs) -> Result<usize, String> {
    let mut reader = Command::new("journalctl")
        .args(filter(args))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("journalctl cannot be run: {error}; it is a part of systemd"))?;
    let lines = reader.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
    let folds = !args.json && io::stdout().is_terminal();
    let (mut out, mut count) = (io::stdout().lock(), 0);
    for line in lines {
        let line = line.map_err(|error| format!("journalctl: {error}"))?;
        let Some(alert) = Alert::read(&line) else { continue };
        let text = match (args.json, folds) {
            (true, _) => alert.json().to_string(),
            (false, true) => wrapped(&alert.line(), 10),
            (false, false) => alert.line(),
        };
        count += 1;
        // A reader that has seen enough (`| head`) closes the pipe: no reason to complain.
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            let _may_have_ended = reader.kill();
            let _ended = reader.wait();
            return Ok(count);
        }
    }
    let status = reader.wait().map_err(|error| format!("journalctl: {error}"))?;
    if status.success() { Ok(count) } else { Err(format!("journalctl failed ({status}), see above")) }
}

/// Matches of the same field are alternatives, those of different fields must all hold (journalctl(1)).
fn filter(args: &AlertsArgs) -> Vec<String> {
    let mut words: Vec<String> =
        ["--output=json", "--all", "--quiet", "--no-pager"].map(str::to_owned).into();
    if args.follow {
        words.push("--follow".to_owned());
    }
    words.extend(args.lines.map(|lines| format!("--lines={lines}")));
    if let Some(since) = args.since {
        let seconds = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        words.push(format!("--since=@{seconds}"));
    }
    words.extend(["SYSLOG_IDENTIFIER=bailiwick".to_owned(), "_UID=0".to_owned()]);
    let kinds = Kind::ALL.into_iter().filter(|kind| args.kind.is_none_or(|wanted| wanted == *kind));
    words.extend(kinds.map(|kind| format!("MESSAGE_ID={}", kind.message_id())));
    words.extend(args.model.as_ref().map(|model| format!("BAILIWICK_MODEL={model}")));
    words
}

/// One entry of the journal that is an alert.
struct Alert {
    kind: Kind,
    /// Milliseconds since 1970.
    time: u64,
    entry: Map<String, Value>,
}

impl Alert {
    fn read(line: &str) -> Option<Self> {
        let Ok(Value::Object(entry)) = serde_json::from_str(line) else { return None };
        let kind = Kind::of(entry.get("MESSAGE_ID")?.as_str()?)?;
        let microseconds: u64 = entry.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
        Some(Self { kind, time: microseconds / 1000, entry })
    }

    /// journald gives what is not UTF-8, or has control characters, as an array of bytes.
    fn text(&self, field: &str) -> Option<String> {
        match self.entry.get(field)? {
            Value::String(text) => Some(text.clone()),
            Value::Array(bytes) => {
                let bytes: Vec<u8> = bytes
                    .iter()
                    .filter_map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                    .collect();
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }

    fn priority(&self) -> &'static str {
        match self.text("PRIORITY").as_deref() {
            Some("0" | "1" | "2") => "critical",
            Some("3") => "error",
            Some("4") => "warning",
            _ => "notice",
        }
    }

    fn line(&self) -> String {
        let message = self.text("MESSAGE").unwrap_or_default();
        let (kind, priority) = (self.kind.as_str(), self.priority());
        format!("{}  {priority:<8}  {kind:<15}  {}", moment(self.time), visible(&message))
    }

    /// The fields by their names without `BAILIWICK_`, in lower case; numbers as numbers.
    fn json(&self) -> Value {
        let mut told = Map::new();
        told.insert("time".to_owned(), instant(self.time).into());
        told.insert("kind".to_owned(), self.kind.as_str().into());
        told.insert("priority".to_owned(), self.priority().into());
        told.insert("message".to_owned(), self.text("MESSAGE").into());
        for field in self.entry.keys() {
            if let (Some(name), Some(text)) = (field.strip_prefix("BAILIWICK_"), self.text(field)) {
                let is_number = NUMBERS.contains(&name);
                let number = text.parse::<u64>().ok().filter(|_| is_number).map(Value::from);
                told.insert(name.to_ascii_lowercase(), number.unwrap_or(Value::String(text)));
            }
        }
        Value::Object(told)
    }
}

const NUMBERS: [&str; 10] = [
    "PORT",
    "COUNT",
    "TOTAL",
    "PID",
    "UID",
    "SOURCE_PORT",
    "BYTES",
    "DATA_LIKE",
    "LONGEST_LABEL",
    "AGE_DAYS",
];

fn kind(word: &str) -> Result<Kind, String> {
    let words = Kind::ALL.map(Kind::as_str).join(", ");
    Kind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| format!("use one of {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> AlertsArgs {
        AlertsArgs { model: None, kind: None, since: None, lines: None, follow: false, json: false }
    }

    const ENTRY: &str = r#"{"MESSAGE_ID":"6b1f4e0c3a5d4c0c9f5a2b7d8e914c02","__REALTIME_TIMESTAMP":"1780272061999999",
        "PRIORITY":"4","MESSAGE":[97,27,98],"BAILIWICK_MODEL":"llama","BAILIWICK_PORT":"443","BAILIWICK_NAME":"7","_PID":"9"}"#;

    #[test]
    fn the_journal_is_asked_for_alerts_that_root_wrote() {
        let words = filter(&AlertsArgs {
            model: Some("llama".to_owned()),
            kind: Some(Kind::Refused),
            since: Some(UNIX_EPOCH + std::time::Duration::from_secs(7)),
            follow: true,
            ..args()
        });
        for word in
            ["_UID=0", "BAILIWICK_MODEL=llama", "--since=@7", "--follow", "SYSLOG_IDENTIFIER=bailiwick"]
        {
            assert!(words.iter().any(|had| had == word), "{word}: {words:?}");
        }
        let kinds =
            |args: &AlertsArgs| filter(args).iter().filter(|word| word.starts_with("MESSAGE_ID=")).count();
        assert_eq!(
            (kinds(&args()), kinds(&AlertsArgs { kind: Some(Kind::Refused), ..args() })),
            (Kind::ALL.len(), 1)
        );
    }

    #[test]
    fn an_alert_is_a_line_and_an_object() {
        let alert = Alert::read(ENTRY).unwrap();
        assert_eq!(alert.line(), "2026-06-01 00:01:01  warning   refused          a\\u{1b}b");
        let json = alert.json();
        assert_eq!(
            (&json["time"], &json["kind"], &json["port"], &json["name"]),
            (&"2026-06-01T00:01:01.999Z".into(), &"refused".into(), &443.into(), &"7".into())
        );
        assert_eq!(json.as_object().unwrap().len(), 7, "what the journal adds is the journal's: {json}");
        assert!(Alert::read("{}").is_none() && Alert::read("-- Boot --").is_none());
        assert!(Alert::read(&ENTRY.replace("914c02", "914c99")).is_none(), "not one of ours");
    }

    #[test]
    fn a_kind_is_one_of_those_that_there_are() {
        assert_eq!(kind("way-in"), Ok(Kind::WayIn));
        assert!(kind("other").unwrap_err().contains("refused"));
    }
}
