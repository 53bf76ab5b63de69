//! `fuzz`: feeds one target with whatever makes it take new turns, for as long as told.
//!
//! The targets lie in `tests/fuzz`, a package of their own, and run on libFuzzer. They are built here with the
//! instrumentation that it needs, by the project's own stable compiler. What was found interesting is kept in the
//! target directory and used again the next time; an input that breaks a target is kept beside it and named.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::process::{Step, answer};
use crate::stop::Stop;
use crate::{Outcome, house, setup};

/// What to fuzz.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Arguments {
    target: Target,
    /// How long, at least one.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

/// Each target; the head of its file says what must hold.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Target {
    /// Bytes in the ring buffer.
    Event,
    /// What a process sends or hears, where a name is looked for.
    Names,
    /// A config's text.
    Config,
    /// A request's body and an answer.
    Protocol,
    /// Text and JSON to be masked.
    Masking,
    /// A bearer token.
    Token,
    /// A changed audit trail.
    Trail,
    /// A file of published ranges or of countries.
    Regions,
    /// What an issuer publishes, and a client's certificate.
    Identity,
    /// A request's method and target.
    Route,
    /// A masked field's JSONPath.
    Fields,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Names => "names",
            Self::Config => "config",
            Self::Protocol => "protocol",
            Self::Masking => "masking",
            Self::Token => "token",
            Self::Trail => "trail",
            Self::Regions => "regions",
            Self::Identity => "identity",
            Self::Route => "route",
            Self::Fields => "fields",
        }
    }

    /// In bytes: what lies beyond only makes it slow.
    fn longest_input(self) -> u32 {
        match self {
            Self::Event => 96,
            Self::Config | Self::Names | Self::Protocol | Self::Regions | Self::Identity => 4096,
            Self::Masking | Self::Token | Self::Trail | Self::Fields => 1024,
            Self::Route => 256,
        }
    }
}

/// Counters at every edge and the operands of comparisons, for libFuzzer (the LLVM documentation, "SanitizerCoverage").
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Named to cargo, so that build scripts and macros are built without the flags of the targets.
fn platform() -> Result<String, Stop> {
    answer(Command::new("rustc").args(["--print", "host-tuple"]))
        .ok_or_else(|| Stop::Missing(vec!["rustc 1.84 or later".to_owned()]))
}

/// The command that checks that every target builds, warnings as errors.
pub(crate) fn clippy() -> Result<Command, Stop> {
    let mut check = house::cargo();
    check.current_dir(house::root().join("tests/fuzz")).args(["clippy", "--quiet", "--locked", "--target"]);
    check.arg(platform()?).arg("--target-dir").arg(house::target().join("fuzz"));
    check.args(["--", "--deny", "warnings"]).env("RUSTFLAGS", "--cfg fuzzing");
    Ok(check)
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    setup::ensure(false)?;
    let name = arguments.target.name();
    let package = house::root().join("tests/fuzz");
    let target = house::target().join("fuzz");
    println!("==> building the target {name}, with instrumentation");
    let platform = platform()?;
    let mut build = house::cargo();
    build.current_dir(&package).args(["build", "--release", "--locked", "--bin", name]);
    build.args(["--target", &platform, "--target-dir"]).arg(&target).env("RUSTFLAGS", INSTRUMENTATION);
    Step::new("cargo build").run(build)?;

    let kept = target.join("inputs").join(name);
    let broken = target.join("broken").join(name);
    for directory in [&kept, &broken] {
        fs::create_dir_all(directory).map_err(Stop::file(directory))?;
    }
    println!("==> fuzzing {name} for {} min", arguments.minutes);
    let length = Duration::from_secs(arguments.minutes * 60);
    let mut fuzz = Command::new(target.join(&platform).join("release").join(name));
    fuzz.arg(&kept);
    if let Target::Config = arguments.target {
        fuzz.arg(house::root().join("config"));
    }
    let dictionary = package.join("dictionaries").join(format!("{name}.dict"));
    if dictionary.is_file() {
        fuzz.arg(format!("-dict={}", dictionary.display()));
    }
    fuzz.arg(format!("-max_len={}", arguments.target.longest_input()));
    fuzz.arg(format!("-max_total_time={}", length.as_secs()));
    fuzz.arg(format!("-artifact_prefix={}/", broken.display()));
    fuzz.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"]);
    Step::new(name).limit(length + Duration::from_secs(120)).run(fuzz)?;
    println!("fuzz {name}: clean");
    Ok(())
}
