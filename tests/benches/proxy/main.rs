//! # bench proxy: what a request costs that goes through Bailiwick
//!
//! ```text
//!                   core 0                     core 1
//!   direct    load ───────── HTTP ─────────► model server
//!   proxied   load ── TLS ─────────────────► proxy ── HTTP ──► model server (core 0)
//! ```
//!
//! 64 keep-alive connections ask one after the other as fast as they are answered. The proxy is the library's own
//! `serve`, in a process of its own: TLS, an RS256 token checked, the access policy, two durable records a request.
//! The kernel's guard is not loaded, as it is measured by itself. The model server answers a fixed kilobyte at once, so
//! that what is seen is the proxy and not a model. Rounds alternate, and the median round counts.
//!
//! It prints figures as `cargo xtask bench` reads them; the figures of the direct rounds are the baseline. On a machine
//! with one core nothing is pinned. It says nothing of streams, large bodies or masking.

mod load;
mod proxied;
mod seat;
mod upstream;

use std::error::Error;
use std::time::Duration;

use load::Round;

/// The bench's result.
type Measured<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Concurrent connections.
const CONNECTIONS: usize = 64;
/// Before each round, not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// Each round.
const LENGTH: Duration = Duration::from_secs(5);
/// Of each kind; odd, for a median.
const ROUNDS: usize = 3;

fn main() -> Measured<()> {
    // cargo bench gives `--bench`; a child of ours has its role as the first argument.
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("upstream") => upstream::run(),
        Some("serve") => proxied::run(&arguments.next().ok_or("serve needs a config")?),
        _ => measure(),
    }
}

fn measure() -> Measured<()> {
    seat::take(0, None);
    let upstream = upstream::start()?;
    let proxied = proxied::start(upstream.address)?;
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    let (mut cpu, mut requests) = (Duration::ZERO, 0);
    for _ in 0..ROUNDS {
        seat::take(1, Some(upstream.id()));
        direct.push(load::round(&load::Target::plain(upstream.address), LENGTH)?);
        seat::take(0, Some(upstream.id()));
        let before = seat::cpu_time(proxied.id())?;
        let round = load::round(&proxied.target, LENGTH)?;
        cpu += seat::cpu_time(proxied.id())?.saturating_sub(before);
        requests += round.all_requests;
        through.push(round);
    }
    let (direct, through) = (median(direct), median(through));
    figure("requests a second", through.rate, "1/s", Some(direct.rate));
    figure("p50", through.p50.as_secs_f64() * 1e3, "ms", Some(direct.p50.as_secs_f64() * 1e3));
    figure("p99", through.p99.as_secs_f64() * 1e3, "ms", Some(direct.p99.as_secs_f64() * 1e3));
    let each = cpu.as_secs_f64() * 1e6 / f64::from(requests.max(1));
    figure("processor time a request", each, "us", None);
    figure("memory of the proxy", seat::resident_megabytes(proxied.id())?, "MB", None);
    Ok(())
}

fn median(mut rounds: Vec<Round>) -> Round {
    rounds.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    rounds.swap_remove(rounds.len() / 2)
}

#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
fn figure(name: &str, value: f64, unit: &str, baseline: Option<f64>) {
    let baseline = baseline.map(|baseline| baseline.to_string()).unwrap_or_default();
    println!("{name}\t{value}\t{unit}\t{baseline}");
}
