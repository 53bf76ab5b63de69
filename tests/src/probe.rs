//! One connection attempt, and what became of it in the kernel's own word.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long an attempt may take before it counts as unanswered.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What became of an attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attempt {
    /// The handshake was completed.
    Connected,
    /// The kernel said no, with this errno, for example `EPERM` or `ECONNREFUSED`.
    Refused(String),
    /// No answer within the time.
    TimedOut,
}

impl Attempt {
    /// Whether the other end was reached.
    #[must_use]
    pub fn connected(&self) -> bool {
        matches!(self, Self::Connected)
    }

    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.trim() {
            "ok" => Self::Connected,
            "timeout" => Self::TimedOut,
            errno => Self::Refused(errno.to_owned()),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => formatter.write_str("ok"),
            Self::Refused(errno) => formatter.write_str(errno),
            Self::TimedOut => formatter.write_str("timeout"),
        }
    }
}

/// Opens a TCP connection from the calling thread (so in its network namespace and cgroup) and closes it again.
#[must_use]
pub fn connect(address: SocketAddr, patience: Duration) -> Attempt {
    match TcpStream::connect_timeout(&address, patience) {
        Ok(_closed_at_once) => Attempt::Connected,
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ETIMEDOUT) => Attempt::TimedOut,
            Some(errno) => Attempt::Refused(format!("{errno:?}")),
            None => Attempt::TimedOut,
        },
    }
}

/// What became of many attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    /// All of them.
    pub attempts: u64,
    /// How many were connected.
    pub connected: u64,
    /// How many had no answer.
    pub timed_out: u64,
    /// The others, by the kernel's word.
    pub refused: BTreeMap<String, u64>,
}

impl Storm {
    /// Adds what others saw.
    pub fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.connected += other.connected;
        self.timed_out += other.timed_out;
        for (errno, count) in &other.refused {
            *self.refused.entry(errno.clone()).or_default() += count;
        }
    }

    fn count(&mut self, attempt: Attempt) {
        self.attempts += 1;
        match attempt {
            Attempt::Connected => self.connected += 1,
            Attempt::TimedOut => self.timed_out += 1,
            Attempt::Refused(errno) => *self.refused.entry(errno).or_default() += 1,
        }
    }
}

/// Tries to connect to each of `targets` in turn, as fast as it goes, from `threads` threads, until `stop` says so.
/// The threads are in the calling thread's network namespace and cgroup.
#[must_use]
pub fn storm(
    targets: &[SocketAddr],
    threads: usize,
    patience: Duration,
    stop: impl Fn() -> bool + Sync,
) -> Storm {
    let stop = &stop;
    std::thread::scope(|scope| {
        let attack = move |first: usize| {
            let mut seen = Storm::default();
            for target in targets.iter().cycle().skip(first) {
                if stop() {
                    break;
                }
                seen.count(connect(*target, patience));
            }
            seen
        };
        let threads: Vec<_> = (0..threads).map(|first| scope.spawn(move || attack(first))).collect();
        let mut all = Storm::default();
        for thread in threads {
            match thread.join() {
                Ok(seen) => all.add(&seen),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

/// Accepts TCP connections at every address and closes them at once, for ever.
///
/// # Errors
/// When an address cannot be bound.
pub fn listen(at: &[SocketAddr]) -> std::io::Result<()> {
    let listeners = at.iter().map(TcpListener::bind).collect::<Result<Vec<_>, _>>()?;
    std::thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| listener.incoming().for_each(drop));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_open_port_and_a_closed_one_differ() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(connect(address, PATIENCE), Attempt::Connected);
        drop(listener);
        assert_eq!(connect(address, PATIENCE), Attempt::Refused("ECONNREFUSED".into()));
    }

    #[test]
    fn what_is_written_reads_back() {
        for attempt in [Attempt::Connected, Attempt::TimedOut, Attempt::Refused("EPERM".into())] {
            assert_eq!(Attempt::parse(&attempt.to_string()), attempt);
        }
    }
}
