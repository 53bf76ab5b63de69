//! The register, read by anyone who may: beside a running agent, and without one.

use super::super::alert::protocol as protocol_name;
use super::flow::Deed;
use super::store::SCHEMA;
use super::{RegisterError, sqlite};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OpenFlags};
use serde::Serializer;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads the register; changes nothing.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

/// Which flows; `None` leaves a side open.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this model or workload.
    pub scope: Option<String>,
    /// To this region, or `unknown`.
    pub region: Option<String>,
    /// With this verdict.
    pub deed: Option<Deed>,
    /// Last seen at this time or later, in milliseconds since 1970.
    pub since: Option<u64>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// The model or workload.
    #[serde(rename = "model")]
    pub scope: String,
    /// The process's name for itself.
    pub process: String,
    /// Its executable, where it could be read.
    pub executable: Option<String>,
    /// IANA number; its name in JSON.
    #[serde(serialize_with = "as_name")]
    pub protocol: u8,
    /// The other end's address.
    #[serde(rename = "destination")]
    pub address: IpAddr,
    /// The other end's port.
    pub port: u16,
    /// What it was called last, as it may be written down.
    pub name: Option<String>,
    /// How that is known: `dns`, `sni`, `sni-outer`, `host`.
    pub name_from: Option<String>,
    /// Where it lay when it was last seen.
    pub region: String,
    /// `allow`, `would-deny`, `deny`
    pub verdict: String,
    /// Why, for a violation.
    pub reason: String,
    /// How often it was opened, or tried.
    pub count: u64,
    /// IP headers included.
    pub sent_bytes: u64,
    /// Packets.
    pub sent_packets: u64,
    /// IP headers included.
    pub received_bytes: u64,
    /// Packets.
    pub received_packets: u64,
    /// Milliseconds since 1970; RFC 3339 in JSON.
    #[serde(rename = "first_seen", serialize_with = "as_instant")]
    pub first: u64,
    /// Milliseconds since 1970; RFC 3339 in JSON.
    #[serde(rename = "last_seen", serialize_with = "as_instant")]
    pub last: u64,
}

/// Flows that made room for newer ones, summed up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Remainder {
    /// The model or workload.
    #[serde(rename = "model")]
    pub scope: String,
    /// The region.
    pub region: String,
    /// The verdict.
    pub verdict: String,
    /// How many they were.
    pub flows: u64,
    /// How often they were opened, or tried.
    pub count: u64,
    /// IP headers included.
    pub sent_bytes: u64,
    /// IP headers included.
    pub received_bytes: u64,
    /// Milliseconds since 1970; RFC 3339 in JSON.
    #[serde(rename = "first_seen", serialize_with = "as_instant")]
    pub first: u64,
    /// Milliseconds since 1970; RFC 3339 in JSON.
    #[serde(rename = "last_seen", serialize_with = "as_instant")]
    pub last: u64,
}

/// What looked like a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Suspect {
    /// The model or workload.
    #[serde(rename = "model")]
    pub scope: String,
    /// The domain, as it may be written down.
    pub domain: String,
    /// The resolver that was asked.
    pub resolver: IpAddr,
    /// Its port.
    pub port: u16,
    /// Names within the time that was looked at.
    pub names: u64,
    /// Milliseconds since 1970; RFC 3339 in JSON.
    #[serde(rename = "first_seen", serialize_with = "as_instant")]
    pub first: u64,
    /// Milliseconds since 1970; RFC 3339 in JSON.
    #[serde(rename = "last_seen", serialize_with = "as_instant")]
    pub last: u64,
}

/// How many names a workload asked for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lookups {
    /// The model or workload.
    #[serde(rename = "model")]
    pub scope: String,
    /// Queries.
    pub names: u64,
}

/// Counted by the kernel and told by it are two views of the same attempts.
const COUNT: &str = "max(opened, told)";
const MATCHING: &str =
    "(?1 IS NULL OR scope = ?1) AND (?2 IS NULL OR region = ?2) AND (?3 IS NULL OR verdict = ?3)
    AND (?4 IS NULL OR last >= ?4)";

impl Reader {
    /// Opens the register at `path`.
    ///
    /// # Errors
    /// [`RegisterError`]; that there is none, among them.
    pub fn open(path: &Path) -> Result<Self, RegisterError> {
        if !path.exists() {
            return Err(RegisterError::Missing { path: path.to_owned() });
        }
        let sqlite = sqlite(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(&sqlite)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(&sqlite)?;
        connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA query_only = ON;").map_err(&sqlite)?;
        let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&sqlite)?;
        if found != SCHEMA {
            return Err(RegisterError::Schema { path: path.to_owned(), found, known: SCHEMA });
        }
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Everything that follows is of one moment, until the next call.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn freeze(&self) -> Result<(), RegisterError> {
        // There is none the first time.
        let _none = self.connection.execute_batch("COMMIT");
        self.connection.execute_batch("BEGIN").map_err(sqlite(&self.path))
    }

    /// Calls `each` with every flow that matches, those seen last first, until it says no.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn flows(&self, filter: &Filter, mut each: impl FnMut(Row) -> bool) -> Result<(), RegisterError> {
        let query = format!(
            "SELECT scope, process, executable, protocol, address, port, name, name_from, region, verdict, reason, {COUNT},
             sent_bytes, sent_packets, received_bytes, received_packets, first, last
             FROM flows WHERE {MATCHING} ORDER BY last DESC, id DESC"
        );
        self.each(&query, filter, |row| {
            Ok(each(Row {
                scope: row.get(0)?,
                process: row.get(1)?,
                executable: row.get(2)?,
                protocol: row.get(3)?,
                address: address(row, 4)?,
                port: row.get(5)?,
                name: row.get(6)?,
                name_from: row.get(7)?,
                region: row.get(8)?,
                verdict: row.get(9)?,
                reason: row.get(10)?,
                count: unsigned(row, 11)?,
                sent_bytes: unsigned(row, 12)?,
                sent_packets: unsigned(row, 13)?,
                received_bytes: unsigned(row, 14)?,
                received_packets: unsigned(row, 15)?,
                first: unsigned(row, 16)?,
                last: unsigned(row, 17)?,
            }))
        })
    }

