//! The agent's own log: lines on standard error, with their level where the journal reads them.

use std::io::{self, Write};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts the log; as JSON objects, one a line, if asked. `BAILIWICK_LOG` filters it.
pub(super) fn start(json: bool) {
    let filter = EnvFilter::try_from_env("BAILIWICK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // systemd sets it when standard error is the journal (systemd.exec(5)).
    let levels = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = tracing_subscriber::fmt()
        .with_writer(StandardError { levels })
        .with_env_filter(filter)
        .with_ansi(false);
    if json {
        log.json().init();
    } else {
        // journald stamps each line itself, and its reader knows nothing of our rooms.
        log.without_time().with_target(false).init();
    }
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
    fn every_line_of_an_event_has_its_level() {
        assert_eq!(prefixed(b"ERROR one\n two\n", "<3>"), b"<3>ERROR one\n<3> two\n");
        assert_eq!(prefixed(b"one\n", ""), b"one\n");
    }
}
