//! What a request is judged by, as one value: a request takes it when it begins and keeps it to its end, so that a reload
//! neither cuts nor bends what is under way.

use super::impostor::Witness;
use super::limits::Limits;
use super::pool::{Pool, UpstreamHealth};
use super::tls::ServerTls;
use super::upstream::Heard;
use crate::config::settings::Settings;
use crate::identity::{Authenticator, Timing};
use crate::metrics::{Metrics, Validity};
use crate::traces::Tracer;
use bailiwick_policy::Name;
use http::Method;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A config, ready to serve: its credentials and certificates are read.
pub struct Policy {
    pub(super) settings: Arc<Settings>,
    pub(super) authenticator: Authenticator,
    pub(super) upstreams: BTreeMap<Name, Pool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tracer: Option<Tracer>,
    /// Of the proxy's certificate, as its file was when this policy was made.
    certificate: Option<Validity>,
    pub(super) tls: Arc<ServerTls>,
    timing: Timing,
    witness: Option<Arc<dyn Witness>>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("id", &self.settings.id).finish_non_exhaustive()
    }
}

impl Policy {
    /// Reads every model's credential and the TLS files; asks no issuer anything yet. Where there is a guard there is a
    /// `witness`, and no
    /// request goes to a port of a model whose connection it has not proven.
    ///
    /// # Errors
    /// when one of those files cannot be read; the message names the file and the cure
    pub fn new(
        settings: Arc<Settings>,
        timing: Timing,
        witness: Option<Arc<dyn Witness>>,
    ) -> io::Result<Self> {
        let authenticator = Authenticator::with_timing(settings.issuers.clone(), timing)
            .taking_certificates(takes_certificates(&settings));
        authenticator.read_secrets()?;
        let upstreams = upstreams(&settings, witness.as_ref(), None)?;
        let tls = ServerTls::read(&settings.proxy.tls, settings.proxy.clients.as_ref())?;
        Ok(Self {
            certificate: Validity::of_file(&settings.proxy.tls.certificate),
            upstreams,
            tls,
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

    /// The same for another config, its files read anew; the keys of issuers that are unchanged are kept.
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
        let certificate = Validity::of_file(&settings.proxy.tls.certificate);
        let timing = self.timing;
        let tls = ServerTls::read(&settings.proxy.tls, settings.proxy.clients.as_ref())?;
        Ok(Self { upstreams, tls, authenticator, settings, timing, witness, metrics, tracer, certificate })
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

    /// From when to when the proxy's certificate is valid, as its file was at the start or at the last reload; `None` where it
    /// cannot be read.
    #[must_use]
    pub fn certificate(&self) -> Option<Validity> {
        self.certificate
    }

    /// How each server of each model stands, as far as requests and checks have told.
    #[must_use]
    pub fn upstream_health(&self) -> Vec<UpstreamHealth> {
        self.upstreams.values().flat_map(Pool::standing).collect()
    }

    /// Asks one server of a model something of the agent's own: the guarded way that requests go, and with nothing of a
    /// caller's. It counts for nothing in what is known of the server's health.
    ///
    /// # Errors
    /// why there is no answer, in words that hold nothing of one
    pub async fn ask(
        &self,
        model: &Name,
        server: &Name,
        method: &Method,
        path: &str,
    ) -> Result<Heard, String> {
        let server = self.upstreams.get(model).and_then(|pool| pool.server(server));
        let server = server.ok_or_else(|| "the config does not have it".to_owned())?;
        server.ask(method, path, &Limits::default()).await.map_err(|cause| cause.to_string())
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
