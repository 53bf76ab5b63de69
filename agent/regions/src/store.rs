//! A directory of datasets: `NAME.json` says what there is and from where, `NAME-SHA256.data` is the file as it was
//! published. The rename of the first is the one commit; what no `.json` names is left over from before or from a
//! crash, is never read, and goes with the next import.

use crate::format::{self, Kind};
use crate::{FormatError, StoreError, age_in_days, today};
use bailiwick_policy::{Dataset, DatasetInfo, Name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use time::macros::format_description;
use time::{Date, OffsetDateTime};

/// No dataset is longer, in bytes.
const LONGEST_FILE: u64 = 512 << 20;
/// A dataset that loses more than this part of its networks at once may have been cut short.
const SHRINKS_AT_MOST: usize = 2;

/// What is known of a kept dataset besides its networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// What it is called here.
    pub name: String,
    /// Its format.
    pub kind: Kind,
    /// The name of the file that was imported.
    pub source: String,
    /// Its own version; its date where it has none.
    pub version: String,
    /// The day that it describes (ISO 8601).
    pub date: String,
    /// Who says so.
    pub dated_by: DatedBy,
    /// When it was imported (RFC 3339, UTC, to the second).
    pub imported: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// The file's length in bytes.
    pub bytes: u64,
    /// How many networks it has.
    pub networks: usize,
}

/// Where the date of a dataset is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatedBy {
    /// It is written in the file.
    Contents,
    /// It is in the file's name (`ServiceTags_Public_20260601.json`).
    FileName,
    /// The file has no date; it is the day of the import.
    Import,
}

impl Metadata {
    /// How many days old it is.
    #[must_use]
    pub fn age(&self, today: Date) -> u32 {
        // A date that was written here can be read; one that cannot be is as old as can be.
        iso_day(&self.date).map_or(u32::MAX, |date| age_in_days(date, today))
    }

    fn info(&self, name: Name) -> DatasetInfo {
        DatasetInfo {
            name,
            origin: self.kind.origin(),
            version: self.version.clone(),
            date: self.date.clone(),
            sha256: self.sha256.clone(),
        }
    }
}

/// A dataset with what is known of it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What is known of it.
    pub metadata: Metadata,
    /// What it says.
    pub dataset: Dataset,
}

/// A file that was read and is good, and is not kept yet.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    bytes: Vec<u8>,
    /// What it would be kept as.
    pub metadata: Metadata,
    /// What it says.
    pub dataset: Dataset,
}

