//! What this kernel can do for the guard, tried and not guessed.

use std::{fs, path::PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use crate::{
    Site,
    destroy::{self, SocketDestroy},
    object::built_in_tags,
};

/// What was found out about this kernel.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Kernel {
    /// As uname(2) says it.
    pub release: String,
    /// Major and minor number, where the release begins with them.
    pub version: Option<(u32, u32)>,
    /// How cgroup v2 is mounted.
    pub cgroups: CgroupLayout,
    /// Where the guard is or would be attached, and its pins; or why that cannot be.
    pub site: Result<PathBuf, String>,
    /// Whether every program of the guard passes this kernel's verifier, with every helper and map that it needs.
    pub programs: Result<(), String>,
    /// `net.core.bpf_jit_enable`; `None` where it cannot be read.
    pub jit: Option<String>,
    /// `kernel.unprivileged_bpf_disabled`; `None` where it cannot be read.
    pub unprivileged_bpf_disabled: Option<String>,
    /// Whether the locked-memory limit of this process is none (maps count there before Linux 5.11).
    pub memlock_unlimited: bool,
    /// Whether a connection that stands can be ended where it stands.
    pub socket_destroy: SocketDestroy,
}

/// How cgroup v2 is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupLayout {
    /// Alone.
    Pure,
    /// Beside v1 hierarchies.
    Hybrid,
    /// Not at all.
    Missing,
}

/// The oldest kernel that the programs are made for.
pub const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// Finds out; attaches nothing and leaves nothing behind.
#[must_use]
pub fn kernel() -> Kernel {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let site = Site::find();
    // Before the load, which raises the limit where it may.
    let memlock_unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(current, _)| current == RLIM_INFINITY);
    let programs = match &site {
        Ok(site) => built_in_tags(site).map(drop).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    Kernel {
        version: version(&release),
        release,
        cgroups: layout(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
        site: site.map(|site| site.cgroup_root).map_err(|error| error.to_string()),
        programs,
        jit: read("/proc/sys/net/core/bpf_jit_enable"),
        unprivileged_bpf_disabled: read("/proc/sys/kernel/unprivileged_bpf_disabled"),
        memlock_unlimited,
        socket_destroy: destroy::try_on_own(),
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn layout(mount_table: &str) -> CgroupLayout {
    let mounts = |kind| {
        mount_table.lines().any(|line| line.split_once(" - ").is_some_and(|(_, fs)| fs.starts_with(kind)))
    };
    match (mounts("cgroup2 "), mounts("cgroup ")) {
        (true, false) => CgroupLayout::Pure,
        (true, true) => CgroupLayout::Hybrid,
        (false, _) => CgroupLayout::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_distributions_write_them() {
        for (release, expected) in [
            ("6.1.0-37-amd64", Some((6, 1))),
            ("5.10.0", Some((5, 10))),
            ("6.18-rc3", Some((6, 18))),
            ("7.3.1+deb14", Some((7, 3))),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn the_layout_is_read_from_the_mount_table() {
        let v2 = "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let v1 = "2 0 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        assert_eq!(layout(v2), CgroupLayout::Pure);
        assert_eq!(layout(&format!("{v1}\n{v2}")), CgroupLayout::Hybrid);
        assert_eq!(layout(v1), CgroupLayout::Missing);
    }
}
