//! # Secrets: one line of a file, for as long as it is needed
//!
//! A secret comes from a file or from a systemd credential (which is a file below `$CREDENTIALS_DIRECTORY`), never from the
//! config, an argument or the environment. It is wiped when it is dropped; no error shows a byte of it.

use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest secret in bytes.
const LONGEST: usize = 8 * 1024;

/// Reads `what` from `file`; `key` is where the config names the file.
///
/// # Errors
/// names the file that holds no usable secret, and the cure
pub(crate) fn read(file: &Path, what: &str, key: &str) -> io::Result<Zeroizing<String>> {
    let unusable = |kind, cause: &str| io::Error::new(kind, format!("{what} in {}: {cause}", file.display()));
    let text = std::fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(|error| unusable(error.kind(), &format!("{error}; see {key}")))?;
    let secret = text.trim();
    let visible = secret.bytes().all(|b| b.is_ascii_graphic());
    if !visible || !(1..=LONGEST).contains(&secret.len()) {
        let cure = "the file must hold one line of 1 to 8192 visible ASCII characters";
        return Err(unusable(io::ErrorKind::InvalidData, cure));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_visible_line_or_the_start_fails() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let rows = [
            ("s3cret\n", Some("s3cret"), "the newline that editors leave"),
            ("  s3cret  ", Some("s3cret"), "white space around"),
            ("", None, "empty"),
            ("\n", None, "nothing but a newline"),
            ("two words", None, "white space within"),
            ("a\nb", None, "two lines: a header could be smuggled in"),
            ("schlüssel", None, "not ASCII"),
        ];
        for (content, expected, why) in rows {
            std::fs::write(&file, content).unwrap();
            let read = read(&file, "the credential", "[[model]] credential");
            assert_eq!(read.as_ref().ok().map(|text| text.as_str()), expected, "{why}");
            if let Err(error) = read {
                let words = error.to_string();
                assert!(words.contains("key"), "names the file: {words}");
                assert!(content.trim().is_empty() || !words.contains(content), "never the content: {words}");
            }
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(read(&file, "it", "key").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
