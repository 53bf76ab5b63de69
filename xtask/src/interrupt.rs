//! SIGINT, SIGTERM and SIGHUP become a question that long steps ask: has someone told us to stop?
//!
//! The signals are blocked in every thread and taken by one that waits for them. While something is running that
//! has to be taken down ([`busy`]), the first signal only raises the flag; otherwise, and at the second signal,
//! the process ends at once with the shell's 130. Children start with a clean mask: std sees to that.

use std::process;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

static BUSY: AtomicUsize = AtomicUsize::new(0);
static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Something that must be taken down before the process may end; until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy;

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Holds the process alive at the first signal.
pub(crate) fn busy() -> Busy {
    BUSY.fetch_add(1, Ordering::SeqCst);
    Busy
}

/// Whether a signal has come.
pub(crate) fn requested() -> bool {
    flag().load(Ordering::SeqCst)
}

/// The flag itself, for those who take one.
pub(crate) fn flag() -> &'static Arc<AtomicBool> {
    REQUESTED.get_or_init(Arc::default)
}

/// Starts waiting for signals. To be called once, before other threads start.
pub(crate) fn watch() {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    if signals.thread_block().is_err() {
        return; // then the default action holds: the process ends
    }
    thread::spawn(move || {
        while signals.wait().is_ok() {
            let again = flag().swap(true, Ordering::SeqCst);
            if again || BUSY.load(Ordering::SeqCst) == 0 {
                process::exit(130);
            }
            eprintln!("\n    stopping: taking down what was started (once more: at once)");
        }
    });
}
