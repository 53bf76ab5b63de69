//! The stage: the box, the lab, the authority, and what the scenes ask of them again and again.

use super::cast::{AUDIENCE, Cast, GROUP, MODEL_KEY_FILE, MODEL_PORT};
use super::{Options, StoryError};
use crate::authority::Authority;
use crate::lab_network::LabNetwork;
use crate::model_host::{self, LISTEN, tcp_sockets};
use crate::narrator::Narrator;
use crate::probe::{self, Attempt};
use crate::reaper::Reaper;
use crate::system_box::SystemBox;
use crate::system_box::init::Bind;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Where the testbed's program is in the box.
pub(super) const TESTBED_IN_BOX: &str = "/usr/bin/bailiwick-testbed";

/// Where the trail is in the box.
pub(super) const TRAIL: &str = "/var/lib/bailiwick/audit";

/// The foreign host's open port.
pub(super) const FOREIGN_PORT: u16 = 443;

const CONFIG: &str = "/etc/bailiwick/bailiwick.toml";
const AGENT: &str = "bailiwick.service";

/// Everything that stands. Fields drop in this order.
pub struct Stage {
    foreign_listener: Child,
    system: SystemBox,
    lab: LabNetwork,
    authority: Authority,
    model_key: String,
    units: PathBuf,
    reaper: Reaper,
}

impl Stage {
    /// Boots the box, lays the network out, starts the issuer and, unguarded, the model server.
    pub(super) fn set(
        cast: &mut dyn Cast,
        narrator: &mut Narrator,
        options: &Options,
    ) -> Result<Self, StoryError> {
        narrator.step("The scene: a model host, a remote client, an issuer and a host in a foreign region");
        narrator.says(&format!("Played by {}.", cast.introduction()));
        let reaper = Reaper::start(&options.testbed)?;
        let mut binds = cast.binds();
        binds.push(Bind::read_only(&options.testbed, TESTBED_IN_BOX));
        binds.push(Bind::read_only(&options.bailiwick, "/usr/bin/bailiwick"));
        narrator.progress("booting the model host: systemd as PID 1 in namespaces of its own");
        let system = SystemBox::boot(&reaper, "model-host-1", binds)?;
        narrator.progress("the model host is up; laying out the network");
        let lab = LabNetwork::around(&reaper, system.network()?)?;
        let foreign_listener = lab
            .foreign
            .command(reaper.program())?
            .args(["listen", &format!("[::]:{FOREIGN_PORT}")])
            .stdin(Stdio::null())
            .spawn()?;
        let mut random = [0; 24];
        getrandom::fill(&mut random).map_err(|error| StoryError::Cast(error.to_string()))?;
        let stage = Self {
            foreign_listener,
            system,
            lab,
            authority: Authority::new("Lab CA")?,
            model_key: format!("model-{}", URL_SAFE_NO_PAD.encode(random)),
            units: options.units.clone(),
            reaper,
        };
        let issuer = cast.start_issuer(&stage)?;
        narrator.progress(&format!("the issuer is up at {issuer}; starting the model server, unguarded"));
        stage.furnish(cast, &issuer)?;
        stage.start("llama.service")?;
        stage.wait_for_model(cast, narrator)?;
        narrator.progress("the model server answers");
        Ok(stage)
    }

    /// The model host.
    #[must_use]
    pub fn system(&self) -> &SystemBox {
        &self.system
    }

    /// The network.
    #[must_use]
    pub fn lab(&self) -> &LabNetwork {
        &self.lab
    }

    /// Signs the proxy's and the issuer's certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The key that the model server demands.
    #[must_use]
    pub fn model_key(&self) -> &str {
        &self.model_key
    }

