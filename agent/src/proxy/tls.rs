//! The listener's TLS: 1.2 and 1.3, HTTP/2 preferred (RFC 7301, RFC 9113, 9.2).

use crate::config::settings::Tls;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Reads the certificate chain and the key.
///
/// # Errors
/// names the file that cannot be read or used
pub(super) fn acceptor(files: &Tls) -> io::Result<TlsAcceptor> {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect).map_err(|error| {
            unusable(&files.certificate, &error, "give the certificate chain as PEM, leaf first")
        })?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        unusable(&files.key, &error, "give the private key as PEM (PKCS#8, PKCS#1 or SEC1)")
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            unusable(&files.certificate, &error, "check that the key belongs to the first certificate")
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unusable(file: &Path, cause: &dyn std::error::Error, cure: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {cause}; {cure} ([proxy] tls)", file.display()))
}
