//! What every proxy of the bench is given: a certificate, an issuer's key, a place for its files; and what its callers have.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use bailiwick_tests::authority::{self, Authority};
use bailiwick_tests::issuer::{Algorithm, Issuer, Plan, Wish};
use tempfile::TempDir;

use crate::Measured;
use crate::load::Target;

/// The group that may call.
pub(crate) const GROUP: &str = "bench";
/// The audience of the tokens.
pub(crate) const AUDIENCE: &str = "bailiwick";

/// Its files go when it is dropped.
pub(crate) struct Setting {
    directory: TempDir,
    root: Authority,
    pub(crate) issuer: Issuer,
    /// Of the model server.
    pub(crate) upstream: SocketAddr,
    token: String,
    forged: String,
}

impl Setting {
    pub(crate) fn make(upstream: SocketAddr) -> Measured<Self> {
        // On the disk that the project is on: a durable record on a tmpfs would cost nothing.
        let above = env!("CARGO_TARGET_TMPDIR");
        // ext4 without a journal looks at every inode that was freed in the last minutes when it makes a file near by, those of
        // a build or of an earlier bench. The top of a hierarchy (`chattr +T`) is put elsewhere; other file systems refuse this.
        let _ = Command::new("chattr").args(["+T", above]).output();
        let directory = tempfile::tempdir_in(above)?;
        let root = Authority::new("bench")?;
        let identity = root.issue(&["127.0.0.1"])?;
        let issuer = Issuer::start(Plan {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            namespace: None,
            identity: None,
            algorithms: vec![Algorithm::Rs256],
            clients: Vec::new(),
        })?;
        let wish = Wish { groups: Some(vec![GROUP.into()]), lifetime: 3600, ..Wish::default() };
        let token = issuer.mint(&wish)?;
        let forged = issuer.mint(&Wish { forged: true, ..wish })?;
        let setting = Self { directory, root, issuer, upstream, token, forged };
        for (name, text) in [
            ("tls.crt", identity.certificate.clone()),
            ("tls.key", identity.key.clone()),
            ("tls.pem", format!("{}{}", identity.certificate, identity.key)),
            ("issuer.pem", setting.issuer.public_key_pem()),
            ("api-key", "bench".to_owned()),
        ] {
            fs::write(setting.at(name), text)?;
        }
        Ok(setting)
    }

    /// A file of this name.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A port that nobody has, for a moment.
    pub(crate) fn free_address() -> Measured<SocketAddr> {
        Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
    }

    /// Over TLS, with a token that is good.
    pub(crate) fn caller(&self, address: SocketAddr) -> Measured<Target> {
        self.caller_with(address, &self.token)
    }

    /// The same, with a token that somebody else signed.
    pub(crate) fn impostor(&self, address: SocketAddr) -> Measured<Target> {
        self.caller_with(address, &self.forged)
    }

    fn caller_with(&self, address: SocketAddr, token: &str) -> Measured<Target> {
        Target::tls(address, authority::client(self.root.certificate(), &["http/1.1"])?, token)
    }
}
