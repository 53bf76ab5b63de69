//! # Watch: what the kernel holds is compared with what it should hold, for as long as the agent lives
//!
//! ```text
//!   a cgroup or a pin comes or goes (inotify) ─┬─▶ refresh   the kernel is told where the slices are now
//!   200 ms ────────────────────────────────────┘
//!   1 s, and 20 ms after something was heard ────▶ look      kernel truth; a difference is
//!                                                              repaired   links, pins and policy are put back
//!                                                              alerted    journal, priority crit
//!                                                              recorded   gap-begin … gap-end
//!   a reload ────────────────────────────────────▶ apply     one generation
//! ```
//!
//! One task owns the [`Guard`], so that none of these can meet another half-way.
//!
//! Invariants:
//! - A gap is repaired first and reported afterwards; it is reported also when the repair took a microsecond.
//! - A gap begins at the last look that found the place in order, and ends at the first look that does so again:
//!   what is recorded is never shorter than what happened.
//! - Nothing here ends the agent. What cannot be read or repaired is a gap until it can.
//! - While no agent runs, nobody watches: [`before_start`] says so in the trail, with what was found.
//!
//! What it does not do: it cannot prevent root from taking the guard down between two looks, nor tell who did.

use crate::app::control;
use crate::egress::Kind;
use crate::metrics::Metrics;
use bailiwick_audit::{AuditError, Log, Record, last_record};
use bailiwick_kernel::{Guard, KernelError, Problem, Rules, Site, Status, TreeWatch, standing};
use libsystemd::logging::{Priority, journal_send};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

/// How often the cgroup tree is compared with what the kernel was told, whatever was heard.
const REFRESH: Duration = Duration::from_millis(200);
/// How often the kernel is asked what it holds.
const LOOK: Duration = Duration::from_secs(1);
/// How soon it is asked after something was heard: several pins may go at once.
const LOOK_AFTER_NEWS: Duration = Duration::from_millis(20);

/// New rules, and where to say what became of them.
pub(crate) type Order = (Rules, oneshot::Sender<Result<u32, KernelError>>);

/// The watch over a guard.
pub(crate) struct Watch {
    guard: Guard,
    log: Log,
    metrics: Arc<Metrics>,
    ear: Option<TreeWatch>,
    open: BTreeMap<Problem, OffsetDateTime>,
    strangers: BTreeSet<String>,
    last_look: OffsetDateTime,
    /// What could not be done, said once.
    troubles: BTreeSet<String>,
}

impl Watch {
    /// Call it inside a tokio runtime.
    pub(crate) fn new(guard: Guard, log: Log, metrics: Arc<Metrics>) -> Self {
        let ear = TreeWatch::new()
            .inspect_err(|error| tracing::warn!("{error}; slices are looked for every {REFRESH:?} only"))
            .ok();
        Self {
            guard,
            log,
            metrics,
            ear,
            open: BTreeMap::new(),
            strangers: BTreeSet::new(),
            last_look: OffsetDateTime::now_utc(),
            troubles: BTreeSet::new(),
        }
    }

