//! A process of the bench's own program, in one of its roles.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::Measured;

/// It ends when dropped.
pub(crate) struct Role {
    child: Child,
}

impl Role {
    /// Starts it, and returns the line that it says when it is ready.
    pub(crate) fn start(role: &str, arguments: &[&OsStr]) -> Measured<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        // As in the unit of the agent.
        command.env("MIMALLOC_PURGE_DELAY", "0");
        command.arg(role).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let output = child.stdout.take();
        let role = Self { child };
        let mut line = String::new();
        BufReader::new(output.ok_or("no output")?).read_line(&mut line)?;
        if line.is_empty() {
            return Err("a process of the bench did not start; see above".into());
        }
        Ok((role, line.trim().to_owned()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
