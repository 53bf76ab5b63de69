//! A certificate authority for tests: one root, leaf certificates for names and addresses, valid for a day.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use time::{Duration, OffsetDateTime};

/// A test authority. Its key lives in memory only.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, as PEM text.
#[derive(Clone)]
pub struct Identity {
    /// The leaf certificate.
    pub certificate: String,
    /// Its PKCS#8 key.
    pub key: String,
    serial: u64,
}

/// Of the next certificate of this process.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// Why a certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be made.
    #[error("test certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Its PEM cannot be read back.
    #[error("test certificate is not PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// TLS refuses it.
    #[error("test certificate is refused: {0}")]
    Tls(#[from] rustls::Error),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority of this common name.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn new(name: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity();
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The root certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A server identity for these DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name cannot be a subject alternative name.
    pub fn issue(&self, names: &[&str]) -> Result<Identity, AuthorityError> {
        self.issue_for(ExtendedKeyUsagePurpose::ServerAuth, names)
    }

    /// A client identity for these names; one with `://` in it is a URI, such as a SPIFFE id.
    ///
    /// # Errors
    /// When a name cannot be a subject alternative name.
    pub fn issue_client(&self, names: &[&str]) -> Result<Identity, AuthorityError> {
        self.issue_for(ExtendedKeyUsagePurpose::ClientAuth, names)
    }

    fn issue_for(&self, usage: ExtendedKeyUsagePurpose, names: &[&str]) -> Result<Identity, AuthorityError> {
        let key = KeyPair::generate()?;
        let (uris, others): (Vec<&str>, Vec<&str>) =
            names.iter().copied().partition(|name| name.contains("://"));
        let mut params = CertificateParams::new(others.into_iter().map(str::to_owned).collect::<Vec<_>>())?;
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        }
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("test"));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        (params.not_before, params.not_after) = validity();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(serial.into());
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem(), serial })
    }

    /// The list of those identities that it takes back (RFC 5280, 5), PEM; the next one is due `due` seconds from now, which
    /// may be in the past.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn revoke(&self, revoked: &[&Identity], due: i64) -> Result<String, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        let entry = |identity: &&Identity| RevokedCertParams {
            serial_number: identity.serial.into(),
            revocation_time: now - Duration::hours(1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - Duration::hours(2),
            next_update: now + Duration::seconds(due),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

impl Identity {
    /// A TLS server configuration with this identity that offers these protocols by ALPN.
    ///
    /// # Errors
    /// When the identity is unusable.
    pub fn server(&self, protocols: &[&str]) -> Result<Arc<rustls::ServerConfig>, AuthorityError> {
        let chain =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// A TLS client configuration that trusts only these PEM certificates and offers these protocols by ALPN.
///
/// # Errors
/// When the PEM holds no usable certificate.
pub fn client(roots: &str, protocols: &[&str]) -> Result<Arc<rustls::ClientConfig>, AuthorityError> {
    client_as(None, roots, protocols)
}

/// As [`client`], with a certificate of its own to show.
///
/// # Errors
/// As [`client`], and when the identity is unusable.
pub fn client_as(
    identity: Option<&Identity>,
    roots: &str,
    protocols: &[&str],
) -> Result<Arc<rustls::ClientConfig>, AuthorityError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(certificate?)?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key, .. }) => {
            let chain =
                CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// The provider is named, never the process default: a test may run beside code that sets another.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn validity() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - Duration::hours(1), now + Duration::days(1))
}
