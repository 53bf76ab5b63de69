//! # proxy (theory statement to be written by the room's builder)

use crate::config::settings::Settings;
use bailiwick_audit::Log;
use std::sync::Arc;
use tokio::sync::watch;

/// Binds the listener (errors here stop the start), then serves until `stop` becomes true, then drains (bounded).
/// # Errors
/// when it cannot bind, or TLS files cannot be read
pub async fn serve(
    _settings: Arc<Settings>,
    _log: Log,
    _ready: tokio::sync::oneshot::Sender<std::net::SocketAddr>,
    _stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    unimplemented!()
}
