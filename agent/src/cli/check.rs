//! `bailiwick check`: every error of a config at once.

use super::ConfigPath;
use super::explain::{ExplainArgs, explain};
use super::text::wrapped;
use crate::config::settings::Settings;
use crate::config::{self, HostFacts};
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Arguments of `bailiwick check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Say instead what this kernel and host can hold, and which law is weakened by what they cannot. Needs root.
    #[arg(long)]
    host: bool,
    #[command(flatten)]
    explain: ExplainArgs,
    /// Print JSON: an array of errors, or an object that sums the config (or the explanation) up.
    #[arg(long)]
    json: bool,
}

/// Exit 0: the config compiles, and what it means was printed; 2: it does not, and every error was printed. With
/// `--explain`, 0: the caller would be admitted; 1: not.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &CheckArgs) -> ExitCode {
    let path = args.config.config.as_path();
    if args.host {
        return super::host::run(path, args.json);
    }
    match config::load(path, &HostFacts::for_check()) {
        Ok(settings) if args.explain.explain => match explain(&args.explain, &settings) {
            Ok(explanation) => {
                if args.json {
                    println!("{:#}", explanation.json());
                } else {
                    print!("{}", explanation.text());
                }
                if explanation.admitted { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                eprintln!("bailiwick check: {error}");
                ExitCode::from(2)
            }
        },
        Ok(settings) => {
            if args.json {
                println!("{:#}", summary_json(path, &settings));
            } else {
                print!("{}", summary(path, &settings));
            }
            ExitCode::SUCCESS
        }
        Err(errors) => {
            if args.json {
                println!("{:#}", json!(errors));
            } else {
                eprintln!("{errors}");
            }
            ExitCode::from(2)
        }
    }
}

fn summary(path: &Path, settings: &Settings) -> String {
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut text = format!("{}: good; policy {}\n", path.display(), settings.id);
    for (what, list) in [
        ("models", settings.models.keys().map(|name| name.as_str()).collect()),
        ("issuers", settings.issuers.iter().map(|issuer| issuer.url.as_str()).collect()),
        ("rules", settings.access.rules().iter().map(|rule| rule.name.as_str()).collect()),
        ("masks", settings.masks.keys().map(|name| name.as_str()).collect()),
        ("regions", settings.regions.regions().iter().map(|region| region.name.as_str()).collect::<Vec<_>>()),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {what:<8} {}", names(list));
    }
    let _ = writeln!(text, "  proxy    {}, trail of {}", settings.proxy.listen, settings.audit.origin);
    for warning in &settings.warnings {
        let _ = writeln!(text, "{}", wrapped(&format!("warning: {warning}"), 4));
    }
    text
}

fn summary_json(path: &Path, settings: &Settings) -> serde_json::Value {
    json!({
        "file": path,
        "policy": settings.id,
        "models": settings.models.keys().collect::<Vec<_>>(),
        "issuers": settings.issuers.iter().map(|issuer| &issuer.url).collect::<Vec<_>>(),
        "rules": settings.access.rules().iter().map(|rule| &rule.name).collect::<Vec<_>>(),
        "masks": settings.masks.keys().collect::<Vec<_>>(),
        "regions": settings.regions.regions(),
        "proxy": settings.proxy.listen,
        "origin": settings.audit.origin,
        "warnings": settings.warnings,
    })
}
