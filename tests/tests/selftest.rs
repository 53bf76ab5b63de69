//! `bailiwick selftest` on a host of its own, and what the drop-in takes from a model's unit, under a real systemd.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use bailiwick_tests::{
    authority::Authority,
    binary::bailiwick_binary,
    model_host::{self, CONFIG, TESTBED},
    reaper::Reaper,
    system_box::{SystemBox, init::Bind},
};
use serde_json::Value;
use std::path::Path;

const PROBE: &str = "BAILIWICK_TEST_PROBE";
const PROBE_IN_BOX: &str = "/opt/probe";

const TEXT: &str = r#"
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
    let binds = vec![
        Bind::read_only(testbed, TESTBED),
        Bind::read_only(bailiwick_binary(), "/usr/bin/bailiwick"),
        Bind::read_only(std::env::current_exe().expect("a host in a box"), PROBE_IN_BOX),
    ];
    let system = SystemBox::boot(reaper, "host-1", binds).expect("a host in a box");
    let authority = Authority::new("CA").expect("a host in a box");
    model_host::place_identity(&system, &authority, &["127.0.0.1"]).expect("a host in a box");
    system.write(CONFIG, TEXT, 0o600).expect("a host in a box");
    system.write("/etc/systemd/system/llama.service", SERVER, 0o644).expect("a host in a box");
    let drop_in = std::fs::read_to_string(model_host::units().join("model.conf")).expect("a host in a box");
    for attempt in ATTEMPTS {
        system
            .write(&format!("/etc/systemd/system/free-{attempt}.service"), probe_unit(attempt), 0o644)
            .expect("a host in a box");
        system
            .write(&format!("/etc/systemd/system/held-{attempt}.service"), probe_unit(attempt), 0o644)
            .expect("a host in a box");
        let place = format!("/etc/systemd/system/held-{attempt}.service.d/bailiwick.conf");
        system.write(&place, &drop_in, 0o644).expect("a host in a box");
    }
    model_host::place_units(&system, &model_host::units()).expect("a host in a box");
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
    assert!(
        guarded["recorded"].as_str().unwrap().ends_with("in the audit trail, by the running agent"),
        "{guarded:#}"
    );
    let recorded = self_tests(&system);
    assert_eq!(recorded.len(), 1, "the agent that runs has written it");
    assert_eq!((&recorded[0]["written-by"], &recorded[0]["through"]), (&"agent".into(), &"0".into()));
    only_root_reaches_the_agent(&system);
    let slice = system.cgroup().join("bailiwick.slice/bailiwick-llama.slice");
    assert!(slice.is_dir() && !slice.join("bailiwick-selftest").exists(), "nothing stays");

    system.run(&["systemctl", "stop", "bailiwick.service"]).unwrap();
    let (code, stopped) = selftest(&system);
    assert_eq!(code, Some(0), "the guard needs no agent: {stopped:#}");
    let recorded = self_tests(&system);
    assert_eq!(recorded.len(), 2, "recorded: {}", stopped["recorded"]);
    assert_eq!(recorded[1]["written-by"], "selftest", "without an agent it writes itself");

    system.run(&["bailiwick", "release", "--reason", "test"]).unwrap();
    let (code, released) = selftest(&system);
    assert_eq!(code, Some(1));
    let through = rows(&released, &Value::Bool(false));
    for attack in ["status", "tcp-loopback-v4", "tcp-v4-mapped", "bind-udp-v4"] {
        assert!(through.iter().any(|row| row["attack"] == attack), "control: {attack}: {released:#}");
    }

    let kept = self_tests(&system).pop().unwrap();
    assert!(
        kept["attacks-through"].as_str().unwrap().contains("tcp-v4-mapped"),
        "what got through is kept: {kept}"
    );

    let list = system.run(&["bailiwick", "selftest", "--list", "--json"]).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert!(list.as_array().unwrap().len() >= 60);
    drop(system);
    reaper.finish().unwrap();
}

/// The details of the records of selftests, oldest first.
fn self_tests(system: &SystemBox) -> Vec<Value> {
    let text = system.run(&["bailiwick", "audit", "show", "--json"]).expect("the trail can be read");
    let records =
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["record"].take());
    records
        .filter(|record| record["event"] == "self-test")
        .map(|mut record| record["detail"].take())
        .collect()
}

/// By the mode of the socket and of its directory, and, where both were opened, by what the kernel says of the peer.
fn only_root_reaches_the_agent(system: &SystemBox) {
    const ASK: [&str; 2] = ["bailiwick-testbed", "ask"];
    const SOCKET: &str = "/run/bailiwick/control";
    let ask = |before: &[&str]| {
        let said = system.exec(&[before, &ASK[..], &[SOCKET, "{}"]].concat()).expect("an attempt");
        format!("{}{}", said.stdout, said.stderr)
    };
    let nobody = ["setpriv", "--reuid", "65534", "--clear-groups"];
    assert!(
        ask(&[]).contains("no such request"),
        "a control: root is heard, and refused in words: {}",
        ask(&[])
    );
    assert!(ask(&nobody).contains("Permission denied"), "{}", ask(&nobody));
    system.run(&["chmod", "0777", "/run/bailiwick", SOCKET]).expect("an attempt");
    assert!(ask(&nobody).contains("root alone may ask"), "{}", ask(&nobody));
    system.run(&["chmod", "0600", SOCKET]).expect("an attempt");
    assert!(ask(&nobody).contains("Permission denied"), "{}", ask(&nobody));
    assert_eq!(self_tests(system).len(), 1, "and nothing of it was recorded");
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
