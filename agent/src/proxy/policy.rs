//! What a request is judged by, as one value: a request takes it when it begins and keeps it to its end, so that a reload
//! neither cuts nor bends what is under way.

use super::impostor::Witness;
use super::pool::{Pool, UpstreamHealth};
use crate::config::settings::Settings;
use crate::identity::{Authenticator, Timing};
use crate::metrics::Metrics;
use crate::traces::Tracer;
use bailiwick_policy::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A config, ready to serve: its credentials are read.
pub struct Policy {
    pub(super) settings: Arc<Settings>,
    pub(super) authenticator: Authenticator,
    pub(super) upstreams: BTreeMap<Name, Pool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tracer: Option<Tracer>,
    timing: Timing,
    witness: Option<Arc<dyn Witness>>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("id", &self.settings.id).finish_non_exhaustive()
    }
}

impl Policy {
    /// Reads every model's credential; asks no issuer anything yet. Where there is a guard there is a `witness`, and no
    /// request goes to a port of a model whose connection it has not proven.
    ///
    /// # Errors
    /// when a credential cannot be read; the message names the file and the cure
    pub fn new(
        settings: Arc<Settings>,
        timing: Timing,
        witness: Option<Arc<dyn Witness>>,
    ) -> io::Result<Self> {
        let authenticator = Authenticator::with_timing(settings.issuers.clone(), timing)
            .taking_certificates(takes_certificates(&settings));
        authenticator.read_secrets()?;
        let upstreams = upstreams(&settings, witness.as_ref(), None)?;
        Ok(Self {
            upstreams,
            authenticator,
            settings,
            timing,
            witness,
            metrics: Arc::default(),
            tracer: None,
        })
    }

    /// The same, counting there.
    #[must_use]
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// The same, with spans handed over there.
    #[must_use]
    pub fn traced_by(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// The same for another config; the keys of issuers that are unchanged are kept.
    ///
    /// # Errors
    /// as [`Self::new`]
    pub fn succeeded_by(&self, settings: Arc<Settings>) -> io::Result<Self> {
        let authenticator = self
            .authenticator
            .with_issuers(settings.issuers.clone(), self.timing)
            .taking_certificates(takes_certificates(&settings));
        authenticator.read_secrets()?;
        let witness = self.witness.clone();
        let upstreams = upstreams(&settings, witness.as_ref(), Some(&self.upstreams))?;
        let (metrics, tracer) = (Arc::clone(&self.metrics), self.tracer.clone());
        Ok(Self { upstreams, authenticator, settings, timing: self.timing, witness, metrics, tracer })
    }

    /// Has the issuers' keys fetched that are not there yet. Call it inside a runtime.
    pub fn warm_up(&self) {
        self.authenticator.warm_up();
    }

    /// Where requests are counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How each server of each model stands, as far as requests and checks have told.
    #[must_use]
    pub fn upstream_health(&self) -> Vec<UpstreamHealth> {
        self.upstreams.values().flat_map(Pool::standing).collect()
    }

    /// Whether anybody can read what is counted, so that counting tokens is worth its cost.
    pub(super) fn counts(&self) -> bool {
        self.settings.metrics.is_some()
    }

    /// For each issuer how old its keys are; `None` where there are none yet.
    #[must_use]
    pub fn key_ages(&self) -> Vec<(String, Option<Duration>)> {
        self.authenticator.key_ages()
    }

    /// The config.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }
}

fn takes_certificates(settings: &Settings) -> bool {
    settings.proxy.clients.as_ref().is_some_and(|clients| clients.identify)
}

fn upstreams(
    settings: &Settings,
    witness: Option<&Arc<dyn Witness>>,
    before: Option<&BTreeMap<Name, Pool>>,
) -> io::Result<BTreeMap<Name, Pool>> {
    settings
        .models
        .iter()
        .map(|(name, model)| {
            let before = before.and_then(|before| before.get(name));
            Ok((name.clone(), Pool::new(model, witness, before)?))
        })
        .collect()
}
