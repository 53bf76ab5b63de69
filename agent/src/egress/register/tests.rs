//! The register as a whole: written, read, bounded, killed.

use super::*;
use crate::egress::names::{Known, Named};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn flow(address: &str, deed: Deed, seconds: u64) -> Flow {
    let key = FlowKey {
        scope: "llama".to_owned(),
        process: "python3".to_owned(),
        protocol: 6,
        address: address.parse().unwrap(),
        port: 443,
        deed,
        reason: if deed.is_violation() { "destination-not-allowed" } else { "" },
    };
    let mut seen = Seen::at(time(seconds), "eu");
    (seen.opened, seen.sent_bytes, seen.sent_packets, seen.received_bytes, seen.received_packets) =
        (1, 100, 2, 300, 3);
    Flow { key, seen }
}

fn pending(flows: impl IntoIterator<Item = Flow>) -> Pending {
    let mut pending = Pending::default();
    flows.into_iter().for_each(|flow| pending.add(flow));
    pending
}

fn rows(path: &Path, filter: &Filter) -> Vec<Row> {
    let mut rows = Vec::new();
    Reader::open(path)
        .unwrap()
        .flows(filter, |row| {
            rows.push(row);
            true
        })
        .unwrap();
    rows
}

fn address(number: u32) -> String {
    std::net::Ipv4Addr::from(0xc633_0000 + number).to_string()
}

#[test]
fn a_flow_is_one_row_however_often_it_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/register.sqlite");
    let mut store = Store::open(&path, Bounds::OURS).unwrap();
    let mut named = flow("192.0.2.30", Deed::Allowed, 5);
    named.seen.named = Some(Named { name: "mirror.example.eu".to_owned(), known: Known::Sni });
    named.seen.executable = Some("/usr/bin/python3".to_owned());
    store.write(&pending([named, flow("::ffff:192.0.2.30", Deed::Allowed, 7)])).unwrap();
    store
        .write(&pending([flow("192.0.2.30", Deed::Allowed, 3), flow("2001:db8::1", Deed::Denied, 9)]))
        .unwrap();
    assert_eq!(store.rows(), [1, 1]);

    let found = rows(&path, &Filter::default());
    assert_eq!(
        found.iter().map(|row| row.address.to_string()).collect::<Vec<_>>(),
        ["2001:db8::1", "192.0.2.30"]
    );
    let row = &found[1];
    assert_eq!(
        (row.count, row.sent_bytes, row.sent_packets, row.received_bytes, row.received_packets),
        (3, 300, 6, 900, 9)
    );
    assert_eq!((row.first, row.last), (3000, 7000));
    assert_eq!(
        (row.name.as_deref(), row.name_from.as_deref()),
        (Some("mirror.example.eu"), Some("sni")),
        "a name is kept"
    );
    assert_eq!(row.executable.as_deref(), Some("/usr/bin/python3"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for other in fs::read_dir(path.parent().unwrap()).unwrap() {
        let mode = other.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "SQLite's other files as well");
    }

    drop(store);
    assert_eq!(rows(&path, &Filter::default()), found, "the same without an agent");
    assert_eq!(Store::open(&path, Bounds::OURS).unwrap().rows(), [1, 1], "and in its next life");
}

#[test]
fn what_the_kernel_counts_and_what_it_tells_are_the_same_attempts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("register.sqlite");
    let mut store = Store::open(&path, Bounds::OURS).unwrap();
    let counted = flow("192.0.2.30", Deed::Denied, 5);
    let mut told = flow("192.0.2.30", Deed::Denied, 5);
    (told.seen.opened, told.seen.told) = (0, 1);
    store.write(&pending([counted, told])).unwrap();
    assert_eq!(rows(&path, &Filter::default())[0].count, 1);
}