/// What an import did.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// The dataset that is there now.
    pub metadata: Metadata,
    /// The one that it replaced.
    pub replaced: Option<Metadata>,
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store in that directory, which need not be there yet.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is kept, by name. Nothing where there is no directory.
    ///
    /// # Errors
    /// [`StoreError`] when the directory or a `.json` in it cannot be read.
    pub fn list(&self) -> Result<Vec<Metadata>, StoreError> {
        let mut found = Vec::new();
        for name in self.names()? {
            found.extend(self.metadata(&name)?);
        }
        Ok(found)
    }

    /// Every dataset, read and checked.
    ///
    /// # Errors
    /// A [`StoreError`] for each that cannot be read or is not what was imported; then none is to be used.
    pub fn load(&self) -> Result<Vec<Kept>, Vec<StoreError>> {
        let (mut kept, mut errors) = (Vec::new(), Vec::new());
        for name in self.names().map_err(|error| vec![error])? {
            match self
                .metadata(&name)
                .and_then(|metadata| metadata.map(|found| self.load_one(found)).transpose())
            {
                Ok(found) => kept.extend(found),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(kept) } else { Err(errors) }
    }

    fn names(&self) -> Result<Vec<Name>, StoreError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(unusable("list", &self.directory))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(unusable("list", &self.directory))?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| Name::new(stem).ok());
            if path.extension().is_some_and(|extension| extension == "json") {
                found.extend(stem);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Reads and checks a file that is to be imported. `kind` is told by its contents, `name` by its kind where they are
    /// not given.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or is no dataset of that kind.
    pub fn prepare(
        &self,
        path: &Path,
        kind: Option<Kind>,
        name: Option<Name>,
    ) -> Result<Prepared, StoreError> {
        let bytes = read_file(path)?;
        let wrong = |error: FormatError| StoreError::Format { path: path.to_owned(), error };
        let kind = kind.map_or_else(|| format::detect(&bytes), Ok).map_err(wrong)?;
        let reading = format::read(kind, &bytes).map_err(wrong)?;
        let name = name.or_else(|| Name::new(kind.usual_name()).ok());
        let name = name.ok_or_else(|| wrong(FormatError::new("has no name", "give it one with --name")))?;
        let source = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (date, dated_by) = match (reading.date, day_in_name(&source)) {
            (Some(date), _) => (date, DatedBy::Contents),
            (None, Some(date)) => (date, DatedBy::FileName),
            (None, None) => (today(), DatedBy::Import),
        };
        let metadata = Metadata {
            name: name.to_string(),
            kind,
            source,
            version: reading.version.clone().unwrap_or_else(|| date.to_string()),
            date: date.to_string(),
            dated_by,
            imported: now(),
            sha256: sha256(&bytes),
            bytes: bytes.len() as u64,
            networks: reading.networks(),
        };
        let dataset = reading.dataset(metadata.info(name));
        Ok(Prepared { path: path.to_owned(), bytes, metadata, dataset })
    }

    /// Keeps what was prepared, in place of the dataset of that name. Either all of it is there afterwards, durably, or
    /// nothing has changed.
    ///
    /// # Errors
    /// [`StoreError`]. Unless `force` is set, a dataset that is older or much smaller than the present one is refused.
    pub fn commit(&self, prepared: Prepared, force: bool) -> Result<Imported, StoreError> {
        let Prepared { path, bytes, metadata, .. } = prepared;
        let mut make = DirBuilder::new();
        make.recursive(true)
            .mode(0o755)
            .create(&self.directory)
            .map_err(unusable("make", &self.directory))?;
        let lock = self.directory.join(".lock");
        let held = File::create(&lock).map_err(unusable("make", &lock))?;
        if held.try_lock().is_err() {
            return Err(StoreError::Busy { path: self.directory.clone() });
        }
        let name = Name::new(&metadata.name).map_err(|_| StoreError::Damaged {
            path: path.clone(),
            name: metadata.name.clone(),
            message: "not a name".to_owned(),
        })?;
        // A present dataset that is damaged is what an import is the cure of.
        let replaced = self.metadata(&name).unwrap_or(None);
        if let Some(before) = &replaced {
            may_follow(before, &metadata, &path, force)?;
        }
        let data = self.directory.join(data_name(&metadata));
        self.write(&data, &bytes)?;
        let described = serde_json::to_vec_pretty(&metadata).map_err(|error| StoreError::Io {
            doing: "describe",
            path: data.clone(),
            source: error.into(),
            cure: "report this",
        })?;
        self.write(&self.description(&name), &described)?;
        self.sweep();
        Ok(Imported { metadata, replaced })
    }

    fn load_one(&self, metadata: Metadata) -> Result<Kept, StoreError> {
        let path = self.directory.join(data_name(&metadata));
        let damaged = |message: String| StoreError::Damaged {
            path: path.clone(),
            name: metadata.name.clone(),
            message,
        };
        let Ok(name) = Name::new(&metadata.name) else { return Err(damaged("not a name".to_owned())) };
        let bytes = match read_file(&path) {
            Ok(bytes) => bytes,
            // An import may have come between the two reads.
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return match self.metadata(&name)? {
                    Some(now) if now != metadata => self.load_one(now),
                    Some(_) | None => Err(damaged("it is missing".to_owned())),
                };
            }
            Err(error) => return Err(error),
        };
        if sha256(&bytes) != metadata.sha256 {
            return Err(damaged("it is not the file that was imported".to_owned()));
        }
        let reading = format::read(metadata.kind, &bytes).map_err(|error| damaged(error.to_string()))?;
        let dataset = reading.dataset(metadata.info(name));
        Ok(Kept { metadata, dataset })
    }

    fn metadata(&self, name: &Name) -> Result<Option<Metadata>, StoreError> {
        let path = self.description(name);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(unusable("read", &path))?,
        };
        let damaged =
            |message: String| StoreError::Damaged { path: path.clone(), name: name.to_string(), message };
        let metadata: Metadata =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if metadata.name != name.as_str() {
            return Err(damaged(format!("it describes \"{}\"", metadata.name)));
        }
        if metadata.sha256.len() != 64 || !metadata.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(damaged("sha256 is none".to_owned()));
        }
        Ok(Some(metadata))
    }

    fn description(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    /// Whole and durable, or not at all.
    fn write(&self, target: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.directory.join(".new");
        let written = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, target)?;
            File::open(&self.directory)?.sync_all()
        };
        written().map_err(|error| {
            // What is left of it is never read; that it goes away is a courtesy.
            let _ = fs::remove_file(&temporary);
            unusable("write", target)(error)
        })
    }

    /// Removes the files that nothing names. What cannot be removed now will be by another import.
    fn sweep(&self) {
        let (Ok(kept), Ok(entries)) = (self.list(), fs::read_dir(&self.directory)) else { return };
        let named: Vec<String> = kept.iter().map(data_name).collect();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == ".new" || (name.ends_with(".data") && !named.iter().any(|kept| *kept == name)) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// Whether a dataset may take the place of another.
fn may_follow(before: &Metadata, after: &Metadata, path: &Path, force: bool) -> Result<(), StoreError> {
    let path = path.to_owned();
    if before.kind != after.kind {
        return Err(StoreError::OtherKind { path, name: before.name.clone(), kind: before.kind.as_str() });
    }
    if force {
        return Ok(());
    }
    if after.networks < before.networks / SHRINKS_AT_MOST {
        return Err(StoreError::Shrunk { path, count: after.networks, before: before.networks });
    }
    match (iso_day(&before.date), iso_day(&after.date)) {
        (Some(then), Some(now)) if now < then => {
            Err(StoreError::Older { path, date: after.date.clone(), before: before.date.clone() })
        }
        _ => Ok(()),
    }
}

fn data_name(metadata: &Metadata) -> String {
    format!("{}-{}.data", metadata.name, metadata.sha256)
}

fn read_file(path: &Path) -> Result<Vec<u8>, StoreError> {
    let read = || {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LONGEST_FILE {
            return Err(io::Error::other("longer than 512 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(unusable("read", path))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn now() -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

fn iso_day(text: &str) -> Option<Date> {
    Date::parse(text, format_description!("[year]-[month]-[day]")).ok()
}

/// A day in a file's name: `20260601` or `2026-06-01`, between characters that are no digits.
fn day_in_name(name: &str) -> Option<Date> {
    let dated = |part: &str| {
        Date::parse(part, format_description!("[year][month][day]"))
            .ok()
            .filter(|date| (2000..2200).contains(&date.year()))
    };
    let joined = name.replace('-', "");
    joined.split(|character: char| !character.is_ascii_digit()).filter(|part| part.len() == 8).find_map(dated)
}

fn unusable(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| {
        let cure = match source.kind() {
            ErrorKind::PermissionDenied => "run this as root (sudo); root must own the file",
            ErrorKind::NotFound => "name a file that is there",
            ErrorKind::StorageFull => "make room on the disk",
            _ => "see that the path is right",
        };
        StoreError::Io { doing, path, source, cure }
    }
}

#[cfg(test)]
mod tests;
