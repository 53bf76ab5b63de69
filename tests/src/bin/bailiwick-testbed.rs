//! The testbed's own processes, one subcommand each, so that they can run inside boxes and namespaces.

use bailiwick_tests::lab_network::LabNetwork;
use bailiwick_tests::{probe, reaper, system_box};
use clap::{Parser, Subcommand};
use std::error::Error;
use std::io::{Write, stdout};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Bailiwick's testbed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Cleans up when its stdin closes.
    #[command(hide = true)]
    Reaper,
    /// Becomes the parent of a system box.
    #[command(hide = true)]
    BoxHolder {
        /// A plan, as JSON.
        plan: String,
    },
    /// Runs a command in a system box.
    #[command(hide = true)]
    BoxEnter {
        /// The box's PID 1.
        init: i32,
        /// The cgroup directory to run in.
        place: PathBuf,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Boots a box, lays out the lab, says where they are, and waits to be ended.
    Rehearse,
    /// Tries to open a TCP connection; prints `ok`, the errno's name or `timeout`. Exit status 0 only for `ok`.
    Connect {
        /// A literal address.
        host: IpAddr,
        /// The port.
        port: u16,
        /// How long to wait for an answer.
        #[arg(long, default_value_t = 2000)]
        milliseconds: u64,
    },
    /// Accepts TCP connections and closes them at once.
    Listen {
        /// Where, for example `[::]:80`.
        at: Vec<SocketAddr>,
    },
}

fn main() -> ExitCode {
    match play(Arguments::parse().part) {
        Ok(code) => code,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "bailiwick-testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(part: Part) -> Result<ExitCode, Box<dyn Error>> {
    match part {
        Part::Reaper => reaper::serve()?,
        Part::BoxHolder { plan } => system_box::init::hold(&plan)?,
        Part::BoxEnter { init, place, command } => {
            let code = system_box::enter::run(init, &place, &command)?;
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
        }
        Part::Connect { host, port, milliseconds } => {
            let attempt = probe::connect(SocketAddr::new(host, port), Duration::from_millis(milliseconds));
            writeln!(stdout(), "{attempt}")?;
            return Ok(if attempt.connected() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Part::Rehearse => rehearse()?,
        Part::Listen { at } => probe::listen(&at)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn rehearse() -> Result<(), Box<dyn Error>> {
    let reaper = reaper::Reaper::start(&std::env::current_exe()?)?;
    let system = system_box::SystemBox::boot(&reaper, "rehearsal", Vec::new())?;
    let lab = LabNetwork::around(&reaper, system.network()?)?;
    let mut listener = lab.foreign.command(reaper.program())?.args(["listen", "[::]:7000"]).spawn()?;
    let (cgroup, directory) = (reaper.cgroup().display(), reaper.directory().display());
    writeln!(stdout(), "up {cgroup} {directory} /proc/{}", system.init_pid())?;
    listener.wait()?;
    Ok(())
}
