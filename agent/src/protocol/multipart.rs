//! `multipart/form-data` (RFC 7578), strictly: what two readers could take apart differently is refused.
//!
//! Own code because a forgiving reader is the danger: where the model's server sees a part that was not seen here, that part
//! was not masked. So the boundary may stand at delimiters only, lines end in CRLF, there is nothing before the first and
//! after the last part, no encodings, no folded or unknown headers, no escapes in names, and no name twice.

use super::ProtocolError;
use std::ops::Range;

/// Most parts of a body.
const MOST_PARTS: usize = 64;
/// Largest head of a part, in bytes.
const LARGEST_HEAD: usize = 2048;
/// Longest name of a part, in bytes.
const LONGEST_NAME: usize = 64;
/// Longest boundary (RFC 2046, 5.1.1), in bytes.
const LONGEST_BOUNDARY: usize = 70;

/// A body that has been taken apart: spans of it.
#[derive(Debug)]
pub(super) struct Form<'a> {
    bytes: &'a [u8],
    boundary: &'a str,
    pub(super) parts: Vec<Part<'a>>,
    /// After the last boundary's `--`: nothing, or a line end.
    end: &'a [u8],
}

/// One part.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    /// It has a file name, and so is a file.
    pub(super) file: bool,
    /// As the part says, where it does.
    pub(super) content_type: Option<&'a str>,
    head: Range<usize>,
    value: Range<usize>,
}

/// The boundary that a content type names: letters, digits, `-`, `_` and `.`, which need no quotes anywhere.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    // Exactly one parameter: a second one might be another boundary to somebody.
    let (name, value) = parameters.split_once('=')?;
    let value = value.trim();
    let value = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = (1..=LONGEST_BOUNDARY).contains(&value.len()) && value.bytes().all(plain);
    (good && name.trim().eq_ignore_ascii_case("boundary")).then_some(value)
}

impl<'a> Form<'a> {
    /// Takes a body apart.
    ///
    /// # Errors
    /// `multipart-malformed` (400), in words of this module only
    pub(super) fn read(bytes: &'a [u8], boundary: &'a str) -> Result<Self, ProtocolError> {
        let delimiter = format!("--{boundary}");
        let delimiter = delimiter.as_bytes();
        let mut starts = find_all(bytes, delimiter);
        if starts.next() != Some(0) {
            return Err(malformed("it does not begin with its boundary"));
        }
        let mut at = delimiter.len();
        let mut parts: Vec<Part<'a>> = Vec::new();
        loop {
            match bytes.get(at..at + 2) {
                Some(b"\r\n") => at += 2,
                Some(b"--") => break,
                Some(_) | None => return Err(malformed("there is something after a boundary")),
            }
            let next = starts.next().ok_or_else(|| malformed("it ends within a part"))?;
            let end = next.checked_sub(2).filter(|end| *end >= at && &bytes[*end..next] == b"\r\n");
            let end = end.ok_or_else(|| malformed("a boundary does not stand on a line of its own"))?;
            let part = part(bytes, at..end)?;
            // Lists have their names in brackets, and come once for each value.
            if !part.name.ends_with("[]") && parts.iter().any(|earlier| earlier.name == part.name) {
                return Err(malformed("two parts have the same name"));
            }
            parts.push(part);
            if parts.len() > MOST_PARTS {
                return Err(malformed("it has more parts than are accepted"));
            }
            at = next + delimiter.len();
        }
        let end = &bytes[at + 2..];
        if starts.next().is_some() || !matches!(end, b"" | b"\r\n") {
            return Err(malformed("there is something after the last boundary"));
        }
        Ok(Self { bytes, boundary, parts, end })
    }

    /// What a part holds.
    pub(super) fn value(&self, part: &Part<'_>) -> &'a [u8] {
        &self.bytes[part.value.clone()]
    }

    /// The body again, each part with its value (`None`: as it came), or left out.
    pub(super) fn write(&self, values: &[Option<Written>]) -> Vec<u8> {
        let mut written = Vec::with_capacity(self.bytes.len());
        let mut push = |pieces: &[&[u8]]| pieces.iter().for_each(|piece| written.extend_from_slice(piece));
        for (part, value) in self.parts.iter().zip(values) {
            let value = match value {
                Some(Written::LeftOut) => continue,
                Some(Written::As(value)) => value.as_bytes(),
                None => self.value(part),
            };
            push(&[
                b"--",
                self.boundary.as_bytes(),
                b"\r\n",
                &self.bytes[part.head.clone()],
                b"\r\n\r\n",
                value,
                b"\r\n",
            ]);
        }
        push(&[b"--", self.boundary.as_bytes(), b"--", self.end]);
        written
    }
}

/// What becomes of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It does not go on.
    LeftOut,
    /// With another value.
    As(String),
}

