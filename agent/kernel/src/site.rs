//! Where the guard stands: the cgroup tree and the pins.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{FsType, statfs};

use crate::KernelError;

/// Where the guard stands.
#[derive(Clone, Debug)]
pub struct Site {
    /// The cgroup v2 directory at whose root the programs are attached: the mount point of cgroup2.
    pub cgroup_root: PathBuf,
    /// The bpffs directory for pins, e.g. `/sys/fs/bpf/bailiwick`; a `v<schema>` directory is made below it.
    pub pins: PathBuf,
}

const MOUNT_TABLE: &str = "/proc/self/mountinfo";
const OWN_CGROUP: &str = "/proc/self/cgroup";

impl Site {
    /// From the mount table; names what is missing (cgroup2, bpffs) and the cure.
    ///
    /// # Errors
    /// [`KernelError::NoCgroup2`], [`KernelError::NoBpffs`], or [`KernelError::Proc`].
    pub fn find() -> Result<Self, KernelError> {
        let table = fs::read_to_string(MOUNT_TABLE)
            .map_err(|source| KernelError::Proc { path: MOUNT_TABLE.into(), source })?;
        Self::from_mount_table(&table)
    }

    fn from_mount_table(table: &str) -> Result<Self, KernelError> {
        let cgroup_root = mount_point(table, "cgroup2", &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"])
            .ok_or(KernelError::NoCgroup2)?;
        let bpffs = mount_point(table, "bpf", &["/sys/fs/bpf"]).ok_or(KernelError::NoBpffs)?;
        Ok(Self { cgroup_root, pins: bpffs.join("bailiwick") })
    }

    pub(crate) fn schema_directory(&self) -> PathBuf {
        self.pins.join(format!("v{}", bailiwick_abi::SCHEMA))
    }

    pub(crate) fn map_pin(&self, map: &str) -> PathBuf {
        self.schema_directory().join("maps").join(map)
    }

    pub(crate) fn link_pin(&self, program: &str) -> PathBuf {
        self.schema_directory().join("links").join(program)
    }

    /// The directories `v<schema>` of other schemas.
    pub(crate) fn other_schemas(&self) -> Vec<PathBuf> {
        let own = self.schema_directory();
        schema_directories(&self.pins).into_iter().filter(|directory| *directory != own).collect()
    }

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        const CGROUP2: FsType = FsType(0x6367_7270);
        const BPF: FsType = FsType(0xcafe_4a11);
        on_file_system(&self.cgroup_root, CGROUP2, "cgroup2")?;
        let existing = self.pins.ancestors().find(|path| path.exists()).unwrap_or(&self.pins);
        on_file_system(existing, BPF, "bpf")
    }

    /// The id of the cgroup at `relative`, if it exists.
    pub(crate) fn cgroup_id(&self, relative: &Path) -> Result<Option<u64>, KernelError> {
        cgroup_id(&self.cgroup_root.join(relative))
    }
}

/// The cgroup of a systemd slice: dashes nest (`a-b.slice` lies in `a.slice/a-b.slice`, systemd.slice(5)).
#[must_use]
pub fn slice_path(slice: &str) -> PathBuf {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    if stem == "-" {
        return PathBuf::new();
    }
    stem.match_indices('-')
        .map(|(at, _)| &stem[..at])
        .chain([stem])
        .map(|prefix| format!("{prefix}.slice"))
        .collect()
}

/// The innermost slice that this process runs in, relative to the cgroup root (from /proc/self/cgroup).
///
/// # Errors
/// [`KernelError::NoSlice`] when it runs in no slice.
pub fn own_slice() -> Result<PathBuf, KernelError> {
    let text = fs::read_to_string(OWN_CGROUP)
        .map_err(|source| KernelError::Proc { path: OWN_CGROUP.into(), source })?;
    innermost_slice(&text)
}

fn innermost_slice(text: &str) -> Result<PathBuf, KernelError> {
    let cgroup = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("(none in cgroup v2)");
    let mut parts: Vec<_> = cgroup.split('/').filter(|part| !part.is_empty()).collect();
    while parts.last().is_some_and(|part| !part.ends_with(".slice")) {
        parts.pop();
    }
    if parts.is_empty() {
        return Err(KernelError::NoSlice { cgroup: cgroup.to_owned() });
    }
    Ok(parts.iter().collect())
}

