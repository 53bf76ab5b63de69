//! Reads what the programs observe, as the agent does: a buffer that nobody reads is full, and a full one costs less.

use std::thread::JoinHandle;

use bailiwick_kernel::Guard;
use tokio::sync::oneshot;

use crate::Measured;

/// A thread that reads until it is stopped.
pub(crate) struct Reader {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), String>>,
}

impl Reader {
    pub(crate) fn start(guard: &Guard) -> Measured<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut flows = {
            let _context = runtime.enter();
            guard.flows()?
        };
        let (stop, mut stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = &mut stopped => return Ok(()),
                        observed = flows.next() => {
                            observed.map_err(|error| error.to_string())?;
                        }
                    }
                }
            })
        });
        Ok(Self { stop, thread })
    }

    /// An error if it could not read.
    pub(crate) fn stop(self) -> Measured<()> {
        // It is gone already when it could not read, and then says why.
        let _ = self.stop.send(());
        Ok(self.thread.join().map_err(|_| "the reader panicked")??)
    }
}