/// One part's head and value.
fn part(bytes: &[u8], span: Range<usize>) -> Result<Part<'_>, ProtocolError> {
    let within = &bytes[span.clone()];
    let head = find_all(within, b"\r\n\r\n").next().filter(|length| *length <= LARGEST_HEAD);
    let length = head.ok_or_else(|| malformed("a part has no head, or one that is too large"))?;
    let text = std::str::from_utf8(&within[..length]).map_err(|_| malformed("a part's head is not UTF-8"))?;
    let (mut disposition, mut content_type) = (None, None);
    for line in text.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a part's head has a bad line"))?;
        let known = if name.eq_ignore_ascii_case("content-disposition") {
            disposition.replace(value.trim())
        } else if name.eq_ignore_ascii_case("content-type") {
            content_type.replace(value.trim())
        } else {
            return Err(malformed("a part has a header other than Content-Disposition and Content-Type"));
        };
        if known.is_some() || value.chars().any(char::is_control) {
            return Err(malformed("a part's head has a line twice, or a control character"));
        }
    }
    let named = disposition.and_then(disposed);
    let (name, file) =
        named.ok_or_else(|| malformed("a part's Content-Disposition is not form-data with a plain name"))?;
    let head = span.start..span.start + length;
    Ok(Part { name, file, content_type, value: head.end + 4..span.end, head })
}

/// `form-data; name="…"`, and perhaps `; filename="…"`: the name, and whether it is a file's.
fn disposed(value: &str) -> Option<(&str, bool)> {
    let rest = value.strip_prefix("form-data;")?.trim_start();
    let (name, rest) = rest.strip_prefix("name=\"")?.split_once('"')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'[' | b']');
    if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(plain) {
        return None;
    }
    if rest.is_empty() {
        return Some((name, false));
    }
    let rest = rest.strip_prefix(';')?.trim_start();
    let file = rest.strip_prefix("filename=\"")?.strip_suffix('"')?;
    (!file.contains(['"', '\\', ';'])).then_some((name, true))
}

/// Where a piece stands, each place after the one before.
fn find_all<'a>(bytes: &'a [u8], piece: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(bytes, piece)
}

