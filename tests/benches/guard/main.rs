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
//! The same work is done by turns in three cgroup subtrees: one with no program attached, one with programs that do nothing
//! wherever the guard has one, and one with the whole guard, whose observations somebody reads. (That programs are
//! attached elsewhere costs the first a comparison a packet, as on any host whose systemd has a unit with
//! `IPAddressDeny=`.) On the way in the policy has ten thousand networks; on the way out (`egress`) it has those of the EEA
//! by all real datasets, and the other host's. Medians of the rounds make a figure and its baseline. All of it happens in
//! network namespaces and a mount namespace of the bench's own and in cgroup subtrees that it makes: the guard is
//! attached *there*, and nothing else on the machine is touched.
//!
//! The programs that do nothing are the floor: what a hook costs, however little is done there. What the guard's own work
//! costs is its ratio to them.
//!
//! Both ends run on one core, and connections are made in batches: what is measured is work and not the time that
//! a scheduler takes to wake a process on another core, which would hide the guard's share; round trips are also measured
//! as they are in use, on two cores. For each rate there is also the processor time of both ends, which other load on the
//! machine disturbs less, and the interval that holds the ratio.
//!
//! What a program costs by itself is the kernel's own count (`BPF_ENABLE_STATS`), taken in rounds of its own
//! since counting costs time too. It includes the two readings of the clock, some 20 to 40 ns a run.
//!
//! What it does not say: the cost of a refusal, of a remote model, of IPv6, of a real network card, of other kernels.

mod children;
mod counted;
mod datasets;
mod ends;
mod floor;
mod place;
mod reader;

use std::error::Error;
use std::time::Duration;

use children::{Pair, Work, Worked};
use ipnet::IpNet;
use place::{Arm, Place, Seat};

/// The bench's result.
type Measured<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Each kind of work in each round: short, so that what else the machine does meets all arms alike.
const LENGTH: Duration = Duration::from_millis(30);
/// Rounds, each with every arm; a multiple of the orders.
const ROUNDS: usize = 180;

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
    /// The same, each on a core of its own.
    Apart,
    /// Two that have nothing to do with either.
    Unrelated,
    /// The model's, and a server's on another host in an allowed region.
    Leaving,
}

const WAY_IN: &[Row] = &[
    Row { name: "connections to the model", unit: "1/s", who: Who::Guarded, work: Work::Connect },
    Row {
        name: "connections to the model, a request each",
        unit: "1/s",
        who: Who::Guarded,
        work: Work::Request,
    },
    Row { name: "throughput to the model", unit: "MB/s", who: Who::Guarded, work: Work::Stream },
    Row { name: "round trips to the model", unit: "1/s", who: Who::Guarded, work: Work::Trip },
    Row { name: "round trips to the model, on two cores", unit: "1/s", who: Who::Apart, work: Work::Trip },
    Row {
        name: "connections of an unrelated process",
        unit: "1/s",
        who: Who::Unrelated,
        work: Work::Connect,
    },
];

const WAY_OUT: &[Row] = &[
    Row { name: "connections to a region", unit: "1/s", who: Who::Leaving, work: Work::Connect },
    Row {
        name: "connections to a region, a request each",
        unit: "1/s",
        who: Who::Leaving,
        work: Work::Request,
    },
    Row { name: "throughput to a region", unit: "MB/s", who: Who::Leaving, work: Work::Stream },
    Row { name: "small packets to a region", unit: "1/s", who: Who::Leaving, work: Work::Packet },
    Row { name: "unconnected datagrams to a region", unit: "1/s", who: Who::Leaving, work: Work::Datagram },
];

/// Each arm comes first, second and last as often as the others.
const ORDERS: [[Arm; 3]; 6] = [
    [Arm::Bare, Arm::Floor, Arm::Guard],
    [Arm::Guard, Arm::Floor, Arm::Bare],
    [Arm::Floor, Arm::Guard, Arm::Bare],
    [Arm::Bare, Arm::Guard, Arm::Floor],
    [Arm::Guard, Arm::Bare, Arm::Floor],
    [Arm::Floor, Arm::Bare, Arm::Guard],
];

