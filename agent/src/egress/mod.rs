//! # Egress: where everything went and what was refused, told to a person, to the trail and to the register
//!
//! The kernel decides; this room explains. It takes what is reported, adds what only user space knows (the region of the
//! address and who says so, the name that it was reached by, the process's executable), and says it three times:
//!
//! ```text
//!                                    ┌─▶ folds ─▶ journal    one entry a kind, own fields, a message to act on
//!   kernel::{Events, Flows} ─▶ Report ─▶ Observer ─▶ audit            Record::Violation, each of them, in the signed trail
//!                                    └─▶ register            who went where, how often, how much: one row a flow
//! ```
//!
//! | room | what it is |
//! |---|---|
//! | [`report`](Report) | what there is to know of a flow, whoever says it |
//! | `observer` | what is known of all flows now; reports in, entries, records and rows out |
//! | [`names`] | DNS answers, TLS server names, HTTP hosts → the name of an address; DNS that is a tunnel |
//! | `alert`, `kind`, `fold`, `place` | an event in words; its fixed id; how often it is said; where an address lies |
//! | `journal` | journald's native protocol, from a thread |
//! | [`register`] | the flows, durable and bounded |
//! | [`suggest`] | the narrowest policy that would allow what was refused |
//!
//! Invariants:
//! * nothing here decides: a lost alert never opens a way, and the kernel counts what it could not say;
//! * the outputs do not wait for each other: a hanging journal delays no record, and a slow disk no alert until
//!   thousands of records wait for it;
//! * every refusal that the kernel tells is recorded in the trail; the journal has the first of a kind at once, and the
//!   count of the others later, at the latest when the agent stops;
//! * an alert carries addresses, ports, ids, and names as they may be written down; never a byte of what was being sent.
//!
//! What it does not do: see what passes between processes of one host, other than what an exception names; tell flows of the
//! agent's own by their bytes: of them it knows that they were opened.

mod alert;
mod fold;
mod journal;
mod kind;
pub mod names;
mod observer;
mod place;
pub mod register;
mod report;
pub mod suggest;
mod writer;

pub use alert::{Alert, protocol};
pub use kind::Kind;
pub use report::Report;

use crate::config::settings::Settings;
use bailiwick_audit::{Log, Record};
use bailiwick_kernel::{Events, Flows, KernelError};
use journal::Journal;
use observer::{Now, Observer, Told};
use register::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use writer::Writer;

/// How often it is looked whether something is due to be said.
const TICK: Duration = Duration::from_millis(250);
/// How many ticks there are between two writes of the register: a second.
const TICKS_A_WRITE: u32 = 4;
/// Records that may wait for the disk; when there are more, the kernel's ring buffer waits, and counts what it loses.
const RECORDS_WAITING: usize = 4096;
/// Observations that are taken before a refusal is told, which has milliseconds to be told in.
const AT_ONCE: usize = 256;
/// How long the end may take: what is still in the ring buffer, and the journal.
const FAREWELL: Duration = Duration::from_secs(3);
/// The ring buffer is empty when nothing comes for so long.
const SILENCE: Duration = Duration::from_millis(20);

