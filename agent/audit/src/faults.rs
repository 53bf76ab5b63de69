//! The writer on a disk that fails, hangs or is slow; the reader on bytes that were changed.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::disk::{Disk, LocalDisk};
use crate::wal::SEGMENT_BYTES;
use crate::{AuditError, Bell, Index, KeySource, Log, LogSettings, Record, records, verify, verify_since};

/// Fails one operation, counted from the start, and every one after it when `lasting`. A failing write leaves half behind.
struct FaultyDisk {
    done: AtomicU64,
    failing: u64,
    lasting: bool,
    error: i32,
}

impl FaultyDisk {
    fn fault(&self) -> io::Result<()> {
        let now = self.done.fetch_add(1, Ordering::SeqCst);
        let fails = now == self.failing || (self.lasting && now > self.failing);
        if fails { Err(io::Error::from_raw_os_error(self.error)) } else { Ok(()) }
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.fault()?;
        LocalDisk.create(path, mode)
    }
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.fault() {
            LocalDisk.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        LocalDisk.write(file, bytes, offset)
    }
    fn sync_content(&self, file: &File) -> io::Result<()> {
        self.fault()?;
        LocalDisk.sync_content(file)
    }
    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        self.fault()?;
        LocalDisk.cut(file, length)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fault()?;
        LocalDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.fault()?;
        LocalDisk.remove(path)
    }
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.fault()?;
        LocalDisk.make_directory(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.fault()?;
        LocalDisk.sync_directory(path)
    }
}

/// Every `fdatasync` takes this long.
struct SlowDisk(Duration);

impl Disk for SlowDisk {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        LocalDisk.create(path, mode)
    }
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        LocalDisk.write(file, bytes, offset)
    }
    fn sync_content(&self, file: &File) -> io::Result<()> {
        std::thread::sleep(self.0);
        LocalDisk.sync_content(file)
    }
    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        LocalDisk.cut(file, length)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        LocalDisk.make_directory(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_directory(path)
    }
}

fn settings(directory: &Path) -> LogSettings {
    LogSettings { directory: directory.to_path_buf(), origin: "bailiwick/test".into() }
}

fn record(number: u64) -> Record {
    Record::Control { event: format!("event-{number}"), detail: BTreeMap::new() }
}

async fn append_all(log: &Log, numbers: std::ops::Range<u64>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in numbers {
        let log = log.clone();
        tasks.spawn(async move { log.append(record(number)).await });
    }
    while let Some(appended) = tasks.join_next().await {
        appended.unwrap().unwrap();
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_tree(&path, &target) } else { fs::copy(&path, &target).map(drop).unwrap() }
    }
}

/// Every file that a verifier reads.
fn trail_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(current) = pending.pop() {
        for entry in fs::read_dir(current).unwrap() {
            let path = entry.unwrap().path();
            let private =
                path.extension().is_some_and(|extension| extension == "key") || path.ends_with("lock");
            if path.is_dir() {
                pending.push(path)
            } else if !private {
                files.push(path)
            }
        }
    }
    files
}

#[tokio::test]
async fn concurrent_appends_get_distinct_dense_indexes_and_survive() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(settings(directory.path())).unwrap();
    let tasks: Vec<_> = (0..1000)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move { log.append(record(n)).await.unwrap() })
        })
        .collect();
    let mut indexes = HashSet::new();
    for task in tasks {
        indexes.insert(task.await.unwrap());
    }
    assert_eq!(indexes, (0..1000).map(Index).collect());
    log.close().await.unwrap();
    assert!(matches!(log.append(record(0)).await, Err(AuditError::Closed)));
    let verified = verify(directory.path(), Some(log.verifier_key())).unwrap();
    assert_eq!(
        (verified.size, verified.unsigned, verified.torn_bytes, verified.key),
        (1000, 0, 0, KeySource::Given)
    );
    let events: HashSet<_> = records(directory.path()).unwrap().into_iter().map(|(_, json)| json).collect();
    assert_eq!(events.len(), 1000);
}

