//! The proxy's own credential at a model, which no caller ever sees.

use crate::secret;
use bytes::Bytes;
use http::HeaderValue;
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// The header that a model's credential makes. Its bytes are shared, never copied, and wiped when the last owner drops them.
pub(super) fn authorization(file: &Path) -> io::Result<HeaderValue> {
    let token = secret::read(file, "the model's credential", "[[model]] credential")?;
    let value = Zeroizing::new(format!("Bearer {}", token.as_str()).into_bytes());
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(io::Error::other)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_is_shared_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, "s3cret\n").unwrap();
        let header = authorization(&file).unwrap();
        assert_eq!(header.as_bytes(), b"Bearer s3cret");
        assert_eq!(
            header.clone().as_bytes().as_ptr(),
            header.as_bytes().as_ptr(),
            "one copy, whoever sends it"
        );
        assert!(header.is_sensitive() && !format!("{header:?}").contains("s3cret"));
    }
}
