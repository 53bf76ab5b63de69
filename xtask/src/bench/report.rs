//! A bench's figures, and the machine they were taken on, in words that name nobody's machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::stop::Stop;
use crate::{house, process};

/// What a figure should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// value / baseline is at least this
    RatioAtLeast(f64),
    /// value / baseline is at most this
    RatioAtMost(f64),
    /// the value is at least this
    AtLeast(f64),
    /// the value is at most this
    AtMost(f64),
}

/// How the name of a number in a JSON object ends, and the unit that it is then in.
const UNITS: &[(&str, &str)] = &[("_per_second", "1/s"), ("_us", "us"), ("_ms", "ms"), ("_bytes", "bytes")];

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figure {
    name: String,
    value: f64,
    unit: String,
    baseline: Option<f64>,
    ratio: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
}

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    bench: &'static str,
    date: String,
    host: String,
    figures: Vec<Figure>,
}

/// Reads a line of a measuring program: no figure, one, or the several of a JSON object.
pub(super) fn figures(line: &str, unit: &str, goals: &[(&str, Goal)]) -> Vec<Figure> {
    if let Ok(members) = serde_json::from_str::<Map<String, Value>>(line) {
        return Figure::read_members(&members, goals);
    }
    Figure::read(line, unit, goals).into_iter().collect()
}

impl Figure {
    /// `{"concurrency":16,"p50_us":900}`: the first member is the case, the ends of the others' names their units.
    fn read_members(members: &Map<String, Value>, goals: &[(&str, Goal)]) -> Vec<Self> {
        let mut members = members.iter();
        let Some((case, which)) = members.next() else { return Vec::new() };
        let which = which.as_str().map_or_else(|| which.to_string(), str::to_owned);
        let each = members.filter_map(|(name, value)| {
            let (name, unit) = UNITS
                .iter()
                .find_map(|(ending, unit)| Some((name.strip_suffix(ending)?, *unit)))
                .unwrap_or((name, ""));
            let name = format!("{case} {which}: {}", name.replace('_', " "));
            Some(Self::new(name, value.as_f64()?, unit, None, goals))
        });
        each.collect()
    }

    fn new(name: String, value: f64, unit: &str, baseline: Option<f64>, goals: &[(&str, Goal)]) -> Self {
        let ratio = baseline.filter(|baseline| *baseline > 0.0).map(|baseline| value / baseline);
        let goal = goals.iter().find(|(named, _)| *named == name).map(|(_, goal)| *goal);
        Self {
            name,
            value,
            unit: unit.to_owned(),
            baseline,
            ratio,
            goal: goal.map(Goal::words),
            met: goal.and_then(|goal| goal.is_met(value, ratio)),
        }
    }

    /// One figure of a line of tabs; None when it is not one.
    fn read(line: &str, unit: &str, goals: &[(&str, Goal)]) -> Option<Self> {
        let mut fields = line.split('\t').map(str::trim);
        let name = fields.next()?;
        let value = number(fields.next()?)?;
        let unit = fields.next().filter(|unit| !unit.is_empty()).unwrap_or(unit);
        let baseline = match fields.next() {
            None | Some("") => None,
            Some(text) => Some(number(text)?),
        };
        Some(Self::new(name.to_owned(), value, unit, baseline, goals))
    }
}

impl Goal {
    fn words(self) -> String {
        match self {
            Self::RatioAtLeast(bound) => format!("ratio >= {bound}"),
            Self::RatioAtMost(bound) => format!("ratio <= {bound}"),
            Self::AtLeast(bound) => format!("value >= {bound}"),
            Self::AtMost(bound) => format!("value <= {bound}"),
        }
    }

    fn is_met(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::RatioAtLeast(bound) => Some(ratio? >= bound),
            Self::RatioAtMost(bound) => Some(ratio? <= bound),
            Self::AtLeast(bound) => Some(value >= bound),
            Self::AtMost(bound) => Some(value <= bound),
        }
    }
}