#[tokio::test]
async fn the_log_goes_on_where_it_ended_and_extends_what_was_kept() {
    let directory = TempDir::new().unwrap();
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for (round, appended) in [0_u64, 3, 250, 10, 520, 1].into_iter().enumerate() {
        let log = Log::open(settings(directory.path())).unwrap();
        append_all(&log, 0..appended).await;
        log.close().await.unwrap();
        for earlier in &kept {
            verify_since(directory.path(), None, Some(earlier))
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        kept.push(fs::read(directory.path().join("checkpoint")).unwrap());
    }
    assert_eq!(verify(directory.path(), None).unwrap().size, 784);

    // Another history under the same key, as long and properly signed, does not extend the kept one.
    let other = TempDir::new().unwrap();
    fs::create_dir(other.path().join("keys")).unwrap();
    fs::copy(directory.path().join("keys/signing.key"), other.path().join("keys/signing.key")).unwrap();
    let log = Log::open(settings(other.path())).unwrap();
    append_all(&log, 5000..5800).await;
    log.close().await.unwrap();
    assert_eq!(verify(other.path(), None).unwrap().size, 800);
    let refused = verify_since(other.path(), None, Some(&kept[4])).unwrap_err();
    assert!(refused.is_tampering(), "{refused}");
    let shorter = verify_since(other.path(), None, Some(&kept[5])).unwrap_err();
    assert!(shorter.is_tampering(), "{shorter}");
}

#[tokio::test]
async fn a_second_writer_is_refused_until_the_first_is_closed() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(settings(directory.path())).unwrap();
    let refused = Log::open(settings(directory.path()));
    assert!(matches!(refused, Err(AuditError::Locked { .. })), "{refused:?}");
    log.close().await.unwrap();
    Log::open(settings(directory.path())).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn what_queues_during_an_fsync_shares_the_next_one() {
    let directory = TempDir::new().unwrap();
    let log = Log::open_on(
        settings(directory.path()),
        Bell::default(),
        Arc::new(SlowDisk(Duration::from_millis(50))),
        SEGMENT_BYTES,
    )
    .unwrap();
    append_all(&log, 0..64).await;
    let statistics = log.statistics();
    assert_eq!(statistics.records, 64);
    assert!(statistics.commits <= 4, "{statistics:?}: 64 concurrent appends share a few fsyncs");
    log.close().await.unwrap();
}

#[test]
fn a_runtime_that_rings_shares_its_fsyncs() {
    let directory = TempDir::new().unwrap();
    let bell = Bell::default();
    let ring = bell.clone();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().on_thread_park(move || ring.ring()).build().unwrap();
    let log = Log::open_with(settings(directory.path()), bell.clone()).unwrap();
    runtime.block_on(async {
        let appenders: Vec<_> = (0..64)
            .map(|number| {
                let log = log.clone();
                tokio::spawn(async move {
                    for turn in 0..20 {
                        log.append(record(number * 20 + turn)).await.unwrap();
                    }
                })
            })
            .collect();
        for appender in appenders {
            appender.await.unwrap();
        }
        let statistics = log.statistics();
        assert_eq!(statistics.records, 64 * 20);
        assert!(bell.is_rung(), "the runtime's threads slept");
        // Twenty, unless the machine is slow: the wait for the others ends after a millisecond.
        assert!(statistics.commits <= 160, "{statistics:?}: all 64 share each fsync, but for a few");
        log.close().await.unwrap();
    });
}

#[tokio::test]
async fn a_hanging_disk_fails_appends_in_time() {
    let directory = TempDir::new().unwrap();
    // Opening syncs too, a few times; a hang of seven seconds begins with the first append.
    Log::open(settings(directory.path())).unwrap().close().await.unwrap();
    let disk = Arc::new(SlowDisk(Duration::from_secs(7)));
    let log = Log::open_on(settings(directory.path()), Bell::default(), disk, SEGMENT_BYTES).unwrap();
    let begun = Instant::now();
    let refused = log.append(record(0)).await;
    assert!(matches!(refused, Err(AuditError::TimedOut { seconds: 5 })), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_millis(6500));
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_alone() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(settings(directory.path())).unwrap();
    let large = Record::Control { event: "x".repeat(70_000), detail: BTreeMap::new() };
    assert!(matches!(log.append(large).await, Err(AuditError::TooLarge { .. })));
    assert_eq!(log.append(record(0)).await.unwrap(), Index(0));
    log.close().await.unwrap();
}

/// Appends, a checkpoint in between, more appends, close. What was acknowledged is returned, and whether anything failed.
async fn scenario(directory: &Path, disk: FaultyDisk, segment_bytes: u64) -> (Vec<Index>, bool) {
    let mut acknowledged = Vec::new();
    let opened = Log::open_on(settings(directory), Bell::default(), Arc::new(disk), segment_bytes);
    let Ok(log) = opened else { return (acknowledged, true) };
    let mut failed = false;
    for number in 0..4 {
        match log.append(record(number)).await {
            Ok(index) => {
                assert!(!failed, "nothing is acknowledged after a failure");
                acknowledged.push(index);
            }
            Err(error) => {
                assert!(matches!(error, AuditError::Failed { .. }), "{error}");
                failed = true;
            }
        }
    }
    let closed = log.close().await;
    assert!(!failed || closed.is_err(), "a failed trail does not close as if nothing had been");
    (acknowledged, failed || closed.is_err())
}

#[tokio::test]
async fn each_disk_operation_may_fail_and_nothing_acknowledged_is_lost() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    /// Each commit begins a segment, written over one of the life before.
    const SHORT: u64 = 1;
    for (error, lasting, segment_bytes) in [
        (EIO, false, SEGMENT_BYTES),
        (ENOSPC, true, SEGMENT_BYTES),
        (EIO, false, SHORT),
        (ENOSPC, true, SHORT),
    ] {
        let mut failing = 0;
        loop {
            let directory = TempDir::new().unwrap();
            let path = directory.path();
            // The second life of a trail whose last write was cut off: recovery's own operations fail as well.
            let log =
                Log::open_on(settings(path), Bell::default(), Arc::new(LocalDisk), segment_bytes).unwrap();
            for number in 100..103 {
                log.append(record(number)).await.unwrap();
            }
            let crashed = TempDir::new().unwrap();
            copy_tree(path, crashed.path());
            log.close().await.unwrap();
            let path = crashed.path();
            let last = if segment_bytes == SHORT { 2 } else { 0 };
            let segment = path.join(crate::wal::segment_path(last));
            let bytes = fs::read(&segment).unwrap();
            fs::write(&segment, [bytes.as_slice(), b"BWFR\0\0\0"].concat()).unwrap();

            let disk = FaultyDisk { done: AtomicU64::new(0), failing, lasting, error };
            let (acknowledged, failed) = scenario(path, disk, segment_bytes).await;
            let log =
                Log::open(settings(path)).unwrap_or_else(|error| panic!("after fault {failing}: {error}"));
            log.close().await.unwrap();
            let verified =
                verify(path, None).unwrap_or_else(|error| panic!("after fault {failing}: {error}"));
            let found: HashSet<_> = records(path).unwrap().into_iter().map(|(index, _)| index).collect();
            assert!(verified.size >= 3, "after fault {failing}");
            assert!(acknowledged.iter().all(|index| found.contains(index)), "after fault {failing}");
            if !failed {
                assert!(failing > 40, "the scenario has more operations than {failing}");
                break;
            }
            failing += 1;
        }
    }
}

