//! Keys that outlive a run, kept in the service's state directory (`StateDirectory=`, systemd.exec(5)).

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where state lives when systemd did not say.
const DEFAULT_STATE: &str = "/var/lib/bailiwick";

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
///
/// # Errors
/// [`StateError`] when the file cannot be read, or has another size.
pub fn mask_key() -> Result<[u8; 32], StateError> {
    let directory =
        std::env::var_os("STATE_DIRECTORY").map_or_else(|| PathBuf::from(DEFAULT_STATE), PathBuf::from);
    let path = directory.join("mask.key");
    read_or_make(&path).map_err(|cause| StateError { path, cause })
}

fn read_or_make(path: &Path) -> io::Result<[u8; 32]> {
    match fs::File::open(path) {
        Ok(mut file) => {
            let mut bytes = Vec::with_capacity(32);
            file.read_to_end(&mut bytes)?;
            bytes
                .try_into()
                .map_err(|_| io::Error::other("the key is not 32 bytes long; restore it from a backup"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(error),
    }
}

/// Written aside and linked into place, so that a crash leaves a whole key or none.
fn make(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let aside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_for_the_agent_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/mask.key");
        let first = read_or_make(&path).unwrap();
        assert_ne!(first, [0; 32]);
        assert_eq!(read_or_make(&path).unwrap(), first, "a second start reads the same key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_not_a_new_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mask.key");
        fs::write(&path, b"short").unwrap();
        assert!(read_or_make(&path).is_err());
    }
}
