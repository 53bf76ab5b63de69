//! One model host with a running agent, a model server and a caller.

use bailiwick_tests::authority::Authority;
use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::caller::{Answer, Caller};
use bailiwick_tests::issuer::{Algorithm, Issuer, Plan, Wish};
use bailiwick_tests::lab_network::LabNetwork;
use bailiwick_tests::model_server::Control;
use bailiwick_tests::reaper::Reaper;
use bailiwick_tests::system_box::SystemBox;
use bailiwick_tests::system_box::init::Bind;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const CONFIG: &str = "/etc/bailiwick/bailiwick.toml";
const TRAIL: &str = "/var/lib/bailiwick/audit";

/// Everything that stands. Fields drop in this order.
pub(crate) struct World {
    pub(crate) system: SystemBox,
    lab: LabNetwork,
    issuer: Issuer,
    authority: Authority,
    config: String,
    _reaper: Reaper,
}

impl World {
    /// The agent is up and the model server answers; a stream of it lasts some seconds.
    pub(crate) fn new(name: &str) -> Self {
        let testbed = Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"));
        let reaper = Reaper::start(testbed).unwrap();
        let binds = vec![
            Bind::read_only(bailiwick_binary(), "/usr/bin/bailiwick"),
            Bind::read_only(testbed, "/usr/bin/bailiwick-testbed"),
        ];
        let system = SystemBox::boot(&reaper, name, binds).unwrap();
        let lab = LabNetwork::around(&reaper, system.network().unwrap()).unwrap();
        let authority = Authority::new("Lab CA").unwrap();
        let issuer = Issuer::start(Plan {
            listen: lab.issuer.at_v4(443),
            namespace: Some(lab.issuer.namespace.clone()),
            identity: Some(authority.issue(&[&lab.issuer.v4.to_string()]).unwrap()),
            algorithms: vec![Algorithm::Es256],
            clients: Vec::new(),
        })
        .unwrap();
        let config = config(issuer.url());
        let world = Self { system, lab, issuer, authority, config, _reaper: reaper };
        world.furnish();
        world.system.run(&["systemctl", "start", "bailiwick.service"]).unwrap_or_else(|error| {
            panic!("{error}\n{}", world.system.run(&["journalctl", "-u", "bailiwick", "-o", "cat"]).unwrap())
        });
        world.system.run(&["systemctl", "start", "llama.service"]).unwrap();
        world.eventually("the model server answers", || world.chat("hello").status == 200);
        world
    }

    fn furnish(&self) {
        let host = &self.lab.host;
        let identity = self.authority.issue(&[&host.v4.to_string()]).unwrap();
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd");
        let unit = |file: &str| std::fs::read_to_string(units.join(file)).unwrap();
        let model = "[Service]\nRuntimeDirectory=llama\nExecStart=/usr/bin/bailiwick-testbed model-server \
                     --listen 127.0.0.1:8000 --control /run/llama/control --piece 4 --pause 60\n";
        for (path, contents, mode) in [
            (CONFIG, self.config.clone(), 0o600),
            ("/etc/bailiwick/tls.crt", identity.certificate, 0o644),
            ("/etc/bailiwick/tls.key", identity.key, 0o600),
            ("/etc/bailiwick/issuer-ca.crt", self.authority.certificate().to_owned(), 0o644),
            ("/etc/systemd/system/llama.service", model.to_owned(), 0o644),
            ("/etc/systemd/system/llama.service.d/bailiwick.conf", unit("model.conf"), 0o644),
            ("/etc/systemd/system/bailiwick.service", unit("bailiwick.service"), 0o644),
            ("/etc/systemd/system/bailiwick-agent.slice", unit("bailiwick-agent.slice"), 0o644),
        ] {
            self.system.write(path, contents, mode).unwrap();
        }
        self.system.run(&["systemctl", "daemon-reload"]).unwrap();
    }

