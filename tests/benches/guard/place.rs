//! Where the bench happens: namespaces and a cgroup subtree of its own, and the guard that is put over it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bailiwick_kernel::{Guard, Rules, Scope, ScopeKind, Site, Status, release, status};
use bailiwick_policy::{EgressPolicy, Mode, Name};
use ipnet::{IpNet, Ipv4Net};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::Measured;

/// The cgroups, below the bench's root.
pub(crate) const PROXY: &str = "bailiwick.slice/bailiwick-agent.slice";
pub(crate) const MODEL: &str = "bailiwick.slice/bailiwick-llama.slice";
pub(crate) const OTHER: &str = "other.slice";
/// The guarded port; the unrelated server has the next one.
pub(crate) const PORT: u16 = 8000;

/// How many networks the model may send to: that of a group of countries, aggregated.
const NETWORKS: usize = 10_000;

/// Removed when dropped.
pub(crate) struct Place {
    site: Site,
    rules: Rules,
    directory: tempfile::TempDir,
}

impl Place {
    /// Needs root, cgroup2, bpf and iproute2.
    pub(crate) fn make() -> Measured<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err("the guard can only be measured by root".into());
        }
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        if !up.is_ok_and(|status| status.success()) {
            return Err("`ip link set lo up` failed; install iproute2".into());
        }
        let directory = tempfile::tempdir()?;
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>)?;
        let cgroup_root = Site::find()
            .map(|site| site.cgroup_root)
            .or_else(|error| mounted_cgroup2().ok_or(error))?
            .join(format!("bailiwick-bench-{}", std::process::id()));
        let site = Site { cgroup_root, pins: directory.path().join("bailiwick") };
        let place = Self { site, rules: rules()?, directory };
        for cgroup in [PROXY, MODEL, OTHER] {
            fs::create_dir_all(place.cgroup(cgroup))?;
        }
        Ok(place)
    }

    pub(crate) fn cgroup(&self, relative: &str) -> PathBuf {
        self.site.cgroup_root.join(relative)
    }

    /// Attaches the whole guard and makes sure that it stands.
    pub(crate) fn guard(&self) -> Measured<Guard> {
        let mut guard = Guard::attach(&self.site)?;
        guard.apply(&self.rules)?;
        if !self.status()?.guarded {
            return Err("the guard does not stand: there is nothing to measure".into());
        }
        Ok(guard)
    }

    /// Takes the guard away and makes sure that nothing of it is left.
    pub(crate) fn release(&self, guard: Guard) -> Measured<()> {
        drop(guard);
        release(&self.site)?;
        if self.status()?.hooks.iter().any(|hook| hook.attached) {
            return Err("a program is still attached: there is no baseline".into());
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> Measured<Status> {
        Ok(status(&self.site, &self.rules)?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = release(&self.site);
        // The children end with their parent's pipes, and a cgroup empties a moment after its last process.
        let deadline = Instant::now() + Duration::from_secs(3);
        while let Err(error) = remove_tree(&self.site.cgroup_root) {
            if Instant::now() > deadline {
                eprintln!("left behind: {}: {error}", self.site.cgroup_root.display());
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}

/// A model that may send to ten thousand networks that cannot be joined, and the proxy.
fn rules() -> Measured<Rules> {
    // Every other /30 of the range that is set aside for benchmarks (RFC 2544).
    let range = Ipv4Net::new([198, 18, 0, 0].into(), 15)?;
    let networks = range.subnets(30)?.step_by(2).take(NETWORKS).map(IpNet::V4).collect();
    let egress = |networks: Vec<IpNet>| -> Measured<EgressPolicy> {
        let regions = vec![Name::new("eu")?];
        Ok(EgressPolicy { mode: Mode::Enforce, regions, networks, exceptions: Vec::new() })
    };
    let scope = |name: &str, kind, cgroup: &str, egress| -> Measured<Scope> {
        Ok(Scope { name: Name::new(name)?, kind, cgroup: cgroup.into(), peers: Vec::new(), egress })
    };
    let everywhere = vec!["0.0.0.0/0".parse()?, "::/0".parse()?];
    Ok(Rules {
        scopes: vec![
            scope("proxy", ScopeKind::Proxy, PROXY, egress(everywhere)?)?,
            scope("llama", ScopeKind::Model { port: PORT }, MODEL, egress(networks)?)?,
        ],
    })
}

fn mounted_cgroup2() -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}

fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_tree(&path)?;
        }
    }
    fs::remove_dir(cgroup)
}