#[tokio::test]
async fn a_segment_that_is_written_over_holds_what_was_appended_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let log = Log::open_on(settings(path), Bell::default(), Arc::new(LocalDisk), 1).unwrap();
    let large = Record::Control { event: "x".repeat(20_000), detail: BTreeMap::new() };
    for _ in 0..3 {
        log.append(large.clone()).await.unwrap();
    }
    drop(log);
    // The segments are spare once their records are signed, at the latest when the trail is opened again.
    let log = loop {
        match Log::open_on(settings(path), Bell::default(), Arc::new(LocalDisk), 1) {
            Err(AuditError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            opened => break opened.unwrap(),
        }
    };
    let before = verify(path, None).unwrap();
    let index = log.append(record(3)).await.unwrap();
    let segment = path.join(crate::wal::segment_path(index.0));
    assert!(fs::metadata(&segment).unwrap().len() > 20_000, "it is one of those that were there");
    let after = verify(path, None).unwrap();
    assert_eq!((after.size, after.unsigned, after.torn_bytes), (before.size, 1, 0));
    assert_eq!(records(path).unwrap().len(), 4);
    log.close().await.unwrap();
    let closed = verify(path, None).unwrap();
    assert_eq!((closed.size, closed.unsigned, closed.torn_bytes), (4, 0, 0));
    assert_eq!(fs::read_dir(path.join("tmp")).unwrap().count(), 0, "and no copy of a record stays behind");
}

