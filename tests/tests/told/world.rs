//! One model host with a running agent, and a shell of the model that says when it did what.

use bailiwick_tests::authority::Authority;
use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::lab_network::LabNetwork;
use bailiwick_tests::reaper::Reaper;
use bailiwick_tests::system_box::SystemBox;
use bailiwick_tests::system_box::init::Bind;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const CONFIG: &str = "/etc/bailiwick/bailiwick.toml";
pub(crate) const REGISTER: &str = "/var/lib/bailiwick/register.sqlite";

/// The model may reach nothing that the tests try; the agent itself one network more.
pub(crate) const POLICY: &str = r#"[host]
name = "model-host-1"
region = "eu"

[regions.eu]
networks = ["198.51.100.0/24"]

[regions.abroad]
networks = ["192.0.2.0/24"]

[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
port = 8000
server = "openai"
[model.egress]
mode = "enforce"
regions = ["eu"]

[proxy]
listen = "[::]:8443"
tls = { certificate = "/etc/bailiwick/tls.crt", key = "/etc/bailiwick/tls.key" }

[[issuer]]
url = "https://198.51.100.20"
audience = "bailiwick"
region = "eu"

[[access]]
name = "everybody"
models = ["llama"]

[audit]
directory = "/var/lib/bailiwick/audit"
"#;

/// Everything that stands. Fields drop in this order.
pub(crate) struct World {
    pub(crate) system: SystemBox,
    pub(crate) lab: LabNetwork,
    _reaper: Reaper,
}

impl World {
    /// The agent runs.
    pub(crate) fn new(name: &str) -> Self {
        let testbed = Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"));
        let reaper = Reaper::start(testbed).unwrap();
        let binds = vec![Bind::read_only(bailiwick_binary(), "/usr/bin/bailiwick")];
        let system = SystemBox::boot(&reaper, name, binds).unwrap();
        let lab = LabNetwork::around(&reaper, system.network().unwrap()).unwrap();
        let identity = Authority::new("Lab CA").unwrap().issue(&[&lab.host.v4.to_string()]).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        let file = |name: &str| std::fs::read_to_string(shipped.join(name)).unwrap();
        // What the model does is in a file, so that one unit does for all.
        let model =
            "[Service]\nType=oneshot\nExecStart=/bin/bash /run/try.sh\nStandardOutput=file:/run/tried\n";
        for (path, contents, mode) in [
            (CONFIG, POLICY.to_owned(), 0o600),
            ("/etc/bailiwick/tls.crt", identity.certificate, 0o644),
            ("/etc/bailiwick/tls.key", identity.key, 0o600),
            ("/etc/systemd/system/llama.service", model.to_owned(), 0o644),
            ("/etc/systemd/system/llama.service.d/bailiwick.conf", file("systemd/model.conf"), 0o644),
            ("/etc/systemd/system/bailiwick.service", file("systemd/bailiwick.service"), 0o644),
            ("/etc/systemd/system/bailiwick-agent.slice", file("systemd/bailiwick-agent.slice"), 0o644),
            ("/usr/lib/systemd/catalog/bailiwick.catalog", file("journal/bailiwick.catalog"), 0o644),
        ] {
            system.write(path, contents, mode).unwrap();
        }
        system.run(&["systemctl", "daemon-reload"]).unwrap();
        system.run(&["journalctl", "--update-catalog"]).unwrap();
        let world = Self { system, lab, _reaper: reaper };
        world
            .system
            .run(&["systemctl", "start", "bailiwick.service"])
            .unwrap_or_else(|error| panic!("{error}\n{}", world.log()));
        world
    }

    /// Lets the model run these lines of bash to their end; gives what they wrote.
    pub(crate) fn model(&self, script: &str) -> String {
        self.system.write("/run/try.sh", format!("{script}\ntrue\n"), 0o644).unwrap();
        self.system.write("/run/tried", "", 0o644).unwrap();
        self.system.run(&["systemctl", "start", "llama.service"]).unwrap();
        String::from_utf8(self.system.read("/run/tried").unwrap()).unwrap()
    }

    /// `bailiwick` with these arguments: one JSON value.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.bailiwick(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// `bailiwick` with these arguments, which must succeed.
    pub(crate) fn bailiwick(&self, arguments: &[&str]) -> String {
        self.system.run(&[&["bailiwick"], arguments].concat()).unwrap()
    }

    /// The alerts as `bailiwick alerts --json` gives them, with these arguments besides.
    pub(crate) fn alerts(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.bailiwick(&[&["alerts", "--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The agent's own log.
    pub(crate) fn log(&self) -> String {
        self.system.run(&["journalctl", "-u", "bailiwick", "-o", "cat", "-n", "30"]).unwrap()
    }

    /// Waits until something is so, for at most ten seconds.
    pub(crate) fn eventually(&self, what: &str, so: impl Fn() -> bool) {
        let started = Instant::now();
        while !so() {
            assert!(started.elapsed() < Duration::from_secs(10), "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
