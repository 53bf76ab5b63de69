//! A model host with an agent that is meant to die, and those who try to profit.

use bailiwick_tests::authority::Authority;
use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::issuer::Wish;
use bailiwick_tests::lab_network::LabNetwork;
use bailiwick_tests::model_host::{AGENT, CONFIG, LISTEN, ModelHost, TESTBED, TIME_WAIT, TRAIL, tcp_sockets};
use bailiwick_tests::probe::Storm;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const MODEL_PORT: u16 = 8000;
const PROXY_PORT: u16 = 8443;

/// The host, its network, its issuer.
pub(crate) struct Scene(ModelHost);

/// Two processes that try to reach the model directly.
pub(crate) struct Attackers {
    local: Child,
    remote: Child,
}

/// What became of their attempts.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) local: Storm,
    pub(crate) remote: Storm,
}

impl Scene {
    /// A host with a model server in its slice, without an agent.
    pub(crate) fn set() -> Self {
        let testbed = Path::new(env!("CARGO_BIN_EXE_bailiwick-testbed"));
        let host = ModelHost::boot(testbed, "model-host-1", Some(&bailiwick_binary()))
            .unwrap_or_else(|error| panic!("{error}"));
        let unit = format!(
            "[Unit]\nDescription=A model server\n\n[Service]\nSlice=bailiwick-llama.slice\nExecStart={TESTBED} \
             model-server --listen [::]:{MODEL_PORT} --piece 5 --pause 250\n"
        );
        host.system.write("/etc/systemd/system/llama.service", unit, 0o644).unwrap();
        let scene = Self(host);
        scene.run(&["systemctl", "daemon-reload"]);
        scene.run(&["systemctl", "start", "llama.service"]);
        scene.wait_for_model();
        scene
    }

    /// Installs the agent as the README says, with a shorter pause between its lives.
    pub(crate) fn install_agent(&self) {
        self.0.place_agent(&self.config("first")).unwrap_or_else(|error| panic!("{error}"));
        let shorter = "[Service]\nRestartSec=20ms\n";
        self.0.system.write("/etc/systemd/system/bailiwick.service.d/load.conf", shorter, 0o644).unwrap();
        self.run(&["systemctl", "daemon-reload"]);
        self.run(&["systemctl", "start", AGENT]);
        self.run(&["systemctl", "restart", "llama.service"]);
        self.wait_for_model();
    }

