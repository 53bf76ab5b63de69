//! `bailiwick run` with a config that cannot be used: it says every error, and changes nothing.

use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::model_host::{self, CONFIG};
use bailiwick_tests::reaper::Reaper;
use bailiwick_tests::system_box::SystemBox;
use bailiwick_tests::system_box::init::Bind;
use std::path::Path;

/// Four mistakes: an unknown key, a network, a region, a file.
const MISTAKEN: &str = r#"
[host]
region = "eu"

[regions.eu]
networks = ["198.51.100.0/42"]

[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
prot = 8000
port = 8000
server = "openai"
[model.egress]
regions = ["ue"]

[proxy]
listen = "[::]:8443"
tls = { certificate = "/nowhere/tls.crt", key = "/nowhere/tls.key" }

[[issuer]]
url = "https://login.example.eu"
audience = "bailiwick"
groups = "groups"
region = "eu"

[audit]
directory = "/var/lib/bailiwick/audit"
"#;

#[test]
fn a_service_with_a_bad_config_says_every_error_and_changes_nothing() {
    let reaper = Reaper::start(Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"))).unwrap();
    let binds = vec![Bind::read_only(bailiwick_binary(), "/usr/bin/bailiwick")];
    let system = SystemBox::boot(&reaper, "badconf", binds).unwrap();
    // One start is enough to see.
    system
        .write("/etc/systemd/system/bailiwick.service.d/once.conf", "[Service]\nRestart=no\n", 0o644)
        .unwrap();
    system.write(CONFIG, MISTAKEN, 0o600).unwrap();
    model_host::place_units(&system, &model_host::units()).unwrap();

    let started = system.exec(&["systemctl", "start", "bailiwick.service"]).unwrap();
    assert!(!started.status.success(), "a service with a bad config does not start");
    let status =
        system.run(&["systemctl", "show", "--property=ExecMainStatus", "bailiwick.service"]).unwrap();
    assert_eq!(status.trim(), "ExecMainStatus=2");

    let journal: String = system
        .journal(&["-u", "bailiwick.service"])
        .unwrap()
        .iter()
        .filter_map(|entry| entry["MESSAGE"].as_str())
        .collect::<Vec<_>>()
        .join("\n");
    for part in [
        "regions.eu.networks[0]",
        "model[0].prot",
        "did you mean \"port\"?",
        "model[0].egress.regions[0]",
        "/nowhere/tls.crt",
    ] {
        assert!(journal.contains(part), "{part:?} is not in the journal:\n{journal}");
    }

    let pins = system.exec(&["ls", "/sys/fs/bpf/bailiwick"]).unwrap();
    assert!(!pins.status.success(), "nothing was attached");
    let state = system.run(&["find", "/var/lib/bailiwick", "-type", "f"]).unwrap();
    assert_eq!(state, "", "nothing was written");

    drop(system);
    reaper.finish().unwrap();
}
