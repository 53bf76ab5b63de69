//! The register's file, written by the agent alone.

use super::pending::Pending;
use super::{RegisterError, sqlite};
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the tables below are called together (`PRAGMA user_version`).
pub(super) const SCHEMA: i64 = 1;

const TABLES: &str = "
CREATE TABLE flows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL, process TEXT NOT NULL, protocol INTEGER NOT NULL, address BLOB NOT NULL,
    port INTEGER NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, violation INTEGER NOT NULL,
    executable TEXT, name TEXT, name_from TEXT, region TEXT NOT NULL,
    opened INTEGER NOT NULL, told INTEGER NOT NULL,
    sent_bytes INTEGER NOT NULL, sent_packets INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL, received_packets INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX flows_key ON flows (address, port, scope, process, verdict, protocol, reason);
CREATE INDEX flows_age ON flows (violation, last);
CREATE TABLE remainder (
    scope TEXT NOT NULL, region TEXT NOT NULL, verdict TEXT NOT NULL,
    flows INTEGER NOT NULL, opened INTEGER NOT NULL, told INTEGER NOT NULL,
    sent_bytes INTEGER NOT NULL, sent_packets INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL, received_packets INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (scope, region, verdict)
) STRICT, WITHOUT ROWID;
CREATE TABLE lookups (scope TEXT PRIMARY KEY, names INTEGER NOT NULL, last INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE suspects (
    scope TEXT NOT NULL, domain TEXT NOT NULL, address BLOB NOT NULL, port INTEGER NOT NULL,
    names INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (scope, domain, address, port)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

const ADD_FLOW: &str = "
INSERT INTO flows (scope, process, protocol, address, port, verdict, reason, violation, executable, name, name_from, region,
    opened, told, sent_bytes, sent_packets, received_bytes, received_packets, first, last)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
ON CONFLICT (address, port, scope, process, verdict, protocol, reason) DO UPDATE SET
    executable = coalesce(excluded.executable, executable),
    name_from = CASE WHEN excluded.name IS NULL THEN name_from ELSE excluded.name_from END,
    name = coalesce(excluded.name, name), region = excluded.region,
    opened = opened + excluded.opened, told = told + excluded.told,
    sent_bytes = sent_bytes + excluded.sent_bytes, sent_packets = sent_packets + excluded.sent_packets,
    received_bytes = received_bytes + excluded.received_bytes, received_packets = received_packets + excluded.received_packets,
    first = min(first, excluded.first), last = max(last, excluded.last)
RETURNING id";

const ADD_REMAINDER: &str = "
ON CONFLICT (scope, region, verdict) DO UPDATE SET
    flows = flows + excluded.flows, opened = opened + excluded.opened, told = told + excluded.told,
    sent_bytes = sent_bytes + excluded.sent_bytes, sent_packets = sent_packets + excluded.sent_packets,
    received_bytes = received_bytes + excluded.received_bytes, received_packets = received_packets + excluded.received_packets,
    first = min(first, excluded.first), last = max(last, excluded.last)";

/// Suspects are few: a domain that looked like a tunnel, for each resolver.
const MOST_SUSPECTS: usize = 10_000;

/// How many rows there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of flows that were allowed.
    pub allowed: u64,
    /// Of violations.
    pub violations: u64,
}

impl Bounds {
    /// The agent's: a million each, about 240 MB of disk a million.
    pub const OURS: Self = Self { allowed: 1_000_000, violations: 1_000_000 };
}

/// The register, open for writing. There is one writer: the agent (see [`crate::lock`]).
pub struct Store {
    connection: Connection,
    path: PathBuf,
    bounds: Bounds,
    /// Rows of each kind: allowed, violations.
    rows: [u64; 2],
    /// The highest row id that was ever given away (AUTOINCREMENT): a higher one is a new row.
    newest: i64,
}

impl Store {
    /// Opens the register at `path`, or makes it, for the agent alone.
    ///
    /// # Errors
    /// [`RegisterError`]: the file cannot be made, is none of ours, or is damaged.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self, RegisterError> {
        let file = |cause| RegisterError::File { path: path.to_owned(), cause };
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(file)?;
        }
        // SQLite would make it as the umask says; its other files take after this one.
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(file)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(file)?;
        let sqlite = sqlite(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(&sqlite)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(&sqlite)?;
        // FULL: what was committed is on the disk. The cache is in KiB.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;
                 PRAGMA journal_size_limit = 16777216; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;",
            )
            .map_err(&sqlite)?;
        match connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&sqlite)? {
            0 => connection.execute_batch(&format!("BEGIN; {TABLES} COMMIT;")).map_err(&sqlite)?,
            SCHEMA => {}
            found => return Err(RegisterError::Schema { path: path.to_owned(), found, known: SCHEMA }),
        }
        let count = |violation: i64| {
            let rows = "SELECT count(*) FROM flows WHERE violation = ?1";
            connection.query_row(rows, [violation], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
        };
        let rows = [count(0).map_err(&sqlite)?, count(1).map_err(&sqlite)?];
        let newest = connection
            .query_row("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'flows'", [], |row| {
                row.get(0)
            })
            .map_err(&sqlite)?;
        Ok(Self { connection, path: path.to_owned(), bounds, rows, newest })
    }

    /// As [`Self::open`]; a register that is damaged is put aside first, so that a new one can begin. Says where it lies then.
    ///
    /// # Errors
    /// As [`Self::open`]
    pub fn open_or_begin_anew(path: &Path, bounds: Bounds) -> Result<(Self, Option<PathBuf>), RegisterError> {
        match Self::open(path, bounds) {
            Err(error) if error.is_damage() => {
                let aside = put_aside(path)?;
                Ok((Self::open(path, bounds)?, Some(aside)))
            }
            opened => Ok((opened?, None)),
        }
    }

    /// Puts a register aside that turned out to be damaged, and begins another; says where the old one lies.
    ///
    /// # Errors
    /// As [`Self::open`]; then nothing can be written until it is opened again.
    pub fn begin_anew(&mut self) -> Result<PathBuf, RegisterError> {
        // Closed first: SQLite takes its other files away when it closes, by their names.
        self.connection = Connection::open_in_memory().map_err(sqlite(&self.path))?;
        let aside = put_aside(&self.path)?;
        *self = Self::open(&self.path, self.bounds)?;
        Ok(aside)
    }

    /// Adds what was seen, all of it or nothing, and makes room where there are too many rows.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing was written then, and `pending` can be tried again.
    pub fn write(&mut self, pending: &Pending) -> Result<(), RegisterError> {
        let (bounds, mut rows, mut newest) = (self.bounds, self.rows, self.newest);
        let path = self.path.clone();
        let written = (|| {
            let transaction = self.connection.transaction()?;
            add_flows(&transaction, pending, &mut rows, &mut newest)?;
            add_rest(&transaction, pending)?;
            for (violation, most) in [(0, bounds.allowed), (1, bounds.violations)] {
                let rows = &mut rows[violation];
                if *rows > most {
                    // A few more than must go, so that not every write has to.
                    let going = (*rows - most + most / 64).min(*rows);
                    *rows -= displace(&transaction, violation, going)?;
                }
            }
            transaction.commit()
        })();
        written.map_err(sqlite(&path))?;
        (self.rows, self.newest) = (rows, newest);
        Ok(())
    }

    /// How many flows it has: allowed, and violations.
    #[must_use]
    pub fn rows(&self) -> [u64; 2] {
        self.rows
    }
}

