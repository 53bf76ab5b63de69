//! The writer's handle.

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use crate::bell::Bell;
use crate::commit::{Command, Committer};
use crate::disk::{Disk, LocalDisk, Store};
use crate::error::{At, AuditError};
use crate::health::{Health, Statistics};
use crate::integrate::{self, Integrator, Pending};
use crate::keys::Keys;
use crate::record::{Index, Pseudonym, Record};
use crate::recover;
use crate::wal::SEGMENT_BYTES;

/// How long an append waits for its acknowledgement: a disk that hangs must not hang requests for ever.
pub const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long closing waits for the last checkpoint.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Appends that may wait for the writer; further ones wait to be queued.
const QUEUE: usize = 4096;

/// Calls that may wait for the integrator; it is called at each commit once too much is pending.
const INTEGRATION_QUEUE: usize = 16;

/// Where the trail lives and what it is called.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// owned by the agent, on a local file system
    pub directory: PathBuf,
    /// C2SP origin line, e.g. `bailiwick/host-name`; also the name of the signing key
    pub origin: String,
}

/// The writer; cheap to clone, one thread behind it (and one that makes tiles).
#[derive(Clone)]
pub struct Log {
    commands: mpsc::Sender<Command>,
    bell: Bell,
    keys: Arc<Keys>,
    health: Arc<Health>,
    directory: PathBuf,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens or creates the trail, recovering what a crash left. Blocks; takes longer the more was not yet integrated
    /// (at most about a second of records).
    /// # Errors
    /// when the directory cannot be used, another writer has it, a key is missing or exposed, or what is there contradicts
    /// the signed checkpoint
    pub fn open(settings: LogSettings) -> Result<Self, AuditError> {
        Self::open_with(settings, Bell::default())
    }

    /// The same for a runtime that rings when it has nothing else to do. One bell, one log.
    /// # Errors
    /// as `open`
    pub fn open_with(settings: LogSettings, bell: Bell) -> Result<Self, AuditError> {
        Self::open_on(settings, bell, Arc::new(LocalDisk), SEGMENT_BYTES)
    }

    pub(crate) fn open_on(
        settings: LogSettings,
        bell: Bell,
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
    ) -> Result<Self, AuditError> {
        let store = Arc::new(Store::new(settings.directory.clone(), disk));
        store.ensure_directory(store.root())?;
        let lock = lock(&store.path("lock"))?;
        let recovered = recover::recover(&store, &settings.origin)?;

        let health = Arc::new(Health::default());
        let keys = Arc::new(recovered.keys);
        let (commands, mut received) = mpsc::channel(QUEUE);
        let pending = Arc::new(Pending::default());
        let (calls, messages) = sync_channel(INTEGRATION_QUEUE);
        let integrator: Integrator = recovered.integrator;
        let committer = Committer {
            store,
            bell: bell.clone(),
            segment: recovered.segment,
            next: integrator.published.edge.size(),
            health: Arc::clone(&health),
            pending: Arc::clone(&pending),
            integrator: calls,
            spares: Arc::clone(&integrator.spares),
            segment_bytes,
        };

        let integrator_health = Arc::clone(&health);
        spawn("audit-integrate", move || {
            integrate::run(integrator, &pending, &messages, &integrator_health, lock);
        })?;
        spawn("audit-commit", move || committer.run(&mut received))?;
        Ok(Self { commands, bell, keys, health, directory: settings.directory })
    }

    /// Durable (fdatasync) when it returns Ok. Concurrent appends share one fsync.
    /// # Errors
    /// [`AuditError::Failed`] for good once a write or fsync failed; [`AuditError::TimedOut`] after [`APPEND_TIMEOUT`], when
    /// the record may or may not be written; [`AuditError::TooLarge`] for this record only
    pub fn append(&self, record: Record) -> impl Future<Output = Result<Index, AuditError>> + Send + '_ {
        // Encoded before anything waits, so that what waits is as small as it can be.
        let entry = record.encode(OffsetDateTime::now_utc());
        async move {
            let entry = entry?;
            self.ask(APPEND_TIMEOUT, |reply| Command::Append { entry, reply }).await
        }
    }

    /// A keyed hash under this epoch's key.
    #[must_use]
    pub fn pseudonym(&self, text: &str) -> Pseudonym {
        self.keys.pseudonym(text)
    }

    /// What others need to verify the trail: `<origin>+<hash>+<base64>`. Keep it, and checkpoints, off this host.
    #[must_use]
    pub fn verifier_key(&self) -> &str {
        &self.keys.verifier
    }

    /// Whether records can be written, as far as is known.
    /// # Errors
    /// [`AuditError::Failed`] for good once a write or fsync failed
    pub fn check(&self) -> Result<(), AuditError> {
        self.health.check().map_err(|cause| AuditError::Failed { cause: cause.to_string() })
    }

    /// What the writer has done since it was opened.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.health.counts.read()
    }

    /// Signs a last checkpoint and stops the writer.
    /// # Errors
    /// as `append`; waits up to [`CLOSE_TIMEOUT`]
    pub async fn close(&self) -> Result<(), AuditError> {
        self.ask(CLOSE_TIMEOUT, Command::Close).await
    }

    async fn ask<T>(
        &self,
        patience: Duration,
        command: impl FnOnce(oneshot::Sender<Result<T, Arc<str>>>) -> Command,
    ) -> Result<T, AuditError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.commands.send(command(reply)).await.map_err(|_| self.gone())?;
            self.bell.count();
            let answer = answer.await.map_err(|_| self.gone())?;
            answer.map_err(|cause| AuditError::Failed { cause: cause.to_string() })
        };
        let timed_out = |_| AuditError::TimedOut { seconds: patience.as_secs() };
        tokio::time::timeout(patience, asked).await.map_err(timed_out)?
    }

    /// Why the writer does not answer.
    fn gone(&self) -> AuditError {
        match self.health.check() {
            Ok(()) => AuditError::Closed,
            Err(cause) => AuditError::Failed { cause: cause.to_string() },
        }
    }
}

fn lock(path: &Path) -> Result<File, AuditError> {
    let file = File::options().create(true).truncate(false).write(true).open(path).at("open", path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::Locked { path: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(error).at("lock", path),
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), AuditError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map(drop).at("start a thread for", Path::new(name))
}
