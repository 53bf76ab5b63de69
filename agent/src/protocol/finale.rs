//! How a stream says that it is whole, in each dialect.
//!
//! Clients stop reading there and may never see the last byte, so the end is held until the outcome is recorded.

use super::Dialect;
use bytes::{Bytes, BytesMut};

/// How OpenAI's streams end.
const DONE: [&[u8]; 2] = [b"data: [DONE]", b"data:[DONE]"];
/// The longest line that is waited for to know whether it is the end.
const LONGEST_LINE: usize = 8 * 1024 * 1024;

/// What of a stream was not sent yet, since its end may begin there.
#[derive(Debug)]
pub struct Unsent {
    dialect: Dialect,
    bytes: BytesMut,
    /// All of it is the beginning of one line: looked through once, however small the pieces are in which the rest comes.
    within_line: bool,
}

impl Unsent {
    /// Nothing came so far.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, bytes: BytesMut::new(), within_line: false }
    }

    /// More came; what may be sent of it all.
    pub fn push(&mut self, piece: &[u8]) -> Bytes {
        self.bytes.extend_from_slice(piece);
        if self.within_line && self.bytes.len() <= LONGEST_LINE && !piece.iter().any(is_break) {
            return Bytes::new();
        }
        let ready = self.bytes.split_to(end_begins(self.dialect, &self.bytes)).freeze();
        self.within_line = !self.bytes.is_empty() && !self.bytes.iter().any(is_break);
        ready
    }

    /// All that was not sent, and the last piece.
    #[must_use]
    pub fn finish(mut self, last: &[u8]) -> Bytes {
        self.bytes.extend_from_slice(last);
        self.bytes.freeze()
    }
}

fn is_break(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Where the end of a stream begins in what was not sent yet: at a line that says it, or that may come to say it, since the
/// network cuts lines, too. All of it may be sent where there is no such line.
fn end_begins(dialect: Dialect, unsent: &[u8]) -> usize {
    match dialect {
        Dialect::OpenAi => done_begins(unsent),
        Dialect::Responses | Dialect::Anthropic | Dialect::Ollama | Dialect::Tgi | Dialect::Kserve => {
            last_begins(dialect, unsent)
        }
    }
}

/// A line alone says it, and nothing comes after it.
fn done_begins(unsent: &[u8]) -> usize {
    let line_ends = unsent.iter().rposition(|byte| !is_break(byte)).map_or(0, |last| last + 1);
    let line_begins = unsent[..line_ends].iter().rposition(is_break).map_or(0, |before| before + 1);
    let line = &unsent[line_begins..line_ends];
    let whole = line_ends < unsent.len();
    let is_end = |done: &&[u8]| if whole { *done == line } else { done.starts_with(line) };
    if !line.is_empty() && DONE.iter().any(is_end) { line_begins } else { unsent.len() }
}

/// An event says it; after that only `[DONE]` and names of events may come.
fn last_begins(dialect: Dialect, unsent: &[u8]) -> usize {
    let (mut begins, mut end) = (0, None);
    for line in unsent.split_inclusive(is_break) {
        let whole = line.ends_with(b"\n") || line.ends_with(b"\r");
        if !whole && line.len() <= LONGEST_LINE || says_end(dialect, line) {
            end = end.or(Some(begins));
        } else if carries(dialect, line) {
            end = None;
        }
        begins += line.len();
    }
    end.unwrap_or(unsent.len())
}

/// Whether a line has data, and so goes on with the stream.
fn carries(dialect: Dialect, line: &[u8]) -> bool {
    match dialect {
        Dialect::Ollama => !line.trim_ascii().is_empty(),
        Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic | Dialect::Tgi | Dialect::Kserve => {
            line.starts_with(b"data")
        }
    }
}

/// Whether a line is that of the last event. Within a JSON string its quotes would be escaped.
fn says_end(dialect: Dialect, line: &[u8]) -> bool {
    let says = |what: &str| line.windows(what.len()).any(|window| window == what.as_bytes());
    let marks: &[&str] = match dialect {
        Dialect::Ollama => &["\"done\":true", "\"done\": true"],
        Dialect::Responses => {
            &["\"response.completed\"", "\"response.incomplete\"", "\"response.failed\"", "[DONE]"]
        }
        Dialect::Anthropic => &["\"message_stop\"", "[DONE]"],
        Dialect::Tgi => &["\"generated_text\":\"", "\"generated_text\": \"", "[DONE]"],
        Dialect::Kserve | Dialect::OpenAi => &["[DONE]"],
    };
    carries(dialect, line) && marks.iter().any(|mark| says(mark))
}

/// How what was sent of a stream ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail {
    /// The last bytes; zero before the first.
    last: [u8; 2],
}

impl Tail {
    /// More was sent.
    pub fn sent(&mut self, bytes: &[u8]) {
        // What line ends are made of counts alike.
        for byte in &bytes[bytes.len().saturating_sub(4)..] {
            match (self.last[1], *byte) {
                (b'\r', b'\n') => self.last[1] = b'\n',
                (before, byte) => self.last = [before, byte],
            }
        }
    }

    /// Whether nothing was begun: a comment may go here.
    #[must_use]
    pub fn is_between_events(&self) -> bool {
        matches!(self.last, [0, 0] | [b'\n', b'\n'] | [b'\r', b'\r'])
    }

