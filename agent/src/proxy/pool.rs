//! A model's servers: which one gets a request, and which one next when it takes no connection.
//!
//! Least requests under way among those that are well, in turn where several have as few. Only then backups; only then those
//! that rest, since one that may work is better than none; never one that checks have found down. The next is tried only while
//! not one byte was sent: a connection is made before the request is recorded as admitted, and the record names whose it is.
//! What was sent to a server is never sent to another.

use super::health::Standing;
use super::impostor::Witness;
use super::limits::Limits;
use super::line::Kept;
use super::upstream::{Dialled, Upstream, UpstreamError};
use crate::config::settings::{HealthCheck, Model};
use bailiwick_policy::{Name, Principal};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// All servers of one model.
pub(super) struct Pool {
    model: Name,
    servers: Vec<Upstream>,
    check: Option<HealthCheck>,
    turn: AtomicUsize,
}

/// Why no server has the request.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// None takes a connection, or all are down.
    Unavailable {
        /// Seconds after which it is worth trying again.
        retry_after: u64,
    },
    /// What took the connection is not the model.
    Impostor(UpstreamError),
}

/// How one server stands, as the agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamHealth {
    /// Whose server it is.
    pub model: String,
    /// Its name.
    pub upstream: String,
    /// `up`, `unknown` (not checked yet), `resting` (requests failed), `down` (checks failed).
    pub state: String,
    /// Whether checks tell, or requests alone.
    pub checked: bool,
    /// Asked only when no other one is well.
    pub backup: bool,
    /// Requests that it has now.
    pub active: u64,
    /// What went wrong last; none when nothing has since.
    pub cause: Option<String>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("model", &self.model).field("servers", &self.servers).finish()
    }
}

impl Pool {
    /// Reads the servers' credentials. What is known of servers that are the same as before is kept.
    ///
    /// # Errors
    /// names the file that holds no usable credential
    pub(super) fn new(
        model: &Model,
        witness: Option<&Arc<dyn Witness>>,
        before: Option<&Self>,
    ) -> io::Result<Self> {
        let known =
            |replica: &_| before?.servers.iter().find(|server| server.is(replica)).map(Upstream::health);
        let servers = model
            .servers()
            .into_iter()
            .map(|replica| {
                let health = known(&replica).map(Arc::clone).unwrap_or_default();
                Upstream::new(replica, model.server, witness.cloned(), health)
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            model: model.name.clone(),
            servers,
            check: model.health.clone(),
            turn: AtomicUsize::new(0),
        })
    }

    /// One of them.
    pub(super) fn server(&self, name: &Name) -> Option<&Upstream> {
        self.servers.iter().find(|server| server.name() == name)
    }

    /// A connection to the server whose turn it is, or to the next that takes one. Nothing is sent.
    pub(super) async fn connect<'a>(
        &'a self,
        principal: &Arc<Principal>,
        kept: &'a Arc<Kept>,
        limits: &Limits,
    ) -> Result<Dialled<'a>, Unanswered> {
        let mut impostor = None;
        for server in self.in_order(Instant::now()) {
            match server.connect(principal, kept, limits).await {
                Ok(dialled) => return Ok(dialled),
                Err(error) => {
                    tracing::debug!(model = %self.model, upstream = %server.name(), cause = %error, "no connection");
                    server.health().failed(error.cause(), Instant::now());
                    if let UpstreamError::Impostor(cause) = &error {
                        server.raise(&self.model, cause.as_ref());
                        impostor = Some(error);
                    }
                }
            }
        }
        let retry_after = self.check.as_ref().map_or(1, |check| check.interval.as_secs().max(1));
        Err(impostor.map_or(Unanswered::Unavailable { retry_after }, Unanswered::Impostor))
    }

    /// Whom to ask, best first.
    fn in_order(&self, now: Instant) -> impl Iterator<Item = &Upstream> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.servers.len().max(1);
        let rank = |(index, server): (usize, &Upstream)| {
            let rests = match server.health().standing(self.check.is_some(), now) {
                Standing::Up | Standing::Unknown => false,
                Standing::Resting => true,
                Standing::Down => return None,
            };
            let after = (index + self.servers.len() - turn) % self.servers.len();
            Some((rests, server.is_backup(), server.health().under_way(), after, index))
        };
        let mut ranked: Vec<_> = self.servers.iter().enumerate().filter_map(rank).collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(.., index)| &self.servers[index])
    }

    /// How each stands now.
    pub(super) fn standing(&self) -> impl Iterator<Item = UpstreamHealth> {
        self.servers.iter().map(|server| {
            let health = server.health();
            UpstreamHealth {
                model: self.model.to_string(),
                upstream: server.name().to_string(),
                state: health.standing(self.check.is_some(), Instant::now()).as_str().to_owned(),
                checked: self.check.is_some(),
                backup: server.is_backup(),
                active: health.under_way() as u64,
                cause: health.cause().map(|cause| cause.to_string()),
            }
        })
    }

    /// Checks the servers for ever; returns at once where nothing is to be checked.
    pub(super) async fn check(&self, limits: &Limits) {
        let Some(check) = &self.check else { return };
        let checking = self.servers.iter().map(|server| self.keep_checking(server, check, limits));
        futures_join(checking).await;
    }

    async fn keep_checking(&self, server: &Upstream, check: &HealthCheck, limits: &Limits) {
        let mut due = tokio::time::interval(check.interval);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let found = server.check(check, limits).await;
            let (model, upstream) = (&self.model, server.name());
            match server.health().checked(check, found) {
                Some(true) => tracing::info!(%model, %upstream, "a model's server is up"),
                Some(false) => {
                    let cause = server.health().cause().map(|cause| cause.to_string()).unwrap_or_default();
                    tracing::warn!(%model, %upstream, path = check.path, "a model's server is down: {cause}");
                }
                None => {}
            }
        }
    }
}

