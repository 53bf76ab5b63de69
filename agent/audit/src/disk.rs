//! Durable file operations, behind a trait so that tests can make any one of them fail.
//!
//! Two ways to write: in place and `fdatasync` (the write-ahead log), and settle: a temporary file, `fdatasync`, rename, fsync
//! of the directory (everything else), so that a reader and a crash see a file whole or not at all. Many files settle
//! together: what the file system writes down for the first of them, it has then written down for all.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{At, AuditError};

/// Where unfinished files live: on the trail's file system, outside what readers look at.
const TEMPORARY: &str = "tmp";

/// The operations that change the disk. One method a system call that can fail.
pub(crate) trait Disk: Send + Sync {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File>;
    /// at this offset; the file grows where it ends before
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`: the content, and the length when it grew
    fn sync_content(&self, file: &File) -> io::Result<()>;
    /// `ftruncate`
    fn cut(&self, file: &File, length: u64) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The real one.
pub(crate) struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_content(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// A file that is written but has not its name yet.
pub(crate) struct Staged {
    pub(crate) file: File,
    pub(crate) temporary: PathBuf,
    pub(crate) target: PathBuf,
}

/// The trail's directory and the disk below it.
pub(crate) struct Store {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    next_temporary: AtomicU64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(root: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { root, disk, next_temporary: AtomicU64::new(0) }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Removes what a crash left unfinished. Only for the holder of the lock.
    pub(crate) fn sweep_temporaries(&self) -> Result<(), AuditError> {
        let directory = self.path(TEMPORARY);
        self.ensure_directory(&directory)?;
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let path = entry.at("list", &directory)?.path();
            self.disk.remove(&path).at("remove", &path)?;
        }
        Ok(())
    }

    /// Makes a directory and those above it, durably.
    pub(crate) fn ensure_directory(&self, path: &Path) -> Result<(), AuditError> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.ensure_directory(parent)?;
            self.disk.make_directory(path).at("make the directory", path)?;
            self.disk.sync_directory(parent).at("sync the directory", parent)?;
        }
        Ok(())
    }

    /// Writes a file whole, under a temporary name until [`Store::settle`].
    pub(crate) fn stage(&self, relative: &Path, bytes: &[u8], mode: u32) -> Result<Staged, AuditError> {
        let temporary = self.temporary();
        let target = self.path(relative);
        self.ensure_directory(target.parent().unwrap_or(&self.root))?;
        let file = self.disk.create(&temporary, mode).at("create", &temporary)?;
        self.disk.write(&file, bytes, 0).at("write", &temporary)?;
        Ok(Staged { file, temporary, target })
    }

    /// Gives staged files their names, durably. Replaces what is there.
    pub(crate) fn settle(&self, staged: &[Staged]) -> Result<(), AuditError> {
        for one in staged {
            self.disk.sync_content(&one.file).at("sync", &one.temporary)?;
        }
        for one in staged {
            self.disk.rename(&one.temporary, &one.target).at("rename a file to", &one.target)?;
        }
        let directories: BTreeSet<&Path> = staged.iter().filter_map(|one| one.target.parent()).collect();
        for directory in directories {
            self.disk.sync_directory(directory).at("sync the directory", directory)?;
        }
        Ok(())
    }

    /// Writes a file whole, durably. Replaces what is there.
    pub(crate) fn publish(&self, relative: &Path, bytes: &[u8], mode: u32) -> Result<File, AuditError> {
        let staged = [self.stage(relative, bytes, mode)?];
        self.settle(&staged)?;
        let [staged] = staged;
        Ok(staged.file)
    }

    /// Takes a file out of what readers look at, to be written over; its temporary path. Durable once its directory is synced.
    pub(crate) fn set_aside(&self, path: &Path) -> Result<PathBuf, AuditError> {
        let temporary = self.temporary();
        self.disk.rename(path, &temporary).at("set aside", path)?;
        Ok(temporary)
    }

    /// A path that nobody has.
    fn temporary(&self) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.path(TEMPORARY).join(number.to_string())
    }

    /// Removes a file that is no longer needed; gone already is fine.
    pub(crate) fn discard(&self, relative: &Path) -> Result<(), AuditError> {
        let path = self.path(relative);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", &path),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
