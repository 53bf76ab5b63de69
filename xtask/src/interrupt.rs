//! SIGINT, SIGTERM and SIGHUP become a question that long steps ask: has someone told us to stop?
//!
//! A thread waits for them. While something is running that has to be taken down ([`busy`]), the first signal only
//! raises the flag; otherwise, and at the second signal, the process ends at once with the shell's 130. They are handled
//! and not blocked, since children inherit what is blocked, and could not be asked to end.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

static BUSY: AtomicUsize = AtomicUsize::new(0);
static REQUESTED: AtomicBool = AtomicBool::new(false);

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
    REQUESTED.load(Ordering::SeqCst)
}

/// Starts waiting for signals. Where that is not possible, their default action holds: the process ends.
pub(crate) fn watch() {
    thread::spawn(|| {
        let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let all = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = all else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                let again = REQUESTED.swap(true, Ordering::SeqCst);
                if again || BUSY.load(Ordering::SeqCst) == 0 {
                    process::exit(130);
                }
                eprintln!("\n    stopping: taking down what was started (once more: at once)");
            }
        });
    });
}
