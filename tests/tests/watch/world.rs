//! One model host with a running agent, a model server and a caller.

use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::caller::{Answer, Caller};
use bailiwick_tests::issuer::Wish;
use bailiwick_tests::model_host::{CONFIG, ModelHost, TRAIL};
use bailiwick_tests::model_server::Control;
use serde_json::{Value, json};
use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, Instant};

/// A model host whose agent is up.
pub(crate) struct World {
    host: ModelHost,
    config: String,
}

impl Deref for World {
    type Target = ModelHost;

    fn deref(&self) -> &ModelHost {
        &self.host
    }
}

impl World {
    /// The agent is up and the model server answers; a stream of it lasts some seconds.
    pub(crate) fn new(name: &str) -> Self {
        let testbed = Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"));
        let host = ModelHost::boot(testbed, name, Some(&bailiwick_binary())).unwrap();
        let config = config(host.issuer.url());
        let model = "[Service]\nRuntimeDirectory=llama\nExecStart=/usr/bin/bailiwick-testbed model-server \
                     --listen 127.0.0.1:8000 --control /run/llama/control --piece 4 --pause 60\n";
        host.system.write("/etc/systemd/system/llama.service", model, 0o644).unwrap();
        host.place_agent(&config).unwrap();
        let world = Self { host, config };
        world.system.run(&["systemctl", "start", "bailiwick.service"]).unwrap_or_else(|error| {
            panic!("{error}\n{}", world.system.run(&["journalctl", "-u", "bailiwick", "-o", "cat"]).unwrap())
        });
        world.system.run(&["systemctl", "start", "llama.service"]).unwrap();
        world.eventually("the model server answers", || world.chat("hello").status == 200);
        world
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

    /// Where the link at the model's slice is pinned, as seen from outside of the box; its name ends in the cgroup's id.
    pub(crate) fn link_at_slice(&self, hook: &str) -> std::path::PathBuf {
        let of_hook = format!("{hook}_");
        let mut pins = std::fs::read_dir(self.link("")).unwrap().map(|pin| pin.unwrap());
        let pin = pins.find(|pin| pin.file_name().to_string_lossy().starts_with(&of_hook));
        pin.unwrap_or_else(|| panic!("no link of {hook} is pinned")).path()
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
