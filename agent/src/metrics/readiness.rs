//! Whether this host should be sent requests now, and if not, why.

use super::{Metrics, Sources};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// From when to when the proxy's certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Inclusive.
    pub from: OffsetDateTime,
    /// Inclusive.
    pub until: OffsetDateTime,
}

/// The answer, as `/readyz` gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether every check says yes.
    pub ready: bool,
    /// One by one.
    pub checks: Vec<Check>,
}

/// One thing that must be so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `guard`, `trail`, `certificate`, `upstreams`, `draining`
    pub name: &'static str,
    /// Whether it is.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Validity {
    /// Of the first certificate in a PEM file; `None` when there is none to read.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        let leaf = CertificateDer::from_pem_file(path).ok()?;
        let (_, certificate) = X509Certificate::from_der(&leaf).ok()?;
        let validity = certificate.validity();
        Some(Self { from: validity.not_before.to_datetime(), until: validity.not_after.to_datetime() })
    }
}

impl Metrics {
    /// Whether this host should be sent requests now.
    #[must_use]
    pub fn readiness(&self, sources: &Sources) -> Readiness {
        let checks = vec![
            Check::of("guard", self.guard_gap()),
            Check::of(
                "trail",
                sources.log.check().err().map(|_| "the audit trail cannot be written".to_owned()),
            ),
            Check::of(
                "certificate",
                certificate(sources.policy.borrow().certificate(), OffsetDateTime::now_utc()),
            ),
            Check::of("upstreams", upstreams(sources)),
            Check::of("draining", sources.stopping.borrow().then(|| "the agent is stopping".to_owned())),
        ];
        Readiness { ready: checks.iter().all(|check| check.ok), checks }
    }

    /// Why the guard does not stand.
    fn guard_gap(&self) -> Option<String> {
        match self.truth() {
            None => {
                Some("the kernel was not looked at for some seconds: see journalctl -u bailiwick".to_owned())
            }
            Some(truth) if !truth.guarded => Some("the guard has a gap: see bailiwick status".to_owned()),
            Some(_) => None,
        }
    }
}

impl Check {
    fn of(name: &'static str, reason: Option<String>) -> Self {
        Self { name, ok: reason.is_none(), reason }
    }
}

fn certificate(validity: Option<Validity>, now: OffsetDateTime) -> Option<String> {
    match validity {
        None => Some("the proxy's certificate cannot be read".to_owned()),
        Some(validity) if now < validity.from => Some("the proxy's certificate is not valid yet".to_owned()),
        Some(validity) if now > validity.until => Some("the proxy's certificate has expired".to_owned()),
        Some(_) => None,
    }
}

/// The models that have no server that is well.
fn upstreams(sources: &Sources) -> Option<String> {
    let policy = Arc::clone(&sources.policy.borrow());
    let mut models: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
    for server in policy.upstream_health() {
        let (well, said) = models.entry(server.model).or_default();
        *well |= server.state == "up";
        said.push(format!("{} is {}", server.upstream, server.state));
    }
    let without = models.into_iter().filter(|(_, (well, _))| !well);
    let said: Vec<String> =
        without.map(|(model, (_, said))| format!("{model}: {}", said.join(", "))).collect();
    (!said.is_empty()).then(|| format!("no server is well of {}", said.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn a_certificate_counts_between_its_dates() {
        let now = OffsetDateTime::now_utc();
        let day = Duration::DAY;
        for (from, until, expected, why) in [
            (now - day, now + day, None, "valid"),
            (now + day, now + day * 2, Some("not valid yet"), "of tomorrow"),
            (now - day * 2, now - day, Some("expired"), "of yesterday"),
        ] {
            let said = certificate(Some(Validity { from, until }), now);
            assert_eq!(said.is_some(), expected.is_some(), "{why}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{why}");
        }
        assert!(certificate(None, now).is_some(), "one that cannot be read");
    }

    #[test]
    fn a_certificate_s_dates_are_read_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tls.crt");
        assert_eq!(Validity::of_file(&path), None);
        let mut parameters = rcgen::CertificateParams::new(vec!["host".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 2);
        parameters.not_after = rcgen::date_time_ymd(2027, 1, 2);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&path, parameters.self_signed(&key).unwrap().pem()).unwrap();
        let validity = Validity::of_file(&path).unwrap();
        assert_eq!((validity.from.year(), validity.until.year()), (2026, 2027));
    }
}
