//! The testbed's own processes, one subcommand each, so that they can run inside boxes and namespaces.

use bailiwick_tests::issuer::{self, Algorithm, Issuer, Wish};
use bailiwick_tests::lab_network::LabNetwork;
use bailiwick_tests::model_server::ModelServer;
use bailiwick_tests::{probe, reaper, system_box};
use clap::{Parser, Subcommand};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write, stdout};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// A small OpenAI-compatible model server.
    ModelServer {
        /// Where to listen, for example `[::]:8000`; may be given more than once.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
        /// A file with the key that callers must show.
        #[arg(long)]
        api_key_file: Option<PathBuf>,
        /// The control socket.
        #[arg(long)]
        control: Option<PathBuf>,
        /// The model's name.
        #[arg(long, default_value = "echo")]
        model: String,
        /// What it says after the echo.
        #[arg(long, default_value = "")]
        aside: String,
        /// Characters in one streamed event.
        #[arg(long, default_value_t = 7)]
        piece: usize,
        /// Bytes in one frame of a stream; 0 puts each event in its own.
        #[arg(long, default_value_t = 0)]
        cut: usize,
        /// Milliseconds between frames.
        #[arg(long, default_value_t = 10)]
        pause: u64,
        /// A file of JSON, `{"GET /path": [200, {}]}`: what it answers where another kind of server would.
        #[arg(long)]
        answers: Option<PathBuf>,
        /// Arguments of another kind of server, for whoever reads the list of processes.
        #[arg(last = true)]
        _shown: Vec<String>,
    },
    /// A small OIDC issuer; prints its URL and a token for each line `SUBJECT AUDIENCE GROUP...` on stdin.
    Issuer {
        /// Where to listen: a loopback address, as it speaks http.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
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
    /// Tries to open TCP connections as fast as it can until its stdin closes; prints what became of them, as JSON.
    Storm {
        /// Whereto, for example `127.0.0.1:8000`.
        #[arg(required = true)]
        targets: Vec<SocketAddr>,
        /// How many at once.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// How long one waits for an answer.
        #[arg(long, default_value_t = 250)]
        milliseconds: u64,
    },
    /// Says a line at a Unix socket and prints the line that comes back.
    Ask {
        /// The socket.
        path: PathBuf,
        /// The line.
        line: String,
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
        Part::ModelServer {
            listen,
            api_key_file,
            control,
            model,
            aside,
            piece,
            cut,
            pause,
            answers,
            _shown: _,
        } => {
            let api_key = api_key_file.map(std::fs::read_to_string).transpose()?;
            let api_key = api_key.map(|key| key.trim().to_owned());
            let pause = Duration::from_millis(pause);
            let answers = match answers {
                Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
                None => serde_json::Value::Null,
            };
            let server = ModelServer { listen, api_key, control, model, aside, piece, cut, pause, answers };
            let announce = |bound: &[SocketAddr]| {
                let _nobody_listens = writeln!(stdout(), "model server listens on {bound:?}");
            };
            // The kernel reports a thread by its own name: let it be one that says something.
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).thread_name("model-server").enable_all().build()?;
            runtime.block_on(server.serve(announce))?;
        }
        Part::Issuer { listen } => issue(listen)?,
        Part::Connect { host, port, milliseconds } => {
            let attempt = probe::connect(SocketAddr::new(host, port), Duration::from_millis(milliseconds));
            writeln!(stdout(), "{attempt}")?;
            return Ok(if attempt.connected() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Part::Storm { targets, threads, milliseconds } => {
            storm(&targets, threads, Duration::from_millis(milliseconds))?;
        }
        Part::Rehearse => rehearse()?,
        Part::Ask { path, line } => ask(&path, &line)?,
        Part::Listen { at } => probe::listen(&at)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(path: &Path, line: &str) -> Result<(), Box<dyn Error>> {
    let mut stream = UnixStream::connect(path)?;
    // Who is refused may be told so before it has spoken.
    let _heard_or_not = writeln!(stream, "{line}");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    write!(stdout(), "{answer}")?;
    Ok(())
}

fn storm(targets: &[SocketAddr], threads: usize, patience: Duration) -> Result<(), Box<dyn Error>> {
    let over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            let _anything_ends_it = std::io::stdin().read(&mut [0]);
            over.store(true, Ordering::Relaxed);
        });
        probe::storm(targets, threads, patience, || over.load(Ordering::Relaxed))
    });
    writeln!(stdout(), "{}", serde_json::to_string(&seen)?)?;
    Ok(())
}

fn issue(listen: SocketAddr) -> Result<(), Box<dyn Error>> {
    let algorithms = Algorithm::ALL.to_vec();
    let plan = issuer::Plan { listen, namespace: None, identity: None, algorithms, clients: Vec::new() };
    let issuer = Issuer::start(plan)?;
    writeln!(stdout(), "{}", issuer.url())?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let mut words = line.split_whitespace().map(str::to_owned);
        if let (Some(subject), audience) = (words.next(), words.next()) {
            let wish = Wish { subject, audience, groups: Some(words.collect()), ..Wish::default() };
            writeln!(stdout(), "{}", issuer.mint(&wish)?)?;
        }
    }
    Ok(())
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