#[test]
fn a_filter_leaves_out_what_it_does_not_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("register.sqlite");
    let mut store = Store::open(&path, Bounds::OURS).unwrap();
    let mut other = flow("192.0.2.31", Deed::Denied, 20);
    other.key.scope = "agent".to_owned();
    other.seen.region = "unknown".to_owned();
    store.write(&pending([flow("192.0.2.30", Deed::Allowed, 10), other])).unwrap();
    let all = Filter::default();
    for (filter, expected, why) in [
        (all.clone(), 2, "nothing is left out"),
        (Filter { scope: Some("llama".to_owned()), ..all.clone() }, 1, "a model"),
        (Filter { region: Some("unknown".to_owned()), ..all.clone() }, 1, "a region"),
        (Filter { deed: Some(Deed::WouldDeny), ..all.clone() }, 0, "a verdict"),
        (Filter { since: Some(15_000), ..all.clone() }, 1, "a time"),
    ] {
        assert_eq!(rows(&path, &filter).len(), expected, "{why}");
        let sums = Reader::open(&path).unwrap().by_region(&filter).unwrap();
        assert_eq!(sums.iter().map(|sum| sum.flows).sum::<u64>(), expected as u64, "{why}");
    }
}

#[test]
fn violations_outlive_any_number_of_allowed_flows_and_sums_stay_true() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("register.sqlite");
    let mut store = Store::open(&path, Bounds { allowed: 128, violations: 64 }).unwrap();
    store.write(&pending((0..64).map(|number| flow(&address(number), Deed::Denied, 1)))).unwrap();
    for batch in 1..20 {
        let flows =
            (0..50).map(|number| flow(&address(batch * 50 + number), Deed::Allowed, u64::from(batch) + 1));
        store.write(&pending(flows)).unwrap();
        assert!(store.rows()[0] <= 128, "{:?}", store.rows());
    }
    let denied = Filter { deed: Some(Deed::Denied), ..Filter::default() };
    assert_eq!(rows(&path, &denied).len(), 64, "not one violation made room");
    let reader = Reader::open(&path).unwrap();
    let sum = |filter: &Filter| {
        let sums = reader.by_region(filter).unwrap();
        assert_eq!(sums.len(), 1, "{sums:?}");
        (sums[0].flows, sums[0].count, sums[0].sent_bytes)
    };
    assert_eq!(sum(&Filter { deed: Some(Deed::Allowed), ..Filter::default() }), (950, 950, 95_000));
    let counted = store.rows()[0];
    assert_eq!(Store::open(&path, Bounds::OURS).unwrap().rows(), [counted, 64], "what is counted is there");

    store.write(&pending((100..140).map(|number| flow(&address(number), Deed::Denied, 99)))).unwrap();
    assert_eq!(store.rows()[1], 63, "violations make room for violations only");
    assert_eq!(sum(&denied), (104, 104, 10_400), "and are counted then");
}

#[test]
fn what_cannot_be_written_waits_within_bounds() {
    let mut pending = Pending::default();
    for number in 0..100_000 {
        let deed = if number % 2 == 0 { Deed::Allowed } else { Deed::Denied };
        pending.add(flow(&address(number), deed, 1));
    }
    assert_eq!(pending.flows.len(), 80_000);
    let over: u64 = pending.remainder.values().map(|(count, _)| count).sum();
    assert_eq!(over, 20_000, "the others are in the sums");
    let mut later = Pending::default();
    later.add(flow(&address(1), Deed::Denied, 9));
    later.add(flow(&address(200_000), Deed::Denied, 9));
    later.put_back(pending);
    let over: u64 = later.remainder.values().map(|(count, _)| count).sum();
    assert_eq!((later.flows.len(), over), (80_000, 20_001));
}

#[test]
fn a_damaged_register_is_put_aside_and_a_foreign_one_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("register.sqlite");
    fs::write(&path, vec![7; 8192]).unwrap();
    assert!(Reader::open(&path).err().is_some_and(|error| error.is_damage()));
    let (_store, aside) = Store::open_or_begin_anew(&path, Bounds::OURS).unwrap();
    assert_eq!(fs::read(aside.unwrap()).unwrap(), vec![7; 8192]);
    let other = directory.path().join("other.sqlite");
    rusqlite::Connection::open(&other)
        .unwrap()
        .execute_batch("PRAGMA user_version = 9; CREATE TABLE t (x);")
        .unwrap();
    assert!(matches!(
        Store::open_or_begin_anew(&other, Bounds::OURS),
        Err(RegisterError::Schema { found: 9, .. })
    ));
    assert!(matches!(Reader::open(&directory.path().join("none")), Err(RegisterError::Missing { .. })));
}

