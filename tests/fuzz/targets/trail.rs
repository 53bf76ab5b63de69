//! Any change of any file of a signed trail, and any bytes in place of one: an error or the very same trail; never a
//! panic, never another trail that verifies.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bailiwick_audit::{Log, LogSettings, Record, Verified, verify};
use libfuzzer_sys::fuzz_target;

struct Trail {
    directory: tempfile::TempDir,
    files: Vec<(PathBuf, Vec<u8>)>,
    key: String,
    verified: Verified,
}

static TRAIL: OnceLock<Trail> = OnceLock::new();

fuzz_target!(|input: (u8, Option<u16>, Vec<u8>)| {
    let (which, at, bytes) = input;
    let trail = TRAIL.get_or_init(make);
    let (path, original) = &trail.files[usize::from(which) % trail.files.len()];
    let changed = match at {
        // Over what is there, at an offset.
        Some(at) => {
            let mut changed = original.clone();
            let at = usize::from(at) % (changed.len() + 1);
            let end = (at + bytes.len()).min(changed.len());
            changed.splice(at..end, bytes);
            changed
        }
        None => bytes,
    };
    fs::write(path, &changed).expect("a file of the trail");
    let outcome = verify(trail.directory.path(), Some(&trail.key));
    fs::write(path, original).expect("a file of the trail");
    match outcome {
        Err(_) => assert_ne!(&changed, original, "an unchanged trail was refused"),
        Ok(verified) => {
            let same = (&verified.origin, verified.size, &verified.root);
            let whole = (&trail.verified.origin, trail.verified.size, &trail.verified.root);
            assert_eq!(same, whole, "another trail under the same signature");
        }
    }
});

/// A trail of three hundred records: more than one tile, a partial one, a log behind it.
fn make() -> Trail {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let settings =
        LogSettings { directory: directory.path().to_owned(), origin: "bailiwick/fuzz".to_owned() };
    let log = Log::open(settings).expect("a trail");
    let key = log.verifier_key().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for number in 0..300 {
            let detail = BTreeMap::from([("number".to_owned(), number.to_string())]);
            log.append(Record::Control { event: "fuzz".to_owned(), detail }).await.expect("a record");
        }
        log.close().await.expect("a last checkpoint");
    });
    let verified = verify(directory.path(), Some(&key)).expect("the trail as it was written");
    let mut files = Vec::new();
    collect(directory.path(), &mut files);
    files.retain(|path| !path.starts_with(directory.path().join("keys")) && !path.ends_with("lock"));
    files.sort();
    let files = files.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect();
    Trail { directory, files, key, verified }
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, into) } else { into.push(path) }
    }
}
