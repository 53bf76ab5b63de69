//! `bailiwick egress`: who went where, how often and how much; by region, live, or as JSON.

use super::since::{moment, since};
use super::text::{columns, size, visible};
use crate::egress::protocol;
use crate::egress::register::{self, Deed, Filter, Reader, RegisterError, Remainder, Row};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Arguments of `bailiwick egress`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct EgressArgs {
    /// Only this model or workload; `agent` is the agent itself.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only to this region; `unknown` is none.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Only what was decided this way: allow, would-deny, deny.
    #[arg(long, value_parser = verdict)]
    verdict: Option<Deed>,
    /// Only what was seen from then on: 15m, 2h, 3d ago, a date, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// How many flows of each region the table names, those seen last.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    flows: usize,
    /// Go on: a line for each flow whenever it was seen again.
    #[arg(long)]
    live: bool,
    /// The register, or a copy of one [default: /var/lib/bailiwick/register.sqlite].
    #[arg(long, value_name = "FILE")]
    register: Option<PathBuf>,
    /// Print one JSON object; with --live one a flow, each on a line.
    #[arg(long)]
    json: bool,
}

/// Between two looks of `--live`; the agent writes once a second.
const LOOK: Duration = Duration::from_millis(500);
/// What is written now may have been seen so long ago.
const LATE: u64 = 10_000;

/// Exit 0: that is all there is; 2: the register cannot be read.
#[expect(clippy::print_stderr, reason = "a command's answer goes to the terminal")]
pub(super) fn run(args: &EgressArgs) -> ExitCode {
    let path = args.register.clone().unwrap_or_else(register::path);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let shown = Reader::open(&path).and_then(|reader| match (args.live, args.json) {
        (true, _) => live(&reader, args, &mut out),
        (false, true) => whole(&reader, &args.filter(), &mut out),
        (false, false) => page(&reader, args).map(|text| {
            // A reader that has seen enough (`| head`) closes the pipe: no reason to complain.
            let _ = out.write_all(text.as_bytes());
        }),
    });
    let _ = out.flush();
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bailiwick egress: {error}{}", if super::need_root().is_ok() { "" } else { NOT_ROOT });
            ExitCode::from(2)
        }
    }
}

const NOT_ROOT: &str = "; the register is for root: run it with sudo";

impl EgressArgs {
    fn filter(&self) -> Filter {
        let milliseconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Filter {
            scope: self.model.clone(),
            region: self.region.clone(),
            deed: self.verdict,
            since: self.since.map(|since| u64::try_from(milliseconds(since)).unwrap_or(u64::MAX)),
        }
    }
}

/// The table: a part for each region, its sums first.
fn page(reader: &Reader, args: &EgressArgs) -> Result<String, RegisterError> {
    let filter = args.filter();
    reader.freeze()?;
    let mut regions: BTreeMap<String, (Vec<Remainder>, Vec<Row>)> = BTreeMap::new();
    for sum in reader.by_region(&filter)? {
        regions.entry(sum.region.clone()).or_default().0.push(sum);
    }
    reader.flows(&filter, |row| {
        if let Some((_, rows)) = regions.get_mut(&row.region)
            && rows.len() < args.flows
        {
            rows.push(row);
        }
        true
    })?;
    let mut text = String::new();
    for (region, (sums, rows)) in &regions {
        let space = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{space}REGION {}: {}", visible(region), total(sums));
        text.push_str(&columns(&table(rows)));
        let flows: u64 = sums.iter().map(|sum| sum.flows).sum();
        let more = flows.saturating_sub(rows.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "and {more} more: --flows NUMBER, --json");
        }
    }
    for suspect in reader.suspects(&filter)? {
        let (scope, domain, resolver) = (&suspect.scope, &suspect.domain, suspect.resolver);
        let _ = writeln!(
            text,
            "\nLIKE A DNS TUNNEL: {} asked {resolver} for {} names under {}, last at {}",
            visible(scope),
            suspect.names,
            visible(domain),
            moment(suspect.last)
        );
    }
    if text.is_empty() {
        text.push_str("nothing was seen, as far as this was asked for\n");
    }
    Ok(text)
}

fn total(sums: &[Remainder]) -> String {
    let sum = |of: fn(&Remainder) -> u64| sums.iter().map(of).fold(0, u64::saturating_add);
    let flows = sum(|sum| sum.flows);
    let mut words = vec![if flows == 1 { "1 flow".to_owned() } else { format!("{flows} flows") }];
    for deed in Deed::ALL {
        let count = sums
            .iter()
            .filter(|sum| sum.verdict == deed.as_str())
            .map(|sum| sum.count)
            .fold(0, u64::saturating_add);
        let verb = match deed {
            Deed::Allowed => "allowed",
            Deed::WouldDeny => "would be refused",
            Deed::Denied => "refused",
        };
        if count > 0 {
            words.push(format!("{count} times {verb}"));
        }
    }
    let (sent, received) = (sum(|sum| sum.sent_bytes), sum(|sum| sum.received_bytes));
    if sent > 0 || received > 0 {
        words.push(format!("{} sent, {} received", size(sent), size(received)));
    }
    words.join(", ")
}

