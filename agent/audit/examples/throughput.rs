//! Appends a second, fsyncs and latency at several concurrencies: `throughput [DIRECTORY] [SECONDS]`.
//!
//! One line of JSON a concurrency. The directory decides which disk is measured; its content is a fresh trail below it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bailiwick_audit::{Bell, Log, LogSettings, Pseudonym, Record};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    for concurrency in [1, 16, 64, 256] {
        // As in the agent.
        let bell = Bell::default();
        let ring = bell.clone();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().on_thread_park(move || ring.ring()).build()?;
        let trail = tempfile::Builder::new().prefix("bailiwick-throughput-").tempdir_in(&directory)?;
        let settings =
            LogSettings { directory: trail.path().to_path_buf(), origin: "bailiwick/throughput".into() };
        let line = runtime.block_on(measure(settings, bell, concurrency, Duration::from_secs(seconds)))?;
        io::stdout().write_all(line.as_bytes())?;
    }
    Ok(())
}

async fn measure(
    settings: LogSettings,
    bell: Bell,
    concurrency: u32,
    duration: Duration,
) -> Result<String, Box<dyn std::error::Error>> {
    let log = Log::open_with(settings, bell)?;
    let begun = Instant::now();
    let mut appenders = Vec::new();
    for _ in 0..concurrency {
        let log = log.clone();
        appenders.push(tokio::spawn(async move {
            let mut micros = Vec::new();
            while begun.elapsed() < duration {
                let asked = Instant::now();
                log.append(record()).await?;
                micros.push(asked.elapsed().as_micros());
            }
            Ok::<_, bailiwick_audit::AuditError>(micros)
        }));
    }
    let mut micros = Vec::new();
    for appender in appenders {
        micros.extend(appender.await??);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let statistics = log.statistics();
    log.close().await?;
    micros.sort_unstable();
    let at = |per_cent: usize| micros.get(micros.len() * per_cent / 100).copied().unwrap_or_default();
    Ok(format!(
        "{{\"concurrency\":{concurrency},\"appends\":{},\"appends_per_second\":{:.0},\"fsyncs\":{},\"p50_us\":{},\"p99_us\":{}}}\n",
        statistics.records,
        f64::from(u32::try_from(statistics.records)?) / elapsed,
        statistics.commits,
        at(50),
        at(99),
    ))
}

/// About 500 bytes, like an admitted request.
fn record() -> Record {
    Record::Admit {
        request: "0190163d-8694-739b-aea5-966c26f8ad91".into(),
        subject: Pseudonym("1-9f86d081884c7d659a2feaa0c55ad015".into()),
        issuer: "https://login.example.eu/realms/production".into(),
        rule: "analysts".into(),
        model: "llama".into(),
        operation: "chat".into(),
        client: Pseudonym("1-60303ae22b998861bce3b28f33eec1be".into()),
        client_region: Some("eu".into()),
        streamed: true,
        request_bytes: 1834,
        masked: BTreeMap::from([("email".into(), 2), ("iban".into(), 1)]),
        policy: "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae".into(),
        upstream: None,
    }
}