/// Where it lies then.
fn put_aside(path: &Path) -> Result<PathBuf, RegisterError> {
    let aside = path.with_extension("damaged");
    fs::rename(path, &aside).map_err(|cause| RegisterError::File { path: path.to_owned(), cause })?;
    for suffix in ["-wal", "-shm"] {
        let mut other = path.as_os_str().to_owned();
        other.push(suffix);
        // They belong to the one that was put aside; there may be none.
        let _gone = fs::remove_file(other);
    }
    Ok(aside)
}

fn add_flows(
    transaction: &Transaction<'_>,
    pending: &Pending,
    rows: &mut [u64; 2],
    newest: &mut i64,
) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(ADD_FLOW)?;
    for (key, seen) in &pending.flows {
        let is_violation = key.deed.is_violation();
        let id: i64 = add.query_row(
            params![
                key.scope,
                key.process,
                key.protocol,
                octets(key.address).as_slice(),
                key.port,
                key.deed.as_str(),
                key.reason,
                is_violation,
                seen.executable,
                seen.named.as_ref().map(|named| &named.name),
                seen.named.as_ref().map(|named| named.known.as_str()),
                seen.region,
                signed(seen.opened),
                signed(seen.told),
                signed(seen.sent_bytes),
                signed(seen.sent_packets),
                signed(seen.received_bytes),
                signed(seen.received_packets),
                signed(seen.first),
                signed(seen.last),
            ],
            |row| row.get(0),
        )?;
        if id > *newest {
            *newest = id;
            rows[usize::from(is_violation)] += 1;
        }
    }
    Ok(())
}