/// The id that the kernel gives a cgroup is the inode of its directory.
pub(crate) fn cgroup_id(path: &Path) -> Result<Option<u64>, KernelError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(KernelError::file("look at", path, source)),
    }
}

pub(crate) fn schema_directories(pins: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(pins) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.strip_prefix('v')
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        })
        .map(|entry| entry.path())
        .collect()
}

fn on_file_system(path: &Path, wanted: FsType, expected: &'static str) -> Result<(), KernelError> {
    let found = statfs(path).map_err(|errno| KernelError::file("look at", path, errno.into()))?;
    if found.filesystem_type() == wanted {
        Ok(())
    } else {
        Err(KernelError::WrongFileSystem { path: path.to_owned(), expected })
    }
}

/// The mount point of the first file system of a type, the usual places first (proc_pid_mountinfo(5)).
fn mount_point(table: &str, kind: &str, usual: &[&str]) -> Option<PathBuf> {
    let points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            (after.split(' ').next()? == kind).then(|| before.split(' ').nth(4).map(unescape))?
        })
        .collect();
    usual.iter().map(PathBuf::from).find(|place| points.contains(place)).or_else(|| points.first().cloned())
}

/// Spaces, tabs, line feeds and backslashes are octal escapes in the mount table.
fn unescape(field: &str) -> PathBuf {
    let plain =
        field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    PathBuf::from(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
24 30 0:22 / /sys rw shared:7 - sysfs sysfs rw
31 24 0:27 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro
32 31 0:28 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
33 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 24 0:30 / /sys/fs/bpf rw shared:11 - bpf bpf rw,mode=700";

    #[test]
    fn hybrid_hosts_have_cgroup2_below() {
        let site = Site::from_mount_table(HYBRID).unwrap();
        assert_eq!(site.cgroup_root, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(site.pins, Path::new("/sys/fs/bpf/bailiwick"));
    }

    #[test]
    fn what_is_not_mounted_is_named() {
        let without_bpf: String = HYBRID.lines().take(4).collect::<Vec<_>>().join("\n");
        assert!(matches!(Site::from_mount_table(&without_bpf), Err(KernelError::NoBpffs)));
        assert!(matches!(Site::from_mount_table(""), Err(KernelError::NoCgroup2)));
    }

    #[test]
    fn the_usual_place_wins_over_an_earlier_one() {
        let table = "\
1 0 0:1 / /tmp/other\\040place rw - cgroup2 none rw
2 0 0:1 / /sys/fs/cgroup rw - cgroup2 none rw";
        assert_eq!(mount_point(table, "cgroup2", &["/sys/fs/cgroup"]).unwrap(), Path::new("/sys/fs/cgroup"));
        assert_eq!(mount_point(table, "cgroup2", &["/elsewhere"]).unwrap(), Path::new("/tmp/other place"));
    }

    #[test]
    fn dashes_nest() {
        for (slice, path) in [
            ("system.slice", "system.slice"),
            ("bailiwick-llama.slice", "bailiwick.slice/bailiwick-llama.slice"),
            ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
            ("-.slice", ""),
        ] {
            assert_eq!(slice_path(slice), Path::new(path), "{slice}");
        }
    }

    #[test]
    fn the_innermost_slice_is_found() {
        for (text, expected) in [
            ("0::/system.slice/bailiwick.service\n", Some("system.slice")),
            (
                "0::/bailiwick.slice/bailiwick-proxy.slice/x.service/sub\n",
                Some("bailiwick.slice/bailiwick-proxy.slice"),
            ),
            ("4:memory:/a.slice\n0::/b.slice\n", Some("b.slice")),
            ("0::/\n", None),
            ("4:memory:/a.slice\n", None),
        ] {
            assert_eq!(innermost_slice(text).ok(), expected.map(PathBuf::from), "{text}");
        }
    }
}
