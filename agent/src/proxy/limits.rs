//! The bounds of everything a peer can make the proxy hold or wait for.

use std::time::Duration;

/// Bounds. Every time is an idle time: how long a silent peer is waited for, never how long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// HTTP/2 streams at once on a connection.
    pub streams: u32,
    /// Header lines of a request.
    pub headers: usize,
    /// Bytes of a request's head, a 16 KiB token included.
    pub header_bytes: u32,
    /// Bytes of all request bodies at once; never less than one of the largest.
    pub bodies: u64,
    /// Refusals of callers who are not known that have a record of their own, at once and then each second; the
    /// rest is counted.
    pub stranger_burst: u32,
    /// See `stranger_burst`.
    pub strangers_per_second: u32,
    /// For a TLS handshake, from accept to done.
    pub handshake: Duration,
    /// For a request's head, and for the next request on a kept connection (HTTP/1.1).
    pub head: Duration,
    /// For the next piece of a request's body.
    pub body_idle: Duration,
    /// For a connection without requests.
    pub connection_idle: Duration,
    /// For a caller who does not read.
    pub caller_stall: Duration,
    /// For the model to accept a connection.
    pub connect: Duration,
    /// For the model's first byte, and for each next one.
    pub model_idle: Duration,
    /// Bytes of a model's answer that is not a stream.
    pub answer_bytes: u64,
    /// For requests under way when the proxy is to stop.
    pub drain: Duration,
    /// After that, for the outcomes of those that were cut.
    pub last_words: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            streams: 128,
            headers: 64,
            header_bytes: 32 * 1024,
            bodies: 1 << 30,
            stranger_burst: 1000,
            strangers_per_second: 10,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(20),
            body_idle: Duration::from_secs(30),
            connection_idle: Duration::from_secs(120),
            caller_stall: Duration::from_secs(120),
            connect: Duration::from_secs(5),
            model_idle: Duration::from_secs(900),
            answer_bytes: 64 * 1024 * 1024,
            drain: Duration::from_secs(30),
            last_words: Duration::from_secs(5),
        }
    }
}
