//! The trail's keys: the signing key, its verifier key for others, and the pseudonym key of each epoch.
//!
//! They lie in `keys/` below the trail, the private ones with mode 0600. An operator may put a `signing.key` there before the
//! first start (the text form of signed-note: `PRIVATE+KEY+<name>+<hash>+<base64>`). Nothing here prints a private key.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use ed25519_dalek::{SigningKey, VerifyingKey};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use signed_note::{StandardSigner, StandardVerifier, is_key_name_valid, key_id, new_ed25519_verifier_key};
use zeroize::Zeroizing;

use crate::disk::Store;
use crate::error::{At, AuditError};
use crate::record::Pseudonym;

/// The verifier key's place, relative to the trail.
pub(crate) const VERIFIER: &str = "keys/verifier.pub";
const SIGNING: &str = "keys/signing.key";
const PRIVATE: u32 = 0o600;
const ED25519: u8 = 1;

/// What the writer signs and hashes with.
pub(crate) struct Keys {
    pub(crate) signer: StandardSigner,
    pub(crate) verifier: String,
    pseudonym: PseudonymKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the keys; makes those that are missing where that is safe: a new signing key only for a trail that was never signed.
    pub(crate) fn open(store: &Store, origin: &str, never_signed: bool) -> Result<Self, AuditError> {
        if !is_key_name_valid(origin) || origin.chars().any(char::is_control) {
            return Err(AuditError::Origin { origin: origin.to_owned() });
        }
        let signing = match read_private(&store.path(SIGNING))? {
            Some(text) => parse_signing_key(&store.path(SIGNING), &text, origin)?,
            None if never_signed => create_signing_key(store, origin)?,
            None => return Err(AuditError::KeyMissing { path: store.path(SIGNING) }),
        };
        let text = signer_text(origin, &signing);
        let signer = StandardSigner::new(&text).map_err(|_| malformed(&store.path(SIGNING)))?;
        let verifier = new_ed25519_verifier_key(origin, &signing.verifying_key());
        let line = format!("{verifier}\n");
        if fs::read(store.path(VERIFIER)).ok().as_deref() != Some(line.as_bytes()) {
            store.publish(Path::new(VERIFIER), line.as_bytes(), 0o644)?;
        }
        Ok(Self { signer, verifier, pseudonym: PseudonymKey::open(store)? })
    }

    pub(crate) fn pseudonym(&self, text: &str) -> Pseudonym {
        self.pseudonym.hash(text)
    }
}

/// A verifier key as given or as read from the trail, checked to be in its one canonical form.
pub(crate) fn parse_verifier(place: &str, text: &str) -> Result<StandardVerifier, AuditError> {
    let error = |problem| AuditError::Key { place: place.to_owned(), problem };
    let verifier = StandardVerifier::new(text).map_err(|_| error("is not a signed-note verifier key"))?;
    // The parser takes the key's hash in either case; one key has one text. base64 may contain `+` itself.
    let mut parts = text.splitn(3, '+');
    let (name, encoded) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| error("is not base64"))?;
    let public = bytes.split_first().and_then(|(_, key)| key.try_into().ok());
    let public = public.and_then(|key| VerifyingKey::from_bytes(key).ok());
    let public = public.ok_or_else(|| error("is not an Ed25519 key"))?;
    if new_ed25519_verifier_key(name, &public) != text {
        return Err(error("is not in its canonical form"));
    }
    Ok(verifier)
}

/// The verifier key that lies in the trail itself: one line.
pub(crate) fn read_verifier(root: &Path) -> Result<String, AuditError> {
    let path = root.join(VERIFIER);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(AuditError::Key {
                place: path.display().to_string(),
                problem: "is missing; give a verifier key kept elsewhere",
            });
        }
        read => read.at("read", &path)?,
    };
    let line = String::from_utf8(text).ok().and_then(|text| text.strip_suffix('\n').map(str::to_owned));
    line.ok_or_else(|| AuditError::tampered(path, "is not one line with a verifier key"))
}

