//! `bailiwick check --host`: what this kernel and host can hold, and which law is weakened by what they cannot.

use super::{DEFAULT_CONFIG, need_root};
use crate::config::{self, HostFacts};
use crate::preflight::{self, Finding, Grade};
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Exit 0: every law can be held, or the config accepts that it cannot; 1: a law is weakened; 2: the config that says what the
/// models are has errors. Where there is no config at the usual place, only kernel and host are looked at.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(path: &Path, json: bool) -> ExitCode {
    if let Err(error) = need_root() {
        eprintln!("bailiwick check --host: {error}");
        return ExitCode::from(2);
    }
    let absent = path == Path::new(DEFAULT_CONFIG) && !path.exists();
    let settings = match config::load(path, &HostFacts::for_inspection()) {
        Ok(settings) => Some(settings),
        Err(_) if absent => None,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(2);
        }
    };
    let findings = preflight::everything(settings.as_ref());
    let holds = findings.iter().all(|finding| finding.grade != Grade::Weak);
    if json {
        println!("{:#}", json!({ "holds": holds, "config": !absent, "findings": findings }));
    } else {
        print!("{}", table(&findings));
        if absent {
            println!("No config at {DEFAULT_CONFIG}: no model was looked at.");
        }
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let grade = match finding.grade {
            Grade::Good => "good",
            Grade::Note => "note",
            Grade::Unsafe => "unsafe",
            Grade::Accepted => "accepted",
            Grade::Weak => "WEAK",
        };
        let model = finding.model.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{grade:<9} {:<17} {model}{}", finding.what, finding.found);
        if let Some(law) = finding.law {
            let how =
                if matches!(finding.grade, Grade::Note | Grade::Unsafe) { "bears on" } else { "weakens" };
            let why = finding.why.map(|why| format!(": {why}")).unwrap_or_default();
            let _ = writeln!(text, "{:27} {how} law {law}{why}", "");
        }
        if let Some(cure) = &finding.cure {
            let _ = writeln!(text, "{:27} cure: {cure}", "");
        }
    }
    let weak = findings.iter().filter(|finding| finding.grade == Grade::Weak).count();
    let _ = match weak {
        0 => writeln!(text, "\nEvery law can be held here, save what is accepted."),
        weak => writeln!(
            text,
            "\n{weak} ways past the guard are open. Close them, or accept them by name: [host] accept = [\"…\"]"
        ),
    };
    text
}
