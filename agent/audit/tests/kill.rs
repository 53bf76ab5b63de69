//! SIGKILL at any moment: what was acknowledged is there, and the trail verifies.
//!
//! Without the test harness, because the test starts itself again as the process to be killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bailiwick_audit::{Log, LogSettings, Record, records, verify};

const ROUNDS: u64 = 20;
const CHILD: &str = "append-until-killed";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1..) {
        Some([mode, directory]) if mode == CHILD => append_until_killed(Path::new(directory)),
        Some(_) | None => acknowledged_records_survive_sigkill(),
    }
}

fn acknowledged_records_survive_sigkill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut acknowledged, mut busiest) = (0_u64, 0_u64);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test's path"))
            .args([CHILD.as_ref(), directory.path().as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test starts itself");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let reader = std::thread::spawn(move || {
            let numbers = output
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| line.strip_suffix('.')?.parse::<u64>().ok());
            numbers.map(|index| index + 1).max().unwrap_or(0)
        });
        // Some rounds end during recovery, some before and some behind the first checkpoints.
        std::thread::sleep(Duration::from_millis(40 + (round * 389) % 1500));
        child.kill().expect("SIGKILL");
        child.wait().expect("the child ends");
        let told = reader.join().expect("the reader ends");
        busiest = busiest.max(told.saturating_sub(acknowledged));
        acknowledged = acknowledged.max(told);
        if acknowledged == 0 {
            continue;
        }
        let verified =
            verify(directory.path(), None).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let found =
            records(directory.path()).unwrap_or_else(|error| panic!("round {round}: {error}")).len() as u64;
        assert_eq!(found, verified.size + verified.unsigned, "round {round}");
        assert!(found >= acknowledged, "round {round}: {acknowledged} acknowledged, {found} found");
    }
    assert!(busiest > 50, "the rounds must kill a busy writer; the busiest acknowledged {busiest}");
    let text = format!("{ROUNDS} times SIGKILL, {acknowledged} acknowledged records survived\n");
    std::io::stderr().write_all(text.as_bytes()).expect("stderr");
}

/// Prints each acknowledged index as a line that ends in a full stop, so that a line cut off by the kill is not misread.
fn append_until_killed(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let settings = LogSettings { directory: directory.to_path_buf(), origin: "bailiwick/kill".into() };
        let log = Log::open(settings).expect("the trail opens after a kill");
        let appenders: Vec<_> = (0..8).map(|_| tokio::spawn(append_for_ever(log.clone()))).collect();
        for appender in appenders {
            appender.await.expect("runs until killed");
        }
    });
}

async fn append_for_ever(log: Log) {
    loop {
        let record = Record::Control { event: "tick".into(), detail: BTreeMap::new() };
        let index = log.append(record).await.expect("an acknowledgement").0;
        let line = format!("{index}.\n");
        std::io::stdout().write_all(line.as_bytes()).expect("a pipe");
    }
}