    /// What ends what was begun.
    #[must_use]
    pub fn ending(&self, lines: bool) -> &'static [u8] {
        let at_line = matches!(self.last[1], 0 | b'\n' | b'\r');
        match (lines, at_line, self.is_between_events()) {
            (true, true, _) | (false, _, true) => b"",
            (true, false, _) | (false, true, false) => b"\n",
            (false, false, false) => b"\n\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_stream_is_known_however_it_is_cut_and_spelled() {
        for (unsent, sent, why) in [
            ("data: {}\n\ndata: [DONE]\n\n", "data: {}\n\n", "with what came before it"),
            ("data: [DONE]\r\n\r\n", "", "with other line ends"),
            ("data:[DONE]\r\r", "", "without the space"),
            ("data: {}\n\ndata: [DO", "data: {}\n\n", "cut within"),
            ("data: {}\n\nd", "data: {}\n\n", "cut after its first letter"),
            ("data: [DONE]\n", "", "cut after its line"),
            ("data: {}\n\ndata:\n\n", "data: {}\n\ndata:\n\n", "a whole line that only begins like it"),
            ("data: [DONE]x", "data: [DONE]x", "a longer line"),
            ("data: {\"a\":\"data: [DONE]", "data: {\"a\":\"data: [DONE]", "a text that quotes it"),
            (": ping\n\n", ": ping\n\n", "a comment"),
            ("\n\n", "\n\n", "empty lines"),
            ("", "", "nothing"),
        ] {
            assert_eq!(end_begins(Dialect::OpenAi, unsent.as_bytes()), sent.len(), "{why}");
        }
    }

    #[test]
    fn the_last_event_is_known_in_every_dialect() {
        for (dialect, unsent, sent, why) in [
            (
                Dialect::Anthropic,
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
                "event: message_stop\n",
                "its data",
            ),
            (Dialect::Anthropic, "data: {\"type\":\"ping\"}\n\n", "data: {\"type\":\"ping\"}\n\n", "another"),
            (
                Dialect::Anthropic,
                "data: {\"text\":\"\\\"message_stop\\\"\"}\n\n",
                "data: {\"text\":\"\\\"message_stop\\\"\"}\n\n",
                "a text that quotes it",
            ),
            (Dialect::Anthropic, "data: {}\n\ndata: {\"ty", "data: {}\n\n", "cut within"),
            (
                Dialect::Responses,
                "data: {\"type\":\"response.completed\"}\n\ndata: [DONE]\n\n",
                "",
                "and what clients skip",
            ),
            (Dialect::Ollama, "{\"done\":false}\n{\"done\":true}\n", "{\"done\":false}\n", "a line"),
            (
                Dialect::Ollama,
                "{\"done\":true}\n{\"done\":false}\n",
                "{\"done\":true}\n{\"done\":false}\n",
                "it was not the end",
            ),
            (
                Dialect::Tgi,
                "data:{\"generated_text\":null}\n\ndata:{\"generated_text\":\"x\"}\n\n",
                "data:{\"generated_text\":null}\n\n",
                "the whole text",
            ),
        ] {
            assert_eq!(end_begins(dialect, unsent.as_bytes()), sent.len(), "{why}");
        }
    }

    #[test]
    fn a_line_that_comes_in_the_smallest_pieces_is_looked_through_once() {
        // Looked through at each piece, these would take hours.
        const LINE: usize = 2 * 1024 * 1024;
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Ollama] {
            let mut unsent = Unsent::new(dialect);
            let mut sent = unsent.push(b"data: {}\ndata: ").len();
            for _ in 0..LINE {
                sent += unsent.push(b"x").len();
            }
            sent += unsent.push(b"\n").len();
            assert_eq!(sent + unsent.finish(b"").len(), 16 + LINE, "{dialect:?}");
        }
    }

    #[test]
    fn what_is_sent_does_not_depend_on_how_it_was_cut() {
        let stream =
            b"event: a\ndata: {\"a\":1}\r\n\r\ndata: {\"type\":\"message_stop\"}\n\ndata: [DONE]\n\n";
        for dialect in
            [Dialect::OpenAi, Dialect::Responses, Dialect::Anthropic, Dialect::Ollama, Dialect::Tgi]
        {
            let whole = end_begins(dialect, stream);
            for size in 1..stream.len() {
                let mut unsent = Unsent::new(dialect);
                let sent: usize = stream.chunks(size).map(|piece| unsent.push(piece).len()).sum();
                // What may be a line of the end is held until it is whole, and may then go; the end itself never does.
                assert_eq!(sent, whole, "{dialect:?}, pieces of {size}");
                assert_eq!(unsent.finish(b""), stream[whole..], "{dialect:?}, pieces of {size}");
            }
        }
    }

    #[test]
    fn what_was_begun_is_known_and_ended() {
        for (sent, between, ending, why) in [
            (&[][..], true, "", "nothing"),
            (&["data: {}\n\n"], true, "", "whole events"),
            (&["data: {}\r\n\r\n"], true, "", "with other line ends"),
            (&["data: {}\r\n\r", "\n"], true, "", "cut within"),
            (&["data: {}\r\r"], true, "", "or others"),
            (&["data: {}\n", "\n"], true, "", "cut between"),
            (&["data: {}\n"], false, "\n", "a line"),
            (&["data: {}\r\n"], false, "\n", "a line"),
            (&["data: {"], false, "\n\n", "half a line"),
            (&["data: {}\n\nd"], false, "\n\n", "a letter"),
        ] {
            let mut tail = Tail::default();
            sent.iter().for_each(|bytes| tail.sent(bytes.as_bytes()));
            assert_eq!(tail.is_between_events(), between, "{why}");
            assert_eq!(tail.ending(false), ending.as_bytes(), "{why}");
        }
    }
}
