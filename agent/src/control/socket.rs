//! The socket itself: made for root alone, served one connection after the other, gone with its owner.

use super::converse;
use crate::preflight::Asked;
use crate::proxy::UpstreamHealth;
use bailiwick_audit::Log;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;

/// After an accept that failed for want of something, which would fail at once again.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(200);

/// Asking the models' servers.
pub type Asking = Pin<Box<dyn Future<Output = Vec<Asked>> + Send>>;

/// What the agent knows of the models' servers.
pub trait Known: Send + Sync {
    /// How they stand, as requests and checks have told.
    fn upstreams(&self) -> Vec<UpstreamHealth>;
    /// What their settings leave open, as they answer now; within a few seconds.
    fn settings(&self) -> Asking;
}

/// A socket that others may ask at.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Who may ask, a user id.
    admitted: u32,
}

const ROOT: u32 = 0;

impl Control {
    /// Listens at `path`, in a directory that is made for root alone if it is missing. Call it inside a tokio runtime, and
    /// with the host's lock: a socket that is there already is one that an agent left that was killed.
    ///
    /// # Errors
    /// When the directory or the socket cannot be made.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), admitted: ROOT })
    }

    /// For another user than root: tests need not run as root.
    #[cfg(test)]
    pub(super) fn admitting(mut self, user: u32) -> Self {
        self.admitted = user;
        self
    }

    /// Serves for as long as it is let.
    pub async fn serve(self, log: Log, known: Arc<dyn Known>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = converse(stream, self.admitted, &log, known.as_ref()).await {
                        tracing::warn!(%error, "a conversation at the control socket broke off");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket does not accept");
                    tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // What stays is removed by the next agent, or by systemd with the directory.
        let _gone_already = fs::remove_file(&self.path);
    }
}
