//! # Server: what a model's server leaves open by its own settings
//!
//! ```text
//!   the server, asked the guarded way (answers.rs) ──┐
//!   its processes' command lines and environments ───┼─▶ Caution: what was found, which law it bears on, the cure
//!   (started.rs, by tables.rs)                       ┘
//! ```
//!
//! The guard and the proxy hold whatever a server is set to. What is said here is what they alone hold: a second line that is
//! open, and that stays open to other processes of the slice, to peers, and to whoever comes when the guard is taken down.
//!
//! Invariants:
//! - Nothing is changed: questions are GET and OPTIONS without a body, over the connections that requests take, and only the
//!   agent asks, since the kernel lets nobody else.
//! - What a server, a command line or an environment says is compared, never repeated: what is told is this room's own words,
//!   save the names of models in a closed set of characters. Values of arguments and variables never leave `started.rs`.
//! - What cannot be found out is not taken for good: a server that does not answer is named, and so is an environment that
//!   cannot be read.
//!
//! What it does not do: it keeps no server from serving, and it does not know what a server's version calls a setting that is
//! not in its tables.

mod answers;
mod kind;
mod started;
mod tables;

use super::{Finding, Grade};
use crate::config::settings::{HealthCheck, Model, Replica, Settings};
use crate::control;
use crate::proxy::Policy;
use answers::Answers;
use bailiwick_kernel::slice_path;
use bailiwick_policy::{Mode, Name};
use kind::Kind;
use serde::{Deserialize, Serialize};
use started::Started;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// For everything that one server is asked.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two tries to ask a server that does not answer yet.
const AGAIN: Duration = Duration::from_secs(5);

/// A setting that only the guard and the proxy make harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caution {
    /// What it is about.
    kind: Kind,
    /// What was found, in words of this program.
    found: String,
    /// What to do about it.
    cure: String,
    /// Whether a setting of the server cures it; if not, it is a note.
    curable: bool,
}

/// What one server answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Whose server it is.
    pub model: String,
    /// Its name.
    pub upstream: String,
    /// What its answers leave open.
    pub cautions: Vec<Caution>,
    /// Why it could not be asked.
    pub silent: Option<String>,
}

impl Caution {
    fn new(kind: Kind, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { kind, found: found.into(), cure: cure.into(), curable: true }
    }

    /// One that no setting of the server takes away.
    fn lasting(kind: Kind, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { curable: false, ..Self::new(kind, found, cure) }
    }

    /// As a finding about one of the model's servers.
    fn finding(&self, settings: &Settings, model: &Model, server: &Name) -> Finding {
        let mut found = self.found.clone();
        if self.kind == Kind::RemoteMedia {
            found.push_str(if model.fetch_urls {
                "; fetch_urls lets requests name URLs"
            } else {
                "; the proxy refuses requests that name URLs"
            });
        }
        let scope = settings.kernel.scopes.iter().find(|scope| scope.name == *server);
        let mode = scope.map_or(Mode::Monitor, |scope| scope.egress.mode);
        if self.kind.reaches_out() && mode != Mode::Enforce {
            found.push_str(&format!("; egress is in {} mode, so nothing holds it", mode.as_str()));
        }
        let grade = if self.curable { Grade::Unsafe } else { Grade::Note };
        Finding {
            model: Some(server.clone()),
            law: Some(self.kind.law()),
            why: Some(self.kind.why()),
            ..Finding::new(self.kind.as_str(), grade, found, Some(self.cure.clone()))
        }
    }
}

/// Everything about every server: what root reads of its processes, and what the agent hears from it.
pub(super) fn findings(settings: &Settings, cgroup_root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let asked = control::settings(&control::place());
    for (model, server) in servers(settings) {
        let about = |found: String, cure: &str| Finding {
            model: Some(server.name.clone()),
            ..Finding::note("server", found, cure)
        };
        match Started::of(&cgroup_root.join(slice_path(&server.slice))) {
            None => findings.push(about(format!("no process runs in {}", server.slice), "start it")),
            Some(started) => {
                if !started.tells_its_environment() {
                    let found = "the environment of its processes cannot be read: what it sets is unknown";
                    findings.push(about(found.to_owned(), "run this as root, outside of a container"));
                }
                let cautions = started::judge(model.server, &started);
                findings
                    .extend(cautions.iter().map(|caution| caution.finding(settings, model, &server.name)));
            }
        }
        let answer =
            asked.as_ref().map(|asked| asked.iter().find(|one| server.name.as_str() == one.upstream));
        match answer {
            Ok(Some(Asked { silent: None, cautions, .. })) => {
                let told = cautions.iter().map(|caution| caution.finding(settings, model, &server.name));
                let before = findings.len();
                findings.extend(told);
                if findings.len() == before {
                    let found = "what it answers leaves nothing open that is known of its kind";
                    findings.push(Finding { model: Some(server.name), ..Finding::good("server", found) });
                }
            }
            Ok(Some(Asked { silent: Some(why), .. })) => {
                findings
                    .push(about(format!("what it answers is unknown: {why}"), "start it, and look again"));
            }
            Ok(None) => {
                let cure = "systemctl reload bailiwick";
                findings.push(about("the agent runs with a config that does not have it".to_owned(), cure));
            }
            Err(error) => findings.push(about(
                format!("what it answers is unknown, since only the agent may ask it: {error}"),
                "start the agent, and look again",
            )),
        }
    }
    findings
}