/// Its head and a row a flow; columns that say nothing are left out.
fn table(rows: &[Row]) -> Vec<Vec<String>> {
    let has_bytes = rows.iter().any(|row| row.sent_bytes > 0 || row.received_bytes > 0);
    let has_names = rows.iter().any(|row| row.name.is_some());
    let cells = |row: &Row| {
        let mut cells = vec![visible(&row.scope), visible(&row.process), destination(row)];
        if has_names {
            cells.push(visible(row.name.as_deref().unwrap_or("-")));
        }
        cells.extend([row.verdict.clone(), row.count.to_string()]);
        if has_bytes {
            cells.extend([size(row.sent_bytes), size(row.received_bytes)]);
        }
        cells.push(moment(row.last));
        cells
    };
    let head = ["MODEL", "PROCESS", "TO", "NAME", "VERDICT", "TIMES", "SENT", "RECEIVED", "LAST (UTC)"];
    let head = head.into_iter().filter(|word| match *word {
        "NAME" => has_names,
        "SENT" | "RECEIVED" => has_bytes,
        _ => true,
    });
    let mut table = vec![head.map(str::to_owned).collect()];
    table.extend(rows.iter().map(cells));
    table
}

fn destination(row: &Row) -> String {
    let address = if row.port == 0 {
        row.address.to_string()
    } else {
        std::net::SocketAddr::new(row.address, row.port).to_string()
    };
    format!("{} {address}", protocol(row.protocol))
}

/// One object. The flows are written as they are read: there may be millions.
fn whole(reader: &Reader, filter: &Filter, out: &mut impl Write) -> Result<(), RegisterError> {
    reader.freeze()?;
    let head = json!({
        "regions": reader.by_region(filter)?,
        "displaced": reader.remainder(filter)?,
        "tunnels": reader.suspects(filter)?,
        "lookups": reader.lookups(filter)?,
    });
    let head = head.to_string();
    let mut written = write!(out, "{},\"flows\":[", head.trim_end_matches('}'));
    let mut between = "\n";
    reader.flows(filter, |row| {
        written = write!(out, "{between}{}", json!(row));
        between = ",\n";
        written.is_ok()
    })?;
    if written.is_ok() {
        let _ = writeln!(out, "\n]}}");
    }
    Ok(())
}

/// A line for each flow whenever it was seen again, until the reader closes the pipe or the process is ended.
fn live(reader: &Reader, args: &EgressArgs, out: &mut impl Write) -> Result<(), RegisterError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut filter = args.filter();
    let began = filter.since.unwrap_or_else(|| u64::try_from(now).unwrap_or(u64::MAX));
    let mut said: HashMap<String, (u64, u64)> = HashMap::new();
    let mut latest = began;
    loop {
        filter.since = Some(latest.saturating_sub(LATE).max(began));
        reader.freeze()?;
        let mut rows = Vec::new();
        reader.flows(&filter, |row| {
            rows.push(row);
            true
        })?;
        for row in rows.iter().rev() {
            latest = latest.max(row.last);
            let before = said.insert(identity(row), (row.count, row.last));
            let more = row.count.saturating_sub(before.map_or(0, |(count, _)| count));
            if before == Some((row.count, row.last)) {
                continue;
            }
            let text = if args.json { json!(row).to_string() } else { line(row, more) };
            if writeln!(out, "{text}").is_err() {
                return Ok(());
            }
        }
        if out.flush().is_err() {
            return Ok(());
        }
        said.retain(|_, (_, last)| *last >= latest.saturating_sub(LATE));
        std::thread::sleep(LOOK);
    }
}

fn line(row: &Row, more: u64) -> String {
    let name = row.name.as_ref().map_or_else(String::new, |name| format!(" ({})", visible(name)));
    let (scope, process) = (visible(&row.scope), visible(&row.process));
    let (region, verdict) = (visible(&row.region), &row.verdict);
    let reason = if row.reason.is_empty() { String::new() } else { format!(" ({})", row.reason) };
    format!(
        "{}  {verdict:<10}  {scope}: {process} → {}{name}, region {region}, +{more}, {} in all{reason}",
        moment(row.last),
        destination(row),
        row.count
    )
}

fn identity(row: &Row) -> String {
    let Row { scope, process, protocol, address, port, verdict, reason, .. } = row;
    format!("{scope}\0{process}\0{protocol}\0{address}\0{port}\0{verdict}\0{reason}")
}

fn verdict(word: &str) -> Result<Deed, String> {
    Deed::of(word).ok_or_else(|| format!("use one of {}", Deed::ALL.map(Deed::as_str).join(", ")))
}

#[cfg(test)]
mod tests;
