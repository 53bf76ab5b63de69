//! `bailiwick selftest`: tries the harmless attacks on this very host, and keeps the result as evidence.

use super::ConfigPath;
use crate::config::settings::Settings;
use crate::config::{self, HostFacts};
use crate::control;
use crate::selftest::catalog::{ATTACKS, Attack, Outcome, Runs};
use crate::selftest::{self, Evidence, Row, attacker};
use bailiwick_audit::{AuditError, Log, LogSettings};
use bailiwick_kernel::Site;
use libsystemd::logging::{Priority, journal_send};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Arguments of `bailiwick selftest`.
#[derive(Debug, clap::Args)]
pub(super) struct SelftestArgs {
    #[command(flatten)]
    config: ConfigPath,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// Name every attack of the suite, what closes it, and whether it runs here; try nothing.
    #[arg(long)]
    list: bool,
    /// Be the attacker: what the command starts itself for.
    #[arg(long, hide = true)]
    attacker: bool,
}

/// The fixed id of the journal entry (`MESSAGE_ID`, systemd.journal-fields(7)).
const MESSAGE_ID: &str = "6b1f4e0c3a5d4c0c9f5a2b7d8e914c10";

/// Exit 0: all held; 1: something got through; 2: it could not run.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &SelftestArgs) -> ExitCode {
    if args.attacker {
        return attacker::serve().map_or(ExitCode::from(2), |()| ExitCode::SUCCESS);
    }
    if args.list {
        print!("{}", if args.json { format!("{:#}\n", json!(ATTACKS)) } else { list() });
        return ExitCode::SUCCESS;
    }
    let tried = config::load(&args.config.config, &HostFacts::for_look_ups())
        .map_err(|errors| errors.to_string())
        .and_then(|settings| {
            let site = Site::find().map_err(|error| error.to_string())?;
            let rows = selftest::run(&settings, &site).map_err(|error| error.to_string())?;
            Ok((settings, rows))
        });
    let (settings, rows) = match tried {
        Ok(tried) => tried,
        Err(error) => {
            eprintln!("bailiwick selftest: {error}");
            return ExitCode::from(2);
        }
    };
    let evidence = Evidence::of(&rows, &settings.id);
    let recorded = record(&settings, &evidence);
    if args.json {
        println!("{:#}", json!({ "held": evidence.through.is_empty(), "rows": rows, "recorded": recorded }));
    } else {
        println!("{}{recorded}", table(&rows, &evidence));
    }
    if evidence.through.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Into the journal, and into the trail: by the agent that runs and has it, or else by this process. Says what went where.
fn record(settings: &Settings, evidence: &Evidence) -> String {
    let message = format!("selftest: {evidence}");
    let priority = if evidence.through.is_empty() { Priority::Notice } else { Priority::Alert };
    let fields = [
        ("MESSAGE_ID", MESSAGE_ID.to_owned()),
        ("SYSLOG_IDENTIFIER", "bailiwick".to_owned()),
        ("BAILIWICK_POLICY", settings.id.clone()),
        ("BAILIWICK_THROUGH", evidence.through.join(" ")),
    ];
    let journal = match journal_send(priority, &message, fields.into_iter()) {
        Ok(()) => "in the journal",
        Err(_) => "not in the journal (journald does not answer)",
    };
    let trail = match append(settings, evidence) {
        Ok(true) => "in the audit trail".to_owned(),
        Ok(false) => "not in the audit trail: there is none yet".to_owned(),
        Err(AuditError::Locked { .. }) => match control::hand_over(&control::place(), evidence) {
            Ok(()) => "in the audit trail, by the running agent".to_owned(),
            Err(error) => format!("not in the audit trail: {error}"),
        },
        Err(error) => format!("not in the audit trail: {error}"),
    };
    format!("recorded {journal}; {trail}")
}

/// `false` when there is no trail to write to: a selftest begins none.
fn append(settings: &Settings, evidence: &Evidence) -> Result<bool, AuditError> {
    if !settings.audit.directory.join("checkpoint").exists() {
        return Ok(false);
    }
    let io = |source| AuditError::Io {
        action: "start a runtime for",
        path: settings.audit.directory.clone(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
    runtime.block_on(async {
        let log = Log::open(LogSettings {
            directory: settings.audit.directory.clone(),
            origin: settings.audit.origin.clone(),
        })?;
        log.append(evidence.record("selftest")).await?;
        log.close().await?;
        Ok(true)
    })
}

fn table(rows: &[Row], evidence: &Evidence) -> String {
    let mut text = format!(
        "{:<28} {:<12} {:<34} {:<9} {:<34} OK\n",
        "ATTACK", "MODEL", "TARGET", "EXPECTED", "HAPPENED"
    );
    for row in rows {
        let ok = match row.ok {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<28} {:<12} {:<34} {:<9} {:<34} {ok}",
            row.attack, row.model, row.target, row.expected, row.happened
        );
    }
    let _ = writeln!(text, "\n{evidence}");
    text
}

fn list() -> String {
    let mut text = format!("{:<52} {:<4} {:<6} CLOSED BY\n", "ATTACK", "WAY", "RUNS");
    for Attack { name, direction, closes, runs, outcome } in ATTACKS {
        let runs = match runs {
            Runs::Suite => "suite",
            Runs::Live => "live",
        };
        let way = format!("{direction:?}").to_lowercase();
        let closed = match (closes, outcome) {
            (Some(closes), Outcome::Held) => closes.text().to_owned(),
            (_, Outcome::Open { reason, detected_by, .. }) => {
                format!("OPEN: {reason}. Detected by: {detected_by}")
            }
            (None, Outcome::Held) => "-".to_owned(),
        };
        let _ = writeln!(text, "{name:<52} {way:<4} {runs:<6} {closed}");
    }
    text
}
