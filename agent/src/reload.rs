//! # Reload: another policy, all of it or nothing
//!
//! ```text
//!   file ─▶ compile ─▶ credentials ─▶ kernel, one generation ─▶ record `policy` ─▶ proxy
//!              └──────────┴───────────────────┴──────────────────────┴──▶ any error: the old policy stays, everywhere
//! ```
//!
//! Invariants:
//! - Every error of a config is said in the journal, and nothing was changed.
//! - The proxy is given the new policy last: what the kernel refuses, or the trail cannot take, never serves.
//! - A request is judged to its end by the policy that it began with, and its stream is not cut.
//! - The TLS files are read anew with every reload, be the config the same or not; what cannot be used changes nothing.
//!
//! What it does not do: the listeners' addresses and the trail's directory are those of the start; a change of them is said,
//! and waits for a restart.

use crate::app::control;
use crate::config::ConfigErrors;
use crate::config::settings::Settings;
use crate::proxy::Policy;
use crate::watch::Order;
use bailiwick_audit::{AuditError, Log};
use bailiwick_kernel::{KernelError, Rules};
use std::io;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Reads and compiles the config anew.
pub type Load = Box<dyn Fn() -> Result<Settings, ConfigErrors> + Send + Sync>;

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// Everything that is wrong with the config.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// A model's credential or a TLS file cannot be used.
    #[error("{0}")]
    Credential(#[source] io::Error),
    /// The kernel refused.
    #[error("the kernel guard: {0}")]
    Kernel(#[from] KernelError),
    /// The trail cannot be written.
    #[error("the audit trail: {0}")]
    Audit(#[from] AuditError),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// Holds what is current, and everybody who must be told.
pub(crate) struct Reload {
    pub(crate) load: Load,
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    pub(crate) settings: watch::Sender<Arc<Settings>>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) log: Log,
}

impl Reload {
    /// Puts the config in force as it is now; gives the policy's id.
    ///
    /// # Errors
    /// [`ReloadError`]; the old policy is still in force.
    pub(crate) async fn reload(&self) -> Result<String, ReloadError> {
        // Reading the datasets takes a while; requests go on meanwhile.
        let settings = Arc::new(tokio::task::block_in_place(|| (self.load)())?);
        let before = Arc::clone(&self.policy.borrow());
        let old = Arc::clone(before.settings());
        let policy = before.succeeded_by(Arc::clone(&settings)).map_err(ReloadError::Credential)?;
        for warning in settings.warnings.iter().cloned().chain(waits_for_a_restart(&old, &settings)) {
            tracing::warn!("{warning}");
        }

        let generation = self.order(&settings.kernel).await?;
        let released = released(&old.kernel, &settings.kernel);
        let number = generation.to_string();
        let mut detail = vec![("old", old.id.as_str()), ("new", &settings.id), ("generation", &number)];
        let datasets = settings.datasets.provenance();
        if settings.datasets.kept != old.datasets.kept {
            detail.push(("datasets", &datasets));
        }
        if !released.is_empty() {
            tracing::warn!("no longer in the config, and no longer guarded: {released}");
            detail.push(("released", &released));
        }
        if let Err(error) = self.log.append(control("policy", detail)).await {
            self.order(&old.kernel).await?;
            return Err(error.into());
        }
        // Nobody may listen any more when the agent is about to end.
        policy.warm_up();
        let _unheard = (self.settings.send(Arc::clone(&settings)), self.policy.send(Arc::new(policy)));
        tracing::info!(old = %old.id, new = %settings.id, generation, "another policy is in force");
        Ok(settings.id.clone())
    }

    async fn order(&self, rules: &Rules) -> Result<u32, ReloadError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send((rules.clone(), answer)).await.map_err(|_| ReloadError::Stopping)?;
        Ok(answered.await.map_err(|_| ReloadError::Stopping)??)
    }
}

/// What the new config says otherwise and only a start can do.
fn waits_for_a_restart(old: &Settings, new: &Settings) -> Vec<String> {
    let rows = [
        ("proxy.listen", old.proxy.listen != new.proxy.listen),
        ("metrics.listen", old.metrics != new.metrics),
        ("traces", old.traces != new.traces),
        ("audit.directory", old.audit.directory != new.audit.directory),
        ("host.name", old.audit.origin != new.audit.origin),
    ];
    let changed = rows.into_iter().filter(|(_, changed)| *changed);
    changed
        .map(|(key, _)| format!("{key} has changed; that takes a restart: systemctl restart bailiwick"))
        .collect()
}

/// The names that the old rules held and the new ones do not.
fn released(old: &Rules, new: &Rules) -> String {
    let kept = |name| new.scopes.iter().any(|scope| scope.name == name);
    let gone = old.scopes.iter().filter(|scope| !kept(scope.name.clone()));
    gone.map(|scope| scope.name.to_string()).collect::<Vec<_>>().join(", ")
}
