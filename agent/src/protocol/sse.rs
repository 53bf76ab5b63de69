//! Server-sent events, incrementally: bytes in, whole blocks out (WHATWG HTML, 9.2.6).
//!
//! A block is everything up to and including an empty line. It keeps its bytes, so that what is not changed goes on as it
//! came: comments, line endings, and all.

use super::ProtocolError;

/// The largest block that is held, in bytes.
const LARGEST_BLOCK: usize = 8 * 1024 * 1024;

/// The reader of one stream.
#[derive(Default)]
pub(super) struct Reader {
    /// The lines of the block so far, with their ends.
    lines: Vec<Line>,
    /// The line so far.
    line: Vec<u8>,
    bytes: usize,
    /// The last byte was a CR: an LF after it belongs to it.
    after_cr: bool,
    started: bool,
}

/// One line of a block.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Line {
    /// Without its end.
    pub(super) text: Vec<u8>,
    /// CR, LF or both; nothing where the stream ended within the line.
    pub(super) end: Vec<u8>,
}

/// A part of the stream that is complete.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Part {
    /// Lines up to an empty one.
    Block(Vec<Line>),
    /// An LF that came after the CR that already ended a block.
    LateLf,
}

impl Reader {
    /// Takes bytes as the network cut them, gives the parts that are complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, ProtocolError> {
        let mut parts = Vec::new();
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                match self.lines.last_mut() {
                    Some(line) => line.end.push(b'\n'),
                    None => parts.push(Part::LateLf),
                }
                rest = after;
                continue;
            }
            let plain = rest.iter().position(|b| matches!(b, b'\r' | b'\n'));
            let (text, left) = rest.split_at(plain.unwrap_or(rest.len()));
            self.line.extend_from_slice(text);
            self.bytes += text.len() + 1;
            if self.bytes > LARGEST_BLOCK {
                return Err(ProtocolError::answer("an event of the model's answer is larger than 8 MiB"));
            }
            rest = left;
            if let Some((end, after)) = left.split_first() {
                self.after_cr = *end == b'\r';
                rest = after;
                parts.extend(self.end_line(vec![*end]));
            }
        }
        Ok(parts)
    }

    /// The end of the stream: the block that no empty line ended, if there is one.
    pub(super) fn finish(&mut self) -> Option<Part> {
        if !self.line.is_empty() {
            let text = self.take_line();
            self.lines.push(Line { text, end: Vec::new() });
        }
        (!self.lines.is_empty()).then(|| self.take_block())
    }

    fn end_line(&mut self, end: Vec<u8>) -> Option<Part> {
        let text = self.take_line();
        let empty = text.is_empty();
        self.lines.push(Line { text, end });
        empty.then(|| self.take_block())
    }

    fn take_line(&mut self) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.line);
        // A byte order mark at the very beginning is no part of the first line.
        if !std::mem::replace(&mut self.started, true) && text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        text
    }

    fn take_block(&mut self) -> Part {
        self.bytes = 0;
        Part::Block(std::mem::take(&mut self.lines))
    }
}

impl Line {
    /// What a `data` line holds; `None` for every other line.
    pub(super) fn data(&self) -> Option<&[u8]> {
        match self.text.strip_prefix(b"data")? {
            [] => Some(&[]),
            [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
            _ => None,
        }
    }
}

/// The data of a block, its lines joined by LF; `None` when it has none.
pub(super) fn data(block: &[Line]) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = block.iter().filter_map(Line::data).collect();
    (!values.is_empty()).then(|| values.join(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut reader = Reader::default();
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| reader.push(piece).unwrap()).collect();
        parts.extend(reader.finish());
        let (mut events, mut raw) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Part::Block(lines) => {
                    events.extend(data(&lines));
                    lines.iter().for_each(|line| raw.extend([&*line.text, &*line.end].concat()));
                }
                Part::LateLf => raw.push(b'\n'),
            }
        }
        (events, raw)
    }

    #[test]
    fn events() {
        for (stream, expected, why) in [
            (&b"data: a\n\ndata: b\n\n"[..], &[&b"a"[..], b"b"][..], "LF"),
            (b"data: a\r\n\r\ndata: b\r\n\r\n", &[b"a", b"b"], "CRLF"),
            (b"data: a\r\rdata: b\r\r", &[b"a", b"b"], "CR"),
            (b"data: a\ndata: b\n\n", &[b"a\nb"], "two lines"),
            (b"data:a\n\ndata:  b\n\n", &[b"a", b" b"], "one space goes, no more"),
            (b": ping\n\nevent: x\nid: 1\ndata: a\n\n", &[b"a"], "comments and other fields"),
            (b"\xef\xbb\xbfdata: a\n\n", &[b"a"], "a byte order mark"),
            (b"data\n\n", &[b""], "a field without a value"),
            (b"datax: a\ndat: b\n\n", &[], "other names"),
            (b"data: a\n\ndata: b", &[b"a", b"b"], "the end without an empty line"),
        ] {
            let (events, raw) = read(&[stream]);
            assert_eq!(events, expected, "{why}");
            assert_eq!(raw, stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream), "{why}: byte for byte");
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(read(&bytes), (events, raw), "{why}: byte by byte");
        }
    }

    #[test]
    fn a_block_without_end_is_refused() {
        let mut reader = Reader::default();
        let line = [b'x'; 64 * 1024];
        let refused = (0..1000).find_map(|_| reader.push(&line).err()).unwrap();
        assert_eq!(refused.code, "answer-not-inspectable");
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(stream in "(data: ?|[a-z:é]|\r\n|\r|\n|\n\n){0,40}", at in 0usize..200) {
            let bytes = stream.as_bytes();
            let at = at.min(bytes.len());
            prop_assert_eq!(read(&[&bytes[..at], &bytes[at..]]), read(&[bytes]));
        }
    }
}
