//! # bench guard, bench egress: what the kernel's guard costs those it lets pass
//!
//! ```text
//!   proxy's cgroup   caller ──┐                    ┌──▶ model     model's cgroup, the guarded port
//!                             ├── 127.0.0.1 ───────┤
//!   other cgroup     caller ──┘                    └──▶ bystander other cgroup, a port of its own
//!
//!   model's cgroup   caller ───── 198.51.100.2 ───────▶ server    another host: a namespace outside of the guard's cgroups
//! ```
//!
//! The same processes are measured in turn without any program of Bailiwick's attached and with the whole guard
//! attached: A B, B A, A B … On the way in the policy has ten thousand networks; on the way out (`egress`) it has those of
//! the EEA by all real datasets, and the other host's. Medians of the rounds make a figure and its baseline. All of it
//! happens in network namespaces and a mount namespace of the bench's own and in a cgroup subtree that it makes: the guard
//! is attached *there*, and nothing else on the machine is touched.
//!
//! Both ends run on one core, and connections are made in batches: what is measured is work and not the time that
//! a scheduler takes to wake a process on another core, which would hide the guard's share. For each rate there is
//! also the processor time of both ends, which other load on the machine disturbs less, and the spread of the rounds,
//! which says how much of a difference is noise.
//!
//! What a program costs by itself is the kernel's own count (`BPF_ENABLE_STATS`), taken in rounds of its own
//! since counting costs time too. It includes the two readings of the clock, some 20 to 40 ns a run.
//!
//! What it does not say: the cost of a refusal, of a remote model, of IPv6, of a real network card, of other kernels.

mod children;
mod counted;
mod datasets;
mod ends;
mod place;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use children::{Pair, Work, Worked};
use ipnet::IpNet;
use place::Place;

/// The bench's result.
type Measured<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Each kind of work in each round.
const LENGTH: Duration = Duration::from_millis(250);
/// Pairs of rounds; odd, for a median.
const PAIRS: usize = 15;

/// What is measured: the name of its rate, who does it, what.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    unit: &'static str,
    who: Who,
    work: Work,
}

/// Which pair of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The proxy's and the model's.
    Guarded,
    /// Two that have nothing to do with either.
    Unrelated,
    /// The model's, and a server's on another host in an allowed region.
    Leaving,
}

const WAY_IN: [Row; 4] = [
    Row { name: "connections to the model", unit: "1/s", who: Who::Guarded, work: Work::Connect },
    Row { name: "throughput to the model", unit: "MB/s", who: Who::Guarded, work: Work::Stream },
    Row { name: "round trips to the model", unit: "1/s", who: Who::Guarded, work: Work::Trip },
    Row {
        name: "connections of an unrelated process",
        unit: "1/s",
        who: Who::Unrelated,
        work: Work::Connect,
    },
];

const WAY_OUT: [Row; 4] = [
    Row { name: "connections to a region", unit: "1/s", who: Who::Leaving, work: Work::Connect },
    Row { name: "throughput to a region", unit: "MB/s", who: Who::Leaving, work: Work::Stream },
    Row { name: "small packets to a region", unit: "1/s", who: Who::Leaving, work: Work::Packet },
    Row { name: "unconnected datagrams to a region", unit: "1/s", who: Who::Leaving, work: Work::Datagram },
];

fn main() -> Measured<()> {
    // cargo bench gives `--bench`; a child of ours has its role as the first argument.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve" | "call") => ends::run(&arguments),
        Some("egress") => measure(&WAY_OUT, datasets::networks()?),
        _ => measure(&WAY_IN, place::ten_thousand()?),
    }
}

fn measure(rows: &[Row; 4], networks: Vec<IpNet>) -> Measured<()> {
    let place = Place::make(place::rules(networks)?)?;
    let here = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (model, other) = (place.seat(place::MODEL), place.seat(place::OTHER));
    let mut guarded = Pair::start(&model, &place.seat(place::PROXY), here(place::PORT))?;
    let mut unrelated = Pair::start(&other, &other, here(place::PORT + 1))?;
    let mut leaving = Pair::start(&place.elsewhere(), &model, Place::far_address())?;
    let mut run = |row: &Row| match row.who {
        Who::Guarded => guarded.work(row.work, LENGTH),
        Who::Unrelated => unrelated.work(row.work, LENGTH),
        Who::Leaving => leaving.work(row.work, LENGTH),
    };
    // Caches, and what the processes do for the first time.
    for row in rows {
        run(row)?;
    }
    let mut rounds: [Vec<Round>; 4] = Default::default();
    for number in 0..PAIRS {
        let (mut bare, mut under_guard) = (Vec::new(), Vec::new());
        for with_guard in [number % 2 == 1, number % 2 == 0] {
            let guard = if with_guard { Some(place.guard()?) } else { None };
            for row in rows {
                let worked = run(row)?;
                if with_guard { under_guard.push(worked) } else { bare.push(worked) }
            }
            if let Some(guard) = guard {
                place.release(guard)?;
            }
        }
        for ((rounds, bare), guarded) in rounds.iter_mut().zip(bare).zip(under_guard) {
            rounds.push(Round { bare, guarded });
        }
    }
    for (row, rounds) in rows.iter().zip(&rounds) {
        report(row, rounds);
    }
    let guard = place.guard()?;
    for row in rows {
        run(row)?;
        counted::report(&place, row, || run(row))?;
    }
    // What is measured is what is let pass.
    let refused: u64 = place.status()?.denied.values().sum();
    if refused > 0 {
        return Err(format!("the guard refused {refused} packets of those that it is to let pass").into());
    }
    place.release(guard)
}

/// One pair of rounds of one kind of work.
#[derive(Clone, Copy, Debug)]
struct Round {
    bare: Worked,
    guarded: Worked,
}

fn report(row: &Row, rounds: &[Round]) {
    let of = |value: fn(&Worked) -> f64| {
        let bare = median(rounds.iter().map(|round| value(&round.bare)).collect());
        let guarded = median(rounds.iter().map(|round| value(&round.guarded)).collect());
        (guarded, bare)
    };
    let scale = if row.unit == "MB/s" { 1e-6 } else { 1.0 };
    let (rate, bare) = of(|worked| worked.rate);
    figure(row.name, rate * scale, row.unit, Some(bare * scale));
    let (name, scale, unit) = match row.work {
        Work::Stream => ("a megabyte", 1e9, "us"),
        Work::Connect | Work::Trip | Work::Packet | Work::Datagram => ("each", 1e6, "us"),
    };
    let (cost, bare) = of(|worked| worked.processor_seconds_each);
    let scale = if row.work == Work::Stream { scale * 1e3 } else { scale };
    figure(&format!("{}: processor time, {name}", row.name), cost * scale, unit, Some(bare * scale));
    let mut ratios: Vec<f64> = rounds.iter().map(|round| round.guarded.rate / round.bare.rate).collect();
    ratios.sort_by(f64::total_cmp);
    let spread = ratios[ratios.len() * 3 / 4] - ratios[ratios.len() / 4];
    figure(&format!("{}: spread of the ratio (quartiles)", row.name), spread, "", None);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
fn figure(name: &str, value: f64, unit: &str, baseline: Option<f64>) {
    let baseline = baseline.map(|baseline| baseline.to_string()).unwrap_or_default();
    println!("{name}\t{value}\t{unit}\t{baseline}");
}