#[tokio::test]
async fn recovery_never_shrinks_below_what_was_signed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let log = Log::open(settings(path)).unwrap();
    append_all(&log, 0..5).await;
    log.close().await.unwrap();
    // (what is removed, why recovery must refuse)
    let rows = [
        ("wal/00000000000000000005.wal", "the write-ahead log is gone"),
        ("tile/0/000.p/5", "the tile is gone"),
        ("tile/entries/000.p/5", "the records are gone"),
        ("checkpoint", "the head is gone"),
        ("keys/signing.key", "a new key would begin another trail"),
    ];
    for (file, why) in rows {
        let copy = TempDir::new().unwrap();
        copy_tree(path, copy.path());
        fs::remove_file(copy.path().join(file)).unwrap();
        let refused = Log::open(settings(copy.path())).expect_err(why);
        assert!(refused.to_string().contains(file), "{why}: {refused}");
        if !file.starts_with("keys") {
            let detected = verify(copy.path(), None).expect_err(why);
            assert!(detected.is_tampering() && detected.to_string().contains(file), "{why}: {detected}");
        }
    }
}

#[tokio::test]
async fn a_torn_write_ahead_log_recovers_at_every_length() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(settings(directory.path())).unwrap();
    for number in 0..3 {
        log.append(record(number)).await.unwrap();
    }
    let crashed = TempDir::new().unwrap();
    copy_tree(directory.path(), crashed.path());
    log.close().await.unwrap();
    let segment = "wal/00000000000000000000.wal";
    let bytes = fs::read(crashed.path().join(segment)).unwrap();
    let mut sizes = HashSet::new();
    for length in 24..=bytes.len() {
        let copy = TempDir::new().unwrap();
        copy_tree(crashed.path(), copy.path());
        fs::write(copy.path().join(segment), &bytes[..length]).unwrap();
        let before = verify(copy.path(), None).unwrap();
        Log::open(settings(copy.path())).unwrap().close().await.unwrap();
        let after = verify(copy.path(), None).unwrap();
        assert_eq!(
            (after.size, after.unsigned, after.torn_bytes),
            (before.unsigned, 0, 0),
            "cut to {length}"
        );
        sizes.insert(after.size);
    }
    assert_eq!(sizes, HashSet::from([0, 1, 2, 3]));
}

/// Every change of these bytes must be detected and the file be named.
fn assert_detected(
    directory: &Path,
    file: &Path,
    changed: &[u8],
    what: &str,
    accepted: impl Fn(&crate::Verified) -> bool,
) {
    let original = fs::read(file).unwrap();
    fs::write(file, changed).unwrap();
    let name = file.strip_prefix(directory).unwrap().display().to_string();
    match verify(directory, None) {
        Ok(verified) => assert!(accepted(&verified), "{name}, {what}: not detected: {verified:?}"),
        Err(error) => {
            assert!(error.is_tampering(), "{name}, {what}: {error}");
            assert!(error.to_string().contains(&name), "{name}, {what}: names another file: {error}");
        }
    }
    fs::write(file, original).unwrap();
}

