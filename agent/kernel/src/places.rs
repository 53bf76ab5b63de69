//! The cgroup tree, by number: which cgroup is where, and which was.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// No more cgroups than this are looked at in one go.
const MOST_CGROUPS: usize = 16_384;

/// At most one walk in this time: whoever makes cgroups faster is named less often, and delays nobody.
const PAUSE: Duration = Duration::from_millis(100);

/// Where cgroups are, remembered. A number is never used twice, so that a cgroup that is gone keeps its name.
#[derive(Debug)]
pub(crate) struct Places {
    root: PathBuf,
    /// `None` for a cgroup that was gone before it was looked for.
    known: HashMap<u64, Option<PathBuf>>,
    walked: Option<Instant>,
}

impl Places {
    pub(crate) fn new(root: &Path) -> Self {
        let mut places = Self { root: root.to_owned(), known: HashMap::new(), walked: None };
        places.walk();
        places
    }

    /// Where a cgroup is or was, relative to the root; `None` when that is not known. Reads the tree for a
    /// number that is new, now and then.
    pub(crate) fn find(&mut self, cgroup_id: u64) -> Option<PathBuf> {
        if let Some(known) = self.known.get(&cgroup_id) {
            return known.clone();
        }
        if self.walked.is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        let complete = self.walk();
        let found = self.known.get(&cgroup_id).cloned().flatten();
        if found.is_none() && complete {
            self.known.insert(cgroup_id, None);
        }
        found
    }

    fn walk(&mut self) -> bool {
        let Walk { found, complete } = walk(&self.root);
        if self.known.len() > MOST_CGROUPS {
            self.known.clear();
        }
        self.known.extend(found.into_iter().map(|(id, path)| (id, Some(path))));
        self.walked = Some(Instant::now());
        complete
    }
}

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
    use std::{os::unix::fs::MetadataExt, thread};

    #[test]
    fn a_cgroup_keeps_its_name_when_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let path = root.path().join("a.slice");
        fs::create_dir(&path).unwrap();
        let number = fs::metadata(&path).unwrap().ino();
        let mut places = Places::new(root.path());
        // Moved out, not deleted: unlike cgroups, files may get the number of one that is gone.
        fs::rename(&path, elsewhere.path().join("a")).unwrap();
        assert_eq!(places.find(number).as_deref(), Some(Path::new("a.slice")));
        assert_eq!(places.find(u64::MAX), None, "never was");
        let later = root.path().join("b.service");
        fs::create_dir(&later).unwrap();
        thread::sleep(PAUSE);
        let number = fs::metadata(&later).unwrap().ino();
        assert_eq!(places.find(number).as_deref(), Some(Path::new("b.service")), "made after the first walk");
    }

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
