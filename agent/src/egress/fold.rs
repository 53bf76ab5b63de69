//! One alert a kind of violation, destination and process, however often it is tried.
//!
//! ```text
//!   tried      | ||||||||||||||||||||||||||||||||||||||||||||||||…
//!   said       ^ ^1 s    ^10 s             ^1 min              ^ every 10 min, each with what came since
//! ```
//!
//! The kernel says one event a second; here they are folded for longer. What was counted is said, at the latest
//! [`Pace::OURS`]'s longest interval after it happened, or when the agent stops. It is over when nothing came for that long:
//! the next attempt is then said at once again.
//!
//! Bounded: of more than [`MOST_OPEN`] kinds at once the rest is counted for each workload under [`Folded::Many`], so that
//! somebody who tries every address fills neither the journal nor the memory. The trail has each of them.

use super::Alert;
use bailiwick_kernel::{Hook, Reason, Verdict};
use bailiwick_policy::Name;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Kinds that are told apart at once.
const MOST_OPEN: usize = 1024;

/// When a kind is said again: the first interval after the first time, and so on; the last one from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace(&'static [Duration]);

impl Pace {
    /// The agent's.
    pub(super) const OURS: Self = Self(&[
        Duration::from_secs(1),
        Duration::from_secs(10),
        Duration::from_secs(60),
        Duration::from_secs(600),
    ]);

    fn interval(self, said: usize) -> Duration {
        let last = self.0.last().copied().unwrap_or_default();
        self.0.get(said.saturating_sub(1)).copied().unwrap_or(last)
    }

    fn over(self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

/// What an alert stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Attempts since it was last said.
    pub(super) count: u64,
    /// Attempts since it began, these included.
    pub(super) total: u64,
    /// For how long the counted ones went on.
    pub(super) during: Duration,
}

impl Said {
    /// The first of its kind.
    pub(super) fn first(count: u64) -> Self {
        Self { count, total: count, during: Duration::ZERO }
    }

    /// Behind a verb: nothing for the first single attempt.
    pub(super) fn words(&self) -> String {
        match (self.count, self.total > self.count) {
            (1, false) => String::new(),
            (count, false) => format!(", {count} times"),
            (count, true) => {
                let again = if count == 1 { "once more".to_owned() } else { format!("{count} times more") };
                format!(", {again} in {} ({} in all)", spell(self.during), self.total)
            }
        }
    }
}

/// What is said of a fold.
#[derive(Debug)]
pub(super) enum Folded {
    /// An alert; the first one of its kind, or one that stands for all since.
    Alert(Box<Alert>),
    /// Kinds that were not told apart any more.
    Many(Many),
}

/// Refusals that were too many to be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Many {
    /// The workload; `None` if it is gone.
    pub(super) scope: Option<Name>,
    /// Whether they were refused.
    pub(super) verdict: Verdict,
    /// How many.
    pub(super) said: Said,
}

/// What makes two events the same kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    scope: Option<Name>,
    hook: Hook,
    reason: Reason,
    verdict: Verdict,
    protocol: u8,
    destination: SocketAddr,
    /// Its port is another one each time.
    source: Option<IpAddr>,
    /// Not the pid: a program that is started anew each time is the same.
    comm: String,
    cgroup: u64,
    /// What put the destination where it is: where a dataset or the config moved it, people must hear why it is refused now.
    rule: String,
}

/// The folds.
#[derive(Debug)]
pub(super) struct Folds {
    pace: Pace,
    open: HashMap<Key, Fold<Box<Alert>>>,
    many: HashMap<(Option<Name>, Verdict), Fold<()>>,
}

#[derive(Debug)]
struct Fold<T> {
    what: T,
    waiting: u64,
    total: u64,
    said: usize,
    last_said: Instant,
    last_seen: Instant,
}

impl<T> Fold<T> {
    fn new(what: T, now: Instant) -> Self {
        Self { what, waiting: 0, total: 0, said: 0, last_said: now, last_seen: now }
    }

    fn count(&mut self, count: u64, now: Instant) {
        self.waiting += count;
        self.total += count;
        self.last_seen = now;
    }

    /// What is to be said now, if anything is.
    fn due(&mut self, pace: Pace, everything: bool, now: Instant) -> Option<Said> {
        let is_due = everything || self.said == 0 || now >= self.last_said + pace.interval(self.said);
        if self.waiting == 0 || !is_due {
            return None;
        }
        let during = now.saturating_duration_since(self.last_said);
        let said = Said { count: std::mem::take(&mut self.waiting), total: self.total, during };
        self.said += 1;
        self.last_said = now;
        Some(said)
    }