#[tokio::test]
async fn every_flipped_and_every_cut_byte_is_detected() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(settings(directory.path())).unwrap();
    for number in 0..3 {
        log.append(record(number)).await.unwrap();
    }
    log.close().await.unwrap();
    // The same trail a moment after two more appends, before they are signed: what a crash or a copy of a live trail looks like.
    let live = Log::open(settings(directory.path())).unwrap();
    live.append(record(3)).await.unwrap();
    live.append(record(4)).await.unwrap();
    let unsigned = TempDir::new().unwrap();
    copy_tree(directory.path(), unsigned.path());
    live.close().await.unwrap();

    for (path, unsigned) in [(directory.path(), 0), (unsigned.path(), 2)] {
        assert_eq!(verify(path, None).unwrap().unsigned, unsigned);
        let files = trail_files(path);
        assert_eq!(files.len(), 5, "{files:?}");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let log_tail = unsigned > 0 && file.extension().is_some_and(|extension| extension == "wal");
            for place in 0..bytes.len() {
                for mask in [0x01, 0x20] {
                    let mut changed = bytes.clone();
                    changed[place] ^= mask;
                    // The last unsigned commit looks like an interrupted write: it is reported as such.
                    let what = format!("byte {place} ^ {mask:#x}");
                    assert_detected(path, &file, &changed, &what, |v| {
                        log_tail && v.torn_bytes > 0 && v.unsigned == 1
                    });
                }
                // Cut between two unsigned commits nothing is left to see: this is the unanchored window.
                let what = format!("cut to {place}");
                assert_detected(path, &file, &bytes[..place], &what, |v| log_tail && v.unsigned < unsigned);
            }
            let longer = [bytes.as_slice(), b"\0"].concat();
            assert_detected(path, &file, &longer, "a byte more", |v| v.torn_bytes == 1);
        }
    }
}

#[tokio::test]
async fn signatures_of_others_may_stand_beside_ours_but_not_in_its_place() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(settings(directory.path())).unwrap();
    log.append(record(0)).await.unwrap();
    log.close().await.unwrap();
    let checkpoint = directory.path().join("checkpoint");
    let ours = fs::read_to_string(&checkpoint).unwrap();
    let witness = "\u{2014} witness.example AAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
    fs::write(&checkpoint, format!("{ours}{witness}")).unwrap();
    assert_eq!(
        verify(directory.path(), None).unwrap().size,
        1,
        "a witness's signature (C2SP tlog-cosignature)"
    );
    let (text, _) = ours.split_once("\n\n").unwrap();
    fs::write(&checkpoint, format!("{text}\n\n{witness}")).unwrap();
    assert!(verify(directory.path(), None).unwrap_err().is_tampering(), "a witness alone");
}

#[tokio::test]
async fn changes_in_a_log_of_several_tiles_are_detected() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let log = Log::open(settings(path)).unwrap();
    append_all(&log, 0..600).await;
    log.close().await.unwrap();
    let files = trail_files(path);
    for expected in ["tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/002.p/88"]
    {
        assert!(files.contains(&path.join(expected)), "{expected} is missing: {files:?}");
    }
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for place in (0..bytes.len()).step_by(251) {
            let mut changed = bytes.clone();
            changed[place] ^= 0x04;
            assert_detected(path, &file, &changed, &format!("byte {place}"), |_| false);
            assert_detected(path, &file, &bytes[..place], &format!("cut to {place}"), |_| false);
        }
        fs::remove_file(&file).unwrap();
        let missing = verify(path, None).unwrap_err();
        // Without the verifier key nothing is known to be wrong, and nothing to be right.
        assert_eq!(missing.is_tampering(), !file.ends_with("verifier.pub"), "{missing}");
        fs::write(&file, bytes).unwrap();
    }
    fs::write(path.join("tile/0/003"), [0; 8192]).unwrap();
    assert!(verify(path, None).unwrap_err().to_string().contains("tile/0/003"), "a tile too many");
}