/// Tells everything that is reported to the journal, to the trail and to the register, until `stop` says so or the event
/// stream breaks; then also what was only counted so far. Regions are named as the policy that is current then names them.
///
/// # Errors
/// The event stream's own error. A trail or a register that cannot be written does not end the stream: each loss is said in
/// the log, the proxy refuses requests by itself, and the register is tried again.
pub async fn report(
    settings: watch::Receiver<Arc<Settings>>,
    log: Log,
    mut events: Events,
    mut flows: Flows,
    store: Store,
    mut stop: watch::Receiver<bool>,
) -> Result<(), KernelError> {
    let mut reporting = Reporting::start(settings, log, store);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            () = stopped(&mut stop) => break Ok(()),
            event = events.next() => match event {
                Ok(event) => {
                    if let Err(error) = reporting.catch_up(&mut flows).await {
                        break Err(error);
                    }
                    reporting.take(&Report::Refused(event)).await;
                }
                Err(error) => break Err(error),
            },
            observed = flows.next() => match observed {
                Ok(observed) => reporting.take(&observed.into()).await,
                Err(error) => break Err(error),
            },
            _ = tick.tick() => if let Err(error) = reporting.tick(&mut flows).await {
                break Err(error);
            },
        }
    };
    if ended.is_ok() {
        // What was refused before the end is told, too.
        let rest = async {
            while let Ok(Some(observed)) = flows.take() {
                reporting.take(&observed.into()).await;
            }
            while let Ok(Ok(event)) = timeout(SILENCE, events.next()).await {
                reporting.take(&Report::Refused(event)).await;
            }
        };
        let _however_far_it_came = timeout(FAREWELL, rest).await;
        reporting.count(&mut flows).await?;
    }
    reporting.finish().await;
    ended
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone is an agent that ends.
    let _either = stop.wait_for(|stop| *stop).await;
}

struct Reporting {
    settings: watch::Receiver<Arc<Settings>>,
    observer: Observer,
    journal: Journal,
    records: mpsc::Sender<Record>,
    recorder: JoinHandle<()>,
    register: Writer,
    ticks: u32,
}

impl Reporting {
    fn start(settings: watch::Receiver<Arc<Settings>>, log: Log, store: Store) -> Self {
        let (records, waiting) = mpsc::channel(RECORDS_WAITING);
        Self {
            settings,
            observer: Observer::new(),
            journal: Journal::start(),
            records,
            recorder: tokio::spawn(record(log, waiting)),
            register: Writer::new(store),
            ticks: 0,
        }
    }

    /// The journal first: it is what a person waits for.
    async fn take(&mut self, report: &Report) {
        let current = Arc::clone(&self.settings.borrow());
        let Told { record, entry } = self.observer.take(report, &current.regions, Now::read());
        if let Some(entry) = entry {
            self.journal.send(entry);
        }
        if let Some(record) = record
            && self.records.send(record).await.is_err()
        {
            tracing::error!("a violation is in the journal but could not be recorded in the audit trail");
        }
    }

    /// Takes what was observed so far, or its first part: the name of what was refused may be in it, asked for a moment ago.
    async fn catch_up(&mut self, flows: &mut Flows) -> Result<(), KernelError> {
        for _ in 0..AT_ONCE {
            let Some(observed) = flows.take()? else { break };
            self.take(&observed.into()).await;
        }
        Ok(())
    }

    async fn tick(&mut self, flows: &mut Flows) -> Result<(), KernelError> {
        for entry in self.observer.due(Now::read()) {
            self.journal.send(entry);
        }
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_A_WRITE) {
            self.count(flows).await?;
            self.register.write(&mut self.observer).await;
        }
        Ok(())
    }

    /// Takes what the kernel counted since the last time.
    async fn count(&mut self, flows: &mut Flows) -> Result<(), KernelError> {
        for count in flows.drain()? {
            self.take(&Report::Counted(count)).await;
        }
        Ok(())
    }

    /// Everything that was only counted so far is said, everything that waits is written.
    async fn finish(mut self) {
        for entry in self.observer.rest(Now::read()) {
            self.journal.send(entry);
        }
        self.register.finish(&mut self.observer).await;
        drop(self.records);
        if self.recorder.await.is_err() {
            tracing::error!("violations may be in the journal that could not be recorded in the audit trail");
        }
        let journal = self.journal;
        let said = tokio::task::spawn_blocking(move || journal.finish());
        if timeout(FAREWELL, said).await.is_err() {
            tracing::warn!("the journal does not read; the last alerts are in the audit trail only");
        }
    }
}

/// Records in the order in which they came, however long the disk takes.
async fn record(log: Log, mut waiting: mpsc::Receiver<Record>) {
    while let Some(record) = waiting.recv().await {
        if let Err(error) = log.append(record).await {
            tracing::error!(%error, "a violation is in the journal but could not be recorded in the audit trail");
        }
    }
}
