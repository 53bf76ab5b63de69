//! The audit trail from outside: a verifier that shares no code with it, and a disk that is really full.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use bailiwick_audit::{AuditError, Log, LogSettings, Record, records, verify};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// Reads the public format with the standard library only: RFC 6962 hashes, C2SP tiles, the note's parts for openssl.
/// Arguments: the trail, its verifier key, a directory for `text`, `signature` and `key.der`.
const INDEPENDENT_VERIFIER: &str = r#"
import base64, hashlib, json, os, sys
trail, vkey, out = sys.argv[1:4]
sha = lambda b: hashlib.sha256(b).digest()
name, keyhash, key64 = vkey.split("+", 2)
key = base64.b64decode(key64, validate=True)
assert key[0] == 1 and len(key) == 33, "not an Ed25519 verifier key"
assert sha(name.encode() + b"\n" + key)[:4].hex() == keyhash, "the key hash is not the key's"

note = open(trail + "/checkpoint", encoding="utf-8", newline="").read()
text, signatures = note.rsplit("\n\n", 1)
text += "\n"
lines = text.split("\n")
origin, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2])
assert origin == name and lines[3:] == [""], "origin"
dash, signer, sig64 = signatures.rstrip("\n").split(" ")
sig = base64.b64decode(sig64, validate=True)
assert dash == "\u2014" and signer == name and sig[:4].hex() == keyhash and len(sig) == 68, "signature line"

def path(kind, n, width):
    parts = ["%03d" % (n % 1000)]
    n //= 1000
    while n:
        parts.insert(0, "x%03d" % (n % 1000))
        n //= 1000
    return "%s/tile/%s/%s%s" % (trail, kind, "/".join(parts), "" if width == 256 else ".p/%d" % width)

