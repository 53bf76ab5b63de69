//! Where state is that outlives a run (`StateDirectory=`, systemd.exec(5)), and the keys that are kept there.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where state lives when systemd did not say.
const DEFAULT_STATE: &str = "/var/lib/bailiwick";

/// The service's state directory, or where it is when systemd did not say.
#[must_use]
pub(crate) fn directory() -> PathBuf {
    std::env::var_os("STATE_DIRECTORY").map_or_else(|| PathBuf::from(DEFAULT_STATE), PathBuf::from)
}

/// Why a key could not be read or made.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: {cause}; the agent needs a state directory that only it can write (StateDirectory=bailiwick)"
)]
pub struct StateError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// The key of the `hash` mask action: 32 random bytes, made at the first start, so that the same value has
/// the same hash tomorrow and no dictionary opens it.
pub struct MaskKey {
    bytes: Zeroizing<[u8; 32]>,
    path: PathBuf,
    is_new: bool,
}

impl MaskKey {
    /// The key of this host, or a new one that is on no disk yet.
    ///
    /// # Errors
    /// [`StateError`] when the file cannot be read, or has another size: a damaged key is never replaced.
    pub fn read_or_new() -> Result<Self, StateError> {
        Self::read_or_new_at(directory().join("mask.key"))
    }

    /// The key.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Writes a new key to disk, so that it is there at the next start; does nothing for one that was read.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be written.
    pub fn keep(&self) -> Result<(), StateError> {
        let kept = if self.is_new { write(&self.path, &self.bytes) } else { Ok(()) };
        kept.map_err(|cause| StateError { path: self.path.clone(), cause })
    }

    fn read_or_new_at(path: PathBuf) -> Result<Self, StateError> {
        match read(&path) {
            Ok((bytes, is_new)) => Ok(Self { bytes, path, is_new }),
            Err(cause) => Err(StateError { path, cause }),
        }
    }
}

/// The key, and whether it is new.
fn read(path: &Path) -> io::Result<(Zeroizing<[u8; 32]>, bool)> {
    let mut key = Zeroizing::new([0; 32]);
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            getrandom::fill(&mut *key).map_err(io::Error::other)?;
            return Ok((key, true));
        }
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != 32 {
        return Err(io::Error::other("the key is not 32 bytes long; restore it from a backup"));
    }
    file.read_exact(&mut *key)?;
    Ok((key, false))
}

/// Written aside and renamed into place, so that a crash leaves a whole key or none.
fn write(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let aside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_for_the_agent_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/mask.key");
        let first = MaskKey::read_or_new_at(path.clone()).unwrap();
        assert_ne!(first.bytes(), &[0; 32]);
        assert!(!path.exists(), "nothing is written before the config is known to be good");
        first.keep().unwrap();
        let second = MaskKey::read_or_new_at(path.clone()).unwrap();
        assert_eq!(second.bytes(), first.bytes(), "a second start reads the same key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_not_a_new_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mask.key");
        fs::write(&path, b"short").unwrap();
        assert!(MaskKey::read_or_new_at(path).is_err());
    }
}