fn main() -> Measured<()> {
    // cargo bench gives `--bench`; a child of ours has its role as the first argument.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve" | "call") => ends::run(&arguments),
        Some("egress") => measure(WAY_OUT, datasets::networks()?),
        _ => measure(WAY_IN, place::ten_thousand()?),
    }
}

fn measure(rows: &[Row], networks: Vec<IpNet>) -> Measured<()> {
    let place = Place::make(place::rules(networks)?)?;
    let mut arms = Vec::new();
    for arm in Arm::ALL {
        arms.push(Pairs::start(&place, arm)?);
    }
    for row in rows {
        let mut rounds = Vec::with_capacity(ROUNDS);
        // Once for caches, and what the processes do for the first time.
        for pairs in &mut arms {
            pairs.work(row)?;
        }
        for order in ORDERS.iter().cycle().take(ROUNDS) {
            let mut round = [Worked::default(); 3];
            for arm in order {
                round[*arm as usize] = arms[*arm as usize].work(row)?;
            }
            rounds.push(round);
        }
        report(row, &rounds);
    }
    for row in rows {
        counted::report(&place, row, || arms[Arm::Guard as usize].work(row))?;
    }
    drop(arms);
    place.end()
}

/// The processes of an arm.
struct Pairs {
    guarded: Pair,
    apart: Pair,
    unrelated: Pair,
    leaving: Pair,
}

impl Pairs {
    fn start(place: &Place, arm: Arm) -> Measured<Self> {
        let seat = |relative| place.seat(arm, relative);
        let (model, other, proxy) = (seat(place::MODEL), seat(place::OTHER), seat(place::PROXY));
        // A machine with one core has them beside each other after all.
        let proxy_apart = Seat { core: 0, ..proxy.clone() };
        Ok(Self {
            guarded: Pair::start(&model, &proxy, Place::model_address(arm, 1))?,
            apart: Pair::start(&model, &proxy_apart, Place::model_address(arm, 2))?,
            unrelated: Pair::start(&other, &other, Place::other_address(arm))?,
            leaving: Pair::start(&place.elsewhere(), &model, Place::far_address(arm))?,
        })
    }

    fn work(&mut self, row: &Row) -> Measured<Worked> {
        let pair = match row.who {
            Who::Guarded => &mut self.guarded,
            Who::Apart => &mut self.apart,
            Who::Unrelated => &mut self.unrelated,
            Who::Leaving => &mut self.leaving,
        };
        pair.work(row.work, LENGTH)
    }
}

/// By the number of the [`Arm`].
type Round = [Worked; 3];

fn report(row: &Row, rounds: &[Round]) {
    let name = row.name;
    let scale = if row.unit == "MB/s" { 1e-6 } else { 1.0 };
    let [bare, floor, guard] =
        Arm::ALL.map(|arm| median(rounds.iter().map(|round| round[arm as usize].rate * scale).collect()));
    figure(name, guard, row.unit, Some(bare));
    figure(&format!("{name}: programs that do nothing"), floor, row.unit, Some(bare));
    figure(&format!("{name}: over programs that do nothing"), guard, row.unit, Some(floor));
    let (each, scale) = if row.work == Work::Stream { ("a megabyte", 1e12) } else { ("each", 1e6) };
    let [bare, floor, guard] = Arm::ALL.map(|arm| {
        let cost = |round: &Round| round[arm as usize].processor_seconds_each * scale;
        median(rounds.iter().map(cost).collect())
    });
    figure(&format!("{name}: processor time, {each}"), guard, "us", Some(bare));
    figure(&format!("{name}: processor time, {each}, programs that do nothing"), floor, "us", Some(bare));
    let mut ratios: Vec<f64> =
        rounds.iter().map(|round| round[Arm::Guard as usize].rate / round[Arm::Bare as usize].rate).collect();
    ratios.sort_by(f64::total_cmp);
    // The order statistics that hold the median in 95 of 100 cases: 1.96 standard deviations of a fair coin's heads.
    let reach = ratios.len().isqrt();
    let (low, high) = (ratios[ratios.len() / 2 - reach], ratios[ratios.len() / 2 + reach]);
    figure(&format!("{name}: ratio, at least (95 %)"), low, "", None);
    figure(&format!("{name}: ratio, at most (95 %)"), high, "", None);
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