    /// The config with one text in the place of another, which must be there.
    pub(crate) fn write_config(&self, from: &str, to: &str) {
        assert!(self.config.contains(from), "the config has no {from:?}");
        self.system.write(CONFIG, self.config.replace(from, to), 0o600).unwrap();
    }

    /// A streamed chat of a caller who may, from a remote host.
    pub(crate) fn chat(&self, prompt: &str) -> Answer {
        let groups = Some(vec!["ml-analysts".to_owned()]);
        let wish = Wish { groups, audience: Some("bailiwick".into()), ..Wish::default() };
        let token = self.issuer.mint(&wish).unwrap();
        let body =
            json!({"model": "echo", "stream": true, "messages": [{"role": "user", "content": prompt}]});
        let url = format!("https://{}/v1/chat/completions", self.lab.host.at_v4(8443));
        let caller = Caller::new(self.authority.certificate()).from(&self.lab.client.namespace);
        caller.post(&url, Some(&token), &body).unwrap()
    }

    /// How often the issuer was asked for its keys.
    pub(crate) fn keys_asked(&self) -> u32 {
        u32::try_from(self.issuer.asked().keys).unwrap()
    }

    /// `bailiwick status --json`, and whether it exits with 0.
    pub(crate) fn status(&self) -> (Value, bool) {
        let said = self.system.exec(&["bailiwick", "status", "--json"]).unwrap();
        let value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        (value, said.status.success())
    }

    /// The status once the config is the first one again, but for this text.
    pub(crate) fn status_of(&self, text: &str) -> Value {
        self.write_config(text, text);
        self.status().0
    }

    /// The control records of one event, oldest first.
    pub(crate) fn records(&self, event: &str) -> Vec<Value> {
        let text = self.system.run(&["bailiwick", "audit", "show", "--json", "--directory", TRAIL]).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].take())
            .filter(|record| record["type"] == "control" && record["event"] == event)
            .collect()
    }

    /// A local process outside of every unit tries the model's port; `ok` or the errno.
    pub(crate) fn local_attempt(&self) -> String {
        let said = self.system.exec(&["bailiwick-testbed", "connect", "127.0.0.1", "8000"]).unwrap();
        said.stdout.trim().to_owned()
    }

    /// The model's process tries a host in a foreign network, 192.0.2.30; `ok` or the errno.
    pub(crate) fn abroad_attempt(&self) -> String {
        let control = Control::at(&self.system.path("/run/llama/control"));
        control.connect(self.lab.foreign.at_v4(443)).unwrap().to_string()
    }

    /// Waits until something is so, for at most ten seconds; gives how long it took.
    pub(crate) fn eventually(&self, what: &str, so: impl Fn() -> bool) -> Duration {
        let started = Instant::now();
        while !so() {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "never: {what}\n{}",
                self.system.run(&["journalctl", "-u", "bailiwick", "-o", "cat", "-n", "30"]).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    }

    /// Where the links are pinned, as seen from outside of the box.
    pub(crate) fn link(&self, hook: &str) -> std::path::PathBuf {
        self.system.path(&format!("/sys/fs/bpf/bailiwick/v{}/links/{hook}", bailiwick_abi::SCHEMA))
    }
}

fn config(issuer: &str) -> String {
    format!(
        r#"[host]
name = "model-host-1"
region = "eu"

[regions.eu]
networks = ["10.77.0.0/24", "203.0.113.0/24", "198.51.100.0/24"]

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
tls = {{ certificate = "/etc/bailiwick/tls.crt", key = "/etc/bailiwick/tls.key" }}

[[issuer]]
url = "{issuer}"
audience = "bailiwick"
groups = "groups"
region = "eu"
ca = "/etc/bailiwick/issuer-ca.crt"

[[access]]
name = "analysts"
groups = ["ml-analysts"]
models = ["llama"]
endpoints = ["chat"]

[audit]
directory = "{TRAIL}"
"#
    )
}
