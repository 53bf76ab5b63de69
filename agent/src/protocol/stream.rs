//! A stream of events, masked as it comes.
//!
//! One machine for every dialect; `grammar` has the table that it follows. Every string that is a piece of a longer text is
//! told apart by block (choice, content block, part of an item) and path (`delta.content`, `message.thinking`, and whatever a
//! server adds): it goes through a channel of its own, and what may be released takes its place in the event. Names that
//! are known to be complete are scanned on their own, like everything outside of the blocks.
//!
//! When a block finishes, or the stream ends, what is held goes out first: in the finishing event where it has the same path,
//! otherwise in an event of the same shape before it, with a number of its own where events are numbered: the later ones move
//! up. An event whose text is all held goes on with an empty text: the stream stays alive, and a caller sees time pass as the
//! model spends it. Where an event repeats a text whole, that text goes through a channel at once: by the channel's invariant
//! it becomes what its pieces became.

mod event;
mod place;
#[cfg(test)]
mod recordings;
mod scan;
#[cfg(test)]
mod tests;
mod voices;

use super::grammar::{Finishes, Grammar};
use super::sse::{self, Line, Part, data};
use super::{ProtocolError, ndjson};
use bailiwick_masking::json::{Document, Edits};
use bailiwick_masking::{Findings, Masker};
use event::Masked;
use place::{Block, number};
pub(super) use scan::{OPAQUE_ANSWER, Scanner};
use voices::Voices;

/// The masking of one stream.
pub(super) struct Stream {
    reader: Reader,
    scanner: Scanner,
    voices: Voices,
    counter: Counter,
    /// Events say their type in a line of their own, too.
    named: bool,
}

/// How events are framed.
enum Reader {
    Events(sse::Reader),
    Lines(ndjson::Reader),
}

/// Numbers events anew, once there are some of our own among them.
#[derive(Default)]
struct Counter {
    name: Option<&'static str>,
    /// How many of our own there were.
    shift: u64,
    /// The number of the next event, if events have one.
    next: Option<u64>,
}

impl Stream {
    /// Of server-sent events.
    pub(super) fn events(grammar: &'static Grammar, masker: Masker) -> Self {
        Self::new(Reader::Events(sse::Reader::default()), grammar, masker)
    }

    /// Of lines.
    pub(super) fn lines(grammar: &'static Grammar, masker: Masker) -> Self {
        Self::new(Reader::Lines(ndjson::Reader::default()), grammar, masker)
    }

    fn new(reader: Reader, grammar: &'static Grammar, masker: Masker) -> Self {
        let scanner = Scanner::new(grammar, masker);
        Self { reader, scanner, voices: Voices::default(), counter: Counter::default(), named: false }
    }

    /// Takes bytes, gives the events that may go on.
    pub(super) fn push(&mut self, bytes: &[u8], findings: &mut Findings) -> Result<Vec<u8>, ProtocolError> {
        let mut out = Vec::new();
        match &mut self.reader {
            Reader::Events(reader) => {
                for part in reader.push(bytes)? {
                    self.part(part, findings, &mut out)?;
                }
            }
            Reader::Lines(reader) => {
                for line in reader.push(bytes)? {
                    self.line(&line, findings, &mut out)?;
                }
            }
        }
        Ok(out)
    }

    /// The end of the stream.
    pub(super) fn finish(&mut self, findings: &mut Findings) -> Result<Vec<u8>, ProtocolError> {
        let mut out = Vec::new();
        match &mut self.reader {
            Reader::Events(reader) => {
                if let Some(part) = reader.finish() {
                    self.part(part, findings, &mut out)?;
                    // The block had no empty line at its end; a caller needs one.
                    out.extend_from_slice(b"\n\n");
                }
            }
            Reader::Lines(reader) => {
                if let Some(line) = reader.finish() {
                    self.line(&line, findings, &mut out)?;
                    out.extend_from_slice(b"\n");
                }
            }
        }
        self.end_all(findings, &mut out)?;
        Ok(out)
    }

