//! Where the bench happens: namespaces and a cgroup subtree of its own, and the guard that is put over it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bailiwick_kernel::{Guard, Rules, Scope, ScopeKind, Site, Status, release, status};
use bailiwick_policy::{EgressPolicy, Mode, Name};
use bailiwick_tests::net_namespace::NetNamespace;
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
/// This end's address on the way to another host, and that host's.
const NEAR: &str = "198.51.100.1/24";
const FAR: &str = "198.51.100.2/24";

/// Removed when dropped.
pub(crate) struct Place {
    site: Site,
    rules: Rules,
    directory: tempfile::TempDir,
    far: NetNamespace,
}

/// Where a process is.
pub(crate) struct Seat {
    pub(crate) cgroup: PathBuf,
    /// A path to its network namespace, if that is not the bench's own.
    pub(crate) namespace: Option<String>,
}

impl Place {
    /// Needs root, cgroup2, bpf and iproute2. The guard will be put up over these rules.
    pub(crate) fn make(rules: Rules) -> Measured<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err("the guard can only be measured by root".into());
        }
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        let far = NetNamespace::new()?;
        ip(Command::new("ip"), "link set lo up")?;
        ip(Command::new("ip"), &format!("link add near type veth peer name far netns {}", far.path()))?;
        ip(Command::new("ip"), &format!("addr add {NEAR} dev near"))?;
        ip(Command::new("ip"), "link set near up")?;
        let directory = tempfile::tempdir()?;
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>)?;
        let cgroup_root = Site::find()
            .map(|site| site.cgroup_root)
            .or_else(|error| mounted_cgroup2().ok_or(error))?
            .join(format!("bailiwick-bench-{}", std::process::id()));
        let site = Site { cgroup_root, pins: directory.path().join("bailiwick") };
        let place = Self { site, rules, directory, far };
        for cgroup in [PROXY, MODEL, OTHER] {
            fs::create_dir_all(place.seat(cgroup).cgroup)?;
        }
        let Seat { cgroup, .. } = place.elsewhere();
        fs::create_dir(&cgroup)?;
        for words in [format!("addr add {FAR} dev far"), "link set far up".to_owned()] {
            ip(place.far.command("ip", &cgroup)?, &words)?;
        }
        Ok(place)
    }

    /// In a cgroup of this host.
    pub(crate) fn seat(&self, relative: &str) -> Seat {
        Seat { cgroup: self.site.cgroup_root.join(relative), namespace: None }
    }

    /// On another host, which no hook of the guard sees.
    pub(crate) fn elsewhere(&self) -> Seat {
        let mut cgroup = self.site.cgroup_root.clone().into_os_string();
        cgroup.push("-far");
        Seat { cgroup: cgroup.into(), namespace: Some(self.far.path()) }
    }

    /// That host's address.
    pub(crate) fn far_address() -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 2], PORT))
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
        for cgroup in [&self.site.cgroup_root, &self.elsewhere().cgroup] {
            while let Err(error) = remove_tree(cgroup) {
                if Instant::now() > deadline {
                    eprintln!("left behind: {}: {error}", cgroup.display());
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}

fn ip(mut command: Command, words: &str) -> Measured<()> {
    let done = command.args(words.split(' ')).status();
    if !done.is_ok_and(|status| status.success()) {
        return Err(format!("`ip {words}` failed; install iproute2").into());
    }
    Ok(())
}

/// Ten thousand networks that cannot be joined: every other /30 of the range that is set aside for benchmarks (RFC 2544).
pub(crate) fn ten_thousand() -> Measured<Vec<IpNet>> {
    let range = Ipv4Net::new([198, 18, 0, 0].into(), 15)?;
    Ok(range.subnets(30)?.step_by(2).take(NETWORKS).map(IpNet::V4).collect())
}

/// A model that may send to these networks, and the proxy.
pub(crate) fn rules(networks: Vec<IpNet>) -> Measured<Rules> {
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
