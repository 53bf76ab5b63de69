//! `bailiwick check`, run as a user runs it: every mistake in one run, or a summary.

use bailiwick_tests::binary::bailiwick_binary;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Ten kinds of mistake, and what is said of each.
const MISTAKEN: &str = r#"[host]
name = "model-host-1"
region = "ue"

[regions.eu]
countries = ["@eea", "UK"]
networks = ["10.77.0.1/24", "203.0.113.0/42"]

[[model]]
name = "llama"
slice = "bailiwick-agent-llama.slice"
prot = 8000
server = "vllm"

[[model]]
name = "llama"
slice = "bailiwick-phi.slice"
port = 70000
server = "vlm"

[model.egress]
mode = "enforce"
regions = []

[proxy]
listen = "[::]:8443"
tls = { certificate = "/nowhere/tls.crt", key = "/nowhere/tls.key" }

[[issuer]]
url = "http://login.example.eu"
audience = "bailiwick"
region = "eu"

[[access]]
name = "analysts"
groups = "ml-analysts"
models = ["llama"]
endpoints = ["chat", "embedings"]

[[mask]]
name = "pii"
entities = ["e-mail"]
action = "pseudonymize"

[audit]
directory = "audit"
"#;

fn check(config: &Path, more: &[&str]) -> Output {
    Command::new(bailiwick_binary())
        .arg("check")
        .arg("--config")
        .arg(config)
        .args(more)
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .expect("the binary can be started")
}

fn written(directory: &tempfile::TempDir, text: &str) -> std::path::PathBuf {
    let path = directory.path().join("bailiwick.toml");
    std::fs::write(&path, text).expect("the temporary directory can be written");
    path
}

#[test]
fn every_kind_of_mistake_is_reported_in_one_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, MISTAKEN);
    let output = check(&path, &["--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let errors: Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors = errors.as_array().unwrap();

    let expected = [
        // line, key, value, kind, nearest or a piece of the cure
        (3, "host.region", Some("\"ue\""), "unknown-name", "eu"),
        (6, "regions.eu.countries[1]", Some("\"UK\""), "unknown-word", "\"GB\""),
        (7, "regions.eu.networks[0]", Some("\"10.77.0.1/24\""), "invalid", "\"10.77.0.0/24\""),
        (7, "regions.eu.networks[1]", Some("\"203.0.113.0/42\""), "invalid", "address/length"),
        (9, "model[0].port", None, "missing-key", "add port"),
        (11, "model[0].slice", Some("\"bailiwick-agent-llama.slice\""), "conflict", "beside"),
        (12, "model[0].prot", None, "unknown-key", "port"),
        (16, "model[1].name", Some("\"llama\""), "duplicate", "another name"),
        (18, "model[1].port", Some("70000"), "out-of-range", "1 to 65535"),
        (19, "model[1].server", Some("\"vlm\""), "unknown-word", "vllm"),
        (23, "model[1].egress.regions", None, "empty", "leave the key out"),
        (27, "proxy.tls.certificate", Some("\"/nowhere/tls.crt\""), "missing-file", "another file"),
        (27, "proxy.tls.key", Some("\"/nowhere/tls.key\""), "missing-file", "another file"),
        (30, "issuer[0].url", Some("\"http://login.example.eu\""), "invalid", "https"),
        (36, "access[0].groups", Some("\"ml-analysts\""), "wrong-type", "square brackets"),
        (38, "access[0].endpoints[1]", Some("\"embedings\""), "unknown-word", "embeddings"),
        (42, "mask[0].entities[0]", Some("\"e-mail\""), "unknown-word", "email"),
        (43, "mask[0].action", Some("\"pseudonymize\""), "unknown-word", "redact, hash, block"),
        (46, "audit.directory", Some("\"audit\""), "invalid", "start it with /"),
    ];
    for (error, (line, key, value, problem, hint)) in errors.iter().zip(expected) {
        assert_eq!((&error["line"], &error["key"]), (&line.into(), &key.into()), "{error:#}");
        assert_eq!((&error["value"], &error["problem"]), (&value.into(), &problem.into()), "{error:#}");
        let hints =
            format!("{} {}", error["nearest"].as_str().unwrap_or_default(), error["cure"].as_str().unwrap());
        assert!(hints.contains(hint), "{error:#}");
        assert!(
            error["column"].as_u64().unwrap() >= 1 && error["file"] == path.to_str().unwrap(),
            "{error:#}"
        );
    }
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
}

#[test]
fn people_get_a_line_for_each_mistake_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, MISTAKEN);
    let output = check(&path, &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(output.stdout.is_empty());
    assert!(text.contains(&format!("{}:12:1: model[0].prot: unknown key", path.display())), "{text}");
    assert!(text.contains("did you mean \"port\"?"), "{text}");
    assert_eq!(text.matches(path.to_str().unwrap()).count(), 19, "{text}");
    assert!(text.ends_with("19 errors; nothing was changed\n"), "{text}");
}

#[test]
fn what_is_not_toml_is_one_error_among_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, &MISTAKEN.replace("mode = \"enforce\"", "mode = enforce enforce"));
    let output = check(&path, &["--json"]);
    assert_eq!(output.status.code(), Some(2));
    let errors: Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors = errors.as_array().unwrap();
    let syntax: Vec<&Value> = errors.iter().filter(|error| error["problem"] == "syntax").collect();
    assert_eq!(syntax.len(), 1, "{errors:#?}");
    assert_eq!(syntax[0]["line"], 22);
    assert_eq!(errors.len(), 20, "the others are still there: {errors:#?}");
}

#[test]
fn a_config_that_is_not_there_is_an_error_and_makes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = check(&directory.path().join("gone.toml"), &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("gone.toml: cannot be read") && text.contains("--config"), "{text}");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0, "check made something");
}

#[test]
fn a_good_config_is_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/bailiwick.toml");
    let text = std::fs::read_to_string(example)
        .unwrap()
        .replace("/etc/bailiwick/llama-key", key.to_str().unwrap())
        .replace("/etc/bailiwick/tls.crt", certificate.to_str().unwrap())
        .replace("/etc/bailiwick/tls.key", key.to_str().unwrap())
        .replace("/var/lib/bailiwick/datasets", directory.path().join("datasets").to_str().unwrap());
    let path = written(&directory, &text);

    let output = check(&path, &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (what, names) in [
        ("models", vec!["llama"]),
        ("issuers", vec!["https://login.example.eu"]),
        ("rules", vec!["analysts"]),
        ("masks", vec!["pii"]),
    ] {
        assert_eq!(summary[what], Value::from(names), "{summary:#}");
    }
    let warnings = summary["warnings"].to_string();
    assert!(warnings.contains("countries are unknown until a dataset is imported"), "{warnings}");

    let output = check(&path, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text.contains("good; policy ") && text.contains("warning: countries are unknown"), "{text}");
}