/// HMAC-SHA-256 under one epoch's key. Destroying the key file makes its pseudonyms unlinkable; no proof breaks.
struct PseudonymKey {
    epoch: u64,
    key: Zeroizing<[u8; 32]>,
}

impl PseudonymKey {
    /// The newest epoch's key, or the first one, newly made.
    fn open(store: &Store) -> Result<Self, AuditError> {
        let directory = store.path("keys");
        let mut newest: Option<(u64, PathBuf)> = None;
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let path = entry.at("list", &directory)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let epoch = name.strip_prefix("pseudonym-").and_then(|rest| rest.strip_suffix(".key"));
            if let Some(epoch) = epoch.and_then(|epoch| epoch.parse().ok())
                && newest.as_ref().is_none_or(|(known, _)| *known < epoch)
            {
                newest = Some((epoch, path));
            }
        }
        let Some((epoch, path)) = newest else {
            let key = random()?;
            store.publish(Path::new("keys/pseudonym-1.key"), &*key, PRIVATE)?;
            return Ok(Self { epoch: 1, key });
        };
        let bytes = read_private(&path)?.unwrap_or_default();
        let key = bytes.as_slice().try_into().map_err(|_| AuditError::Key {
            place: path.display().to_string(),
            problem: "is not 32 bytes long",
        })?;
        Ok(Self { epoch, key: Zeroizing::new(key) })
    }

    fn hash(&self, text: &str) -> Pseudonym {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("HMAC takes keys of every length");
        mac.update(text.as_bytes());
        let digest = mac.finalize().into_bytes();
        let half = digest.iter().take(16).fold(0, |half: u128, byte| (half << 8) | u128::from(*byte));
        Pseudonym(format!("{}-{half:032x}", self.epoch))
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, AuditError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| io::Error::other(error.to_string()))
        .at("get random bytes from", Path::new("the kernel"))?;
    Ok(bytes)
}

fn create_signing_key(store: &Store, origin: &str) -> Result<SigningKey, AuditError> {
    let signing = SigningKey::from_bytes(&*random()?);
    let text = Zeroizing::new(format!("{}\n", signer_text(origin, &signing).as_str()));
    store.publish(Path::new(SIGNING), text.as_bytes(), PRIVATE)?;
    Ok(signing)
}

fn signer_text(origin: &str, signing: &SigningKey) -> Zeroizing<String> {
    let public = [&[ED25519], signing.verifying_key().to_bytes().as_slice()].concat();
    let private = Zeroizing::new([&[ED25519], signing.as_bytes().as_slice()].concat());
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*private));
    Zeroizing::new(format!("PRIVATE+KEY+{origin}+{:08x}+{}", key_id(origin, &public), encoded.as_str()))
}

fn parse_signing_key(path: &Path, text: &[u8], origin: &str) -> Result<SigningKey, AuditError> {
    let text = str::from_utf8(text).map_err(|_| malformed(path))?.trim_end();
    let mut parts = text.splitn(5, '+');
    let (head, name) = ((parts.next(), parts.next()), parts.next());
    if head != (Some("PRIVATE"), Some("KEY")) {
        return Err(malformed(path));
    }
    if name != Some(origin) {
        return Err(AuditError::Key {
            place: path.display().to_string(),
            problem: "belongs to another origin than the configured one",
        });
    }
    let encoded = parts.nth(1).ok_or_else(|| malformed(path))?;
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| malformed(path))?);
    let (algorithm, secret) = bytes.split_first().ok_or_else(|| malformed(path))?;
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(secret.try_into().map_err(|_| malformed(path))?);
    let signing = SigningKey::from_bytes(&secret);
    // Also holds the key's hash against the public key.
    if *algorithm != ED25519 || signer_text(origin, &signing).as_str() != text {
        return Err(malformed(path));
    }
    Ok(signing)
}

fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, AuditError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.at("look at", path)?,
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AuditError::KeyExposed { path: path.to_path_buf(), mode });
    }
    Ok(Some(Zeroizing::new(fs::read(path).at("read", path)?)))
}

fn malformed(path: &Path) -> AuditError {
    AuditError::Key { place: path.display().to_string(), problem: "is not a signed-note signer key" }
}
