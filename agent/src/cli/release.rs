//! `bailiwick release`: takes the guard down, and records that it was taken down.

use super::{ConfigPath, need_root};
use crate::app::control;
use crate::config::{self, HostFacts};
use crate::lock::{self, LockError};
use bailiwick_audit::{Log, LogSettings};
use bailiwick_kernel::{Site, release};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `bailiwick release`.
#[derive(Debug, clap::Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Why; it goes into the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Why nothing, or not all, was released.
enum Refusal {
    /// It was not tried: exit 2.
    NotTried(String),
    /// It was tried: exit 1.
    Failed(String),
}

/// Exit 0: nothing is guarded any more; 1: it failed; 2: it was not tried.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &ReleaseArgs) -> ExitCode {
    let (code, error) = match released(args) {
        Ok(trail) => {
            if args.json {
                println!("{}", json!({ "released": true, "reason": args.reason, "recorded": trail }));
            } else {
                println!(
                    "released: no model on this host is guarded, until the agent starts again:\n  \
                     systemctl start bailiwick\nrecorded in {}; show it: bailiwick audit show",
                    trail.display()
                );
            }
            return ExitCode::SUCCESS;
        }
        Err(Refusal::NotTried(error)) => (2, error),
        Err(Refusal::Failed(error)) => (1, error),
    };
    if args.json {
        println!("{}", json!({ "released": false, "error": error }));
    } else {
        eprintln!("bailiwick release: {error}");
    }
    ExitCode::from(code)
}

/// The trail that it was recorded in.
fn released(args: &ReleaseArgs) -> Result<PathBuf, Refusal> {
    let not_tried = |error: &dyn std::fmt::Display| Refusal::NotTried(error.to_string());
    let failed = |error: &dyn std::fmt::Display| Refusal::Failed(error.to_string());
    need_root().map_err(|error| not_tried(&error))?;
    if args.reason.trim().is_empty() {
        return Err(Refusal::NotTried("the reason is empty; an auditor will read it, say why".to_owned()));
    }
    let settings = config::load(&args.config.config, &HostFacts::for_inspection())
        .map_err(|errors| not_tried(&errors))?;
    let site = Site::find().map_err(|error| not_tried(&error))?;
    let _only_one = lock::take(&site).map_err(|error| match error {
        LockError::Held(_) => Refusal::NotTried(
            "the agent runs, and would put the guard up again; stop it first: systemctl stop bailiwick"
                .to_owned(),
        ),
        error @ LockError::File { .. } => not_tried(&error),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| not_tried(&error))?;
    runtime.block_on(async {
        let log = Log::open(LogSettings {
            directory: settings.audit.directory.clone(),
            origin: settings.audit.origin.clone(),
        })
        .map_err(|error| not_tried(&error))?;
        // Recorded first: a guard that comes down unrecorded is the worse failure.
        let record =
            control("guard-detached", [("reason", args.reason.as_str()), ("by", "bailiwick release")]);
        log.append(record).await.map_err(|error| not_tried(&error))?;
        let released = release(&site).map_err(|error| failed(&error));
        log.close().await.map_err(|error| failed(&error))?;
        released
    })?;
    Ok(settings.audit.directory)
}
