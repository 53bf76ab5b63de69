//! The processes that are measured, seen from the one that tells them what to do.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Measured;
use crate::place::Seat;

/// What a pair does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// New connections, closed by the server after one byte.
    Connect,
    /// New connections with one request of 400 bytes each, answered with 1 KB and closed (RFC 9411, 7.2).
    Request,
    /// 64 bytes there and back on one connection.
    Trip,
    /// Bytes to the server on one connection, as many as it takes.
    Stream,
    /// 64 bytes to the server in a UDP packet from a connected socket; nobody answers.
    Packet,
    /// The same from a socket that names the server each time.
    Datagram,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Worked {
    /// connections, trips, bytes or packets
    pub(crate) count: f64,
    /// of them a second
    pub(crate) rate: f64,
    /// of both ends
    pub(crate) processor_seconds_each: f64,
}

impl Work {
    pub(crate) const ALL: [Self; 6] =
        [Self::Connect, Self::Request, Self::Trip, Self::Stream, Self::Packet, Self::Datagram];

    /// Its word between the processes.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Request => "request",
            Self::Trip => "trip",
            Self::Stream => "stream",
            Self::Packet => "packet",
            Self::Datagram => "datagram",
        }
    }

    /// Bytes that the caller of a new connection sends.
    pub(crate) fn asked(self) -> usize {
        if self == Self::Request { 400 } else { 1 }
    }

    /// Bytes that the server sends before it closes.
    pub(crate) fn answered(self) -> usize {
        if self == Self::Request { 1024 } else { 0 }
    }
}

/// A server and its caller.
pub(crate) struct Pair {
    server: End,
    caller: End,
}

impl Pair {
    /// The server listens at `address`.
    pub(crate) fn start(server: &Seat, caller: &Seat, address: SocketAddr) -> Measured<Self> {
        let server = End::start("serve", server, address)?;
        let caller = End::start("call", caller, address)?;
        Ok(Self { server, caller })
    }

    /// Does one kind of work for a while.
    pub(crate) fn work(&mut self, work: Work, length: Duration) -> Measured<Worked> {
        self.server.say(work.word())?;
        self.caller.say(&format!("{} {}", work.word(), length.as_millis()))?;
        let [count, seconds, caller] = self.caller.hear()?;
        self.server.say("stop")?;
        let [server, ..] = self.server.hear::<1>()?;
        if count <= 0.0 {
            return Err(format!("nothing came of {work:?}").into());
        }
        Ok(Worked { count, rate: count / seconds, processor_seconds_each: (caller + server) / count })
    }
}

struct End {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl End {
    fn start(role: &str, seat: &Seat, address: SocketAddr) -> Measured<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([role, &seat.cgroup.to_string_lossy(), &address.to_string(), &seat.core.to_string()])
            .args(&seat.namespace)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let to = child.stdin.take().ok_or("no pipe to a child")?;
        let from = BufReader::new(child.stdout.take().ok_or("no pipe from a child")?);
        let mut end = Self { child, to, from };
        let [] = end.hear()?;
        Ok(end)
    }

    fn say(&mut self, words: &str) -> Measured<()> {
        Ok(writeln!(self.to, "{words}")?)
    }

    /// A line of numbers.
    fn hear<const N: usize>(&mut self) -> Measured<[f64; N]> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err("a process of the bench ended; its words are above".into());
        }
        let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        numbers.try_into().map_err(|_| format!("not {N} numbers: {line}").into())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
