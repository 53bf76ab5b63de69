//! `bailiwick release`: takes the guard down, and records that it was taken down.

use super::ConfigPath;
use crate::app::control;
use crate::config::{self, HostFacts};
use bailiwick_audit::{Log, LogSettings};
use bailiwick_kernel::{Site, release};
use std::process::ExitCode;

/// Arguments of `bailiwick release`.
#[derive(Debug, clap::Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Why; it goes into the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Exit 0: nothing is guarded any more; 1: it failed; 2: it was not tried.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &ReleaseArgs) -> ExitCode {
    let settings = match config::load(&args.config.config, &HostFacts::for_inspection()) {
        Ok(settings) => settings,
        Err(errors) => {
            eprintln!("bailiwick release: {errors}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bailiwick release: {error}");
            return ExitCode::FAILURE;
        }
    };
    let released = runtime.block_on(async {
        let log = Log::open(LogSettings {
            directory: settings.audit.directory.clone(),
            origin: settings.audit.origin.clone(),
        })
        .map_err(|error| format!("{error}; stop the agent first: systemctl stop bailiwick"))?;
        // Recorded first: a guard that comes down unrecorded is the worse failure.
        log.append(control(
            "guard-detached",
            [("reason", args.reason.as_str()), ("by", "bailiwick release")],
        ))
        .await
        .map_err(|error| error.to_string())?;
        let released = Site::find().and_then(|site| release(&site)).map_err(|error| error.to_string());
        log.close().await.map_err(|error| error.to_string())?;
        released
    });
    match released {
        Ok(()) => {
            println!("released: no model on this host is guarded until `bailiwick run` starts again");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bailiwick release: {error}");
            ExitCode::FAILURE
        }
    }
}
