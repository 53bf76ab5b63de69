//! `bailiwick status`: what is guarded, read from the kernel at this moment (law 7).

use super::ConfigPath;
use crate::config::{self, HostFacts};
use bailiwick_kernel::{Place, Site, Status, status};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Arguments of `bailiwick status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// Wait up to this long for everything to be guarded: a model's unit runs this before it starts, so that
    /// no process of a slice that was just made runs before the kernel knows the slice.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

/// Between two looks while waiting.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Exit 0: everything that the config names is guarded; 1: something is not; 2: it cannot be told.
#[expect(clippy::print_stdout, reason = "a command's answer goes to standard output")]
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    // Where the agent's slice is and what the masks' key is make no difference to what is guarded.
    let settings = match config::load(&args.config.config, &HostFacts::for_inspection()) {
        Ok(settings) => settings,
        Err(errors) => return cannot_tell(&errors),
    };
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let truth = loop {
        match Site::find().and_then(|site| status(&site, &settings.kernel)) {
            Ok(truth) if truth.guarded || Instant::now() >= deadline => break truth,
            Ok(_) => std::thread::sleep(LOOK_AGAIN),
            Err(error) => return cannot_tell(&error),
        }
    };
    if args.json {
        match serde_json::to_string_pretty(&truth) {
            Ok(json) => println!("{json}"),
            Err(error) => return cannot_tell(&error),
        }
    } else {
        print!("{}", table(&truth));
    }
    if truth.guarded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stderr, reason = "a command's errors go to standard error")]
fn cannot_tell(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("bailiwick status: {error}");
    ExitCode::from(2)
}

fn table(truth: &Status) -> String {
    let mut text = String::new();
    let generation = truth.generation.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let verdict = if truth.guarded { "guarded" } else { "NOT GUARDED" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{verdict}: cgroup root {}, policy generation {generation}, map schema {}",
        truth.cgroup_root.display(),
        truth.schema
    );
    for problem in truth.problems() {
        let _ = writeln!(text, "problem: {}: {}", problem.place, problem.text);
    }
    for warning in &truth.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let _ = writeln!(
        text,
        "\n{:<10} {:<9} {:>6} {:>8}  {:<17} BUILT IN",
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
            "{:<10} {:<9} {:>6} {:>8}  {:<17} {built_in}",
            hook.hook,
            if hook.attached { "yes" } else { "NO" },
            number(hook.link_id),
            number(hook.program_id),
            hook.program_tag.as_deref().unwrap_or("-"),
        );
    }
    neighbours(&mut text, truth);
    let _ = writeln!(text, "\n{:<16} {:<48} STATE", "SCOPE", "CGROUP");
    for scope in &truth.scopes {
        let state = match (scope.live_id, scope.guarded_id) {
            (None, _) => "not running",
            (Some(live), Some(guarded)) if live == guarded => "guarded",
            (Some(_), _) => "NOT GUARDED",
        };
        let _ = writeln!(text, "{:<16} {:<48} {state}", scope.name, scope.cgroup.display());
    }
    let _ = writeln!(text, "\n{:<28} {:>10} {:>10}", "REASON", "DENIED", "WOULD DENY");
    for (reason, count) in &truth.denied {
        let would = truth.would_deny.get(reason).copied().unwrap_or_default();
        let _ = writeln!(text, "{reason:<28} {count:>10} {would:>10}");
    }
    let _ = writeln!(text, "{:<28} {:>10}", "allowed", truth.allowed);
    let _ = writeln!(text, "{:<28} {:>10}", "events lost", truth.lost_events);
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

fn number(value: Option<u32>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
