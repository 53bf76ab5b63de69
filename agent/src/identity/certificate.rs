//! The certificate that a caller opened the connection with: who it names, and by what a token is bound to it.
//!
//! The chain was verified in the handshake (`proxy/tls.rs`), against the authorities of `[proxy.clients]`; here it is
//! only read. Names are those of the subject alternative name extension (RFC 5280, 4.2.1.6): URIs and DNS names. The
//! subject's common name is not one of them (RFC 9525, 2).

use sha2::{Digest, Sha256};
use std::fmt;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// SHA-256 of a certificate in DER (`x5t#S256`, RFC 8705, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thumbprint(pub(super) [u8; 32]);

/// A client certificate, read.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub(super) thumbprint: Thumbprint,
    pub(super) names: Vec<String>,
    /// Seconds after the epoch. A connection may outlive its certificate.
    pub(super) good_until: u64,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl ClientCertificate {
    /// Reads a leaf certificate in DER; `None` for one that cannot be read, or that has more than one SPIFFE id
    /// (X.509-SVID, 2: such a one must be rejected).
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut names = Vec::new();
        if let Some(extension) = certificate.subject_alternative_name().ok()? {
            for name in &extension.value.general_names {
                match name {
                    GeneralName::URI(name) | GeneralName::DNSName(name) => names.push((*name).to_owned()),
                    _ => {}
                }
            }
        }
        let spiffe_ids = names.iter().filter(|name| is_spiffe(name)).count();
        let uris = names.iter().filter(|name| name.contains("://")).count();
        if spiffe_ids > 0 && uris > 1 {
            return None;
        }
        let good_until = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Self { thumbprint: Thumbprint(Sha256::digest(der).into()), names, good_until })
    }

    /// Whom it names: its SPIFFE id, or else its first name.
    pub(super) fn subject(&self) -> Option<&str> {
        self.names.iter().find(|name| is_spiffe(name)).or(self.names.first()).map(String::as_str)
    }

    /// Its names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

fn is_spiffe(name: &str) -> bool {
    name.starts_with("spiffe://")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(uris: &[&str], names: &[&str]) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uri = |uri: &&str| SanType::URI((*uri).to_owned().try_into().unwrap());
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_names_its_spiffe_id_first() {
        for (uris, names, subject, why) in [
            (
                &["spiffe://example.eu/ml"][..],
                &["batch.example.eu"][..],
                Some("spiffe://example.eu/ml"),
                "SPIFFE",
            ),
            (&[], &["batch.example.eu"], Some("batch.example.eu"), "a DNS name"),
            (&["https://example.eu/batch"], &[], Some("https://example.eu/batch"), "another URI"),
            (&[], &[], None, "nobody: a common name is no name"),
        ] {
            let read = ClientCertificate::read(&certificate(uris, names)).unwrap();
            assert_eq!(read.subject(), subject, "{why}");
        }
    }

    #[test]
    fn what_is_no_certificate_or_names_two_is_not_read() {
        let two = certificate(&["spiffe://example.eu/a", "spiffe://example.eu/b"], &[]);
        let mut longer = certificate(&[], &["a.example.eu"]);
        longer.push(0);
        for (der, why) in [(two, "two SPIFFE ids"), (longer, "a byte more"), (b"no".to_vec(), "no DER")] {
            assert_eq!(ClientCertificate::read(&der), None, "{why}");
        }
    }
}
