//! A model host with an agent that is meant to die, and those who try to profit.

use bailiwick_tests::authority::Authority;
use bailiwick_tests::binary::bailiwick_binary;
use bailiwick_tests::issuer::{Algorithm, Issuer, Plan, Wish};
use bailiwick_tests::lab_network::LabNetwork;
use bailiwick_tests::probe::Storm;
use bailiwick_tests::reaper::Reaper;
use bailiwick_tests::system_box::SystemBox;
use bailiwick_tests::system_box::init::Bind;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const TESTBED_IN_BOX: &str = "/usr/bin/bailiwick-testbed";
const TRAIL: &str = "/var/lib/bailiwick/audit";
const CONFIG: &str = "/etc/bailiwick/bailiwick.toml";
const AGENT: &str = "bailiwick.service";
const MODEL_PORT: u16 = 8000;

/// The host, its network, its issuer. Fields drop in this order.
pub(crate) struct Scene {
    issuer: Issuer,
    system: SystemBox,
    lab: LabNetwork,
    authority: Authority,
    reaper: Reaper,
}

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
        let testbed = PathBuf::from(env!("CARGO_BIN_EXE_bailiwick-testbed"));
        let reaper = Reaper::start(&testbed).unwrap_or_else(|error| panic!("{error}"));
        let binds = vec![
            Bind::read_only(&testbed, TESTBED_IN_BOX),
            Bind::read_only(bailiwick_binary(), "/usr/bin/bailiwick"),
        ];
        let system =
            SystemBox::boot(&reaper, "model-host-1", binds).unwrap_or_else(|error| panic!("{error}"));
        let lab =
            LabNetwork::around(&reaper, system.network().unwrap()).unwrap_or_else(|error| panic!("{error}"));
        let authority = Authority::new("Lab CA").unwrap();
        let issuer = Issuer::start(Plan {
            listen: lab.issuer.at_v4(443),
            namespace: Some(lab.issuer.namespace.clone()),
            identity: Some(authority.issue(&[&lab.issuer.v4.to_string()]).unwrap()),
            algorithms: vec![Algorithm::Es256],
            clients: Vec::new(),
        })
        .unwrap_or_else(|error| panic!("{error}"));
        let scene = Self { issuer, system, lab, authority, reaper };
        scene.furnish();
        scene
    }

    /// Installs the agent as the README says, with a shorter pause between its lives.
    pub(crate) fn install_agent(&self) {
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd");
        for (file, target) in [
            ("bailiwick.service", "/etc/systemd/system/bailiwick.service"),
            ("bailiwick-agent.slice", "/etc/systemd/system/bailiwick-agent.slice"),
            ("model.conf", "/etc/systemd/system/llama.service.d/bailiwick.conf"),
        ] {
            self.system.write(target, std::fs::read(units.join(file)).unwrap(), 0o644).unwrap();
        }
        let shorter = "[Service]\nRestartSec=20ms\n";
        self.system.write("/etc/systemd/system/bailiwick.service.d/load.conf", shorter, 0o644).unwrap();
        self.run(&["systemctl", "daemon-reload"]);
        self.run(&["systemctl", "start", AGENT]);
        self.run(&["systemctl", "restart", "llama.service"]);
        self.wait_for_model();
    }

    /// Starts both attackers.
    pub(crate) fn attackers(&self) -> Attackers {
        // Nobody may win by starving the others of the two cores: attackers go on whenever a core is free.
        const POLITE: [&str; 3] = ["nice", "-n", "10"];
        let targets =
            |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        let own = [
            SocketAddr::from(([127, 0, 0, 1], MODEL_PORT)),
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], MODEL_PORT)),
            self.lab.host.at_v4(MODEL_PORT),
            self.lab.host.at_v6(MODEL_PORT),
        ];
        let mut local = self.system.command(&[&POLITE[..], &[TESTBED_IN_BOX, "storm"]].concat()).unwrap();
        local.args(targets(&own));
        let mut remote = self.lab.client.command(POLITE[0]).unwrap();
        remote.args(&POLITE[1..]).arg(self.reaper.program()).args(["storm", "--threads", "32"]);
        remote.args(targets(&[self.lab.host.at_v4(MODEL_PORT), self.lab.host.at_v6(MODEL_PORT)]));
        let start = |mut command: std::process::Command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("an attacker")
        };
        Attackers { local: start(local), remote: start(remote) }
    }

    /// The agent's process, as the machine numbers it, once it has one.
    pub(crate) fn agent(&self) -> Pid {
        let deadline = Instant::now() + Duration::from_secs(20);
        let cgroup = "bailiwick.slice/bailiwick-agent.slice/bailiwick.service/cgroup.procs";
        let processes = self.system.cgroup().join(cgroup);
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

    /// `systemctl reload`, with another policy than the last time.
    pub(crate) fn reload(&self, number: usize) {
        self.system.write(CONFIG, self.config(&format!("reload {number}")), 0o600).unwrap();
        self.run(&["systemctl", "reload", AGENT]);
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
        self.issuer.mint(&wish).unwrap()
    }

    pub(crate) fn lab(&self) -> &LabNetwork {
        &self.lab
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn journal(&self) -> String {
        let said = self.system.exec(&["journalctl", "--no-pager", "-o", "cat", "-n", "40", "-u", AGENT]);
        said.map_or_else(|error| error.to_string(), |said| said.stdout)
    }

    /// Takes everything down and makes sure that nothing remains.
    pub(crate) fn strike(self) {
        drop(self.issuer);
        drop(self.system);
        drop(self.lab);
        self.reaper.finish().unwrap_or_else(|error| panic!("{error}"));
    }

    fn furnish(&self) {
        let host = &self.lab.host;
        let proxy = self.authority.issue(&[&host.v4.to_string()]).unwrap();
        let unit = format!(
            "[Unit]\nDescription=A model server\n\n[Service]\nSlice=bailiwick-llama.slice\nExecStart={TESTBED_IN_BOX} \
             model-server --listen [::]:{MODEL_PORT} --piece 5 --pause 250\n"
        );
        for (path, contents, mode) in [
            (CONFIG, self.config("first"), 0o600),
            ("/etc/bailiwick/tls.crt", proxy.certificate, 0o644),
            ("/etc/bailiwick/tls.key", proxy.key, 0o600),
            ("/etc/bailiwick/issuer-ca.crt", self.authority.certificate().to_owned(), 0o644),
            ("/etc/systemd/system/llama.service", unit, 0o644),
        ] {
            self.system.write(path, contents, mode).unwrap();
        }
        self.run(&["systemctl", "daemon-reload"]);
        self.run(&["systemctl", "start", "llama.service"]);
        self.wait_for_model();
    }

    /// Looks for the listener in the kernel's own table: under guard nobody here may connect to it.
    fn wait_for_model(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let port = format!(":{MODEL_PORT:04X} ");
        let table = format!("/proc/{}/net/tcp6", self.system.init_pid());
        // Local address ends in the port; state 0A is LISTEN (proc(5)).
        let listens = |line: &str| line.contains(&port) && line.split_whitespace().nth(3) == Some("0A");
        while !std::fs::read_to_string(&table).unwrap_or_default().lines().any(listens) {
            assert!(Instant::now() < deadline, "the model server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn run(&self, command: &[&str]) -> String {
        self.system.run(command).unwrap_or_else(|error| panic!("{error}\n{}", self.journal()))
    }

    fn config(&self, reason: &str) -> String {
        let issuer = self.issuer.url();
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
