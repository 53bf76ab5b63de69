//! The texts of a stream, each in a channel of its own.

use super::super::ProtocolError;
use super::super::grammar::{Finishes, Speaks};
use super::place::{Block, Place, Skeleton};
use super::scan::Scanner;
use bailiwick_masking::json::Document;
use bailiwick_masking::{Channel, Findings};

/// The most texts a stream may have.
const MOST_TEXTS: usize = 1024;
/// The most bytes of one text that is held until it is whole.
const LONGEST_HELD: usize = 1024 * 1024;

/// Every text of a stream.
#[derive(Default)]
pub(super) struct Voices {
    /// In the order of their places. Most streams have one, for which a map has room for eleven.
    voices: Vec<(Place, Voice)>,
    /// Counts the events.
    event: u64,
}

/// The text of one place.
struct Voice {
    text: Text,
    /// The event that can carry its rest.
    skeleton: Option<Skeleton>,
    /// The last event that had a piece of it.
    event: u64,
}

enum Text {
    Channel(Box<Channel>),
    /// Held until it is whole.
    Held(String),
    Ended,
}

/// A rest that has to go out, and the event that carries it.
pub(super) struct Rest {
    pub(super) text: String,
    pub(super) skeleton: Skeleton,
    pub(super) stem: &'static str,
}

/// A piece of a text.
pub(super) struct Piece<'a, 'd> {
    pub(super) document: &'a Document<'d>,
    pub(super) speaks: Speaks,
    pub(super) text: &'a str,
    /// Held until it is whole.
    pub(super) held: bool,
    /// The last one.
    pub(super) last: bool,
}

impl Voices {
    /// Another event begins.
    pub(super) fn next_event(&mut self) {
        self.event += 1;
    }

    /// Takes a piece, gives what may go on in its place.
    pub(super) fn push(
        &mut self,
        scanner: &mut Scanner,
        place: &Place,
        piece: &Piece<'_, '_>,
        findings: &mut Findings,
    ) -> Result<String, ProtocolError> {
        let found = self.voices.binary_search_by(|(other, _)| other.cmp(place));
        let at = found.unwrap_or_else(|at| at);
        if found.is_err() {
            if self.voices.len() == MOST_TEXTS {
                return Err(ProtocolError::answer("the model's answer has more than 1024 texts"));
            }
            let skeleton = Skeleton::new(scanner, piece.document, piece.speaks, place)?;
            let text = if piece.held {
                Text::Held(String::new())
            } else {
                Text::Channel(Box::new(scanner.masker.channel()))
            };
            if self.voices.is_empty() {
                self.voices.reserve_exact(1);
            }
            self.voices.insert(at, (place.clone(), Voice { text, skeleton, event: 0 }));
        }
        let voice = &mut self.voices[at].1;
        if std::mem::replace(&mut voice.event, self.event) == self.event {
            return Err(ProtocolError::answer(
                "an event of the model's answer has two texts in the same place",
            ));
        }
        let mut released = voice.text.push(piece.text, findings)?;
        if piece.last {
            released.push_str(&voice.text.finish(scanner, findings)?);
        }
        Ok(released)
    }

    /// Ends the texts that end before an event, but for those that end in it. Gives what they held.
    pub(super) fn end(
        &mut self,
        scanner: &Scanner,
        block: &Block,
        finishes: Finishes,
        findings: &mut Findings,
    ) -> Result<Vec<Rest>, ProtocolError> {
        let mut rests = Vec::new();
        if finishes == Finishes::Nothing {
            return Ok(rests);
        }
        for (place, voice) in &mut self.voices {
            if voice.event == self.event || !place.block.ends(block, finishes) {
                continue;
            }
            let text = voice.text.finish(scanner, findings)?;
            if text.is_empty() {
                continue;
            }
            let skeleton = voice.skeleton.take().ok_or_else(|| {
                ProtocolError::answer(
                    "the model's answer has a list of texts whose elements say no index; their rest cannot be placed",
                )
            })?;
            rests.push(Rest { text, skeleton, stem: place.block.stem });
        }
        Ok(rests)
    }
}

impl Text {
    fn push(&mut self, piece: &str, findings: &mut Findings) -> Result<String, ProtocolError> {
        match self {
            Self::Channel(channel) => channel.push(piece, findings).map_err(ProtocolError::of_answer),
            Self::Held(held) if held.len() + piece.len() > LONGEST_HELD => {
                Err(ProtocolError::answer("the arguments of a tool call are longer than 1 MiB"))
            }
            Self::Held(held) => {
                held.push_str(piece);
                Ok(String::new())
            }
            Self::Ended if piece.is_empty() => Ok(String::new()),
            Self::Ended => Err(ProtocolError::answer(
                "a text of the model's answer goes on after the event that ends it",
            )),
        }
    }

    fn finish(&mut self, scanner: &Scanner, findings: &mut Findings) -> Result<String, ProtocolError> {
        match std::mem::replace(self, Self::Ended) {
            Self::Channel(mut channel) => channel.finish(findings).map_err(ProtocolError::of_answer),
            Self::Held(held) => scanner.held(&held, findings),
            Self::Ended => Ok(String::new()),
        }
    }
}
