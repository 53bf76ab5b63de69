//! `bench`: runs one measuring program, shows its figures, keeps the report.
//!
//! A measuring program is an example of a room or a bench of `bailiwick-tests`; it prints one figure a line, fields
//! separated by tabs: name, value, then optionally unit and baseline; or one JSON object a line, whose first member
//! names the case and whose other numbers are its figures. Other lines are not counted. Goals are kept here, beside each other; a goal that is missed is reported and is no failure.

mod report;

use std::process::Command;
use std::time::Duration;

use crate::bench::report::{Goal, Report};
use crate::process::{Step, how};
use crate::stop::Stop;
use crate::{Outcome, house, setup};

/// What to measure.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {
    name: Name,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// Each bench.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Name {
    /// Requests through the proxy (TLS, RS256, policy, durable audit) against the model server asked directly.
    Proxy,
    /// Masking, by kind of text and size of the pieces.
    Mask,
    /// Appending to the audit trail, durably.
    Audit,
    /// Connections and traffic under the kernel's guard against none attached. Needs root.
    Guard,
    /// What a model sends to an allowed region, with all datasets loaded, against no guard attached. Needs root.
    Egress,
    /// Loading all datasets, compiling them into networks, loading those into the kernel; look-ups. Needs root.
    Regions,
    /// A million flows in the register: memory, disk, writing, reading.
    Register,
}

/// Beside the peers in the same run, each over TLS with one core.
const PROXY_GOALS: &[(&str, Goal)] = &[
    ("Bailiwick, against HAProxy: requests a second", Goal::RatioAtLeast(1.5)),
    ("Bailiwick, against nginx: requests a second", Goal::RatioAtLeast(0.6)),
    ("Bailiwick, masking, against Envoy: requests a second", Goal::RatioAtLeast(3.0)),
    ("Bailiwick: memory", Goal::AtMost(60.0)),
    ("Bailiwick, masking: memory", Goal::AtMost(60.0)),
    ("Bailiwick, a thousand streams: first token, p50", Goal::RatioAtMost(1.1)),
    ("Bailiwick, a thousand streams: first token, p99", Goal::RatioAtMost(1.1)),
    ("Bailiwick, a thousand streams: longest wait between tokens", Goal::AtMost(500.0)),
    ("Bailiwick, a thousand streams: memory", Goal::AtMost(60.0)),
    ("Bailiwick, a large answer: memory added", Goal::AtMost(4.0)),
    ("Bailiwick, masking, a thousand streams: first token, p50", Goal::RatioAtMost(1.1)),
    ("Bailiwick, masking, a thousand streams: first token, p99", Goal::RatioAtMost(1.1)),
    ("Bailiwick, masking, a thousand streams: longest wait between tokens", Goal::AtMost(500.0)),
    ("Bailiwick, masking, a thousand streams: memory", Goal::AtMost(60.0)),
    ("Bailiwick, masking, a large answer: memory added", Goal::AtMost(4.0)),
];

/// What one pass of a multi-pattern engine makes, without validators and without rewriting anything.
const MASK_GOALS: &[(&str, Goal)] =
    &[("json, clean", Goal::AtLeast(391.0)), ("json, dense", Goal::AtLeast(205.0))];

/// Records of 512 bytes, committed in batches of 16 and 64.
const AUDIT_GOALS: &[(&str, Goal)] = &[
    ("concurrency 16: appends", Goal::AtLeast(7_200.0)),
    ("concurrency 64: appends", Goal::AtLeast(25_700.0)),
];

/// A million flows; the memory is the whole of the process that writes them, in MB.
const REGISTER_GOALS: &[(&str, Goal)] =
    &[("new flows", Goal::AtLeast(5_000.0)), ("memory of the writer, at most", Goal::AtMost(150.0))];

/// Against no program attached, in the same run. What programs that do nothing cost there (see the bench) may be more than
/// a goal leaves room for; so the same is asked of the guard against them.
const GUARD_GOALS: &[(&str, Goal)] = &[
    ("connections to the model", Goal::RatioAtLeast(0.97)),
    ("connections to the model: over programs that do nothing", Goal::RatioAtLeast(0.97)),
    ("connections to the model, a request each", Goal::RatioAtLeast(0.97)),
    ("connections to the model, a request each: over programs that do nothing", Goal::RatioAtLeast(0.97)),
    ("connections to the model: processor time, each", Goal::RatioAtMost(1.03)),
    ("throughput to the model", Goal::RatioAtLeast(0.98)),
    ("round trips to the model", Goal::RatioAtLeast(0.98)),
    ("round trips to the model: over programs that do nothing", Goal::RatioAtLeast(0.98)),
    ("round trips to the model, on two cores", Goal::RatioAtLeast(0.98)),
    ("connections of an unrelated process", Goal::RatioAtLeast(0.99)),
    ("connections of an unrelated process: over programs that do nothing", Goal::RatioAtLeast(0.99)),
    ("connections of an unrelated process: processor time, each", Goal::RatioAtMost(1.01)),
];