    fn part(&mut self, part: Part, findings: &mut Findings, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        match part {
            Part::LateLf => out.push(b'\n'),
            Part::Block(lines) => match data(&lines) {
                None => self.other_lines(&lines, findings, out)?,
                Some(data) if data.trim_ascii() == b"[DONE]" => {
                    self.end_all(findings, out)?;
                    self.write(&lines, None, findings, out)?;
                }
                Some(data) if data.is_empty() => self.write(&lines, None, findings, out)?,
                Some(data) => {
                    self.named = lines.iter().any(|line| line.text.starts_with(b"event:"));
                    let Masked { data: masked, then } = self.event(&data, findings, out)?;
                    self.write(&lines, (masked != data).then_some(&masked), findings, out)?;
                    for event in then {
                        let Masked { data, .. } = self.event(event.as_bytes(), findings, out)?;
                        self.frame("content_block_delta", &data, out);
                    }
                }
            },
        }
        Ok(())
    }

    fn line(
        &mut self,
        line: &ndjson::Line,
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        if line.text.trim_ascii().is_empty() {
            out.extend_from_slice(&line.text);
        } else {
            let masked = self.event(&line.text, findings, out)?;
            out.extend_from_slice(&masked.data);
        }
        out.extend_from_slice(line.end);
        Ok(())
    }

    /// Releases what is held of the texts that end here, each in an event of its own.
    fn end(
        &mut self,
        block: &Block,
        finishes: Finishes,
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        for rest in self.voices.end(&self.scanner, block, finishes, findings)? {
            let event = rest.skeleton.with(&rest.text, self.counter.own());
            let kind = self.scanner.grammar.kind_of_pieces(rest.stem);
            self.frame(&kind, event.as_bytes(), out);
        }
        Ok(())
    }

    /// The same of every text.
    fn end_all(&mut self, findings: &mut Findings, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        self.voices.next_event();
        self.end(&Block::default(), Finishes::All, findings, out)
    }

    /// An event of our own.
    fn frame(&self, kind: &str, event: &[u8], out: &mut Vec<u8>) {
        match self.reader {
            Reader::Lines(_) => {
                out.extend_from_slice(event);
                out.push(b'\n');
            }
            Reader::Events(_) => {
                if self.named && !kind.is_empty() {
                    out.extend_from_slice(b"event: ");
                    out.extend_from_slice(kind.as_bytes());
                    out.push(b'\n');
                }
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(event);
                out.extend_from_slice(b"\n\n");
            }
        }
    }

    /// Lines of a block: the data as masked, the others scanned.
    fn write(
        &mut self,
        lines: &[Line],
        masked: Option<&Vec<u8>>,
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let mut masked = masked;
        let changed = masked.is_some();
        for line in lines {
            if line.data().is_none() {
                self.other_lines(std::slice::from_ref(line), findings, out)?;
            } else if let Some(data) = masked.take() {
                for part in data.split(|b| *b == b'\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(part);
                    out.extend_from_slice(if line.end.is_empty() { b"\n" } else { &line.end });
                }
            } else if !changed {
                out.extend_from_slice(&line.text);
                out.extend_from_slice(&line.end);
            }
        }
        Ok(())
    }

    /// Comments, event names, ids: complete in their line.
    fn other_lines(
        &mut self,
        lines: &[Line],
        findings: &mut Findings,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        for line in lines {
            let text = std::str::from_utf8(&line.text)
                .map_err(|_| ProtocolError::answer("a line of the model's answer is not UTF-8"))?;
            out.extend_from_slice(self.scanner.text(text, findings)?.as_bytes());
            out.extend_from_slice(&line.end);
        }
        Ok(())
    }
}

impl Counter {
    /// An event of the model's begins.
    fn begin(&mut self, name: Option<&'static str>, document: &Document<'_>) {
        self.name = name;
        let said = name.and_then(|name| document.root().get(name)).and_then(|node| number(document, node));
        if let Some(said) = said {
            self.next = Some(said.saturating_add(self.shift));
        }
    }

    /// The number of an event of our own.
    fn own(&mut self) -> Option<(&'static str, u64)> {
        let own = self.name.zip(self.next)?;
        self.shift += 1;
        self.next = Some(own.1.saturating_add(1));
        Some(own)
    }

    /// The event of the model's ends: it takes its number.
    fn end(&mut self, document: &Document<'_>, edits: &mut Edits) {
        let node = self.name.and_then(|name| document.root().get(name));
        let Some(node) = node.filter(|node| number(document, node).is_some()) else { return };
        if let Some(next) = &mut self.next {
            if self.shift > 0 {
                edits.replace(node.span(), next.to_string());
            }
            *next = next.saturating_add(1);
        }
    }
}
