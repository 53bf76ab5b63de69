//! Whose socket took a connection to a model's port, and what is said when it is not the model's.
//!
//! The guard refuses strangers the port, but a socket may have come to it without a bind that a hook could refuse. So
//! where there is a guard every new connection to a port is proven, before one byte is sent over it. Who can prove it
//! (it takes the kernel) is told by [`crate::app`]; this room only asks.

use crate::egress::Kind;
use crate::watch::alert;
use bailiwick_policy::Name;
use libsystemd::logging::Priority;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one alert of a model in this time; the others are counted. The trail has the outcome of each request.
const PAUSE: Duration = Duration::from_secs(1);

/// A proof under way.
pub type Proof<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// Whoever can tell whose socket took a connection.
pub trait Witness: Send + Sync {
    /// Proves that the established connection from `local` to `peer` was taken by a socket of the cgroup `slice`
    /// (relative to the cgroup root), or of one below it. What cannot be proven is an error that says what was found.
    fn prove<'a>(&'a self, local: SocketAddr, peer: SocketAddr, slice: &'a Path) -> Proof<'a>;
}

/// Tells the journal of impostors, now and then.
#[derive(Debug, Default)]
pub(super) struct Alarm(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    /// Since then, and not said yet.
    held: u64,
}

impl Alarm {
    /// Says what was found, once for all that came since the last time.
    pub(super) fn raise(&self, model: &Name, cause: &(dyn Error + Send + Sync)) {
        let Some(count) = self.due(Instant::now()) else { return };
        let times = if count > 1 { format!(", {count} times") } else { String::new() };
        let message = format!(
            "{model}: a prompt was not sent{times}: {cause}. If it is the model server, put its unit into the model's \
             slice; if not, somebody tried to receive what is meant for the model"
        );
        let fields = vec![
            ("BAILIWICK_MODEL", model.to_string()),
            ("BAILIWICK_REASON", "upstream-impostor".to_owned()),
            ("BAILIWICK_PROBLEM", cause.to_string()),
            ("BAILIWICK_COUNT", count.to_string()),
        ];
        alert(Priority::Critical, Kind::Impostor, message, fields);
    }

    /// How many are to be said now, this one among them.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.held += 1;
        if said.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_rest_are_counted() {
        let alarm = Alarm::default();
        let begun = Instant::now();
        assert_eq!(alarm.due(begun), Some(1));
        for _ in 0..9 {
            assert_eq!(alarm.due(begun + PAUSE / 2), None);
        }
        assert_eq!(alarm.due(begun + PAUSE), Some(10));
        assert_eq!(alarm.due(begun + 3 * PAUSE), Some(1));
    }
}
