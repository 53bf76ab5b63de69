//! The register's writer: one transaction at a time, beside the reporting.

use super::observer::{Now, Observer};
use super::register::{Pending, RegisterError, Store};
use tokio::task::JoinHandle;

/// See the head of this file.
pub(super) struct Writer {
    /// Gone while it writes, and for good after a defect.
    store: Option<Store>,
    writing: Option<JoinHandle<Written>>,
    /// What was said last of a write that failed.
    trouble: Option<String>,
}

/// What a write gives back.
type Written = (Store, Pending, Result<(), RegisterError>);

impl Writer {
    pub(super) fn new(store: Store) -> Self {
        Self { store: Some(store), writing: None, trouble: None }
    }

    /// Begins to write what the observer has, unless the write before goes on still.
    pub(super) async fn write(&mut self, observer: &mut Observer) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.take_back(observer).await;
        let Some(mut store) = self.store.take() else { return };
        let pending = observer.take_pending(Now::read());
        if pending.is_empty() {
            self.store = Some(store);
            return;
        }
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let written = store.write(&pending);
            (store, pending, written)
        }));
    }

    /// Writes everything that the observer has, and waits for it.
    pub(super) async fn finish(mut self, observer: &mut Observer) {
        self.take_back(observer).await;
        self.write(observer).await;
        self.take_back(observer).await;
    }

    async fn take_back(&mut self, observer: &mut Observer) {
        let Some(writing) = self.writing.take() else { return };
        let Ok((store, pending, written)) = writing.await else {
            tracing::error!("the register stopped by a defect, see above; flows are no longer registered");
            return;
        };
        let Err(error) = written else {
            (self.store, self.trouble) = (Some(store), None);
            return;
        };
        observer.put_back(pending);
        let is_damage = error.is_damage();
        let error = error.to_string();
        if self.trouble.as_ref() != Some(&error) {
            tracing::error!("{error}; flows wait in memory, and are summed up when they are too many");
        }
        self.trouble = Some(error);
        self.store = Some(if is_damage { anew(store) } else { store });
    }
}

/// What can no longer be written by itself never can: it is put aside.
fn anew(mut store: Store) -> Store {
    match store.begin_anew() {
        Ok(aside) => tracing::error!(
            "the register is damaged; it lies at {} now, and a new one begins",
            aside.display()
        ),
        Err(error) => tracing::error!("the register is damaged, and no new one can begin: {error}"),
    }
    store
}