leaves = []
for n in range((size + 255) // 256):
    width = min(256, size - n * 256)
    bundle = open(path("entries", n, width), "rb").read()
    at = 0
    for _ in range(width):
        length = int.from_bytes(bundle[at:at + 2], "big")
        entry = bundle[at + 2:at + 2 + length]
        assert len(entry) == length, "cut bundle"
        record = json.loads(entry)
        canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert canonical == entry, "not canonical: %r" % entry
        assert record["v"] == 1 and record["type"] and record["time"].endswith("Z"), "required fields"
        leaves.append(sha(b"\0" + entry))
        at += 2 + length
    assert at == len(bundle), "trailing bytes in a bundle"

def mth(hashes):
    if not hashes: return sha(b"")
    if len(hashes) == 1: return hashes[0]
    k = 1
    while k * 2 < len(hashes): k *= 2
    return sha(b"\1" + mth(hashes[:k]) + mth(hashes[k:]))

assert mth(leaves) == root, "the root is not that of the records"
level, hashes = 0, leaves
while hashes:
    for n in range((len(hashes) + 255) // 256):
        part = hashes[n * 256:n * 256 + 256]
        assert open(path(level, n, len(part)), "rb").read() == b"".join(part), "tile %d/%d" % (level, n)
    hashes = [mth(hashes[i:i + 256]) for i in range(0, len(hashes) // 256 * 256, 256)]
    level += 1
open(out + "/text", "wb").write(text.encode())
open(out + "/signature", "wb").write(sig[4:])
open(out + "/key.der", "wb").write(bytes.fromhex("302a300506032b6570032100") + key[1:])
print(size)
"#;

#[tokio::test]
async fn an_independent_verifier_agrees() {
    for size in [0, 1, 255, 256, 257, 700] {
        let directory = TempDir::new().unwrap();
        let trail = directory.path().join("audit");
        let log = open(&trail).unwrap();
        append(&log, size).await;
        log.close().await.unwrap();
        assert_eq!(independently_verified(&trail, log.verifier_key()), Ok(size), "a log of {size}");
    }
}

#[tokio::test]
async fn an_independent_verifier_sees_changes_too() {
    let directory = TempDir::new().unwrap();
    let trail = directory.path().join("audit");
    let log = open(&trail).unwrap();
    append(&log, 300).await;
    log.close().await.unwrap();
    for file in ["checkpoint", "tile/0/000", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"] {
        let path = trail.join(file);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        // In the checkpoint this is in the root or the signature, elsewhere a hash or a record.
        let place = changed.len() - 12;
        changed[place] ^= 0x03;
        fs::write(&path, changed).unwrap();
        let found = independently_verified(&trail, log.verifier_key());
        assert!(found.is_err(), "{file} was changed: {found:?}");
        assert!(verify(&trail, Some(log.verifier_key())).unwrap_err().is_tampering(), "{file} was changed");
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_full_disk_stops_the_trail_and_loses_nothing_acknowledged() {
    let directory = TempDir::new().unwrap();
    let (small, saved) = (directory.path().join("small"), directory.path().join("saved"));
    fs::create_dir(&small).unwrap();
    // A mount namespace of this thread alone: nothing is left behind, however this ends. The writer's threads inherit it.
    let full = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: this test needs root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=512k"))
            .expect("a small tmpfs");
        runtime().block_on(async {
            let log = open(&small).unwrap();
            let mut acknowledged = 0;
            let failure = loop {
                match log.append(record(acknowledged)).await {
                    Ok(index) => {
                        assert_eq!(index.0, acknowledged);
                        acknowledged += 1;
                    }
                    Err(error) => break error,
                }
                assert!(acknowledged < 1_000_000, "the disk never fills");
            };
            assert!(failure.to_string().contains("No space left on device"), "{failure}");
            for _ in 0..3 {
                let again = log.append(record(0)).await;
                assert!(matches!(again, Err(AuditError::Failed { .. })), "{again:?}");
            }
            assert!(log.close().await.is_err(), "closing does not pretend that all is well");
            let found = records(&small).unwrap().len() as u64;
            assert!(found >= acknowledged, "{acknowledged} acknowledged, {found} readable on the full disk");
            // Still full: opening says so rather than going on.
            let reopened = open(&small).map(drop);
            let copied = Command::new("cp").arg("-a").arg(&small).arg(&saved).status().unwrap();
            assert!(copied.success());
            if let Err(error) = reopened {
                assert!(error.to_string().contains("No space left on device"), "{error}");
            }
            (acknowledged, saved)
        })
    });
    let (acknowledged, saved) = full.join().unwrap();
    assert!(acknowledged > 100, "{acknowledged}");
    // With space again the trail goes on.
    runtime().block_on(async {
        let log = open(&saved).unwrap();
        assert!(log.append(record(0)).await.unwrap().0 >= acknowledged);
        log.close().await.unwrap();
        let verified = verify(&saved, Some(log.verifier_key())).unwrap();
        assert!(verified.size > acknowledged);
    });
}

/// The size that Python and openssl found signed and true, or what they said.
fn independently_verified(trail: &Path, verifier_key: &str) -> Result<u64, String> {
    let out = TempDir::new().expect("a temporary directory");
    let mut python = Command::new("python3");
    python.args(["-c", INDEPENDENT_VERIFIER]).arg(trail).arg(verifier_key).arg(out.path());
    let size = answer(&mut python, "python3 is needed by this test; install it (apt-get install python3)")?;
    let at = |name: &str| out.path().join(name);
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin"]);
    openssl.arg("-inkey").arg(at("key.der")).arg("-in").arg(at("text")).arg("-sigfile").arg(at("signature"));
    answer(&mut openssl, "openssl is needed by this test; install it (apt-get install openssl)")?;
    size.trim().parse().map_err(|_| size)
}

fn answer(command: &mut Command, missing: &str) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().expect(missing);
    let text = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&stderr)) }
}

fn open(directory: &Path) -> Result<Log, AuditError> {
    Log::open(LogSettings { directory: directory.to_path_buf(), origin: "bailiwick/outside".into() })
}

fn record(number: u64) -> Record {
    let detail = BTreeMap::from([("näme €".to_owned(), "line\nbreak \u{1} \"quoted\" \u{1f600}".to_owned())]);
    Record::Control { event: format!("event-{number}"), detail }
}

async fn append(log: &Log, records: u64) {
    let appends: Vec<_> = (0..records)
        .map(|number| {
            let log = log.clone();
            tokio::spawn(async move { log.append(record(number)).await })
        })
        .collect();
    for append in appends {
        append.await.expect("the append ran").expect("the append was acknowledged");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