    fn is_over(&self, pace: Pace, now: Instant) -> bool {
        self.waiting == 0 && now.saturating_duration_since(self.last_seen) >= pace.over()
    }
}

impl Folds {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, open: HashMap::new(), many: HashMap::new() }
    }

    /// Takes an event's alert; gives back what is to be said at once.
    pub(super) fn add(&mut self, alert: Alert, now: Instant) -> Option<Folded> {
        let event = alert.event();
        let (key, count) = (key(&alert), event.count);
        if !self.open.contains_key(&key) && self.open.len() >= MOST_OPEN {
            let pace = self.pace;
            self.open.retain(|_, fold| !fold.is_over(pace, now));
            if self.open.len() >= MOST_OPEN {
                return self.add_to_many(event.scope.clone(), event.verdict, count, now);
            }
        }
        let fold = self.open.entry(key).or_insert_with(|| Fold::new(Box::new(alert.clone()), now));
        // The latest process is the one that may still be looked at.
        *fold.what = alert;
        fold.count(count, now);
        let said = fold.due(self.pace, false, now)?;
        Some(Folded::Alert(Box::new(fold.what.as_ref().clone().said(said))))
    }

    fn add_to_many(
        &mut self,
        scope: Option<Name>,
        verdict: Verdict,
        count: u64,
        now: Instant,
    ) -> Option<Folded> {
        let fold = self.many.entry((scope.clone(), verdict)).or_insert_with(|| Fold::new((), now));
        fold.count(count, now);
        fold.due(self.pace, false, now).map(|said| Folded::Many(Many { scope, verdict, said }))
    }

    /// What has waited long enough; what is over is forgotten. Call it at least once a second.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Folded> {
        self.take(false, now)
    }

    /// All that was not said yet; for the end.
    pub(super) fn rest(&mut self, now: Instant) -> Vec<Folded> {
        self.take(true, now)
    }

    fn take(&mut self, everything: bool, now: Instant) -> Vec<Folded> {
        let pace = self.pace;
        let mut due = Vec::new();
        for fold in self.open.values_mut() {
            if let Some(said) = fold.due(pace, everything, now) {
                due.push(Folded::Alert(Box::new(fold.what.as_ref().clone().said(said))));
            }
        }
        for ((scope, verdict), fold) in &mut self.many {
            if let Some(said) = fold.due(pace, everything, now) {
                due.push(Folded::Many(Many { scope: scope.clone(), verdict: *verdict, said }));
            }
        }
        self.open.retain(|_, fold| !fold.is_over(pace, now));
        self.many.retain(|_, fold| !fold.is_over(pace, now));
        due
    }
}

fn key(alert: &Alert) -> Key {
    let event = alert.event();
    Key {
        scope: event.scope.clone(),
        hook: event.hook,
        reason: event.reason,
        verdict: event.verdict,
        protocol: event.protocol,
        destination: event.destination,
        source: event.source.filter(|_| event.hook == Hook::Ingress).map(|source| source.ip()),
        comm: event.process.as_ref().map(|process| process.comm.clone()).unwrap_or_default(),
        cgroup: event.cgroup_id,
        rule: alert.place().rule(),
    }
}

