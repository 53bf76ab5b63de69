//! The agent's own log: lines on standard error, with their level where the journal reads them.

use std::io::{self, Write};
use std::panic::Location;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// Starts the log; as JSON objects, one a line, if asked. `BAILIWICK_LOG` filters it. Our own events only,
/// whatever level is asked for: those of the libraries may quote requests (HTTP/2's, for one, the path).
pub(super) fn start(json: bool) {
    let level = EnvFilter::try_from_env("BAILIWICK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // systemd sets it when standard error is the journal (systemd.exec(5)).
    let levels = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt::layer().with_writer(StandardError { levels }).with_ansi(false);
    let ours = filter_fn(|event| is_ours(event.target()));
    let log = tracing_subscriber::registry().with(level);
    if json {
        log.with(lines.json().with_filter(ours)).init();
    } else {
        // journald stamps each line itself, and its reader knows nothing of our rooms.
        log.with(lines.without_time().with_target(false).with_filter(ours)).init();
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("{}", where_it_was(panic.location()))));
}

fn is_ours(target: &str) -> bool {
    target.split("::").next().is_some_and(|room| room == "bailiwick" || room.starts_with("bailiwick_"))
}

/// A panic's message may quote what it stumbled over, so only the place is told.
fn where_it_was(place: Option<&Location<'_>>) -> String {
    let place = place.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    format!("a defect of the agent at {place}: please report it; what it was about is not shown")
}

/// Makes a writer an event, which knows its level.
#[derive(Clone, Copy, Debug)]
struct StandardError {
    levels: bool,
}

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines { prefix: "" }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Lines {
        Lines { prefix: if self.levels { prefix(*event.level()) } else { "" } }
    }
}

/// sd-daemon(3): what journald takes off again and keeps as the entry's priority.
fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// One event; each of its lines is an entry of the journal.
#[derive(Debug)]
struct Lines {
    prefix: &'static str,
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&prefixed(event, self.prefix))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn prefixed(event: &[u8], prefix: &str) -> Vec<u8> {
    event.split_inclusive(|byte| *byte == b'\n').flat_map(|line| [prefix.as_bytes(), line].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_events_are_logged() {
        for (target, ours) in [
            ("bailiwick", true),
            ("bailiwick::proxy::handler", true),
            ("bailiwick_audit::health", true),
            ("h2::server", false),
            ("hyper_util::client", false),
            ("bailiwickish", false),
            ("", false),
        ] {
            assert_eq!(is_ours(target), ours, "{target}");
        }
    }

    #[test]
    fn every_line_of_an_event_has_its_level() {
        assert_eq!(prefixed(b"ERROR one\n two\n", "<3>"), b"<3>ERROR one\n<3> two\n");
        assert_eq!(prefixed(b"one\n", ""), b"one\n");
    }
}
