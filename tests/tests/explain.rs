//! `bailiwick check --explain`, run as a user runs it, beside a real issuer on the loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed, in its helpers too")]

use bailiwick_tests::authority::Authority;
use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::issuer::{Algorithm, Issuer, Plan, Wish};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn config(directory: &Path, issuer: &str) -> String {
    format!(
        r#"[host]
name = "host-1"
region = "eu"

[regions.eu]
networks = ["192.0.2.0/24"]

[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
port = 8000
server = "vllm"

[proxy]
listen = "[::]:8443"
tls = {{ certificate = "{0}/tls.crt", key = "{0}/tls.key" }}

[[issuer]]
url = "{issuer}"
audience = "bailiwick"
region = "eu"

[[access]]
name = "office"
issuer = "{issuer}"
groups = ["ml-analysts"]
models = ["llama"]
from = ["eu"]
endpoints = ["chat"]
when = {{ days = ["mon"], hours = "08:00-18:00" }}
limits = {{ streams = 4 }}

[audit]
directory = "{0}/audit"
"#,
        directory.display()
    )
}

fn explain(directory: &Path, token: &str, more: &[&str]) -> Output {
    let mut child = Command::new(bailiwick_binary())
        .args(["check", "--explain", "--config"])
        .arg(directory.join("bailiwick.toml"))
        .args(["--token", "-"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_a_caller_would_get_is_what_the_proxy_would_say_and_why() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Authority::new("test root").unwrap().issue(&["127.0.0.1"]).unwrap();
    std::fs::write(directory.path().join("tls.crt"), &identity.certificate).unwrap();
    std::fs::write(directory.path().join("tls.key"), &identity.key).unwrap();
    let issuer = Issuer::start(Plan {
        listen: "127.0.0.1:0".parse().unwrap(),
        namespace: None,
        identity: None,
        algorithms: vec![Algorithm::Es256],
        clients: vec![],
    })
    .unwrap();
    let text = config(directory.path(), issuer.url());
    std::fs::write(directory.path().join("bailiwick.toml"), text).unwrap();
    // Valid whenever this test asks about.
    let times = json!({"iat": 1_700_000_000, "exp": 4_000_000_000_u64}).as_object().unwrap().clone();
    let of = |group: &str, forged| {
        let groups = Some(vec![group.to_owned()]);
        issuer.mint(&Wish { groups, forged, claims: times.clone(), ..Wish::default() }).unwrap()
    };
    let (monday, sunday) = ("2026-08-24T09:00:00Z", "2026-08-23T09:00:00Z");
    let chat = "POST /v1/chat/completions";
    let analyst = of("ml-analysts", false);
    for (token, from, call, at, code, exit) in [
        (analyst.clone(), "192.0.2.7", chat, monday, "admitted", 0),
        (analyst.clone(), "192.0.2.7", "chat", monday, "admitted", 0),
        (analyst.clone(), "192.0.2.7", chat, sunday, "time-not-allowed", 1),
        (analyst.clone(), "198.51.100.7", chat, monday, "caller-region-not-allowed", 1),
        (analyst.clone(), "192.0.2.7", "embeddings", monday, "operation-not-allowed", 1),
        (analyst.clone(), "192.0.2.7", "responses", monday, "operation-not-allowed", 1),
        (analyst.clone(), "192.0.2.7", "POST /v1/messages", monday, "operation-not-allowed", 1),
        (analyst.clone(), "192.0.2.7", "infer", monday, "endpoint-unknown", 1),
        (analyst.clone(), "192.0.2.7", "POST /api/chat", monday, "endpoint-unknown", 1),
        (analyst.clone(), "192.0.2.7", "POST /tokenize", monday, "endpoint-unknown", 1),
        (of("interns", false), "192.0.2.7", chat, monday, "group-not-allowed", 1),
        (of("ml-analysts", true), "192.0.2.7", chat, monday, "signature-invalid", 1),
        ("opaque".to_owned(), "192.0.2.7", chat, monday, "token-opaque", 1),
    ] {
        let output =
            explain(directory.path(), &token, &["--from", from, "--call", call, "--at", at, "--json"]);
        let said: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!((said["code"].as_str(), output.status.code()), (Some(code), Some(exit)), "{said:#}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains(&token) || token == "opaque", "the token is not shown");
        assert!(!text.contains("caller-1"), "nor whom it names");
    }

    let human =
        explain(directory.path(), &analyst, &["--from", "192.0.2.7", "--call", "chat", "--at", monday]);
    let human = String::from_utf8(human.stdout).unwrap();
    for part in [
        "signed by http://127.0.0.1",
        "lies in eu",
        "groups: ml-analysts",
        "office: matches",
        "4 streams at once",
    ] {
        assert!(human.contains(part), "{part:?} not in\n{human}");
    }

    drop(issuer);
    let offline =
        explain(directory.path(), &analyst, &["--from", "192.0.2.7", "--call", "chat", "--at", monday]);
    let offline = String::from_utf8(offline.stdout).unwrap();
    assert!(offline.contains("not checked") && offline.contains("if the signature is good"), "{offline}");

    let bad = explain(directory.path(), "", &["--from", "192.0.2.7", "--call", "chaat"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("use one of chat"), "{bad:?}");
}
