//! The model server's control socket: what it saw, and connections that its own process is told to try.

use super::Shared;
use crate::probe::{self, Attempt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// One request as it reached the model server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path and query.
    pub path: String,
    /// Every header, names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// The other end of a model server's control socket.
#[derive(Clone, Debug)]
pub struct Control {
    socket: PathBuf,
}

/// Why the model server's control socket does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket is gone or silent.
    #[error("the model server's control socket {}: {source}", .socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says something else.
    #[error("the model server's control socket says what cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Seen {
    /// The value of a header, if it was there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether `needle` is anywhere in it: path, header names and values, body.
    #[must_use]
    pub fn holds(&self, needle: &str) -> bool {
        let in_headers =
            self.headers.iter().any(|(name, value)| name.contains(needle) || value.contains(needle));
        in_headers || self.path.contains(needle) || self.body.contains(needle)
    }
}

impl Control {
    /// The control socket at this path.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_path_buf() }
    }

    /// The last requests, oldest first.
    ///
    /// # Errors
    /// [`ControlError`]
    pub fn seen(&self) -> Result<Vec<Seen>, ControlError> {
        Ok(serde_json::from_value(self.ask("seen")?)?)
    }

    /// Forgets what was seen.
    ///
    /// # Errors
    /// [`ControlError`]
    pub fn forget(&self) -> Result<(), ControlError> {
        self.ask("forget").map(drop)
    }

    /// Lets the model server's own process open a TCP connection.
    ///
    /// # Errors
    /// [`ControlError`]
    pub fn connect(&self, to: SocketAddr) -> Result<Attempt, ControlError> {
        Ok(serde_json::from_value(self.ask(&format!("connect {} {}", to.ip(), to.port()))?)?)
    }

    fn ask(&self, line: &str) -> Result<Value, ControlError> {
        let exchange = || -> io::Result<String> {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            writeln!(stream, "{line}")?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer)?;
            Ok(answer)
        };
        let answer =
            exchange().map_err(|source| ControlError::Silent { socket: self.socket.clone(), source })?;
        Ok(serde_json::from_str(&answer)?)
    }
}

/// Answers on the control socket, one connection after another.
pub(super) async fn serve(listener: UnixListener, shared: Arc<Shared>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (read, mut write) = stream.into_split();
        let mut lines = tokio::io::BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = answer(&line, &shared).await;
            if write.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                break;
            }
        }
    }
}

async fn answer(line: &str, shared: &Shared) -> Value {
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("seen"), None, None) => json!(*shared.seen.lock().unwrap_or_else(PoisonError::into_inner)),
        (Some("forget"), None, None) => {
            shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
            json!("forgotten")
        }
        (Some("connect"), Some(address), Some(port)) => match (address.parse::<IpAddr>(), port.parse()) {
            (Ok(address), Ok(port)) => {
                let to = SocketAddr::new(address, port);
                let tried = tokio::task::spawn_blocking(move || probe::connect(to, probe::PATIENCE)).await;
                json!(tried.unwrap_or(Attempt::TimedOut))
            }
            _ => json!({"error": "connect needs a literal address and a port"}),
        },
        _ => json!({"error": "known commands: seen, forget, connect ADDRESS PORT"}),
    }
}