/// Drives all of them, none of which ends.
async fn futures_join(all: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        for one in &mut all {
            // They loop for ever: there is no end to see.
            let _never = one.as_mut().poll(context);
        }
        std::task::Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::super::health::Cause;
    use super::*;
    use crate::config::settings::{ModelAddress, Replica, ServerPreset};
    use std::time::Duration;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// Servers a, b and the backup c.
    fn pool() -> Pool {
        let at = |port: u16| ModelAddress::Port(([127, 0, 0, 1], port).into());
        let replica = |called: &str, port, backup| Replica {
            name: name(called),
            slice: format!("{called}.slice"),
            address: at(port),
            credential: None,
            backup,
        };
        let model = Model {
            name: name("a"),
            slice: "a.slice".into(),
            upstream: at(1),
            server: ServerPreset::OpenAi,
            credential: None,
            replicas: vec![replica("b", 2, false), replica("c", 3, true)],
            health: Some(HealthCheck {
                path: "/health".into(),
                interval: Duration::from_secs(7),
                timeout: Duration::from_secs(1),
                fall: 1,
                rise: 1,
            }),
            fetch_urls: false,
        };
        Pool::new(&model, None, None).unwrap()
    }

    fn order(pool: &Pool) -> String {
        pool.in_order(Instant::now()).map(|server| server.name().to_string()).collect()
    }

    #[test]
    fn the_least_busy_that_is_well_comes_first_and_backups_and_the_tired_after() {
        let pool = pool();
        assert_eq!((order(&pool), order(&pool)), ("abc".into(), "bac".into()), "in turn");
        let busy = pool.servers[0].health().begin();
        assert_eq!((order(&pool), order(&pool)), ("bac".into(), "bac".into()), "a is busy");
        drop(busy);
        for _ in 0..3 {
            pool.servers[0].health().failed(Cause::Silent, Instant::now());
        }
        assert_eq!(order(&pool), "bca", "a rests: even the backup comes before it");
        let check = pool.check.clone().unwrap();
        pool.servers[1].health().checked(&check, Err(Cause::Unreachable));
        assert_eq!(order(&pool), "ca", "b is down: it is not asked");
        for server in &pool.servers {
            server.health().checked(&check, Err(Cause::Unreachable));
        }
        assert_eq!(order(&pool), "", "all are down");
    }

    #[tokio::test]
    async fn none_is_dialled_when_all_are_down_and_it_says_when_to_come_back() {
        let pool = pool();
        let check = pool.check.clone().unwrap();
        for server in &pool.servers {
            server.health().checked(&check, Err(Cause::Unreachable));
        }
        let kept = Arc::default();
        let refused = pool.connect(&Arc::default(), &kept, &Limits::default()).await;
        assert!(matches!(refused, Err(Unanswered::Unavailable { retry_after: 7 })));
        let states: Vec<_> = pool.standing().map(|one| (one.upstream, one.state, one.backup)).collect();
        assert!(states.iter().all(|(_, state, _)| state == "down"), "{states:?}");
    }

    #[test]
    fn what_is_known_of_a_server_outlives_a_reload_that_leaves_it_alone() {
        let before = pool();
        before.servers[1].health().failed(Cause::Silent, Instant::now());
        let model = Model {
            name: name("a"),
            slice: "a.slice".into(),
            upstream: ModelAddress::Port(([127, 0, 0, 1], 9).into()),
            server: ServerPreset::OpenAi,
            credential: None,
            replicas: vec![Replica {
                name: name("b"),
                slice: "b.slice".into(),
                address: ModelAddress::Port(([127, 0, 0, 1], 2).into()),
                credential: None,
                backup: true,
            }],
            health: None,
            fetch_urls: false,
        };
        let after = Pool::new(&model, None, Some(&before)).unwrap();
        assert_eq!(after.servers[1].health().cause(), Some(Cause::Silent), "the same server");
        assert_eq!(after.servers[0].health().cause(), None, "another port, another server");
    }
}
