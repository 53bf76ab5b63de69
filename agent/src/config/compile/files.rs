//! The files that a config names: looked for, never shown.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::report::{At, Report};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer};

/// What must be in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// PEM certificates.
    Certificates,
    /// A PEM private key.
    Key,
    /// PEM revocation lists.
    Revocations,
}

/// An absolute path.
pub(super) fn absolute(path: &At<String>, report: &Report<'_>) -> Option<PathBuf> {
    if path.value.starts_with('/') && !path.value.contains('\0') {
        Some(PathBuf::from(&path.value))
    } else {
        report.error(&path.place, Problem::Invalid, "not an absolute path", "start it with /");
        None
    }
}

/// An absolute path to a file with that content.
pub(super) fn pem(
    path: &At<String>,
    content: Content,
    host: &HostFacts,
    report: &Report<'_>,
) -> Option<PathBuf> {
    let file = absolute(path, report)?;
    if !host.check_files {
        return Some(file);
    }
    if let Err((message, cure)) = openable(&file) {
        report.error(&path.place, Problem::MissingFile, message, cure);
        return None;
    }
    // What the parser says may quote the file, so it is not passed on.
    let (holds, wanted) = match content {
        Content::Certificates => {
            let holds = CertificateDer::pem_file_iter(&file).is_ok_and(|certificates| {
                let read: Vec<bool> = certificates.map(|certificate| certificate.is_ok()).collect();
                !read.is_empty() && read.iter().all(|read| *read)
            });
            (holds, "no PEM certificate in this file")
        }
        Content::Revocations => {
            let holds = CertificateRevocationListDer::pem_file_iter(&file)
                .is_ok_and(|lists| lists.map(|list| list.is_ok()).min().unwrap_or(false));
            (holds, "no PEM revocation list in this file")
        }
        Content::Key => (PrivateKeyDer::from_pem_file(&file).is_ok(), "no PEM private key in this file"),
    };
    if holds {
        Some(file)
    } else {
        report.error(&path.place, Problem::Invalid, wanted, "name another file, or convert this one to PEM");
        None
    }
}

/// The revocation lists in a file whose time of the next one has passed, each in words.
pub(super) fn expired_lists(file: &Path) -> Vec<String> {
    let Ok(lists) = CertificateRevocationListDer::pem_file_iter(file) else { return Vec::new() };
    let in_words = |list: CertificateRevocationListDer<'_>| {
        let (_, list) = CertificateRevocationList::from_der(&list).ok()?;
        let due = list.next_update().filter(|due| *due < ASN1Time::now())?;
        Some(format!("the revocation list of \"{}\" expired at {due}", list.issuer()))
    };
    lists.filter_map(|list| in_words(list.ok()?)).collect()
}

/// The longest path of a Unix socket in bytes (unix(7); the last byte of `sun_path` is its end).
const LONGEST_SOCKET: usize = 107;