impl Report {
    /// Dated now, on this machine.
    pub(super) fn new(bench: &'static str, figures: Vec<Figure>) -> Self {
        let date = process::answer(Command::new("date").args(["--utc", "+%F"])).unwrap_or_default();
        Self { bench, date, host: host(), figures }
    }

    /// One JSON object.
    pub(super) fn json(&self) -> Result<String, Stop> {
        serde_json::to_string_pretty(self).map_err(|error| Stop::Output {
            step: format!("bench {}", self.bench),
            reason: error.to_string(),
        })
    }

    /// Writes it where the last report of this bench is kept.
    pub(super) fn keep(&self) -> Result<PathBuf, Stop> {
        let directory = house::root().join("tests/benches/results");
        fs::create_dir_all(&directory).map_err(Stop::file(&directory))?;
        let path = directory.join(format!("{}.json", self.bench));
        fs::write(&path, self.json()? + "\n").map_err(Stop::file(&path))?;
        Ok(path)
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let head = ["figure", "value", "unit", "baseline", "ratio", "goal", "met"].map(str::to_owned);
        let rows = self.figures.iter().map(|figure| {
            let optional = |value: Option<f64>| value.map(shown).unwrap_or_default();
            let met = figure.met.map(|met| if met { "yes" } else { "NO" });
            [
                figure.name.clone(),
                shown(figure.value),
                figure.unit.clone(),
                optional(figure.baseline),
                optional(figure.ratio),
                figure.goal.clone().unwrap_or_default(),
                met.unwrap_or_default().to_owned(),
            ]
        });
        let rows: Vec<_> = [head].into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..7).map(width).collect();
        let mut text = format!("{} on {}: {}\n", self.bench, self.date, self.host);
        for row in &rows {
            let cells: Vec<_> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Processor, cores, memory and kernel.
fn host() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor =
        field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kilobytes = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    // What follows the version is a distributor's own name for a build.
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let gibibytes = kilobytes.div_ceil(1 << 20);
    format!("{processor}, {cores} cores, {gibibytes} GiB, Linux {kernel}")
}

/// Three digits that mean something.
fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_a_line_of_tabs_and_numbers() {
        let goals = [("rate", Goal::RatioAtLeast(0.5)), ("delay", Goal::AtMost(3.0))];
        let rows = [
            ("rate\t60\treq/s\t100", Some((60.0, "req/s", Some(0.6), Some(true))), "ratio to the baseline"),
            ("rate\t40\treq/s\t100", Some((40.0, "req/s", Some(0.4), Some(false))), "a goal that is missed"),
            ("rate\t40", Some((40.0, "unit", None, None)), "no baseline: the goal cannot be judged"),
            ("delay\t2.5\tms", Some((2.5, "ms", None, Some(true))), "a goal without a baseline"),
            ("other\t1\t\t0", Some((1.0, "unit", None, None)), "nothing is divided by zero"),
            ("rate 60", None, "no tab"),
            ("rate\tfast", None, "no number"),
            ("rate\tNaN", None, "not a number"),
            ("rate\t1\tms\tfast", None, "a baseline that cannot be read"),
        ];
        for (line, expected, why) in rows {
            let read = Figure::read(line, "unit", &goals);
            let read = read.as_ref().map(|it| (it.value, it.unit.as_str(), it.ratio, it.met));
            assert_eq!(read, expected, "{why}: {line:?}");
        }
    }

    #[test]
    fn an_object_is_a_case_with_several_figures() {
        let line = r#"{"concurrency":16,"appends_per_second":900.5,"fsyncs":7,"note":"x"}"#;
        let read = figures(line, "", &[]);
        let read: Vec<_> = read.iter().map(|it| (it.name.as_str(), it.value, it.unit.as_str())).collect();
        assert_eq!(read, [("concurrency 16: appends", 900.5, "1/s"), ("concurrency 16: fsyncs", 7.0, "")]);
        assert!(figures("{}", "", &[]).is_empty());
        assert!(figures("Compiling", "", &[]).is_empty());
    }

    #[test]
    fn the_machine_is_told_without_its_name() {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(!host().split([' ', ',']).any(|word| word == name.trim()), "{}", host());
    }
}
