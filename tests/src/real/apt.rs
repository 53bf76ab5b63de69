//! Debian packages unpacked aside: a private apt state, so that neither the machine's lists nor its packages change.
//!
//! The archive is the one that the machine's own sources name (a mirror, a snapshot, a file tree), with the suite
//! replaced. An empty package status makes apt resolve the whole closure, libc and all, whatever the machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{RealError, step};

/// The machine's lists of sources.
const SOURCES: &[&str] = &["/etc/apt/sources.list", "/etc/apt/sources.list.d"];
/// Debian's keys, as the package debian-archive-keyring installs them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Fetches `package` of `suite` with all it depends on, and unpacks them into `root`.
pub(super) fn unpack(
    package: &str,
    suite: &str,
    root: &Path,
    scratch: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), RealError> {
    let archive = machine_archive().ok_or(RealError::NoDebianArchive)?;
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| RealError::File { path, source }
    };
    for directory in ["lists/partial", "cache/archives/partial", "state"] {
        let directory = scratch.join(directory);
        fs::create_dir_all(&directory).map_err(file(&directory))?;
    }
    let signed = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    let sources = scratch.join("sources.list");
    fs::write(&sources, format!("deb {signed}{archive} {suite} main\n")).map_err(file(&sources))?;
    let status = scratch.join("status");
    fs::write(&status, "").map_err(file(&status))?;

    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        for (name, value) in [
            ("Dir::Etc::SourceList", sources.as_path()),
            ("Dir::Etc::SourceParts", Path::new("/dev/null")),
            ("Dir::Etc::PreferencesParts", Path::new("/dev/null")),
            ("Dir::State", &scratch.join("state")),
            ("Dir::State::Lists", &scratch.join("lists")),
            ("Dir::State::status", &status),
            ("Dir::Cache", &scratch.join("cache")),
        ] {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        // A dated snapshot has expired by definition. A sandbox user may not be able to enter our directory.
        for setting in ["Acquire::Languages=none", "Acquire::Check-Valid-Until=false", "APT::Sandbox::User="]
        {
            command.arg("-o").arg(setting);
        }
        command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let log = scratch.with_extension("log");
    step::run(&format!("reading Debian {suite}'s package list"), apt(&["update"]), &log, progress)?;
    let fetch = apt(&["install", "--yes", "--download-only", "--no-install-recommends", package]);
    step::run(&format!("fetching {package} and what it needs"), fetch, &log, progress)?;

    fs::create_dir_all(root).map_err(file(root))?;
    let archives = scratch.join("cache/archives");
    progress(&format!("unpacking into {}", root.display()));
    for entry in fs::read_dir(&archives).map_err(file(&archives))? {
        let path = entry.map_err(file(&archives))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let mut command = Command::new("dpkg-deb");
            command.arg("--extract").arg(&path).arg(root);
            step::run("unpacking", command, &log, &mut |_| {})?;
        }
    }
    Ok(())
}

/// The address of the Debian archive in the machine's own sources.
fn machine_archive() -> Option<String> {
    let files = SOURCES.iter().map(PathBuf::from).flat_map(|path| match fs::read_dir(&path) {
        Ok(entries) => {
            let mut inside: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            inside.sort();
            inside
        }
        Err(_) => vec![path],
    });
    files.into_iter().find_map(|path| {
        let text = fs::read_to_string(&path).ok()?;
        match path.extension()?.to_str()? {
            "list" => archive_in_list(&text),
            "sources" => archive_in_deb822(&text),
            _ => None,
        }
    })
}

/// The one-line style of sources.list(5): `deb [option=value …] uri suite [component …]`.
fn archive_in_list(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
        rest.split_whitespace().next().filter(|uri| is_debian(uri)).map(str::to_owned)
    })
}

/// The stanza style of sources.list(5).
fn archive_in_deb822(text: &str) -> Option<String> {
    // A comment line is not part of a stanza, and does not end a continued field.
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let field = |wanted: &str| -> Vec<&str> {
            let mut values = Vec::new();
            let mut inside = false;
            for line in stanza {
                if !line.starts_with([' ', '\t']) {
                    inside = false;
                    if let Some((name, value)) = line.split_once(':') {
                        inside = name.trim().eq_ignore_ascii_case(wanted);
                        if inside {
                            values.extend(value.split_whitespace());
                        }
                    }
                } else if inside {
                    values.extend(line.split_whitespace());
                }
            }
            values
        };
        if !field("Types").contains(&"deb") || field("Enabled").iter().any(|value| is_no(value)) {
            return None;
        }
        field("URIs").into_iter().find(|uri| is_debian(uri)).map(str::to_owned)
    })
}

fn is_no(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "without" | "off" | "disable")
}

/// Debian's main archive is called `debian` on every mirror; `debian-security` and third parties are not.
fn is_debian(uri: &str) -> bool {
    uri.contains(":/") && uri.split('/').any(|segment| segment == "debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_found_in_both_styles_and_nothing_else_is_taken_for_it() {
        type Parse = fn(&str) -> Option<String>;
        let rows: &[(&str, Parse, Option<&str>)] = &[
            (
                "deb http://mirror.example/debian bookworm main",
                archive_in_list,
                Some("http://mirror.example/debian"),
            ),
            (
                "# deb http://old.example/debian x main\ndeb [arch=amd64 signed-by=/k.gpg] \
                 https://mirror.example/archive/debian/20250520T000000Z/ bookworm main",
                archive_in_list,
                Some("https://mirror.example/archive/debian/20250520T000000Z/"),
            ),
            ("deb http://mirror.example/debian-security bookworm-security main", archive_in_list, None),
            ("deb-src http://mirror.example/debian bookworm main", archive_in_list, None),
            ("deb https://vendor.example/apt stable main", archive_in_list, None),
            (
                "Types: deb deb-src\n# note\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main",
                archive_in_deb822,
                Some("http://mirror.example/debian"),
            ),
            (
                "Types: deb\nURIs: http://mirror.example/debian-security\n\nTypes: deb\nURIs:\n http://a.example/x\n \
                 file:/srv/debian\n",
                archive_in_deb822,
                Some("file:/srv/debian"),
            ),
            ("Types: deb\nEnabled: no\nURIs: http://mirror.example/debian\n", archive_in_deb822, None),
            ("Types: deb-src\nURIs: http://mirror.example/debian\n", archive_in_deb822, None),
        ];
        for (text, parse, expected) in rows {
            assert_eq!(parse(text).as_deref(), *expected, "{text}");
        }
    }
}
