//! A million flows in the register: memory, disk, and how long writing and reading take: `register [DIRECTORY] [FLOWS]`.
//!
//! One figure a line: name, value, unit, with tabs. Every tenth flow is a violation; that none is missing at the end, with
//! twice as many allowed flows as there is room for, is checked.

use bailiwick::egress::register::{Bounds, Deed, Filter, Flow, FlowKey, Pending, Reader, Seen, Store};
use std::error::Error;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Flows between two writes: what a host that opens so many a second has.
const BATCH: u64 = 5_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let flows: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let place = tempfile::Builder::new().prefix("bailiwick-register-").tempdir_in(&directory)?;
    let path = place.path().join("register.sqlite");
    let mut store = Store::open(&path, Bounds { allowed: flows, violations: flows })?;

    let new = write(&mut store, 0..flows)?;
    say("new flows", per_second(flows, new), "flows/s")?;
    let again = write(&mut store, 0..flows)?;
    say("the same flows again", per_second(flows, again), "flows/s")?;
    say("disk, a million flows", bytes_of(place.path())? / 1e6, "MB")?;
    let displacing = write(&mut store, flows..2 * flows)?;
    say("new flows, displacing others", per_second(flows, displacing), "flows/s")?;
    say("memory of the writer, at most", memory()?, "MB")?;

    let began = Instant::now();
    let reader = Reader::open(&path)?;
    let mut found = 0;
    let denied = Filter { deed: Some(Deed::Denied), ..Filter::default() };
    reader.flows(&denied, |_| {
        found += 1;
        true
    })?;
    let counted: u64 = reader.by_region(&Filter::default())?.iter().map(|sum| sum.count).sum();
    say("reading every violation and the sums", began.elapsed().as_secs_f64(), "s")?;
    if (found, counted) != (flows / 5, 3 * flows) {
        return Err(
            format!("{found} violations and {counted} attempts of {} and {}", flows / 5, 3 * flows).into()
        );
    }
    Ok(())
}

fn write(store: &mut Store, numbers: std::ops::Range<u64>) -> Result<Duration, Box<dyn Error>> {
    let began = Instant::now();
    let mut number = numbers.start;
    while number < numbers.end {
        let mut pending = Pending::default();
        let end = (number + BATCH).min(numbers.end);
        (number..end).for_each(|number| pending.add(flow(number)));
        store.write(&pending)?;
        number = end;
    }
    Ok(began.elapsed())
}

/// One of its own for each number, with names and paths as they are.
fn flow(number: u64) -> Flow {
    let deed = if number.is_multiple_of(10) { Deed::Denied } else { Deed::Allowed };
    let address =
        Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let key = FlowKey {
        scope: "llama".to_owned(),
        process: "python3".to_owned(),
        protocol: 6,
        address: IpAddr::V6(address),
        port: 443,
        deed,
        reason: if deed.is_violation() { "destination-not-allowed" } else { "" },
    };
    let mut seen = Seen::at(SystemTime::now(), "eu");
    (seen.opened, seen.sent_bytes, seen.received_bytes) = (1, 1500, 9000);
    seen.executable = Some("/usr/lib/llama/venv/bin/python3.11".to_owned());
    Flow { key, seen }
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn bytes_of(directory: &std::path::Path) -> io::Result<f64> {
    let mut bytes = 0.0;
    for file in std::fs::read_dir(directory)? {
        bytes += file?.metadata()?.len() as f64;
    }
    Ok(bytes)
}

/// The most that this process ever had (`VmHWM`, proc_pid_status(5)), in MB.
fn memory() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}

fn say(name: &str, value: f64, unit: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{name}\t{value:.1}\t{unit}")
}