/// What a power cut leaves of the last write: any part of it.
#[test]
fn a_torn_write_is_found_and_what_was_written_before_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("register.sqlite");
    let log = directory.path().join("register.sqlite-wal");
    let mut store = Store::open(&path, Bounds::OURS).unwrap();
    let mut whole = Vec::new();
    for number in 0..20 {
        store.write(&pending([flow(&address(number), Deed::Denied, 1)])).unwrap();
        whole.push(fs::metadata(&log).unwrap().len());
    }
    let torn_at = directory.path().join("torn");
    fs::create_dir(&torn_at).unwrap();
    let torn = torn_at.join("register.sqlite");
    let written = fs::read(&log).unwrap();
    for cut in (0..=written.len()).step_by(1999).chain([written.len()]) {
        for spoiled in [false, true] {
            for old in fs::read_dir(&torn_at).unwrap() {
                fs::remove_file(old.unwrap().path()).unwrap();
            }
            fs::copy(&path, &torn).unwrap();
            let mut part = written[..cut].to_vec();
            // Blocks that never reached the disk read as zeros.
            if spoiled {
                part.resize(written.len(), 0);
            }
            fs::write(torn_at.join("register.sqlite-wal"), part).unwrap();
            let kept = whole.iter().filter(|length| usize::try_from(**length).unwrap() <= cut).count();
            let mut store = Store::open(&torn, Bounds::OURS).unwrap();
            assert_eq!(rows(&torn, &Filter::default()).len(), kept, "cut at {cut} of {}", written.len());
            store.write(&pending([flow("192.0.2.99", Deed::Denied, 2)])).unwrap();
            assert_eq!(store.rows(), [0, kept as u64 + 1], "and it is written on");
        }
    }
}

#[test]
fn a_register_that_turns_out_to_be_damaged_is_put_aside_while_it_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("register.sqlite");
    let mut store = Store::open(&path, Bounds::OURS).unwrap();
    store.write(&pending((0..50).map(|number| flow(&address(number), Deed::Denied, 1)))).unwrap();
    let aside = store.begin_anew().unwrap();
    assert_eq!(store.rows(), [0, 0]);
    store.write(&pending((50..90).map(|number| flow(&address(number), Deed::Denied, 1)))).unwrap();
    drop(store);
    assert_eq!(rows(&path, &Filter::default()).len(), 40, "the new one keeps what it is given");
    assert_eq!(rows(&aside, &Filter::default()).len(), 50, "and the old one what it had");
}

/// As a program of its own, so that it can be killed.
#[test]
fn killed_at_any_moment_it_loses_no_transaction_and_is_not_damaged() {
    const PLACE: &str = "BAILIWICK_TEST_REGISTER";
    if let Some(path) = std::env::var_os(PLACE) {
        let mut store = Store::open(Path::new(&path), Bounds { allowed: 400, violations: 100_000 }).unwrap();
        let began = std::time::Instant::now();
        for number in 0.. {
            if began.elapsed() > Duration::from_secs(20) {
                return;
            }
            let flows = (0..20).map(|part| {
                flow(
                    &address(number * 20 + part),
                    if part == 0 { Deed::Denied } else { Deed::Allowed },
                    number.into(),
                )
            });
            store.write(&pending(flows)).unwrap();
            // What is said is on the disk.
            println!("wrote {number}");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("register.sqlite");
    for life in 0..12 {
        let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "egress::register::tests::killed_at_any_moment_it_loses_no_transaction_and_is_not_damaged",
            ])
            .env(PLACE, &path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 17 * life));
        writer.kill().unwrap();
        let said = String::from_utf8(writer.wait_with_output().unwrap().stdout).unwrap();
        let wrote = said.lines().filter_map(|line| line.strip_prefix("wrote ")?.parse::<u32>().ok()).max();
        let reader = rusqlite::Connection::open(&path).unwrap();
        let sound: String = reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        if let Some(wrote) = wrote {
            let denied = Filter { deed: Some(Deed::Denied), ..Filter::default() };
            assert!(rows(&path, &denied).len() > wrote as usize, "{wrote} were said to be written");
        }
    }
    assert!(!rows(&path, &Filter::default()).is_empty(), "it wrote at all");
}
