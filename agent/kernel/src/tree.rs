//! The cgroup tree, by number: which cgroup is where.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
};

/// No more cgroups than this are looked at in one go.
const MOST_CGROUPS: usize = 16_384;

/// What a walk over the tree found.
pub(crate) struct Walk {
    /// The cgroups by number, relative to the root.
    pub(crate) found: HashMap<u64, PathBuf>,
    /// Whether that is all of them.
    pub(crate) complete: bool,
}

/// Walks the tree below `root`, the nearest cgroups first. What goes away meanwhile is left out.
pub(crate) fn walk(root: &Path) -> Walk {
    let mut found = HashMap::new();
    let mut level = vec![PathBuf::new()];
    while !level.is_empty() {
        let mut below = Vec::new();
        for parent in level {
            for entry in fs::read_dir(root.join(&parent)).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if found.len() == MOST_CGROUPS {
                    return Walk { found, complete: false };
                }
                let path = parent.join(entry.file_name());
                found.insert(entry.ino(), path.clone());
                below.push(path);
            }
        }
        level = below;
    }
    Walk { found, complete: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn every_directory_is_found_under_its_number() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a.slice/b.slice/c.service");
        fs::create_dir_all(&deep).unwrap();
        fs::write(root.path().join("a.slice/cgroup.procs"), "").unwrap();
        let walk = walk(root.path());
        assert!(walk.complete);
        assert_eq!(walk.found.len(), 3, "directories only: {:?}", walk.found);
        let number = fs::metadata(&deep).unwrap().ino();
        assert_eq!(walk.found[&number], Path::new("a.slice/b.slice/c.service"));
    }
}
