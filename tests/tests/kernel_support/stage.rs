//! One test's own world.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bailiwick_kernel::{Event, Events, Flows, Guard, Observation, Rules, Site, Status};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::actor::{Actor, Network};

/// The cgroups of the stage.
pub const PROXY: &str = "bailiwick.slice/bailiwick-proxy.slice";
pub const MODEL: &str = "bailiwick.slice/bailiwick-llama.slice";
pub const WORKLOAD: &str = "shipper.slice";
pub const OTHER: &str = "other.slice";

/// One test's own world; see the module above.
pub struct Stage {
    pub site: Site,
    seen: Arc<Mutex<Vec<Event>>>,
    directory: tempfile::TempDir,
}

/// What passes, read by the test itself.
pub struct Observed {
    runtime: tokio::runtime::Runtime,
    flows: Flows,
}

/// Longer than an observation may wait for its reader.
const SILENCE: Duration = Duration::from_millis(250);

impl Observed {
    /// What was said and counted so far.
    pub fn take(&mut self) -> Vec<Observation> {
        let flows = &mut self.flows;
        let mut taken = Vec::new();
        self.runtime.block_on(async {
            while let Ok(next) = tokio::time::timeout(SILENCE, flows.next()).await {
                taken.push(next.unwrap_or_else(|error| panic!("{error}")));
            }
        });
        let counts = flows.drain().unwrap_or_else(|error| panic!("{error}"));
        taken.extend(counts.into_iter().map(Observation::Counted));
        taken
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Stage {
    /// Needs root; panics with what is missing.
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "tests of the guard need root");
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .expect("a mount and a network namespace: CAP_SYS_ADMIN");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private mounts");
        ip("link set lo up");
        let directory = tempfile::tempdir().expect("a directory");
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .expect("a bpf file system: a kernel with CONFIG_BPF_SYSCALL");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup_root = cgroup2().join(format!("bailiwick-test-{}-{number}", std::process::id()));
        for cgroup in [PROXY, MODEL, WORKLOAD, OTHER] {
            fs::create_dir_all(cgroup_root.join(cgroup)).expect("a cgroup");
        }
        let site = Site { cgroup_root, pins: directory.path().join("bailiwick") };
        Self { site, seen: Arc::default(), directory }
    }

    /// A guard with these rules, its events collected by the stage.
    pub fn guard(&self, rules: &Rules) -> Guard {
        let mut guard = Guard::attach(&self.site).unwrap_or_else(|error| panic!("{error}"));
        guard.apply(rules).unwrap_or_else(|error| panic!("{error}"));
        self.collect(&mut guard);
        guard
    }

    pub fn cgroup(&self, relative: &str) -> PathBuf {
        self.site.cgroup_root.join(relative)
    }

    /// A process in the cgroup `relative`, in the stage's network.
    pub fn actor(&self, relative: &str) -> Actor {
        Actor::start(&self.cgroup(relative), Network::Here)
    }

    /// A process outside the guarded root, in a network of its own, joined to the stage's by a cable: the stage
    /// has the `.1` and `::1` of each (IPv4 /24, IPv6 /64) prefix, the host the `.2` and `::2`.
    pub fn host(&self, cable: &str, v4: &str, v6: &str) -> Actor {
        let actor = Actor::start(&cgroup2(), Network::New);
        let pid = actor.pid();
        ip(&format!("link add {cable} type veth peer name eth0 netns {pid}"));
        ip(&format!("addr add {v4}.1/24 dev {cable}"));
        ip(&format!("addr add {v6}::1/64 dev {cable} nodad"));
        ip(&format!("link set {cable} up"));
        for what in [
            "link set lo up".to_owned(),
            format!("addr add {v4}.2/24 dev eth0"),
            format!("addr add {v6}::2/64 dev eth0 nodad"),
            "link set eth0 up".to_owned(),
        ] {
            run("nsenter", &format!("--target {pid} --net ip {what}"));
        }
        for address in [format!("{v4}.2"), format!("{v6}::2")] {
            await_host(address.parse().expect("an address"));
        }
        actor
    }

    pub fn status(&self, rules: &Rules) -> Status {
        bailiwick_kernel::status(&self.site, rules).expect("status")
    }

    /// The first event that `wanted` picks; panics with all that came when none does within two seconds.
    pub fn event(&self, why: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let seen = self.seen.lock().expect("events");
            if let Some(event) = seen.iter().find(|event| wanted(event)) {
                return event.clone();
            }
            assert!(Instant::now() < deadline, "no event: {why}; seen: {seen:#?}");
            drop(seen);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the programs observe from now on.
    pub fn observe(guard: &Guard) -> Observed {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let context = runtime.enter();
        let flows = guard.flows().unwrap_or_else(|error| panic!("{error}"));
        drop(context);
        Observed { runtime, flows }
    }

    /// What came so far; forgets it.
    pub fn take_events(&self) -> Vec<Event> {
        thread::sleep(Duration::from_millis(50));
        std::mem::take(&mut *self.seen.lock().expect("events"))
    }

    pub fn collect(&self, guard: &mut Guard) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let context = runtime.enter();
        let events = guard.events().unwrap_or_else(|error| panic!("{error}"));
        drop(context);
        let seen = Arc::clone(&self.seen);
        // Ends with the test's process; it holds no more than a descriptor.
        thread::spawn(move || runtime.block_on(listen(events, &seen)));
    }
}

async fn listen(mut events: Events, seen: &Mutex<Vec<Event>>) {
    loop {
        match events.next().await {
            Ok(event) => seen.lock().expect("events").push(event),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Actors of a test are dropped before its stage; a cgroup empties a moment after its last process.
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Err(error) = remove_tree(&self.site.cgroup_root) {
            if Instant::now() > deadline {
                eprintln!("left behind: {}: {error}", self.site.cgroup_root.display());
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = nix::mount::umount2(self.directory.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Waits until a host answers: a new cable takes a moment, and IPv6 a moment more. A closed port is an answer.
fn await_host(ip: IpAddr) {
    const DISCARD: u16 = 9;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let attempt = TcpStream::connect_timeout(&SocketAddr::new(ip, DISCARD), Duration::from_millis(50));
        match attempt {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "{ip} does not answer: {error}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
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

fn cgroup2() -> PathBuf {
    let table = fs::read_to_string("/proc/self/mounts").expect("/proc");
    let mounted = table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    mounted.expect("a cgroup2 mount: these tests need one")
}

/// Runs iproute2.
pub fn ip(what: &str) {
    run("ip", what);
}

fn run(program: &str, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; install iproute2 and util-linux"));
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