/// The path of a model's Unix socket. The model server makes it when it starts, so that it may be missing.
pub(super) fn socket(
    path: &At<String>,
    model: &str,
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Option<PathBuf> {
    let file = absolute(path, report)?;
    let invalid = |message, cure| {
        report.error(&path.place, Problem::Invalid, message, cure);
        None
    };
    if path.value.len() > LONGEST_SOCKET {
        return invalid("longer than a socket's path can be", "use at most 107 bytes");
    }
    if file.file_name().is_none() || file.components().any(|part| part == Component::ParentDir) {
        return invalid("not a socket's path", "name the file, such as \"/run/llama/model.sock\"");
    }
    warnings.push(format!(
        "model \"{model}\": other processes of this host are kept from {} by its permissions alone, not by the \
         kernel's hooks; make it mode 0660, in a group that only the agent and the model are in",
        file.display()
    ));
    if host.check_files
        && let Ok(found) = file.symlink_metadata()
    {
        if !found.file_type().is_socket() {
            return invalid("there is a file of this name, but no socket", "name the model server's socket");
        }
        if found.permissions().mode() & 0o002 != 0 {
            warnings.push(format!(
                "model \"{model}\": every user of this host can connect to {}, so that the proxy refuses to; chmod 0660 it",
                file.display()
            ));
        }
    }
    Some(file)
}

/// Whether the key is that of the chain's first certificate; both files have been read before.
pub(super) fn belong_together(certificate: &Path, key: &At<String>, report: &Report<'_>) -> bool {
    let pair = || {
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(certificate).ok()?.collect::<Result<_, _>>().ok()?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = PrivateKeyDer::from_pem_file(&key.value).ok()?;
        CertifiedKey::from_der(chain, key, &provider).ok()
    };
    let together = pair().is_some();
    if !together {
        let cure =
            "name the key that the certificate was made with; the leaf comes first in the certificate's file";
        report.error(&key.place, Problem::Conflict, "not the key of proxy.tls.certificate", cure);
    }
    together
}

/// Where a secret is read from: a systemd credential by its name, or a file by its path. `what` names it in a warning.
pub(super) fn credential(
    credential: &At<String>,
    what: &str,
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Option<PathBuf> {
    let text = credential.value.as_str();
    let named = !text.starts_with('/');
    if named && !is_file_name(text) {
        let cure = "use a systemd credential's name or an absolute path; never the credential itself";
        report.error(&credential.place, Problem::Invalid, "neither a name nor an absolute path", cure);
        return None;
    }
    let path = if named { host.credential(text) } else { PathBuf::from(text) };
    if host.check_files && named && host.credentials_directory.is_none() {
        warnings.push(format!(
            "{what} can only be looked for when the service runs; \
             load it with LoadCredential= or ImportCredential= in the unit (systemd.exec(5))"
        ));
    } else if host.check_files
        && let Err((message, cure)) = openable(&path)
    {
        let cure = if named { "load it with LoadCredential= in the unit (systemd.exec(5))" } else { cure };
        report.error(&credential.place, Problem::MissingFile, message, cure);
        return None;
    }
    Some(path)
}

fn is_file_name(text: &str) -> bool {
    let mut components = Path::new(text).components();
    let one = matches!(components.next(), Some(Component::Normal(part)) if part.as_encoded_bytes() == text.as_bytes());
    one && components.next().is_none()
        && text.len() <= 255
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Whether the service's root may: it has no CAP_DAC_OVERRIDE, which root on a terminal has. Others find out by
/// trying.
fn service_may_read(file: &Metadata) -> bool {
    !nix::unistd::geteuid().is_root()
        || match (file.uid(), file.gid()) {
            (0, _) => file.mode() & 0o400 != 0,
            (_, 0) => file.mode() & 0o040 != 0,
            _ => file.mode() & 0o004 != 0,
        }
}

/// Opens a file as the agent will, to see that it can; a pipe or a device is not opened.
fn openable(path: &Path) -> Result<(), (String, &'static str)> {
    let check = || {
        let found = path.metadata()?;
        if found.is_file() && !service_may_read(&found) {
            Err(std::io::Error::from(ErrorKind::PermissionDenied))
        } else if found.is_file() {
            File::open(path).map(|_| found.len())
        } else {
            Err(std::io::Error::from(if found.is_dir() {
                ErrorKind::IsADirectory
            } else {
                ErrorKind::InvalidInput
            }))
        }
    };
    match check() {
        Ok(0) => Err(("the file is empty".to_owned(), "put something in, or name another file")),
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                Err(("no such file".to_owned(), "make it, or name another file"))
            }
            ErrorKind::PermissionDenied => Err((
                "the file may not be read".to_owned(),
                "let root own it: chown root:root (the service is root without the right to pass over permissions)",
            )),
            ErrorKind::IsADirectory => Err(("a directory, not a file".to_owned(), "name a file in it")),
            _ => Err(("the file cannot be read".to_owned(), "name a regular file")),
        },
    }
}