    /// Starts both attackers.
    pub(crate) fn attackers(&self) -> Attackers {
        // Nobody may win by starving the others of the two cores: attackers go on whenever a core is free.
        const POLITE: [&str; 3] = ["nice", "-n", "19"];
        let targets =
            |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        let own = [
            SocketAddr::from(([127, 0, 0, 1], MODEL_PORT)),
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], MODEL_PORT)),
            self.0.lab.host.at_v4(MODEL_PORT),
            self.0.lab.host.at_v6(MODEL_PORT),
        ];
        let mut local = self.0.system.command(&[&POLITE[..], &[TESTBED, "storm"]].concat()).unwrap();
        local.args(targets(&own));
        let mut remote = self.0.lab.client.command(POLITE[0]).unwrap();
        remote.args(&POLITE[1..]).arg(self.0.reaper.program()).args(["storm", "--threads", "32"]);
        remote.args(targets(&[self.0.lab.host.at_v4(MODEL_PORT), self.0.lab.host.at_v6(MODEL_PORT)]));
        let start = |mut command: std::process::Command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("an attacker")
        };
        Attackers { local: start(local), remote: start(remote) }
    }

    /// The agent's process, as the machine numbers it, once it has one.
    pub(crate) fn agent(&self) -> Pid {
        let deadline = Instant::now() + Duration::from_secs(20);
        let cgroup = "bailiwick.slice/bailiwick-agent.slice/bailiwick.service/cgroup.procs";
        let processes = self.0.system.cgroup().join(cgroup);
        loop {
            let text = std::fs::read_to_string(&processes).unwrap_or_default();
            if let Some(pid) = text.lines().find_map(|line| line.parse().ok()) {
                return Pid::from_raw(pid);
            }
            assert!(Instant::now() < deadline, "the agent does not come back\n{}", self.journal());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(&self, agent: Pid) {
        kill(agent, Signal::SIGKILL).expect("the agent's process");
        let deadline = Instant::now() + Duration::from_secs(10);
        while kill(agent, None).is_ok() {
            assert!(Instant::now() < deadline, "a process outlived SIGKILL");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until an agent listens; its policy is in force then.
    pub(crate) fn wait_for_proxy(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while tcp_sockets(&self.0.system, PROXY_PORT, |state| state == LISTEN) == 0 {
            assert!(Instant::now() < deadline, "the agent does not come back\n{}", self.journal());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the model's processes where they are.
    pub(crate) fn hold_model(&self) {
        self.run(&["systemctl", "kill", "--signal=STOP", "llama.service"]);
    }

    /// Lets them go on.
    pub(crate) fn let_model_go(&self) {
        self.run(&["systemctl", "kill", "--signal=CONT", "llama.service"]);
    }

    /// `systemctl reload`, with another policy than the last time.
    pub(crate) fn reload(&self, number: usize) {
        self.0.system.write(CONFIG, self.config(&format!("reload {number}")), 0o600).unwrap();
        self.run(&["systemctl", "reload", AGENT]);
    }

    /// Waits until the model holds no more connections than this, or the time is over; says how many it holds. One that
    /// nobody has the other end of counts for as long as the kernel tries to end it.
    pub(crate) fn wait_for_connections(&self, most: usize, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        loop {
            let held = tcp_sockets(&self.0.system, MODEL_PORT, |state| state != LISTEN && state != TIME_WAIT);
            if held <= most || Instant::now() >= deadline {
                return held;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many `start` records the trail has.
    pub(crate) fn starts(&self) -> usize {
        let text = self.run(&["bailiwick", "audit", "show", "--directory", TRAIL, "--json"]);
        let is_start = |line: &&str| {
            let record: Value = serde_json::from_str(line).expect("a record a line");
            record["record"]["type"] == "control" && record["record"]["event"] == "start"
        };
        text.lines().filter(is_start).count()
    }

    pub(crate) fn verify_trail(&self) {
        let said = self.run(&["bailiwick", "audit", "verify", "--directory", TRAIL]);
        eprintln!("{}", said.trim());
    }

    /// A token for a caller who may.
    pub(crate) fn token(&self) -> String {
        let wish = Wish { groups: Some(vec!["analysts".into()]), lifetime: 3600, ..Wish::default() };
        self.0.issuer.mint(&wish).unwrap()
    }

    pub(crate) fn lab(&self) -> &LabNetwork {
        &self.0.lab
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.0.authority
    }

    pub(crate) fn journal(&self) -> String {
        let said = self.0.system.exec(&["journalctl", "--no-pager", "-o", "cat", "-n", "40", "-u", AGENT]);
        said.map_or_else(|error| error.to_string(), |said| said.stdout)
    }

    /// Takes everything down and makes sure that nothing remains.
    pub(crate) fn strike(self) {
        self.0.strike().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Looks for the listener in the kernel's own table: under guard nobody here may connect to it.
    fn wait_for_model(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while tcp_sockets(&self.0.system, MODEL_PORT, |state| state == LISTEN) == 0 {
            assert!(Instant::now() < deadline, "the model server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn run(&self, command: &[&str]) -> String {
        self.0.system.run(command).unwrap_or_else(|error| panic!("{error}\n{}", self.journal()))
    }

    fn config(&self, reason: &str) -> String {
        let issuer = self.0.issuer.url();
        format!(
            r#"[host]
name = "model-host-1"
region = "eu"

[regions.eu]
networks = ["10.77.0.0/24", "203.0.113.0/24", "198.51.100.0/24", "fd77::/64", "2001:db8:c::/64"]

[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
port = {MODEL_PORT}
server = "openai"
[model.egress]
mode = "enforce"
regions = ["eu"]
[[model.egress.allow]]
network = "192.0.2.10/32"
port = 443
reason = "{reason}"

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
groups = ["analysts"]
models = ["llama"]
from = ["eu"]
endpoints = ["chat"]

[audit]
directory = "{TRAIL}"
"#
        )
    }
}

impl Attackers {
    /// Calls them off and hears what they saw.
    pub(crate) fn stop(self) -> Seen {
        let hear = |mut child: Child| -> Storm {
            drop(child.stdin.take());
            let output = child.wait_with_output().expect("an attacker's words");
            serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
        };
        Seen { local: hear(self.local), remote: hear(self.remote) }
    }
}