    /// The sums by region, workload and verdict, of what there is and of what made room.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn by_region(&self, filter: &Filter) -> Result<Vec<Remainder>, RegisterError> {
        let query = format!(
            "SELECT scope, region, verdict, sum(flows), sum(count), sum(sent_bytes), sum(received_bytes), min(first), max(last)
             FROM (SELECT scope, region, verdict, 1 AS flows, {COUNT} AS count, sent_bytes, received_bytes, first, last FROM flows
                   UNION ALL SELECT scope, region, verdict, flows, {COUNT}, sent_bytes, received_bytes, first, last FROM remainder)
             WHERE {MATCHING} GROUP BY region, scope, verdict ORDER BY region, scope, verdict"
        );
        self.sums(&query, filter)
    }

    /// What made room.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn remainder(&self, filter: &Filter) -> Result<Vec<Remainder>, RegisterError> {
        let query = format!(
            "SELECT scope, region, verdict, flows, {COUNT}, sent_bytes, received_bytes, first, last
             FROM remainder WHERE {MATCHING} ORDER BY region, scope, verdict"
        );
        self.sums(&query, filter)
    }

    /// What looked like a tunnel, for the workload and the time of `filter`.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn suspects(&self, filter: &Filter) -> Result<Vec<Suspect>, RegisterError> {
        let query = "SELECT scope, domain, address, port, names, first, last FROM suspects
            WHERE (?1 IS NULL OR scope = ?1) AND (?2 IS NULL OR 1) AND (?3 IS NULL OR 1) AND (?4 IS NULL OR last >= ?4)
            ORDER BY last DESC";
        let mut suspects = Vec::new();
        self.each(query, filter, |row| {
            suspects.push(Suspect {
                scope: row.get(0)?,
                domain: row.get(1)?,
                resolver: address(row, 2)?,
                port: row.get(3)?,
                names: unsigned(row, 4)?,
                first: unsigned(row, 5)?,
                last: unsigned(row, 6)?,
            });
            Ok(true)
        })?;
        Ok(suspects)
    }

    /// How many names each workload asked for, since the register began.
    ///
    /// # Errors
    /// [`RegisterError`]
    pub fn lookups(&self, filter: &Filter) -> Result<Vec<Lookups>, RegisterError> {
        let query = "SELECT scope, names FROM lookups
            WHERE (?1 IS NULL OR scope = ?1) AND (?2 IS NULL OR 1) AND (?3 IS NULL OR 1) AND (?4 IS NULL OR last >= ?4)
            ORDER BY scope";
        let mut lookups = Vec::new();
        self.each(query, filter, |row| {
            lookups.push(Lookups { scope: row.get(0)?, names: unsigned(row, 1)? });
            Ok(true)
        })?;
        Ok(lookups)
    }

    fn sums(&self, query: &str, filter: &Filter) -> Result<Vec<Remainder>, RegisterError> {
        let mut sums = Vec::new();
        self.each(query, filter, |row| {
            sums.push(Remainder {
                scope: row.get(0)?,
                region: row.get(1)?,
                verdict: row.get(2)?,
                flows: unsigned(row, 3)?,
                count: unsigned(row, 4)?,
                sent_bytes: unsigned(row, 5)?,
                received_bytes: unsigned(row, 6)?,
                first: unsigned(row, 7)?,
                last: unsigned(row, 8)?,
            });
            Ok(true)
        })?;
        Ok(sums)
    }

    fn each(
        &self,
        query: &str,
        filter: &Filter,
        mut each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<(), RegisterError> {
        let sqlite = sqlite(&self.path);
        let deed = filter.deed.map(Deed::as_str);
        let since = filter.since.map(|since| i64::try_from(since).unwrap_or(i64::MAX));
        let values: [&dyn ToSql; 4] = [&filter.scope, &filter.region, &deed, &since];
        let mut statement = self.connection.prepare_cached(query).map_err(&sqlite)?;
        let mut rows = statement.query(values).map_err(&sqlite)?;
        while let Some(row) = rows.next().map_err(&sqlite)? {
            if !each(row).map_err(&sqlite)? {
                break;
            }
        }
        Ok(())
    }
}

/// RFC 3339, in UTC, of milliseconds since 1970.
#[must_use]
pub fn instant(milliseconds: u64) -> String {
    let nanoseconds = i128::from(milliseconds) * 1_000_000;
    let instant = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    instant.and_then(|instant| instant.format(&Rfc3339).ok()).unwrap_or_else(|| "unknown".to_owned())
}

fn as_instant<S: Serializer>(milliseconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&instant(*milliseconds))
}

fn as_name<S: Serializer>(protocol: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&protocol_name(*protocol))
}

fn address(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<IpAddr> {
    let octets: Vec<u8> = row.get(column)?;
    let v4 = <[u8; 4]>::try_from(octets.as_slice()).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(octets.as_slice()).map(IpAddr::from);
    v4.or_else(|_| v6()).map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, "no address".into())
    })
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}
