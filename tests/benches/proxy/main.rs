//! # bench proxy: what a request costs that goes through Bailiwick, beside other proxies
//!
//! ```text
//!                   core 0                     core 1
//!   direct    load ───────── HTTP ─────────► model server
//!   proxied   load ── TLS ─────────────────► proxy ── HTTP ──► model server (core 0)
//! ```
//!
//! 64 keep-alive connections ask one after the other as fast as they are answered. Measured are, by turns:
//!
//! | | it does |
//! |---|---|
//! | Bailiwick | TLS, an RS256 token checked, the access policy, two durable records a request |
//! | Bailiwick, masking | the same, and email addresses, IBANs and card numbers masked both ways |
//! | nginx | TLS, passes on |
//! | HAProxy | TLS, an RS256 token checked: signature, issuer, audience, time, group |
//! | Envoy | TLS, an RS256 token checked: `jwt_authn`, and `rbac` on the group |
//! | hyper | TLS, passes on |
//!
//! Bailiwick is the library's own `serve`, in a process of its own; the kernel's guard is not loaded, as it is measured by
//! itself. Each has one core, and each that is to check tokens is shown a forged one before it is measured. The model server
//! answers a fixed kilobyte at once, so that what is seen is the proxy and not a model. The median round counts.
//!
//! The libraries that Bailiwick is made of, doing nothing but to pass on (bare.rs), are the floor: what its own work costs is
//! its ratio to them.
//!
//! Then a thousand streams are held at once, each of twenty events a second after a first one that the model thinks about for
//! 100 ms; and an answer of 50 MB is streamed to one caller. A masked stream may hold what could yet become personal data.
//!
//! It prints figures as `cargo xtask bench` reads them. On a machine with one core nothing is pinned. It says nothing of large
//! requests: those are held whole, within `max_body`, since what the last byte of one says may forbid the first.

mod bare;
mod child;
mod load;
mod peers;
mod proxied;
mod seat;
mod setting;
mod streams;
mod upstream;

use std::error::Error;
use std::time::Duration;

use bailiwick_tests::real;
use load::{Round, Target};
use setting::Setting;

/// The bench's result.
type Measured<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Concurrent connections.
const CONNECTIONS: usize = 64;
/// Before each round, not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// Each round.
const LENGTH: Duration = Duration::from_secs(4);
/// Of each; odd, for a median.
const ROUNDS: usize = 3;

fn main() -> Measured<()> {
    // cargo bench gives `--bench`; a child of ours has its role as the first argument.
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("upstream") => upstream::run(),
        Some("serve") => proxied::run(&arguments.next().ok_or("serve needs a config")?),
        Some("bare") => bare::run(&arguments.collect::<Vec<_>>()),
        _ => measure(),
    }
}

/// Who is measured.
struct Arm {
    name: &'static str,
    target: Target,
    /// The process of a proxy.
    process: Option<u32>,
    rounds: Vec<Round>,
    /// Of the proxy, over all rounds.
    processor_time: Duration,
}

impl Arm {
    fn new(name: &'static str, target: &Target, process: Option<u32>) -> Self {
        Self { name, target: target.clone(), process, rounds: Vec::new(), processor_time: Duration::ZERO }
    }

    fn round(&mut self, upstream: u32) -> Measured<()> {
        seat::take(usize::from(self.process.is_none()), Some(upstream));
        let used = || self.process.map(seat::cpu_time).transpose().map(Option::unwrap_or_default);
        let before = used()?;
        let round = load::round(&self.target, LENGTH)?;
        self.processor_time += used()?.saturating_sub(before);
        self.rounds.push(round);
        Ok(())
    }

    fn median(&self) -> Option<&Round> {
        let mut rounds: Vec<&Round> = self.rounds.iter().collect();
        rounds.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        rounds.get(rounds.len() / 2).copied()
    }

    /// Microseconds.
    fn processor_time_each(&self) -> f64 {
        let requests: u32 = self.rounds.iter().map(|round| round.all_requests).sum();
        self.processor_time.as_secs_f64() * 1e6 / f64::from(requests.max(1))
    }
}

