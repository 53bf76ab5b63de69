//! # Egress: what the kernel refused, told to a person and to the trail
//!
//! The kernel decides; this room explains. It takes each typed event from the guard's ring buffer, adds
//! what only user space knows (the region of the address, the process's executable), and says it twice:
//!
//! ```text
//!   kernel::Events ──▶ Alert ──▶ journal   (one entry, own fields, a message that a person can act on)
//!                        └─────▶ audit     (Record::Violation, in the tamper-evident trail)
//! ```
//!
//! Invariants:
//! * nothing here decides: a lost alert never opens a way, and the kernel counts what it could not say;
//! * the two outputs do not wait for each other: a hanging journal delays no record, and a full disk no alert;
//! * an alert carries addresses, ports, names and ids, never a byte of what was being sent.
//!
//! What it does not do: name the destination (DNS, TLS server name), keep a register of allowed flows.

mod alert;
mod journal;
pub mod names;

pub use alert::Alert;

use crate::config::settings::Settings;
use bailiwick_audit::Log;
use bailiwick_kernel::{Events, KernelError};
use std::sync::Arc;
use tokio::sync::watch;

/// Tells every event from `events` to the journal and to the trail, until the event stream breaks. Regions are named as the
/// policy that is current then names them.
///
/// # Errors
/// The event stream's own error. A trail that cannot be written does not end the stream: each loss is said
/// in the journal, and the proxy refuses requests by itself.
pub async fn report(
    settings: watch::Receiver<Arc<Settings>>,
    log: Log,
    mut events: Events,
) -> Result<(), KernelError> {
    let journal = journal::Journal::start();
    loop {
        let event = events.next().await?;
        let current = Arc::clone(&settings.borrow());
        let alert = Alert::new(&event, &current.regions);
        let record = alert.record();
        journal.send(alert);
        if let Err(error) = log.append(record).await {
            tracing::error!(%error, "a violation is in the journal but could not be recorded in the audit trail");
        }
    }
}
