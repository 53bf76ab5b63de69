//! `bailiwick regions`, run as a user runs it, over what the providers publish and a whole table of countries.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed, in its helpers too")]

use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::real::{self, Datasets};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = r#"[host]
name = "model-host-1"
region = "eu"

[regions.eu]
countries = ["@eea"]
networks = ["198.51.100.0/24"]

[datasets]
directory = "DIRECTORY"
max_age = 3650

[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
port = 8000
server = "openai"
[model.egress]
mode = "enforce"
regions = ["eu"]
[[model.egress.allow]]
network = "104.16.0.0/24"
port = 443
reason = "licence server"

[[workload]]
name = "log-shipper"
unit = "shipper.service"
egress = { mode = "shadow", regions = ["eu"] }

[proxy]
listen = "[::]:8443"
tls = { certificate = "/nowhere/tls.crt", key = "/nowhere/tls.key" }

[[issuer]]
url = "https://login.example.eu"
audience = "bailiwick"
groups = "groups"
region = "eu"

[[access]]
name = "analysts"
groups = ["ml-analysts"]
models = ["llama"]
from = ["eu"]

[audit]
directory = "/nowhere/audit"
"#;

/// A directory with a config and a place for datasets.
struct Desk {
    directory: tempfile::TempDir,
    real: Datasets,
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("datasets");
        fs::write(directory.path().join("config.toml"), CONFIG.replace("DIRECTORY", place.to_str().unwrap()))
            .unwrap();
        Self { directory, real: real::datasets(&mut |line| eprintln!("{line}")).unwrap() }
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    fn regions(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(bailiwick_binary());
        command.arg("regions").args(arguments).arg("--config").arg(self.config());
        let output = command.env_remove("CREDENTIALS_DIRECTORY").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let said = self.regions(&[arguments, &["--json"]].concat());
        let value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out));
        (said.code, value)
    }

    fn import_all(&self) {
        for file in self.real.ranges.iter().chain([&self.real.dbip]) {
            let said = self.regions(&["import", file.to_str().unwrap()]);
            assert_eq!(said.code, Some(0), "{}: {}{}", file.display(), said.out, said.err);
        }
    }

    /// What is kept, byte for byte.
    fn kept(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.directory.path().join("datasets")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    fn written(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn real_files_are_imported_listed_and_looked_up_with_their_evidence() {
    let desk = Desk::new();
    let none = desk.regions(&["status"]);
    assert_eq!(none.code, Some(1));
    assert!(none.out.starts_with("NO DATASET"), "{}", none.out);
    desk.import_all();

    let (code, list) = desk.json(&["list"]);
    assert_eq!(code, Some(0));
    let datasets = list["datasets"].as_array().unwrap();
    let names: Vec<&str> = datasets.iter().map(|dataset| dataset["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["aws", "azure", "cloudflare", "country", "gcp", "oracle"]);
    let networks = |of: &dyn Fn(&str) -> bool| -> u64 {
        let of = datasets.iter().filter(|dataset| of(dataset["name"].as_str().unwrap()));
        of.map(|dataset| dataset["networks"].as_u64().unwrap()).sum()
    };
    assert!(networks(&|name| name != "country") > 130_000, "{list:#}");
    assert!(networks(&|name| name == "country") > 1_000_000, "{list:#}");
    let adequate = list["groups"].as_array().unwrap().iter().find(|group| group["name"] == "@eu-adequate");
    let left_out: Vec<&Value> =
        adequate.unwrap()["conditional"].as_array().unwrap().iter().map(|each| &each["country"]).collect();
    assert_eq!(left_out, ["CA", "US"], "what is left out is named");

    for (address, place, verdict, evidence, reason) in [
        ("18.192.0.1", json!("DE"), json!(null), &["aws", "country"][..], "Frankfurt"),
        ("35.198.64.1", json!("DE"), json!(null), &["gcp", "country"], "Frankfurt, of another provider"),
        (
            "52.94.0.1",
            json!("US"),
            json!("US is in no region that it may reach"),
            &["aws", "country"],
            "Virginia",
        ),
        (
            "104.17.0.1",
            json!("anycast"),
            json!("anycast"),
            &["cloudflare", "country"],
            "whatever a table says",
        ),
        ("13.32.0.1", json!("global"), json!("global"), &["aws", "country"], "a content network"),
        ("192.0.2.1", json!("unknown"), json!("unknown"), &[], "for documentation"),
        ("198.51.100.7", json!(null), json!(null), &[], "pinned"),
        ("10.0.0.1", json!("special-purpose"), json!("special-purpose"), &[], "private"),
        ("::ffff:18.192.0.1", json!("DE"), json!(null), &["aws", "country"], "IPv4 written as IPv6"),
    ] {
        let (code, told) = desk.json(&["lookup", address]);
        assert_eq!(code, Some(0), "{address}");
        let part = &told["parts"][0];
        let found = if part["unplaced"].is_null() { &part["country"] } else { &part["unplaced"] };
        assert_eq!(*found, place, "{address}: {reason}: {told:#}");
        let by: Vec<&Value> =
            part["evidence"].as_array().unwrap().iter().map(|each| &each["dataset"]["name"]).collect();
        assert_eq!(by, evidence, "{address}: {reason}: {told:#}");
        for each in part["evidence"].as_array().unwrap() {
            let dataset = &each["dataset"];
            assert!(each["network"].is_string() && dataset["date"].is_string(), "{address}: {each:#}");
            assert_eq!(dataset["sha256"].as_str().unwrap().len(), 64, "{address}: {each:#}");
        }
        let verdicts = part["verdicts"].as_array().unwrap();
        let names: Vec<&Value> = verdicts.iter().map(|each| &each["name"]).collect();
        assert_eq!(names, ["agent", "llama", "log-shipper"], "{address}: each model and workload");
        for each in verdicts {
            assert_eq!(each["allowed"], json!(verdict.is_null()), "{address}: {each:#}");
            assert_eq!(each["reason"], verdict, "{address}: {each:#}");
        }
    }
    let told = desk.regions(&["lookup", "104.16.0.1"]).out;
    for line in [
        "104.16.0.1: anycast, in no region",
        "  cloudflare of ",
        "    agent: denied, anycast",
        "    llama: allowed by exception on port 443 (licence server); otherwise denied, anycast",
        "    log-shipper: denied, anycast (shadow: reported, not blocked)",
    ] {
        assert!(told.lines().any(|found| found.starts_with(line)), "{line}: {told}");
    }
    assert_eq!(desk.regions(&["status"]).code, Some(0));
    let strict = fs::read_to_string(desk.config()).unwrap().replace("max_age = 3650", "max_age = 1");
    fs::write(desk.config(), strict).unwrap();
    let stale = desk.regions(&["status"]);
    assert_eq!(stale.code, Some(1));
    assert!(stale.out.starts_with("STALE") && stale.out.contains("fetch anew"), "{}", stale.out);
}

#[test]
fn a_file_that_is_no_dataset_changes_nothing_and_says_where_it_broke() {
    let desk = Desk::new();
    let present = desk.regions(&["import", find(&desk.real, "ip-ranges.json").to_str().unwrap()]);
    assert_eq!(present.code, Some(0), "{}", present.err);
    let before = desk.kept();
    let (aws, table) =
        (fs::read(find(&desk.real, "ip-ranges.json")).unwrap(), fs::read(&desk.real.dbip).unwrap());
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let text = String::from_utf8(aws.clone()).unwrap();
    let mut torn = table.clone();
    torn[..600].fill(0xff);
    for (name, bytes, said, reason) in [
        ("ip-ranges.json", half(&aws), "the file ends too early", "cut short"),
        ("table.mmdb", half(&table), "none of the kinds", "cut short, and no longer to be told"),
        ("torn.mmdb", torn, "the record of 0.0.0.0/0", "the root of the tree overwritten"),
        ("busy.html", b"<html>busy</html>".to_vec(), "none of the kinds", "an error page"),
        ("empty", Vec::new(), "the file is empty", "nothing"),
        ("few.json", few(&text).into_bytes(), "it may be cut short", "fewer than half of the networks"),
        (
            "bits.json",
            text.replacen("\"region\": \"", "\"region\": \"\", \"ip_prefix\": \"", 1).into_bytes(),
            "duplicate field `ip_prefix`",
            "a key twice",
        ),
    ] {
        let said_of = desk.regions(&["import", &desk.written(name, &bytes)]);
        assert_eq!(said_of.code, Some(2), "{reason}: {}", said_of.out);
        assert!(said_of.err.contains(name) && said_of.err.contains(said), "{reason}: {}", said_of.err);
        assert_eq!(desk.kept(), before, "{reason}");
    }
}

#[test]
fn a_diff_tells_what_another_edition_would_change_for_whom_and_changes_nothing() {
    let desk = Desk::new();
    let aws = find(&desk.real, "ip-ranges.json");
    let said = desk.regions(&["import", aws.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let before = desk.kept();
    let text = fs::read_to_string(&aws).unwrap();
    let moved =
        text.replace("\"eu-central-1\"", "\"us-gov-west-1\"").replace("\"us-east-2\"", "\"eu-south-2\"");
    let diff = desk.regions(&["diff", &desk.written("moved.json", moved.as_bytes())]);
    assert_eq!(diff.code, Some(1), "a verdict would be another: {}", diff.err);
    for line in [
        "\"aws\": ",
        "networks are put elsewhere",
        ": eu-central-1 (DE) -> us-gov-west-1 (US)",
        "  llama: ",
        "    denied   ",
        "--json has them all",
    ] {
        assert!(diff.out.lines().any(|found| found.contains(line)), "{line}: {}", diff.out);
    }
    let (code, same) = desk.json(&["diff", aws.to_str().unwrap()]);
    assert_eq!((code, &same["changes"]), (Some(0), &json!([])), "the same file changes nothing");
    assert_eq!(same["verdicts"][1], json!({"name": "llama", "denied": [], "allowed": []}));
    assert_eq!(desk.kept(), before);
}

fn find(real: &Datasets, name: &str) -> PathBuf {
    let ends = |path: &&PathBuf| path.file_name() == Some(Path::new(name).as_os_str());
    real.ranges.iter().find(ends).unwrap().clone()
}

/// The first ten of its networks.
fn few(text: &str) -> String {
    let mut ranges: Value = serde_json::from_str(text).unwrap();
    ranges["prefixes"].as_array_mut().unwrap().truncate(10);
    ranges["ipv6_prefixes"].as_array_mut().unwrap().clear();
    ranges.to_string()
}