    /// Watches until the sender of orders is gone.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_look = Instant::now() + LOOK;
        loop {
            // Before each look at the tree, so that nothing falls between hearing and seeing.
            if let Some(Err(error)) =
                self.ear.as_ref().map(|ear| ear.follow(self.guard.site(), self.guard.rules()))
            {
                self.trouble("listen", &error);
            }
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some((rules, answer)) => {
                        // Whoever asked may have given up; the rules are in force or not all the same.
                        let _unheard = answer.send(self.guard.apply(&rules));
                        next_look = Instant::now();
                    }
                    None => return,
                },
                () = sleep_until(next_look) => {
                    self.look().await;
                    next_look = Instant::now() + LOOK;
                }
                heard = heard(self.ear.as_ref()) => {
                    if let Err(error) = heard {
                        self.trouble("listen", &error);
                        self.ear = None;
                    }
                    self.refresh().await;
                    next_look = next_look.min(Instant::now() + LOOK_AFTER_NEWS);
                }
                _ = refresh.tick() => self.refresh().await,
            }
        }
    }

    async fn refresh(&mut self) {
        match self.guard.refresh() {
            Ok(changed) => {
                for scope in changed {
                    tracing::info!(scope = %scope, "a slice appeared, moved or went away; the kernel was told");
                    self.record(control("slice-changed", [("scope", scope.as_str())])).await;
                }
            }
            Err(error) => self.trouble("refresh", &error),
        }
    }

    /// One look: repair, then report what began and what ended.
    async fn look(&mut self) {
        let looked = OffsetDateTime::now_utc();
        let (mut found, _) = self.problems();
        if found.iter().any(|problem| problem.place.starts_with("scope:")) {
            // A slice that came a moment ago is no gap: its processes wait for `bailiwick status --wait`.
            self.refresh().await;
            found = self.problems().0;
        }
        let repaired = if found.is_empty() { Ok(()) } else { self.guard.repair() };
        let (left, truth) = if found.is_empty() { (Vec::new(), None) } else { self.problems() };
        let truth = truth.or_else(|| self.guard.truth().ok());
        let after = OffsetDateTime::now_utc();

        for problem in found {
            if !self.open.contains_key(&problem) {
                self.begin(&problem, self.last_look).await;
                self.open.insert(problem, self.last_look);
            }
        }
        let ended: Vec<Problem> =
            self.open.keys().filter(|problem| !left.contains(problem)).cloned().collect();
        for problem in ended {
            if let Some(since) = self.open.remove(&problem) {
                self.end(&problem, since, after, repaired.is_ok()).await;
            }
        }
        if let Err(error) = repaired {
            self.trouble("repair", &error);
        }
        if self.open.is_empty() {
            self.troubles.clear();
        }
        if let Some(truth) = truth {
            self.strangers(&truth).await;
            self.metrics.guard_seen(truth);
        }
        self.last_look = looked;
    }

    fn problems(&self) -> (Vec<Problem>, Option<Status>) {
        match self.guard.truth() {
            Ok(truth) => (truth.problems(), Some(truth)),
            Err(error) => (vec![Problem { place: "kernel".to_owned(), text: error.to_string() }], None),
        }
    }

    async fn begin(&self, problem: &Problem, since: OffsetDateTime) {
        let Problem { place, text } = problem;
        let message = format!(
            "the guard has a gap at {place}: {text}. It was in order at {}. Find out who removed it: nothing of Bailiwick does; \
             see `bailiwick status`",
            stamp(since)
        );
        let fields = [
            ("BAILIWICK_HOOK", place.clone()),
            ("BAILIWICK_PROBLEM", text.clone()),
            ("BAILIWICK_SINCE", stamp(since)),
        ];
        alert(Priority::Critical, Kind::GapBegan, message, fields.into());
        let detail = [("hook", place.as_str()), ("problem", text), ("since", &stamp(since))];
        self.record(control("gap-begin", detail)).await;
    }

    async fn end(&self, problem: &Problem, since: OffsetDateTime, until: OffsetDateTime, repaired: bool) {
        let Problem { place, text } = problem;
        let message = format!("the gap of the guard at {place} is closed ({text})");
        let fields = [
            ("BAILIWICK_HOOK", place.clone()),
            ("BAILIWICK_PROBLEM", text.clone()),
            ("BAILIWICK_SINCE", stamp(since)),
            ("BAILIWICK_UNTIL", stamp(until)),
        ];
        alert(Priority::Notice, Kind::GapEnded, message, fields.into());
        let detail = [
            ("hook", place.as_str()),
            ("problem", text),
            ("since", &stamp(since)),
            ("until", &stamp(until)),
            ("repaired", if repaired { "yes" } else { "no" }),
        ];
        self.record(control("gap-end", detail)).await;
    }

    /// Programs of others that could overrule the guard's: no gap (packets are refused all the same), but news.
    async fn strangers(&mut self, truth: &Status) {
        let mut now = BTreeSet::new();
        for hook in &truth.hooks {
            for neighbour in hook.neighbours.iter().filter(|neighbour| neighbour.may_override) {
                let key = format!("{}:{}", hook.hook, neighbour.program_id);
                if !self.strangers.contains(&key) {
                    let program = neighbour.program_id.to_string();
                    let message = format!(
                        "program {program} ({}) was attached at hook {} where it could overrule the guard; packets are refused \
                         all the same. Find who attached it: bpftool cgroup tree",
                        neighbour.name, hook.hook
                    );
                    let fields = [
                        ("BAILIWICK_HOOK", hook.hook.clone()),
                        ("BAILIWICK_PROBLEM", "foreign program".to_owned()),
                        ("BAILIWICK_PROGRAM", program.clone()),
                    ];
                    alert(Priority::Warning, Kind::Stranger, message, fields.into());
                    let detail = [
                        ("hook", hook.hook.as_str()),
                        ("program", &program),
                        ("name", &neighbour.name),
                        ("tag", &neighbour.tag),
                    ];
                    self.record(control("foreign-program", detail)).await;
                }
                now.insert(key);
            }
        }
        self.strangers = now;
    }

    async fn record(&self, record: Record) {
        if let Err(error) = self.log.append(record).await {
            tracing::error!(%error, "what the watch saw is in the journal but could not be recorded in the audit trail");
        }
    }

    fn trouble(&mut self, what: &str, error: &KernelError) {
        if self.troubles.insert(format!("{what}: {error}")) {
            tracing::error!("cannot {what}: {error}");
        }
    }
}

