//! Lines of JSON, incrementally: bytes in, whole lines out.
//!
//! A line keeps its bytes and its end, so that what is not changed goes on as it came. The last one needs no end.

use super::ProtocolError;

/// The largest line that is held, in bytes.
const LONGEST_LINE: usize = 8 * 1024 * 1024;

/// The reader of one stream.
#[derive(Default)]
pub(super) struct Reader {
    line: Vec<u8>,
}

/// One line.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Line {
    /// Without its end.
    pub(super) text: Vec<u8>,
    /// LF, or CR and LF; nothing where the stream ended within the line.
    pub(super) end: &'static [u8],
}

impl Reader {
    /// Takes bytes as the network cut them, gives the lines that are complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Line>, ProtocolError> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + part.len() > LONGEST_LINE {
                return Err(ProtocolError::answer("a line of the model's answer is larger than 8 MiB"));
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                lines.push(split(std::mem::take(&mut self.line)));
            }
        }
        Ok(lines)
    }

    /// The end of the stream: the line that nothing ended, if there is one.
    pub(super) fn finish(&mut self) -> Option<Line> {
        (!self.line.is_empty()).then(|| split(std::mem::take(&mut self.line)))
    }
}

fn split(mut text: Vec<u8>) -> Line {
    let end: &[u8] = if text.ends_with(b"\r\n") {
        b"\r\n"
    } else if text.ends_with(b"\n") {
        b"\n"
    } else {
        b""
    };
    text.truncate(text.len() - end.len());
    Line { text, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> Vec<Line> {
        let mut reader = Reader::default();
        let mut lines: Vec<Line> = pieces.iter().flat_map(|piece| reader.push(piece).unwrap()).collect();
        lines.extend(reader.finish());
        lines
    }

    #[test]
    fn lines() {
        for (stream, expected, why) in [
            (&b"{}\n{}\n"[..], &[&b"{}"[..], b"{}"][..], "LF"),
            (b"{}\r\n{}\r\n", &[b"{}", b"{}"], "CRLF"),
            (b"{}\n{}", &[b"{}", b"{}"], "the last without an end"),
            (b"\n\n{}\n", &[b"", b"", b"{}"], "empty lines"),
            (b"a\rb\n", &[b"a\rb"], "a CR alone ends nothing"),
            (b"", &[], "nothing"),
        ] {
            let lines = read(&[stream]);
            let texts: Vec<&[u8]> = lines.iter().map(|line| &*line.text).collect();
            assert_eq!(texts, expected, "{why}");
            let raw: Vec<u8> = lines.iter().flat_map(|line| [&*line.text, line.end].concat()).collect();
            assert_eq!(raw, stream, "{why}: byte for byte");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut reader = Reader::default();
        let piece = [b'x'; 64 * 1024];
        let refused = (0..1000).find_map(|_| reader.push(&piece).err()).unwrap();
        assert_eq!(refused.code, "answer-not-inspectable");
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(stream in "(\\{\\}|[a-z:é]|\r\n|\r|\n){0,40}", at in 0usize..200) {
            let bytes = stream.as_bytes();
            let at = at.min(bytes.len());
            prop_assert_eq!(read(&[&bytes[..at], &bytes[at..]]), read(&[bytes]));
        }
    }
}