/// Asks every server of the policy's models, at once.
pub async fn ask_all(policy: Arc<Policy>) -> Vec<Asked> {
    let asking: Vec<_> = servers(policy.settings())
        .map(|(model, server)| {
            let (policy, model) = (Arc::clone(&policy), Arc::clone(model));
            tokio::spawn(async move {
                let (cautions, silent) = match ask(&policy, &model, &server).await {
                    Ok(cautions) => (cautions, None),
                    Err(why) => (Vec::new(), Some(why)),
                };
                Asked { model: model.name.to_string(), upstream: server.name.to_string(), cautions, silent }
            })
        })
        .collect();
    let mut all = Vec::new();
    for asked in asking {
        // A task that panicked has said so; its server is missing from the answer, which is told as unknown.
        all.extend(asked.await.ok());
    }
    all
}

/// Says of each server in the log, once, when it first answers, what it leaves open; for ever.
pub async fn warn_once(mut policy: watch::Receiver<Arc<Policy>>, cgroup_root: PathBuf) {
    let mut told = BTreeSet::new();
    loop {
        let current = Arc::clone(&policy.borrow_and_update());
        let mut waits = false;
        for (model, server) in servers(current.settings()) {
            let known = (server.name.clone(), format!("{:?} {:?}", server.address, model.server));
            if told.contains(&known) {
                continue;
            }
            match ask(&current, model, &server).await {
                Ok(mut cautions) => {
                    let started = Started::of(&cgroup_root.join(slice_path(&server.slice)));
                    cautions.extend(started.iter().flat_map(|started| started::judge(model.server, started)));
                    for caution in cautions.iter().filter(|caution| caution.curable) {
                        warn(&caution.finding(current.settings(), model, &server.name));
                    }
                    told.insert(known);
                }
                Err(_) => waits = true,
            }
        }
        let changed = if waits { timeout(AGAIN, policy.changed()).await } else { Ok(policy.changed().await) };
        // No other policy will come when the agent stops, which then ends this.
        if matches!(changed, Ok(Err(_))) {
            return;
        }
    }
}

fn warn(finding: &Finding) {
    let Finding { what, model, found, law, why, cure, .. } = finding;
    let server = model.as_ref().map(ToString::to_string).unwrap_or_default();
    let (law, why) = (law.unwrap_or_default(), why.unwrap_or_default());
    let cure = cure.as_deref().unwrap_or_default();
    tracing::warn!("{server}: {what}: {found}. It bears on law {law}: {why}. Cure: {cure}");
}

/// Every server, with its model.
fn servers(settings: &Settings) -> impl Iterator<Item = (&Arc<Model>, Replica)> {
    settings.models.values().flat_map(|model| model.servers().into_iter().map(move |server| (model, server)))
}

/// Whether it is well, and then what its kind is asked.
async fn ask(policy: &Policy, model: &Model, server: &Replica) -> Result<Vec<Caution>, String> {
    let health = |check: &HealthCheck| check.path.clone();
    let health = model.health.as_ref().map_or_else(|| model.server.health_path().to_owned(), health);
    let asking = async {
        let well = policy.ask(&model.name, &server.name, &http::Method::GET, &health).await?;
        if !(200..300).contains(&well.status) {
            return Err(format!("it is not well: {health} answers {}", well.status));
        }
        let mut answers = Answers::new();
        for (method, path) in answers::questions(model.server) {
            answers.insert(path, policy.ask(&model.name, &server.name, &method, path).await?);
        }
        Ok(answers::judge(model.server, &answers))
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
}
