//! The listener's TLS: 1.2 and 1.3, HTTP/2 preferred (RFC 7301, RFC 9113, 9.2).
//!
//! It is part of a policy: a reload reads the files anew, or changes nothing where one cannot be used. Connections that are
//! open go on; what they were opened with is held against the new authorities and lists at their next request, and once a
//! minute besides, so that a certificate that is revoked or whose list has expired ends there, too.
//!
//! Sessions are not resumed where client certificates are asked for: a resumed one would show none to be checked.

use crate::config::settings::{ClientCertificates, Tls};
use crate::identity::{AuthenticationError, ClientCertificate};
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// For so long is a certificate that was verified not verified again on its connection.
const VERIFIED_FOR: Duration = Duration::from_secs(60);
/// Least pause between two complaints of the same.
const COMPLAINTS: Duration = Duration::from_secs(60);

/// The listener's TLS, as one policy has it.
pub(super) struct ServerTls {
    config: Arc<ServerConfig>,
    /// What client certificates are held against, and whether there must be one.
    clients: Option<(Arc<dyn ClientCertVerifier>, bool)>,
    complained: Mutex<Option<Instant>>,
}

impl ServerTls {
    /// Reads the certificate chain and the key, and what client certificates must be.
    ///
    /// # Errors
    /// names the file that cannot be read or used
    pub(super) fn read(files: &Tls, clients: Option<&ClientCertificates>) -> io::Result<Arc<Self>> {
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect).map_err(
                |error| unusable(&files.certificate, &error, "give the certificate chain as PEM, leaf first"),
            )?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
            unusable(&files.key, &error, "give the private key as PEM (PKCS#8, PKCS#1 or SEC1)")
        })?;
        let clients = match clients {
            Some(clients) => Some((verifier(clients)?, clients.require)),
            None => None,
        };
        let verifier = clients
            .as_ref()
            .map_or_else(WebPkiClientVerifier::no_client_auth, |(verifier, _)| Arc::clone(verifier));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| {
                unusable(&files.certificate, &error, "check that the key belongs to the first certificate")
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if clients.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(Self { config: Arc::new(config), clients, complained: Mutex::default() }))
    }

    /// Shakes hands for connections that begin now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Says why a handshake failed: where every caller's would, so that it is heard.
    pub(super) fn failed(&self, cause: &io::Error) {
        tracing::debug!(%cause, "a TLS handshake failed");
        let error = cause.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. },
        )) = error
        else {
            return;
        };
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|last| last.elapsed() >= COMPLAINTS) {
            *complained = Some(Instant::now());
            tracing::warn!(
                "a client certificate was refused, as all of its authority are: the authority's revocation list \
                 ([proxy.clients] revoked) has expired; put the current one there and systemctl reload bailiwick"
            );
        }
    }

    fn accepts(&self, chain: &[CertificateDer<'static>]) -> bool {
        let Some(((verifier, _), (leaf, rest))) = self.clients.as_ref().zip(chain.split_first()) else {
            return false;
        };
        verifier.verify_client_cert(leaf, rest, UnixTime::now()).is_ok()
    }
}

/// The certificate that a caller opened a connection with.
pub(super) struct Shown {
    certificate: ClientCertificate,
    chain: Vec<CertificateDer<'static>>,
    /// Under which TLS it was found good last, and when.
    verified: Mutex<(Arc<ServerTls>, Instant)>,
}

impl Shown {
    /// The chain that a handshake under `tls` verified; `None` for a leaf that cannot be read.
    pub(super) fn read(chain: &[CertificateDer<'_>], tls: &Arc<ServerTls>) -> Option<Self> {
        Some(Self {
            certificate: ClientCertificate::read(chain.first()?)?,
            chain: chain.iter().cloned().map(CertificateDer::into_owned).collect(),
            verified: Mutex::new((Arc::clone(tls), Instant::now())),
        })
    }

    fn is_good(&self, tls: &Arc<ServerTls>) -> bool {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&verified.0, tls) && verified.1.elapsed() < VERIFIED_FOR {
            return true;
        }
        let good = tls.accepts(&self.chain);
        if good {
            *verified = (Arc::clone(tls), Instant::now());
        }
        good
    }
}

/// The certificate of a connection, if it is good under the policy that a request on it is judged by.
///
/// # Errors
/// when it is not any more, or when there is none where the policy wants one
pub(super) fn certificate<'a>(
    shown: Option<&'a Shown>,
    tls: &Arc<ServerTls>,
) -> Result<Option<&'a ClientCertificate>, AuthenticationError> {
    match shown {
        Some(shown) if shown.is_good(tls) => Ok(Some(&shown.certificate)),
        // Nothing asks for it any more, so that it counts for nothing.
        Some(_) if tls.clients.is_none() => Ok(None),
        Some(_) => Err(AuthenticationError::certificate_withdrawn()),
        None if tls.clients.as_ref().is_some_and(|(_, required)| *required) => {
            Err(AuthenticationError::certificate_missing())
        }
        None => Ok(None),
    }
}

/// Client certificates must chain to these authorities and be on none of these lists; whether one must be shown is the
/// config's to say. A certificate whose authority has no list is taken for not revoked, as lists are optional here; where
/// there is one that has expired, nobody knows who has been revoked since, and all of that authority are refused.
fn verifier(clients: &ClientCertificates) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let authorities = || {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&clients.authorities).ok()? {
            store.add(certificate.ok()?).ok()?;
        }
        (!store.is_empty()).then_some(store)
    };
    let broken = |file: &Path, cure: &str| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {cure} ([proxy.clients])", file.display()))
    };
    let authorities =
        authorities().ok_or_else(|| broken(&clients.authorities, "give PEM certificates of authorities"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
    if let Some(file) = &clients.revoked {
        let lists: Vec<_> = CertificateRevocationListDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|_| broken(file, "give PEM revocation lists"))?;
        if lists.is_empty() {
            return Err(broken(file, "give PEM revocation lists"));
        }
        builder = builder.with_crls(lists).allow_unknown_revocation_status().enforce_revocation_expiration();
    }
    if !clients.require {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| broken(&clients.authorities, &error.to_string()))
}

fn unusable(file: &Path, cause: &dyn std::error::Error, cure: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {cause}; {cure} ([proxy] tls)", file.display()))
}