fn add_rest(transaction: &Transaction<'_>, pending: &Pending) -> rusqlite::Result<()> {
    for ((scope, region, deed), (count, sum)) in &pending.remainder {
        transaction.prepare_cached(&format!("INSERT INTO remainder VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) {ADD_REMAINDER}"))?.execute(
            params![
                scope,
                region,
                deed.as_str(),
                signed(*count),
                signed(sum.opened),
                signed(sum.told),
                signed(sum.sent_bytes),
                signed(sum.sent_packets),
                signed(sum.received_bytes),
                signed(sum.received_packets),
                signed(sum.first),
                signed(sum.last),
            ],
        )?;
    }
    for (scope, (names, last)) in &pending.lookups {
        transaction
            .prepare_cached(
                "INSERT INTO lookups VALUES (?1, ?2, ?3) ON CONFLICT (scope) DO UPDATE SET
                 names = names + excluded.names, last = max(last, excluded.last)",
            )?
            .execute(params![scope, signed(*names), signed(*last)])?;
    }
    for ((scope, domain, address, port), (names, first, last)) in &pending.suspects {
        transaction
            .prepare_cached(
                "INSERT INTO suspects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (scope, domain, address, port) DO UPDATE SET
                 names = max(names, excluded.names), first = min(first, excluded.first), last = max(last, excluded.last)",
            )?
            .execute(params![scope, domain, octets(*address).as_slice(), port, signed(*names), signed(*first), signed(*last)])?;
    }
    if !pending.suspects.is_empty() {
        transaction.execute(
            "DELETE FROM suspects WHERE last < (SELECT last FROM suspects ORDER BY last DESC LIMIT 1 OFFSET ?1)",
            [MOST_SUSPECTS],
        )?;
    }
    Ok(())
}

/// Adds the oldest flows of one kind to the remainder and takes them away; how many there were.
fn displace(transaction: &Transaction<'_>, violation: usize, count: u64) -> rusqlite::Result<u64> {
    let oldest = "SELECT id FROM flows WHERE violation = ?1 ORDER BY last LIMIT ?2";
    let add = format!(
        "INSERT INTO remainder SELECT scope, region, verdict, count(*), sum(opened), sum(told), sum(sent_bytes), sum(sent_packets),
         sum(received_bytes), sum(received_packets), min(first), max(last) FROM flows WHERE id IN ({oldest})
         GROUP BY scope, region, verdict {ADD_REMAINDER}"
    );
    transaction.prepare_cached(&add)?.execute(params![violation, signed(count)])?;
    let gone = transaction
        .prepare_cached(&format!("DELETE FROM flows WHERE id IN ({oldest})"))?
        .execute(params![violation, signed(count)])?;
    Ok(gone as u64)
}

/// 4 or 16 bytes.
fn octets(address: std::net::IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// SQLite's integers have a sign, and a sum that is too large for one would be refused. A petabyte a second is not.
fn signed(number: u64) -> i64 {
    const MOST: i64 = 1 << 50;
    i64::try_from(number).unwrap_or(MOST).min(MOST)
}