/// As of the guard.
const EGRESS_GOALS: &[(&str, Goal)] = &[
    ("connections to a region", Goal::RatioAtLeast(0.97)),
    ("connections to a region: over programs that do nothing", Goal::RatioAtLeast(0.97)),
    ("connections to a region, a request each", Goal::RatioAtLeast(0.97)),
    ("connections to a region, a request each: over programs that do nothing", Goal::RatioAtLeast(0.97)),
    ("throughput to a region", Goal::RatioAtLeast(0.97)),
    ("small packets to a region", Goal::RatioAtLeast(0.97)),
    ("small packets to a region: over programs that do nothing", Goal::RatioAtLeast(0.97)),
];

/// What a reload may take, and what the agent may need, with everything imported that can be.
const REGIONS_GOALS: &[(&str, Goal)] = &[
    ("load and compile", Goal::AtMost(2.0)),
    ("compile for the kernel", Goal::AtMost(1.5)),
    ("load into the kernel", Goal::AtMost(2.0)),
    ("exchange in the kernel", Goal::AtMost(2.0)),
    ("memory of the kernel", Goal::AtMost(64.0)),
    ("memory", Goal::AtMost(60.0)),
    ("memory at its most", Goal::AtMost(150.0)),
    ("look-ups, IPv4", Goal::AtLeast(1_000_000.0)),
    ("look-ups, IPv6", Goal::AtLeast(1_000_000.0)),
];

/// One bench: which cargo command runs it, what its figures are counted in, and what they should reach.
#[derive(Debug)]
struct Bench {
    name: &'static str,
    cargo: &'static [&'static str],
    unit: &'static str,
    goals: &'static [(&'static str, Goal)],
}

impl Name {
    fn bench(self) -> Bench {
        match self {
            Self::Proxy => Bench {
                name: "proxy",
                cargo: &["bench", "--quiet", "--package", "bailiwick-tests", "--bench", "proxy"],
                unit: "",
                goals: PROXY_GOALS,
            },
            Self::Mask => Bench {
                name: "mask",
                cargo: &[
                    "run",
                    "--quiet",
                    "--release",
                    "--package",
                    "bailiwick-masking",
                    "--example",
                    "throughput",
                ],
                unit: "MB/s",
                goals: MASK_GOALS,
            },
            Self::Audit => Bench {
                name: "audit",
                cargo: &[
                    "run",
                    "--quiet",
                    "--release",
                    "--package",
                    "bailiwick-audit",
                    "--example",
                    "throughput",
                ],
                unit: "records/s",
                goals: AUDIT_GOALS,
            },
            Self::Guard => Bench {
                name: "guard",
                cargo: &["bench", "--quiet", "--package", "bailiwick-tests", "--bench", "guard"],
                unit: "",
                goals: GUARD_GOALS,
            },
            Self::Egress => Bench {
                name: "egress",
                cargo: &[
                    "bench",
                    "--quiet",
                    "--package",
                    "bailiwick-tests",
                    "--bench",
                    "guard",
                    "--",
                    "egress",
                ],
                unit: "",
                goals: EGRESS_GOALS,
            },
            Self::Register => Bench {
                name: "register",
                cargo: &["run", "--quiet", "--release", "--package", "bailiwick", "--example", "register"],
                unit: "",
                goals: REGISTER_GOALS,
            },
            Self::Regions => Bench {
                name: "regions",
                cargo: &["bench", "--quiet", "--package", "bailiwick-tests", "--bench", "regions"],
                unit: "",
                goals: REGIONS_GOALS,
            },
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let bench = arguments.name.bench();
    if arguments.json {
        // Progress would spoil the object: what is missing is an error instead of an installation.
        setup::require()?;
    } else {
        setup::ensure(false)?;
        println!("==> bench {} (release build, then the measurement)", bench.name);
    }
    let mut command: Command = house::cargo();
    command.args(bench.cargo);
    if matches!(arguments.name, Name::Audit | Name::Register) {
        // On the disk that the project is on: a durable record on a tmpfs would cost nothing.
        command.arg("--").arg(house::target());
    }
    let mut figures = Vec::new();
    let mut step = Step::new(bench.name).limit(Duration::from_secs(30 * 60)).unshown();
    if arguments.json {
        step = step.silent();
    }
    let ended =
        step.run_with(command, |line| figures.extend(report::figures(line, bench.unit, bench.goals)))?;
    if !ended.status.success() {
        return Err(Stop::Step { step: format!("bench {}", bench.name), how: how(ended.status) });
    }
    if figures.is_empty() {
        let reason = "no figure: a line of name, value, unit, baseline, with tabs".to_owned();
        return Err(Stop::Output { step: format!("bench {}", bench.name), reason });
    }
    let report = Report::new(bench.name, figures);
    let kept = report.keep()?;
    if arguments.json {
        println!("{}", report.json()?);
    } else {
        println!("\n{}", report.table());
        println!("kept in {}", kept.display());
    }
    Ok(())
}