fn spell(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "less than a second".to_owned(),
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_kernel::{Event, Process};
    use bailiwick_policy::{Region, RegionTable};

    fn event(destination: &str, pid: u32) -> Event {
        Event {
            hook: Hook::Connect,
            verdict: Verdict::Deny,
            reason: Reason::DestinationNotAllowed,
            scope: Some(Name::new("llama").unwrap()),
            protocol: 6,
            source: None,
            destination: destination.parse().unwrap(),
            process: Some(Process { pid, uid: 0, comm: "python3".to_owned() }),
            cgroup_id: 7,
            cgroup: None,
            count: 1,
        }
    }

    fn alert(destination: &str, pid: u32) -> Alert {
        Alert::new(&event(destination, pid), &RegionTable::default())
    }

    fn counts(folded: impl IntoIterator<Item = Folded>) -> Vec<(u64, u64)> {
        let said = |folded| match folded {
            Folded::Alert(alert) => {
                let field = |name| {
                    alert.fields().into_iter().find(|(field, _)| *field == name).unwrap().1.parse().unwrap()
                };
                (field("BAILIWICK_COUNT"), field("BAILIWICK_TOTAL"))
            }
            Folded::Many(many) => (many.said.count, many.said.total),
        };
        folded.into_iter().map(said).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_said_at_once_and_the_rest_ever_less_often() {
        let (mut folds, began) = (Folds::new(Pace::OURS), Instant::now());
        let mut said = Vec::new();
        // Once a second for half an hour, by another process each time.
        for second in 0..1800 {
            let now = began + SECOND * second;
            for counted in counts(folds.due(now))
                .into_iter()
                .chain(counts(folds.add(alert("192.0.2.30:443", second), now)))
            {
                said.push((second, counted.0));
            }
        }
        assert_eq!(said, [(0, 1), (1, 1), (11, 9), (71, 60), (671, 600), (1271, 600)]);
        let rest = counts(folds.due(began + SECOND * 1871));
        assert_eq!(rest, [(529, 1800)], "the rest, when it has ended");
        assert_eq!(counts(folds.due(began + SECOND * 2500)), []);
        assert!(folds.open.is_empty(), "it is over");
        assert_eq!(
            counts(folds.add(alert("192.0.2.30:443", 1), began + SECOND * 2500)),
            [(1, 1)],
            "anew, at once"
        );
    }

    #[test]
    fn nothing_that_was_counted_is_lost_when_the_agent_stops() {
        let (mut folds, now) = (Folds::new(Pace::OURS), Instant::now());
        folds.add(alert("192.0.2.30:443", 1), now);
        for _ in 0..5 {
            assert!(folds.add(alert("192.0.2.30:443", 1), now).is_none());
        }
        assert_eq!(counts(folds.rest(now)), [(5, 6)]);
        assert_eq!(counts(folds.rest(now)), []);
    }

    #[test]
    fn kinds_destinations_and_processes_are_told_apart() {
        let (mut folds, now) = (Folds::new(Pace::OURS), Instant::now());
        let one = event("192.0.2.30:443", 1);
        let other_process = Process { comm: "curl".to_owned(), ..one.process.clone().unwrap() };
        for (event, told, why) in [
            (one.clone(), true, "the first"),
            (event("192.0.2.30:444", 1), true, "another port"),
            (event("192.0.2.31:443", 1), true, "another address"),
            (Event { process: Some(other_process), ..one.clone() }, true, "another program"),
            (Event { verdict: Verdict::WouldDeny, ..one.clone() }, true, "another verdict"),
            (Event { cgroup_id: 8, ..one.clone() }, true, "another unit"),
            (event("192.0.2.30:443", 2), false, "the same program, started anew"),
            (
                Event { source: "198.51.100.1:4000".parse().ok(), ..one.clone() },
                false,
                "its own port is of no account",
            ),
        ] {
            let alert = Alert::new(&event, &RegionTable::default());
            assert_eq!(folds.add(alert, now).is_some(), told, "{why}");
        }
        let elsewhere = Region {
            name: Name::new("elsewhere").unwrap(),
            countries: Vec::new(),
            networks: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let moved = Alert::new(&one, &RegionTable::new(vec![elsewhere]));
        assert!(folds.add(moved, now).is_some(), "it lies somewhere else now");
    }

    #[test]
    fn somebody_who_tries_everything_is_counted() {
        let (mut folds, now) = (Folds::new(Pace::OURS), Instant::now());
        let tried = 20_000;
        let mut alerts = 0;
        for number in 0..tried {
            let destination = format!("198.51.{}.{}:443", number / 250, number % 250);
            alerts +=
                counts(folds.add(alert(&destination, 1), now)).iter().map(|(count, _)| count).sum::<u64>();
        }
        assert_eq!(folds.open.len(), MOST_OPEN);
        let rest: u64 = counts(folds.rest(now)).iter().map(|(count, _)| count).sum();
        assert_eq!(alerts + rest, tried, "each is in one of the counts");
        assert!(alerts < 1100);
    }

    #[test]
    fn what_is_said_again_says_so() {
        let said = |count, total, seconds| Said { count, total, during: SECOND * seconds }.words();
        assert_eq!(said(1, 1, 0), "");
        assert_eq!(said(3, 3, 0), ", 3 times");
        assert_eq!(said(1, 2, 1), ", once more in 1 s (2 in all)");
        assert_eq!(said(600, 700, 600), ", 600 times more in 10 min (700 in all)");
    }
}
