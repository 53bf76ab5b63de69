//! Where the bench happens: namespaces and cgroup subtrees of its own, one for each [`Arm`].

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
use crate::floor::Floor;
use crate::reader::Reader;

/// The cgroups, below the bench's root.
pub(crate) const PROXY: &str = "bailiwick.slice/bailiwick-agent.slice";
pub(crate) const MODEL: &str = "bailiwick.slice/bailiwick-llama.slice";
pub(crate) const OTHER: &str = "other.slice";
/// The guarded port.
pub(crate) const PORT: u16 = 8000;

/// How many networks the model may send to: that of a group of countries, aggregated.
const NETWORKS: usize = 10_000;
/// This end's address on the way to another host, and that host's.
const NEAR: &str = "198.51.100.1/24";
const FAR: &str = "198.51.100.2/24";

/// What is attached at a cgroup subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// Nothing.
    Bare = 0,
    /// Programs that do nothing, wherever the guard has one.
    Floor = 1,
    /// The guard.
    Guard = 2,
}

impl Arm {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Floor, Self::Guard];

    /// Its servers are side by side. The guard's model has the guarded port.
    fn port(self) -> u16 {
        match self {
            Self::Guard => PORT,
            Self::Bare => PORT + 10,
            Self::Floor => PORT + 20,
        }
    }
}

/// Removed when dropped.
pub(crate) struct Place {
    site: Site,
    rules: Rules,
    directory: tempfile::TempDir,
    far: NetNamespace,
    attached: Option<(Guard, Reader, Floor)>,
}

/// Where a process is.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) cgroup: PathBuf,
    /// The number of its core.
    pub(crate) core: usize,
    /// A path to its network namespace, if that is not the bench's own.
    pub(crate) namespace: Option<String>,
}

impl Place {
    /// Needs root, cgroup2, bpf and iproute2. Puts up the guard over these rules.
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
        let mut place = Self { site, rules, directory, far, attached: None };
        for arm in Arm::ALL {
            for cgroup in [PROXY, MODEL, OTHER] {
                fs::create_dir_all(place.seat(arm, cgroup).cgroup)?;
            }
        }
        let Seat { cgroup, .. } = place.elsewhere();
        fs::create_dir(&cgroup)?;
        for words in [format!("addr add {FAR} dev far"), "link set far up".to_owned()] {
            ip(place.far.command("ip", &cgroup)?, &words)?;
        }
        place.attach()?;
        Ok(place)
    }

    /// The guard as the agent has it, so that somebody reads what it observes; and the floor at the same hooks.
    fn attach(&mut self) -> Measured<()> {
        let mut guard = Guard::attach(&self.site)?;
        guard.apply(&self.rules)?;
        let status = self.status()?;
        if !status.guarded {
            return Err("the guard does not stand: there is nothing to measure".into());
        }
        let hooks: Vec<String> = status.hooks.into_iter().map(|hook| hook.hook).collect();
        let floor = Floor::attach(&hooks, &self.root(Arm::Floor), &self.seat(Arm::Floor, MODEL).cgroup)?;
        let reader = Reader::start(&guard)?;
        self.attached = Some((guard, reader, floor));
        Ok(())
    }

    /// Whether everybody was let pass, and the guard stands as it stood; takes it away.
    pub(crate) fn end(mut self) -> Measured<()> {
        let status = self.status()?;
        let refused: u64 = status.denied.values().sum();
        if refused > 0 || !status.guarded {
            return Err(format!("the guard refused {refused} packets of those that it is to let pass").into());
        }
        let (_, reader, _) = self.attached.take().ok_or("the guard is gone")?;
        reader.stop()
    }

    fn root(&self, arm: Arm) -> PathBuf {
        let mut root = self.site.cgroup_root.clone().into_os_string();
        root.push(match arm {
            Arm::Bare => "-bare",
            Arm::Floor => "-floor",
            Arm::Guard => "",
        });
        root.into()
    }

    /// In a cgroup of this host.
    pub(crate) fn seat(&self, arm: Arm, relative: &str) -> Seat {
        Seat { cgroup: self.root(arm).join(relative), core: last_core(), namespace: None }
    }

    /// On another host, which no hook of the guard sees.
    pub(crate) fn elsewhere(&self) -> Seat {
        let mut cgroup = self.site.cgroup_root.clone().into_os_string();
        cgroup.push("-far");
        Seat { cgroup: cgroup.into(), core: last_core(), namespace: Some(self.far.path()) }
    }

    /// The model's, at the `number`-th address of loopback.
    pub(crate) fn model_address(arm: Arm, number: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, number], arm.port()))
    }

    /// That of a server on this host that nobody guards.
    pub(crate) fn other_address(arm: Arm) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], arm.port() + 1))
    }

    /// That of a server on the other host.
    pub(crate) fn far_address(arm: Arm) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 2], arm.port()))
    }

    pub(crate) fn status(&self) -> Measured<Status> {
        Ok(status(&self.site, &self.rules)?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.attached = None;
        let _ = release(&self.site);
        // The children end with their parent's pipes, and a cgroup empties a moment after its last process.
        let deadline = Instant::now() + Duration::from_secs(3);
        let roots = Arm::ALL.map(|arm| self.root(arm));
        for cgroup in roots.iter().chain([&self.elsewhere().cgroup]) {
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

/// The core of both ends, unless they are to be apart.
fn last_core() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) - 1
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
