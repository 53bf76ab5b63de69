//! The last stretch: the compiled networks into the real kernel's map, as an agent's start and a reload put them there.
//! In a mount namespace and a cgroup of its own; nothing else on the machine is touched.

use bailiwick_kernel::{Guard, Rules, Scope, ScopeKind, Site, release};
use bailiwick_policy::{EgressPolicy, Mode, Name};
use ipnet::IpNet;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::error::Error;
use std::fs;
use std::time::Instant;

/// Removed when dropped.
struct Place {
    site: Site,
    directory: tempfile::TempDir,
}

impl Place {
    fn make() -> Result<Self, Box<dyn Error>> {
        if !nix::unistd::geteuid().is_root() {
            return Err("loading networks into the kernel can only be measured by root".into());
        }
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        let directory = tempfile::tempdir()?;
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>)?;
        let table = fs::read_to_string("/proc/self/mounts")?;
        let cgroup2 = table.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then_some(place)
        });
        let name = format!("bailiwick-bench-{}", std::process::id());
        let cgroup_root = std::path::Path::new(cgroup2.ok_or("no cgroup2 is mounted")?).join(name);
        fs::create_dir_all(&cgroup_root)?;
        Ok(Self { site: Site { cgroup_root, pins: directory.path().join("bailiwick") }, directory })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = release(&self.site);
        let _ = fs::remove_dir(&self.site.cgroup_root);
        let _ = umount2(self.directory.path(), MntFlags::MNT_DETACH);
    }
}

/// A model and the agent, both with these networks: equal policies share their entries.
fn rules(networks: &[IpNet]) -> Result<Rules, Box<dyn Error>> {
    let scope = |name: &str, kind| -> Result<Scope, Box<dyn Error>> {
        let (regions, networks) = (vec![Name::new("eu")?], networks.to_vec());
        let egress = EgressPolicy { mode: Mode::Enforce, regions, networks, exceptions: Vec::new() };
        Ok(Scope {
            name: Name::new(name)?,
            kind,
            cgroup: format!("{name}.slice").into(),
            egress,
            peers: Vec::new(),
        })
    };
    Ok(Rules {
        scopes: vec![scope("agent", ScopeKind::Proxy)?, scope("llama", ScopeKind::Model { port: 8000 })?],
    })
}

pub(crate) fn measure(networks: &[IpNet]) -> Result<(), Box<dyn Error>> {
    let rules = rules(networks)?;
    let place = Place::make()?;
    let mut guard = Guard::attach(&place.site)?;
    let before = slab()?;
    let began = Instant::now();
    guard.apply(&rules)?;
    let first = began.elapsed();
    let held = slab()?.saturating_sub(before);
    let began = Instant::now();
    guard.apply(&rules)?;
    let again = began.elapsed();
    println!("load into the kernel\t{:.3}\ts", first.as_secs_f64());
    println!("exchange in the kernel\t{:.3}\ts", again.as_secs_f64());
    println!("memory of the kernel\t{:.1}\tMB", held as f64 / 1e6);
    println!("memory of the kernel, as estimated\t{:.1}\tMB", rules.kernel_memory() as f64 / 1e6);
    Ok(())
}

/// The kernel's own small allocations, in bytes: of the whole machine, so that it had better be idle.
fn slab() -> Result<u64, Box<dyn Error>> {
    let table = fs::read_to_string("/proc/meminfo")?;
    let line = table.lines().find(|line| line.starts_with("SUnreclaim:")).ok_or("no SUnreclaim")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kilobytes * 1024)
}
