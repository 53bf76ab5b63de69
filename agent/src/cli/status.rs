//! `bailiwick status`: what is guarded, read from the kernel at this moment (law 7), and in words what is not. How the
//! models' servers stand no kernel knows: the agent is asked, and the section says so.

mod upstreams;
mod words;

use super::{ConfigPath, need_root};
use crate::config::{self, HostFacts};
use bailiwick_kernel::{Place, Site, Status, status};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use words::{Finding, notes, problems};

/// Arguments of `bailiwick status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Print nothing but problems.
    #[arg(long, conflicts_with = "json")]
    quiet: bool,
    /// Wait up to this long until everything is guarded.
    ///
    /// A model's unit runs this before it starts, so that no process of a slice that was just made runs before
    /// the kernel knows the slice.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

/// Between two looks while waiting.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Exit 0: everything that the config names is guarded; 1: something is not; 2: it cannot be told.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    if let Err(error) = need_root() {
        return cannot_tell(args.json, &error);
    }
    // Where the agent's slice is and what the masks' key is make no difference to what is guarded.
    let settings = match config::load(&args.config.config, &HostFacts::for_inspection()) {
        Ok(settings) => settings,
        Err(errors) => return cannot_tell(args.json, &errors),
    };
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let truth = loop {
        match Site::find().and_then(|site| status(&site, &settings.kernel)) {
            Ok(truth) if truth.guarded || Instant::now() >= deadline => break truth,
            Ok(_) => std::thread::sleep(LOOK_AGAIN),
            Err(error) => return cannot_tell(args.json, &error),
        }
    };
    let (problems, notes) = (problems(&truth), notes(&truth, &settings.kernel));
    if args.json {
        let mut value = json!(truth);
        value["problems"] = json!(problems);
        value["notes"] = json!(notes);
        value["upstreams"] = upstreams::json(&upstreams::ask(&settings));
        println!("{value:#}");
    } else if args.quiet {
        eprint!("{}", listed("NOT GUARDED", &problems));
    } else {
        print!("{}", page(&truth, &problems, &notes));
        print!("{}", upstreams::page(&upstreams::ask(&settings)));
    }
    if truth.guarded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]
fn cannot_tell(as_json: bool, error: &dyn std::fmt::Display) -> ExitCode {
    if as_json {
        println!("{:#}", json!({ "guarded": null, "error": error.to_string() }));
    } else {
        eprintln!("bailiwick status: {error}");
    }
    ExitCode::from(2)
}

/// The verdict first, then why not and what to do, then what it was read from.
fn page(truth: &Status, problems: &[Finding], notes: &[Finding]) -> String {
    let mut text = String::new();
    let generation = truth
        .generation
        .map_or_else(|| "no policy in force".to_owned(), |number| format!("policy generation {number}"));
    let verdict = if truth.guarded { "guarded" } else { "NOT GUARDED" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{verdict}: {generation}, map schema {}, at cgroup root {}",
        truth.schema,
        truth.cgroup_root.display()
    );
    text.push_str(&listed("NOT GUARDED", problems));
    text.push_str(&listed("note", notes));
    let width = truth.hooks.iter().map(|hook| hook.hook.len()).max().unwrap_or(0).max(10);
    let _ = writeln!(
        text,
        "\n{:<width$} {:<9} {:>6} {:>8}  {:<17} BUILT IN",
        "HOOK", "ATTACHED", "LINK", "PROGRAM", "TAG"
    );
    for hook in &truth.hooks {
        let built_in = match (&hook.built_in_tag, &hook.program_tag) {
            (Some(built_in), Some(found)) if built_in == found => "the same",
            (Some(built_in), _) => built_in,
            (None, _) => "unknown",
        };
        let _ = writeln!(
            text,
            "{:<width$} {:<9} {:>6} {:>8}  {:<17} {built_in}",
            hook.hook,
            if hook.attached { "yes" } else { "NO" },
            number(hook.link_id),
            number(hook.program_id),
            hook.program_tag.as_deref().unwrap_or("-"),
        );
    }
    neighbours(&mut text, truth);
    let _ = writeln!(text, "\n{:<16} {:<13} CGROUP", "SCOPE", "STATE");
    for scope in &truth.scopes {
        let state = match (scope.live_id, scope.guarded_id) {
            (None, _) => "not running",
            (Some(live), Some(guarded)) if live == guarded && truth.guarded => "guarded",
            (Some(live), Some(guarded)) if live == guarded => "known",
            (Some(_), _) => "NOT GUARDED",
        };
        let _ = writeln!(text, "{:<16} {state:<13} {}", scope.name, scope.cgroup.display());
    }
    let counted = |reason: &&String| {
        truth.denied[*reason] > 0 || truth.would_deny.get(*reason).is_some_and(|count| *count > 0)
    };
    let reasons: Vec<&String> = truth.denied.keys().filter(counted).collect();
    let _ = if reasons.is_empty() {
        writeln!(text, "\nnothing was refused since the guard was put up")
    } else {
        writeln!(text, "\n{:<28} {:>10} {:>14}", "REASON", "REFUSED", "WOULD REFUSE")
    };
    for reason in reasons {
        let would = truth.would_deny.get(reason).copied().unwrap_or_default();
        let _ = writeln!(text, "{reason:<28} {:>10} {would:>14}", truth.denied[reason]);
    }
    if truth.lost_events > 0 {
        let _ = writeln!(
            text,
            "{} refusals came too fast to be reported one by one; they are counted above",
            truth.lost_events
        );
    }
    if truth.lost_observations > 0 {
        let _ = writeln!(
            text,
            "{} observations of what passed came too fast to be taken; the register counts less than passed",
            truth.lost_observations
        );
    }
    text
}

/// What else is attached at the same hooks; nothing when there is nothing.
fn neighbours(text: &mut String, truth: &Status) {
    if truth.hooks.iter().all(|hook| hook.neighbours.is_empty()) {
        return;
    }
    let _ = writeln!(text, "\n{:<10} {:>8}  {:<16} {:<7} CGROUP", "ALSO AT", "PROGRAM", "NAME", "RUNS");
    for hook in &truth.hooks {
        for neighbour in &hook.neighbours {
            let runs = match neighbour.place {
                Place::Before | Place::Below => "before",
                Place::After | Place::Above => "after",
            };
            let cgroup =
                neighbour.cgroup.as_deref().map_or_else(|| "above".into(), |path| path.display().to_string());
            let _ = writeln!(
                text,
                "{:<10} {:>8}  {:<16} {runs:<7} {cgroup}",
                hook.hook, neighbour.program_id, neighbour.name
            );
        }
    }
}

fn listed(label: &str, findings: &[Finding]) -> String {
    findings.iter().map(|finding| finding.line(label) + "\n").collect()
}

fn number(value: Option<u32>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests;