async fn heard(ear: Option<&TreeWatch>) -> Result<(), KernelError> {
    match ear {
        Some(ear) => ear.heard().await,
        None => std::future::pending().await,
    }
}

/// How things stood before this agent touched anything: since when nobody had watched, and whether the guard held.
pub(crate) struct Unwatched {
    since: String,
    guard: String,
}

/// Looks at the trail's last record and at the kernel; call it before the guard is attached. `None` when there is no trail
/// yet: nobody was to watch.
/// A trail that cannot be read refuses to be opened later, once the guard stands.
pub(crate) fn before_start(site: &Site, rules: &Rules, trail: &Path) -> Option<Unwatched> {
    let last = match last_record(trail) {
        Ok(Some(last)) => last,
        Ok(None) | Err(AuditError::NotATrail { .. }) => return None,
        Err(_) => Vec::new(),
    };
    let last: serde_json::Value = serde_json::from_slice(&last).unwrap_or_default();
    let since = last["time"].as_str().unwrap_or("unknown").to_owned();
    let guard = match standing(site, rules) {
        Ok(truth) => {
            let missing: Vec<&str> =
                truth.hooks.iter().filter(|hook| !hook.attached).map(|hook| hook.hook.as_str()).collect();
            match (missing.as_slice(), truth.generation) {
                ([], Some(_)) => "stood".to_owned(),
                ([], None) => "held no policy".to_owned(),
                (missing, _) => format!("did not stand: {}", missing.join(", ")),
            }
        }
        Err(error) => format!("unknown: {error}"),
    };
    Some(Unwatched { since, guard })
}

impl Unwatched {
    /// The gap between the last record of the agent before and now. Its beginning is the last moment at which somebody is
    /// known to have watched, so that the gap is never recorded shorter than it was.
    pub(crate) fn record(&self) -> Record {
        let until = stamp(OffsetDateTime::now_utc());
        control("watch-gap", [("since", self.since.as_str()), ("until", &until), ("guard", &self.guard)])
    }
}

/// To the journal, from a thread that may wait for journald.
pub(crate) fn alert(priority: Priority, kind: Kind, message: String, fields: Vec<(&'static str, String)>) {
    tokio::task::spawn_blocking(move || {
        let own =
            [("SYSLOG_IDENTIFIER", "bailiwick".to_owned()), ("MESSAGE_ID", kind.message_id().to_owned())];
        if let Err(error) = journal_send(priority, &message, own.into_iter().chain(fields)) {
            // Not under systemd, or journald is gone: standard error is what is left.
            tracing::error!(%error, "{message}");
        }
    });
}

fn stamp(time: OffsetDateTime) -> String {
    let milliseconds = time.replace_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(time);
    milliseconds.format(&Rfc3339).unwrap_or_else(|_| "unknown".to_owned())
}
