//! A model host with a living agent: a box with a real systemd, the lab around it, an issuer, and the agent's files where
//! the README puts them.
//!
//! ```text
//!   ModelHost::boot ─▶ box + lab + authority + issuer ─▶ place_agent(config) ─▶ systemctl start …
//!   place_units, place_identity: the same, part by part, for a host without a lab
//! ```
//!
//! What is said here once is where things are. What a test is about, it says itself: the config, the model server's unit,
//! what is started when.

use crate::authority::{Authority, AuthorityError};
use crate::issuer::{Algorithm, Issuer, IssuerError, Plan};
use crate::lab_network::{LabError, LabNetwork};
use crate::reaper::{Reaper, ReaperError};
use crate::system_box::init::Bind;
use crate::system_box::{BoxError, SystemBox};
use std::io;
use std::path::{Path, PathBuf};

/// Where the testbed's program is in a box.
pub const TESTBED: &str = "/usr/bin/bailiwick-testbed";
/// The agent's config.
pub const CONFIG: &str = "/etc/bailiwick/bailiwick.toml";
/// The audit trail's directory.
pub const TRAIL: &str = "/var/lib/bailiwick/audit";
/// The agent's unit.
pub const AGENT: &str = "bailiwick.service";
/// Where the authority's certificate is, for the config's `ca`.
pub const ISSUER_CA: &str = "/etc/bailiwick/issuer-ca.crt";

/// TCP states of /proc/net/tcp (include/net/tcp_states.h).
pub const LISTEN: &str = "0A";
/// See [`LISTEN`].
pub const TIME_WAIT: &str = "06";

/// Everything that stands. Fields drop in this order.
#[derive(Debug)]
pub struct ModelHost {
    /// On the lab's issuer host.
    pub issuer: Issuer,
    /// The host itself.
    pub system: SystemBox,
    /// The machines around it.
    pub lab: LabNetwork,
    /// Signs the proxy's and the issuer's certificates.
    pub authority: Authority,
    /// Ends all of it.
    pub reaper: Reaper,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ModelHostError {
    /// The box.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// The network.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// What takes everything down.
    #[error(transparent)]
    Reaper(#[from] ReaperError),
    /// A file or namespace.
    #[error("model host: {0}")]
    Io(#[from] io::Error),
}

impl ModelHost {
    /// Boots the box `name` with the testbed's program in it, and the agent's where one is given.
    ///
    /// # Errors
    /// [`ModelHostError`], with the cure where the machine lacks something.
    pub fn boot(testbed: &Path, name: &str, agent: Option<&Path>) -> Result<Self, ModelHostError> {
        let reaper = Reaper::start(testbed)?;
        let mut binds = vec![Bind::read_only(testbed, TESTBED)];
        binds.extend(agent.map(|agent| Bind::read_only(agent, "/usr/bin/bailiwick")));
        let system = SystemBox::boot(&reaper, name, binds)?;
        let lab = LabNetwork::around(&reaper, system.network()?)?;
        let authority = Authority::new("Lab CA")?;
        let issuer = Issuer::start(Plan {
            listen: lab.issuer.at_v4(443),
            namespace: Some(lab.issuer.namespace.clone()),
            identity: Some(authority.issue(&[&lab.issuer.v4.to_string()])?),
            algorithms: vec![Algorithm::Es256],
            clients: Vec::new(),
        })?;
        Ok(Self { issuer, system, lab, authority, reaper })
    }

    /// Puts the agent's units and the model's drop-in, this config and the files that it names in their places.
    ///
    /// # Errors
    /// [`ModelHostError`]
    pub fn place_agent(&self, config: &str) -> Result<(), ModelHostError> {
        place_units(&self.system, &units())?;
        place_identity(&self.system, &self.authority, &[&self.lab.host.v4.to_string()])?;
        self.system.write(ISSUER_CA, self.authority.certificate(), 0o644)?;
        self.system.write(CONFIG, config, 0o600)?;
        Ok(())
    }

    /// Takes everything down and makes sure that nothing remains.
    ///
    /// # Errors
    /// What remains.
    pub fn strike(self) -> Result<(), ModelHostError> {
        drop(self.issuer);
        drop(self.system);
        drop(self.lab);
        Ok(self.reaper.finish()?)
    }
}

/// The units as the project ships them.
#[must_use]
pub fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/systemd")
}

/// Puts the agent's units and the model's drop-in, from the directory `units`, where an installation has them, and tells
/// systemd.
///
/// # Errors
/// [`ModelHostError`]
pub fn place_units(system: &SystemBox, units: &Path) -> Result<(), ModelHostError> {
    for (file, target) in [
        ("bailiwick.service", "/etc/systemd/system/bailiwick.service"),
        ("bailiwick-agent.slice", "/etc/systemd/system/bailiwick-agent.slice"),
        ("model.conf", "/etc/systemd/system/llama.service.d/bailiwick.conf"),
    ] {
        system.write(target, std::fs::read(units.join(file))?, 0o644)?;
    }
    system.run(&["systemctl", "daemon-reload"])?;
    Ok(())
}

/// Puts a certificate for these names and its key where configs look for the proxy's.
///
/// # Errors
/// [`ModelHostError`]
pub fn place_identity(
    system: &SystemBox,
    authority: &Authority,
    names: &[&str],
) -> Result<(), ModelHostError> {
    let identity = authority.issue(names)?;
    system.write("/etc/bailiwick/tls.crt", identity.certificate, 0o644)?;
    system.write("/etc/bailiwick/tls.key", identity.key, 0o600)?;
    Ok(())
}

/// How many TCP sockets on a port are in a state that is wanted, from the kernel's own table (proc(5)): under guard nobody
/// in the box may ask the port itself.
#[must_use]
pub fn tcp_sockets(system: &SystemBox, port: u16, wanted: impl Fn(&str) -> bool) -> usize {
    let ending = format!(":{port:04X}");
    let counts = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|local| local.ends_with(&ending))
            && words.get(3).is_some_and(|state| wanted(state))
    };
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/{}/net/{table}", system.init_pid())).ok())
        .map(|table| table.lines().filter(counts).count())
        .sum()
}
