//! `bailiwick selftest` on a host of its own, and what the drop-in takes from a model's unit, under a real systemd.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use bailiwick_tests::{
    authority::Authority,
    binary::bailiwick_binary,
    reaper::Reaper,
    system_box::{SystemBox, init::Bind},
};
use serde_json::Value;
use std::path::{Path, PathBuf};

const PROBE: &str = "BAILIWICK_TEST_PROBE";
const PROBE_IN_BOX: &str = "/opt/probe";

const CONFIG: &str = r#"
[host]
name = "host-1"
region = "eu"
[regions.eu]
networks = ["198.51.100.0/24", "2001:db8:a::/64"]
[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
port = 8000
server = "openai"
[model.egress]
mode = "enforce"
regions = ["eu"]
[proxy]
listen = "127.0.0.1:8443"
tls = { certificate = "/etc/bailiwick/tls.crt", key = "/etc/bailiwick/tls.key" }
[[issuer]]
url = "https://198.51.100.2"
audience = "bailiwick"
groups = "groups"
region = "eu"
[[access]]
name = "analysts"
groups = ["analysts"]
models = ["llama"]
from = ["eu"]
endpoints = ["chat"]
[audit]
directory = "/var/lib/bailiwick/audit"
"#;

const SERVER: &str =
    "[Service]\nSlice=bailiwick-llama.slice\nExecStart=/usr/bin/bailiwick-testbed listen [::]:8000\n";

/// A unit of one attempt; with the drop-in, or without.
fn probe_unit(attempt: &str) -> String {
    format!(
        "[Service]\nType=oneshot\nEnvironment={PROBE}={attempt}\n\
         ExecStart={PROBE_IN_BOX} attempt --exact --ignored --nocapture --test-threads=1\n"
    )
}

fn host(reaper: &Reaper, testbed: &Path) -> SystemBox {
    let units = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/systemd");
    let binds = vec![
        Bind::read_only(testbed, "/usr/bin/bailiwick-testbed"),
        Bind::read_only(bailiwick_binary(), "/usr/bin/bailiwick"),
        Bind::read_only(std::env::current_exe().expect("a host in a box"), PROBE_IN_BOX),
    ];
    let system = SystemBox::boot(reaper, "host-1", binds).expect("a host in a box");
    let certificate =
        Authority::new("CA").expect("a host in a box").issue(&["127.0.0.1"]).expect("a host in a box");
    let unit = |name: &str| std::fs::read_to_string(units.join(name)).expect("a host in a box");
    let files = [
        ("/etc/bailiwick/bailiwick.toml", CONFIG.to_owned(), 0o600),
        ("/etc/bailiwick/tls.crt", certificate.certificate, 0o644),
        ("/etc/bailiwick/tls.key", certificate.key, 0o600),
        ("/etc/systemd/system/bailiwick.service", unit("bailiwick.service"), 0o644),
        ("/etc/systemd/system/bailiwick-agent.slice", unit("bailiwick-agent.slice"), 0o644),
        ("/etc/systemd/system/llama.service", SERVER.to_owned(), 0o644),
        ("/etc/systemd/system/llama.service.d/bailiwick.conf", unit("model.conf"), 0o644),
    ];
    for (path, contents, mode) in files {
        system.write(path, contents, mode).expect("a host in a box");
    }
    for attempt in ATTEMPTS {
        system
            .write(&format!("/etc/systemd/system/free-{attempt}.service"), probe_unit(attempt), 0o644)
            .expect("a host in a box");
        system
            .write(&format!("/etc/systemd/system/held-{attempt}.service"), probe_unit(attempt), 0o644)
            .expect("a host in a box");
        let drop_in = format!("/etc/systemd/system/held-{attempt}.service.d/bailiwick.conf");
        system.write(&drop_in, unit("model.conf"), 0o644).expect("a host in a box");
    }
    system.run(&["systemctl", "daemon-reload"]).expect("a host in a box");
    system.run(&["systemctl", "start", "bailiwick.service"]).expect("a host in a box");
    system.run(&["systemctl", "start", "llama.service"]).expect("a host in a box");
    system
}

fn selftest(system: &SystemBox) -> (Option<i32>, Value) {
    let said = system.exec(&["bailiwick", "selftest", "--json"]).expect("a host in a box");
    let value = serde_json::from_str(&said.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", said.stdout, said.stderr));
    (said.status.code(), value)
}

fn rows<'a>(value: &'a Value, ok: &Value) -> Vec<&'a Value> {
    value["rows"].as_array().expect("a host in a box").iter().filter(|row| row["ok"] == *ok).collect()
}

