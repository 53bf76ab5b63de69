//! The listener's TLS: 1.2 and 1.3, HTTP/2 preferred (RFC 7301, RFC 9113, 9.2).

use crate::config::settings::{ClientCertificates, Tls};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Reads the certificate chain and the key, and what client certificates must be.
///
/// # Errors
/// names the file that cannot be read or used
pub(super) fn acceptor(files: &Tls, clients: Option<&ClientCertificates>) -> io::Result<TlsAcceptor> {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect).map_err(|error| {
            unusable(&files.certificate, &error, "give the certificate chain as PEM, leaf first")
        })?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        unusable(&files.key, &error, "give the private key as PEM (PKCS#8, PKCS#1 or SEC1)")
    })?;
    let verifier = match clients {
        Some(clients) => verifier(clients)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| {
            unusable(&files.certificate, &error, "check that the key belongs to the first certificate")
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Client certificates must chain to these authorities and be on none of these lists; whether one must be shown is the
/// config's to say. A certificate whose authority has no list is taken for not revoked, as lists are optional here.
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
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if !clients.require {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| broken(&clients.authorities, &error.to_string()))
}

fn unusable(file: &Path, cause: &dyn std::error::Error, cure: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {cause}; {cure} ([proxy] tls)", file.display()))
}
