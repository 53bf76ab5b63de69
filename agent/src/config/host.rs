//! What a config does not say and the host does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Facts about the host that a config is compiled for. A parameter, so that compiling is a function of its
/// inputs and a test can set each of them. It has no `Debug`, since it holds a key.
pub struct HostFacts {
    /// Where systemd puts the service's credentials (`$CREDENTIALS_DIRECTORY`, systemd.exec(5)); `None` when
    /// that cannot be known here: then a named credential is a warning, not an error.
    pub credentials_directory: Option<PathBuf>,
    /// The agent's own cgroup, relative to the cgroup root.
    pub agent_cgroup: PathBuf,
    /// The host's name, for a config that gives none.
    pub hostname: String,
    /// The key of the `hash` mask action.
    pub mask_key: [u8; 32],
    /// Whether files that the config names must be there.
    pub check_files: bool,
    /// Whether the datasets are read. Where they are not, countries hold no address.
    pub read_datasets: bool,
}

/// The slice that the shipped unit puts the agent in, and the only one that it runs in.
pub const AGENT_SLICE: &str = "bailiwick.slice/bailiwick-agent.slice";

/// Where systemd puts the credentials of the shipped unit.
const SHIPPED_CREDENTIALS: &str = "/run/credentials/bailiwick.service";

impl HostFacts {
    /// For the agent itself.
    #[must_use]
    pub fn of_this_host(mask_key: [u8; 32]) -> Self {
        let directory =
            std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_else(|| OsString::from(SHIPPED_CREDENTIALS));
        Self {
            credentials_directory: Some(PathBuf::from(directory)),
            agent_cgroup: PathBuf::from(AGENT_SLICE),
            hostname: hostname(),
            mask_key,
            check_files: true,
            read_datasets: true,
        }
    }

    /// For a command that only needs to know what the config means (`status`, `release`): the agent is where
    /// the shipped unit puts it, and files that only the agent needs may be missing.
    #[must_use]
    pub fn for_inspection() -> Self {
        Self {
            credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            agent_cgroup: PathBuf::from(AGENT_SLICE),
            hostname: hostname(),
            mask_key: [0; 32],
            check_files: false,
            read_datasets: false,
        }
    }

    /// For a command that also needs to know where addresses are (`selftest`, `regions`).
    #[must_use]
    pub fn for_look_ups() -> Self {
        Self { read_datasets: true, ..Self::for_inspection() }
    }

    /// For `check`: as the shipped unit would find it, files included. Credentials exist while the service
    /// runs, so that they are looked for only if their directory is there.
    #[must_use]
    pub fn for_check() -> Self {
        let mut facts = Self::for_inspection();
        facts.check_files = true;
        facts.read_datasets = true;
        if facts.credentials_directory.is_none() && Path::new(SHIPPED_CREDENTIALS).is_dir() {
            facts.credentials_directory = Some(PathBuf::from(SHIPPED_CREDENTIALS));
        }
        facts
    }

    /// Where the credential of that name is, or will be.
    pub(super) fn credential(&self, name: &str) -> PathBuf {
        self.credentials_directory.as_deref().unwrap_or_else(|| Path::new(SHIPPED_CREDENTIALS)).join(name)
    }
}

fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}