    /// A directory of the testbed, for files that players need outside of the box.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.reaper.directory()
    }

    /// Where callers send their requests.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("https://{}/v1", self.lab.host.at_v4(8443))
    }

    /// Puts the agent in, as the README says: units, drop-in, start, restart of the model server.
    pub(super) fn install(&self, cast: &dyn Cast, narrator: &mut Narrator) -> Result<(), StoryError> {
        model_host::place_units(&self.system, &self.units)?;
        let checked = self.system.exec(&["bailiwick", "check", "--config", CONFIG])?;
        if !checked.status.success() {
            let said = format!("{}{}", checked.stdout, checked.stderr);
            return Err(StoryError::Absent(format!("bailiwick check refuses the story's config:\n{said}")));
        }
        self.start(AGENT)?;
        narrator.progress("the agent is up; restarting the model server in its guarded slice");
        self.system.run(&["systemctl", "stop", "llama.service"])?;
        self.start("llama.service")?;
        self.wait_for_model(cast, narrator)
    }

    /// A local process, root, outside of every unit, connects.
    pub(super) fn local_connects(&self, to: SocketAddr) -> Result<Attempt, StoryError> {
        let (address, port) = (to.ip().to_string(), to.port().to_string());
        let said = self.system.exec(&[TESTBED_IN_BOX, "connect", &address, &port])?;
        Ok(Attempt::parse(&said.stdout))
    }

    /// The remote client connects to several addresses at once.
    pub(super) fn remote_connects(&self, to: &[SocketAddr]) -> Result<Vec<Attempt>, StoryError> {
        let patience = Duration::from_millis(1500);
        std::thread::scope(|scope| {
            let tries: Vec<_> = to
                .iter()
                .map(|to| scope.spawn(move || self.lab.client.run(|| probe::connect(*to, patience))))
                .collect();
            tries
                .into_iter()
                .map(|attempt| match attempt.join() {
                    Ok(attempt) => Ok(attempt?),
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        })
    }

    /// The agent's process id in the box; `None` when it has none.
    pub(super) fn agent_pid(&self) -> Result<Option<u32>, StoryError> {
        let pid = self.system.run(&["systemctl", "show", "--property=MainPID", "--value", AGENT])?;
        Ok(pid.trim().parse().ok().filter(|pid| *pid != 0))
    }

    /// Waits until the agent has (or has not) a process and its unit is (or is not) active.
    pub(super) fn wait_for_agent(&self, up: bool, patience: Duration) -> Result<Option<u32>, StoryError> {
        let deadline = Instant::now() + patience;
        loop {
            let pid = self.agent_pid()?;
            let active = self.system.exec(&["systemctl", "is-active", "--quiet", AGENT])?.status.success();
            if pid.is_some() == up && active == up {
                return Ok(pid);
            }
            if Instant::now() >= deadline {
                return Err(self.unit_failed(AGENT, if up { "come back" } else { "die" }));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every record of the trail, oldest first.
    pub(super) fn records(&self) -> Result<Vec<Value>, StoryError> {
        let text = self.system.run(&["bailiwick", "audit", "show", "--directory", TRAIL, "--json"])?;
        // One `{"index", "record"}` a line.
        text.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?["record"].take())).collect()
    }

    /// The processes of the model server's unit, as the machine numbers them.
    pub(super) fn model_processes(&self) -> Result<Vec<u32>, StoryError> {
        let group =
            self.system.run(&["systemctl", "show", "--property=ControlGroup", "--value", "llama.service"])?;
        let path = self.system.cgroup().join(group.trim().trim_start_matches('/')).join("cgroup.procs");
        let text = std::fs::read_to_string(path)?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Takes everything down and says whether anything remains.
    pub(super) fn strike(mut self) -> Result<(), StoryError> {
        let _gone_with_the_testbed_anyway = self.foreign_listener.kill();
        let _reaped = self.foreign_listener.wait();
        drop(self.system);
        drop(self.lab);
        Ok(self.reaper.finish()?)
    }

    fn furnish(&self, cast: &dyn Cast, issuer: &str) -> Result<(), StoryError> {
        let host = &self.lab.host;
        let proxy = self.authority.issue(&[&host.v4.to_string(), &host.v6.to_string(), "model-host-1"])?;
        for (path, contents, mode) in [
            (CONFIG, config(cast.preset(), issuer), 0o600),
            ("/etc/bailiwick/tls.crt", proxy.certificate, 0o644),
            ("/etc/bailiwick/tls.key", proxy.key, 0o600),
            ("/etc/bailiwick/issuer-ca.crt", self.authority.certificate().to_owned(), 0o644),
            (MODEL_KEY_FILE, self.model_key.clone(), 0o600),
            ("/etc/systemd/system/llama.service", model_unit(&cast.model_service()?), 0o644),
        ] {
            self.system.write(path, contents, mode)?;
        }
        self.system.run(&["systemctl", "daemon-reload"])?;
        Ok(())
    }

    fn start(&self, unit: &str) -> Result<(), StoryError> {
        let started = self.system.exec(&["systemctl", "start", unit])?;
        if started.status.success() { Ok(()) } else { Err(self.unit_failed(unit, "start")) }
    }

    /// Looks for the listener in the kernel's own table: under guard nobody here may connect to it.
    fn wait_for_model(&self, cast: &dyn Cast, narrator: &mut Narrator) -> Result<(), StoryError> {
        let deadline = Instant::now() + cast.model_patience();
        let mut next_word = Instant::now() + Duration::from_secs(5);
        loop {
            let listens = tcp_sockets(&self.system, MODEL_PORT, |state| state == LISTEN) > 0;
            if listens && cast.model_is_ready(self)? {
                return Ok(());
            }
            let alive = self.system.exec(&["systemctl", "is-active", "--quiet", "llama.service"])?;
            if !alive.status.success() || Instant::now() >= deadline {
                return Err(self.unit_failed("llama.service", "listen"));
            }
            if Instant::now() >= next_word {
                narrator.progress("the model server is still loading");
                next_word += Duration::from_secs(5);
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn unit_failed(&self, unit: &str, verb: &'static str) -> StoryError {
        let said = self.system.exec(&["journalctl", "--no-pager", "-o", "cat", "-n", "25", "-u", unit]);
        let journal = said.map_or_else(|error| error.to_string(), |said| said.stdout);
        StoryError::Unit { unit: unit.to_owned(), verb, journal }
    }
}

/// The model server's unit as its operator wrote it, before there was a guard.
fn model_unit(service: &str) -> String {
    format!(
        "[Unit]\nDescription=A model server\n\n[Service]\nSlice=bailiwick-llama.slice\nRestart=on-failure\n{service}\n"
    )
}

fn config(preset: &str, issuer: &str) -> String {
    format!(
        r#"[host]
name = "model-host-1"
region = "eu"

[regions.eu]
networks = [
  "10.77.0.0/24", "fd77::/64",               # this host
  "203.0.113.0/24", "2001:db8:c::/64",       # callers
  "198.51.100.0/24", "2001:db8:a::/64",      # the issuer
]
[regions.overseas]
networks = ["192.0.2.0/24", "2001:db8:f::/64"]

[[model]]
name = "llama"
slice = "bailiwick-llama.slice"
port = {MODEL_PORT}
server = "{preset}"
credential = "{MODEL_KEY_FILE}"
[model.egress]
mode = "enforce"
regions = ["eu"]

[proxy]
listen = "[::]:8443"
tls = {{ certificate = "/etc/bailiwick/tls.crt", key = "/etc/bailiwick/tls.key" }}

[[issuer]]
url = "{issuer}"
audience = "{AUDIENCE}"
groups = "groups"
region = "eu"
ca = "/etc/bailiwick/issuer-ca.crt"

[[access]]
name = "analysts"
groups = ["{GROUP}"]
models = ["llama"]
from = ["eu"]
endpoints = ["chat"]
mask = {{ request = ["pii"], response = ["pii"] }}

[[mask]]
name = "pii"
entities = ["email", "iban", "card"]
fields = ["$.metadata.customer_id"]
action = "redact"

[audit]
directory = "{TRAIL}"
"#
    )
}