fn measure() -> Measured<()> {
    seat::take(0, None);
    let upstream = upstream::start()?;
    let setting = Setting::make(upstream.address)?;
    let real = real::peers(&mut |line| eprintln!("{line}"))?;
    let (plain, masking) = (proxied::start(&setting, false)?, proxied::start(&setting, true)?);
    let nginx = peers::nginx(&real, &setting)?;
    let haproxy = peers::haproxy(&real, &setting)?;
    let envoy = peers::envoy(&real, &setting)?;
    let bare = bare::start(&setting)?;
    let mut arms = [
        Arm::new("direct", &Target::plain(upstream.address), None),
        Arm::new("Bailiwick", &plain.target, Some(plain.role.id())),
        Arm::new("Bailiwick, masking", &masking.target, Some(masking.role.id())),
        Arm::new("nginx, nothing checked", &nginx.target, Some(nginx.id())),
        Arm::new("HAProxy, RS256", &haproxy.target, Some(haproxy.id())),
        Arm::new("Envoy, RS256", &envoy.target, Some(envoy.id())),
        Arm::new("hyper, nothing checked", &bare.target, Some(bare.role.id())),
    ];
    for _ in 0..ROUNDS {
        for arm in &mut arms {
            arm.round(upstream.role.id())?;
        }
    }
    for arm in &arms {
        let round = arm.median().ok_or("no round")?;
        figure(&format!("{}: requests a second", arm.name), round.rate, "1/s", None);
        figure(&format!("{}: p50", arm.name), round.p50.as_secs_f64() * 1e3, "ms", None);
        figure(&format!("{}: p99", arm.name), round.p99.as_secs_f64() * 1e3, "ms", None);
        if let Some(process) = arm.process {
            let each = arm.processor_time_each();
            figure(&format!("{}: processor time a request", arm.name), each, "us", None);
            let memory = seat::resident_megabytes(process)?;
            figure(&format!("{}: memory", arm.name), memory, "MB", None);
        }
    }
    let [direct, plain, masking, nginx, haproxy, envoy, bare] = &arms;
    for (ours, other, against) in [
        (plain, direct, "direct"),
        (plain, bare, "hyper"),
        (plain, haproxy, "HAProxy"),
        (plain, nginx, "nginx"),
        (masking, envoy, "Envoy"),
    ] {
        let rate = |arm: &Arm| arm.median().map(|round| round.rate).ok_or("no round");
        figure(
            &format!("{}, against {against}: requests a second", ours.name),
            rate(ours)?,
            "1/s",
            Some(rate(other)?),
        );
        if other.process.is_some() {
            figure(
                &format!("{}, against {against}: processor time a request", ours.name),
                ours.processor_time_each(),
                "us",
                Some(other.processor_time_each()),
            );
        }
    }
    hold_streams(direct, &[plain, masking, bare], upstream.role.id())
}

/// The streams, direct and through each.
fn hold_streams(direct: &Arm, proxied: &[&Arm], upstream: u32) -> Measured<()> {
    streams::allow_many_sockets()?;
    seat::take(1, Some(upstream));
    let baseline = streams::hold(&direct.target, None)?;
    seat::take(0, Some(upstream));
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    for arm in proxied {
        let seen = streams::hold(&arm.target, arm.process)?;
        for (what, value, baseline) in [
            ("first token, p50", seen.first_p50, Some(baseline.first_p50)),
            ("first token, p99", seen.first_p99, Some(baseline.first_p99)),
            ("longest wait between tokens", seen.longest_wait, None),
        ] {
            let name = format!("{}, a thousand streams: {what}", arm.name);
            figure(&name, milliseconds(value), "ms", baseline.map(milliseconds));
        }
        let (Some(memory), Some(process)) = (seen.memory, arm.process) else {
            return Err("no process".into());
        };
        figure(&format!("{}, a thousand streams: memory", arm.name), memory, "MB", None);
        let growth = streams::large(&arm.target, process)?;
        figure(&format!("{}, a large answer: memory added", arm.name), growth, "MB", None);
    }
    let wait = milliseconds(baseline.longest_wait);
    figure("direct, a thousand streams: longest wait between tokens", wait, "ms", None);
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
fn figure(name: &str, value: f64, unit: &str, baseline: Option<f64>) {
    let baseline = baseline.map(|baseline| baseline.to_string()).unwrap_or_default();
    println!("{name}\t{value}\t{unit}\t{baseline}");
}