#[tokio::test]
async fn readers_work_beside_a_live_writer() {
    let directory = TempDir::new().unwrap();
    // Short segments: they are written over all the time.
    let log = Log::open_on(settings(directory.path()), Bell::default(), Arc::new(LocalDisk), 4096).unwrap();
    let writer = log.clone();
    let writing = tokio::spawn(async move {
        let mut number = 0;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(3500) {
            append_all(&writer, number..number + 20).await;
            number += 20;
        }
        number
    });
    let (mut rounds, mut last) = (0, 0);
    while !writing.is_finished() {
        let path = directory.path().to_path_buf();
        let (found, verified) = tokio::task::spawn_blocking(move || {
            (records(&path).unwrap().len(), verify(&path, None).unwrap())
        })
        .await
        .unwrap();
        assert!(found >= last, "{found} after {last}");
        assert!(verified.size + verified.unsigned >= found as u64);
        (rounds, last) = (rounds + 1, found);
    }
    assert!(rounds > 3, "only {rounds} rounds");
    let total = writing.await.unwrap();
    assert_eq!(records(directory.path()).unwrap().len() as u64, total);
    log.close().await.unwrap();
}

#[tokio::test]
async fn an_admitted_request_without_outcome_is_counted_not_condemned() {
    let directory = TempDir::new().unwrap();
    let log = Log::open(settings(directory.path())).unwrap();
    for request in ["r-1", "r-2"] {
        let admit = Record::Admit {
            request: request.into(),
            subject: log.pseudonym("alice"),
            issuer: "https://login.example".into(),
            rule: "analysts".into(),
            model: "llama".into(),
            operation: "chat".into(),
            client: log.pseudonym("198.51.100.7"),
            client_region: None,
            streamed: true,
            request_bytes: 12,
            masked: BTreeMap::new(),
            policy: "p".into(),
            upstream: None,
        };
        log.append(admit).await.unwrap();
    }
    let outcome = Record::Outcome {
        request: "r-1".into(),
        outcome: "complete".into(),
        status: 200,
        response_bytes: 1,
        duration_ms: 1,
        masked: BTreeMap::new(),
        reason: None,
    };
    log.append(outcome).await.unwrap();
    log.close().await.unwrap();
    assert_eq!(verify(directory.path(), None).unwrap().open_requests, 1);
}

#[tokio::test]
async fn keys_are_private_stay_the_same_and_are_never_shown() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let log = Log::open(settings(path)).unwrap();
    let (verifier, pseudonym) = (log.verifier_key().to_owned(), log.pseudonym("alice"));
    assert!(pseudonym.0.starts_with("1-") && pseudonym.0.len() == 34, "{pseudonym:?}");
    assert_ne!(pseudonym, log.pseudonym("bob"));
    let signing = path.join("keys/signing.key");
    for private in [&signing, &path.join("keys/pseudonym-1.key")] {
        assert_eq!(fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let secret = fs::read_to_string(&signing).unwrap();
    assert!(!format!("{log:?} {:?}", log.statistics()).contains(secret.trim().rsplit('+').next().unwrap()));
    log.close().await.unwrap();

    let log = Log::open(settings(path)).unwrap();
    assert_eq!((log.verifier_key(), log.pseudonym("alice")), (verifier.as_str(), pseudonym));
    log.close().await.unwrap();

    let other = LogSettings { origin: "bailiwick/other".into(), ..settings(path) };
    assert!(matches!(Log::open(other), Err(AuditError::Key { .. })), "another origin");
    fs::set_permissions(&signing, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Log::open(settings(path)), Err(AuditError::KeyExposed { mode: 0o640, .. })));
    for origin in ["", "two words", "a+b", "line\nbreak", "bell\u{7}"] {
        let fresh = TempDir::new().unwrap();
        let settings = LogSettings { directory: fresh.path().into(), origin: origin.into() };
        assert!(matches!(Log::open(settings), Err(AuditError::Origin { .. })), "{origin:?}");
    }
}