/// A body that is not what it should be.
pub(super) fn malformed(what: &str) -> ProtocolError {
    ProtocolError::bad_request("multipart-malformed", format!("the multipart body cannot be read: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(lines: &[&str]) -> Vec<u8> {
        lines.join("\r\n").into_bytes()
    }

    fn read(lines: &[&str]) -> Result<usize, ProtocolError> {
        Form::read(&form(lines), "b").map(|form| form.parts.len())
    }

    const A: &str = "Content-Disposition: form-data; name=\"a\"";
    const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"x y.wav\"";

    #[test]
    fn what_is_read_is_written_byte_for_byte() {
        for lines in [
            &["--b", A, "", "1", "--b", FILE, "Content-Type: audio/wav", "", "\0\u{7f}\r", "--b--", ""][..],
            &["--b", A, "", "", "--b--"],
            &["--b--"],
        ] {
            let bytes = form(lines);
            let form = Form::read(&bytes, "b").unwrap();
            let values: Vec<_> = form.parts.iter().map(|_| None).collect();
            assert_eq!(form.write(&values), bytes);
        }
        let bytes = form(&["--b", A, "", "1", "--b", FILE, "", "2", "--b--", ""]);
        let form = Form::read(&bytes, "b").unwrap();
        assert_eq!((form.parts[1].name, form.parts[1].file), ("file", true));
        let written = form.write(&[Some(Written::LeftOut), Some(Written::As("3".into()))]);
        assert_eq!(written, self::form(&["--b", FILE, "", "3", "--b--", ""]));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        assert_eq!(read(&["--b", A, "", "1", "--b--", ""]).unwrap(), 1);
        for (lines, why) in [
            (&[][..], "nothing"),
            (&["preamble", "--b", A, "", "1", "--b--"], "a preamble"),
            (&["", "--b", A, "", "1", "--b--"], "an empty line first"),
            (&["--b", A, "", "1", "--b--", "epilogue"], "an epilogue"),
            (&["--b", A, "", "1", "--b--", "--b", A, "", "2", "--b--"], "parts after the end"),
            (&["--b", A, "", "1"], "no end"),
            (&["--b", A, "", "1", "--b"], "no end mark"),
            (&["--b", A, "", "1\n--b\nx", "--b--"], "a boundary after a bare line feed"),
            (&["--b", A, "", "1 --b", "--b--"], "a boundary within a line"),
            (&["--b ", A, "", "1", "--b--"], "blanks after a boundary"),
            (&["--bb", A, "", "1", "--bb--"], "a longer boundary"),
            (&["--b", "Content-Disposition: form-data", "", "1", "--b--"], "no name"),
            (&["--b", "Content-Disposition: form-data; name=a", "", "1", "--b--"], "no quotes"),
            (&["--b", "Content-Disposition: form-data; name=\"a\\\"b\"", "", "1", "--b--"], "an escape"),
            (&["--b", "Content-Disposition: form-data; name=\"a%0A\"", "", "1", "--b--"], "another escape"),
            (&["--b", "Content-Disposition: form-data; name=\"\"", "", "1", "--b--"], "an empty name"),
            (
                &["--b", "Content-Disposition: form-data; name=\"a\"; name=\"b\"", "", "1", "--b--"],
                "two names",
            ),
            (
                &["--b", "Content-Disposition: form-data; name=\"a\"; filename*=UTF-8''x", "", "1", "--b--"],
                "a file to some, a field to others",
            ),
            (&["--b", "Content-Disposition: attachment; name=\"a\"", "", "1", "--b--"], "no form data"),
            (&["--b", "Content-Type: text/plain", "", "1", "--b--"], "no disposition"),
            (&["--b", A, A, "", "1", "--b--"], "two dispositions"),
            (&["--b", A, " name=\"b\"", "", "1", "--b--"], "a folded line"),
            (&["--b", A, "Content-Transfer-Encoding: base64", "", "MQ==", "--b--"], "an encoding"),
            (&["--b", A, "X: y", "", "1", "--b--"], "an unknown header"),
            (&["--b", A, "1", "--b--"], "no empty line"),
            (&["--b", A, "", "1", "--b", A, "", "2", "--b--"], "a name twice"),
        ] {
            let error = read(lines).map(|_| ()).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "multipart-malformed"), "{why}");
        }
        let twice = "Content-Disposition: form-data; name=\"a[]\"";
        assert_eq!(read(&["--b", twice, "", "1", "--b", twice, "", "2", "--b--"]).unwrap(), 2);
        let mut many: Vec<&str> = ["--b", twice, "", "1"].repeat(MOST_PARTS + 1);
        many.push("--b--");
        assert!(read(&many).is_err(), "too many parts");
        let long = format!("Content-Type: {}", "x".repeat(LARGEST_HEAD));
        assert!(read(&["--b", A, &long, "", "1", "--b--"]).is_err(), "too large a head");
    }

    #[test]
    fn one_plain_boundary_is_named() {
        let long = format!("multipart/form-data; boundary={}", "a".repeat(71));
        for (content_type, expected, why) in [
            (
                "multipart/form-data; boundary=----WebKitFormBoundary7M",
                Some("----WebKitFormBoundary7M"),
                "usual",
            ),
            ("Multipart/Form-Data;boundary=\"a.b_c\"", Some("a.b_c"), "in quotes"),
            ("multipart/form-data", None, "none"),
            ("multipart/form-data; boundary=", None, "empty"),
            ("multipart/form-data; boundary=a; boundary=b", None, "two"),
            ("multipart/form-data; charset=utf-8; boundary=a", None, "with something else"),
            ("multipart/form-data; boundary=a b", None, "with a blank"),
            ("multipart/form-data; boundary=\"a", None, "half a quote"),
            ("multipart/mixed; boundary=a", None, "another type"),
            ("application/json; boundary=a", None, "another type altogether"),
            (&long, None, "longer than RFC 2046 allows"),
        ] {
            assert_eq!(boundary(content_type), expected, "{why}");
        }
    }
}