#[test]
fn selftest_holds_on_a_guarded_host_and_fails_on_a_released_one() {
    let reaper = Reaper::start(Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"))).unwrap();
    let system = host(&reaper, Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed")));

    let (code, guarded) = selftest(&system);
    assert_eq!(rows(&guarded, &Value::Bool(false)), Vec::<&Value>::new(), "nothing gets through");
    assert_eq!(code, Some(0));
    assert!(rows(&guarded, &Value::Bool(true)).len() >= 25, "{guarded:#}");
    assert!(guarded["recorded"].as_str().unwrap().contains("running agent"), "{}", guarded["recorded"]);
    let slice = system.cgroup().join("bailiwick.slice/bailiwick-llama.slice");
    assert!(slice.is_dir() && !slice.join("bailiwick-selftest").exists(), "nothing stays");

    system.run(&["systemctl", "stop", "bailiwick.service"]).unwrap();
    let (code, stopped) = selftest(&system);
    assert_eq!(code, Some(0), "the guard needs no agent: {stopped:#}");
    let trail =
        system.run(&["bailiwick", "audit", "show", "--directory", "/var/lib/bailiwick/audit", "--json"]);
    assert!(trail.unwrap().contains("self-test"), "recorded: {}", stopped["recorded"]);

    system.run(&["bailiwick", "release", "--reason", "test"]).unwrap();
    let (code, released) = selftest(&system);
    assert_eq!(code, Some(1));
    let through = rows(&released, &Value::Bool(false));
    for attack in ["status", "tcp-loopback-v4", "tcp-v4-mapped", "bind-udp-v4"] {
        assert!(through.iter().any(|row| row["attack"] == attack), "control: {attack}: {released:#}");
    }

    let list = system.run(&["bailiwick", "selftest", "--list", "--json"]).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert!(list.as_array().unwrap().len() >= 60);
    drop(system);
    reaper.finish().unwrap();
}

/// The attacks `drop-in-…` of the catalog.
const ATTEMPTS: [&str; 5] = ["af-packet", "af-vsock", "namespace", "cgroup-move", "raw-socket"];

#[test]
fn the_drop_in_takes_from_a_model_what_no_hook_sees() {
    let reaper = Reaper::start(Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"))).unwrap();
    let system = host(&reaper, Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed")));
    for attempt in ATTEMPTS {
        let free = system.exec(&["systemctl", "start", &format!("free-{attempt}.service")]).unwrap();
        let journal = || system.run(&["journalctl", "--no-pager", "-o", "cat", "-n", "40"]).unwrap();
        assert!(free.status.success(), "control: {attempt}: {}", journal());
        let held = system.exec(&["systemctl", "start", &format!("held-{attempt}.service")]).unwrap();
        assert!(!held.status.success(), "{attempt} succeeds under the drop-in");
        let words = journal();
        assert!(
            words.contains(&format!("refused: {attempt}")),
            "{attempt}: it failed for another reason: {words}"
        );
    }
    drop(system);
    reaper.finish().unwrap();
}

/// What runs in the box's units: one attempt, and a panic when it is refused.
#[test]
#[ignore = "not a test: the program that the units of the box run"]
fn attempt() {
    let attempt = std::env::var(PROBE).unwrap();
    // SAFETY: plain integers.
    let made = |family, kind, protocol| unsafe { libc::socket(family, kind, protocol) } >= 0;
    let done = match attempt.as_str() {
        "af-packet" => made(libc::AF_PACKET, libc::SOCK_DGRAM, 0),
        "af-vsock" => made(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        "raw-socket" => made(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        "namespace" => nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok(),
        "cgroup-move" => {
            let place = Path::new("/sys/fs/cgroup/elsewhere");
            let _there_already = std::fs::create_dir(place);
            std::fs::write(place.join("cgroup.procs"), "0").is_ok()
        }
        other => panic!("no such attempt: {other}"),
    };
    assert!(done, "refused: {attempt}");
}
