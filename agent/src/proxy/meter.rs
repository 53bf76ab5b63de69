//! How many tokens an answer cost: what the model says (`usage`), or an estimate on the high side.
//!
//! A stream tells its usage only to who asks for it (`stream_options`), and a caller's request is not changed for that. Where
//! nothing is told, each event of a stream counts as a token, as servers send them, and text as a token for four bytes.

use serde::Deserialize;

/// Bytes of text that count as one token where nobody counts.
pub(super) const BYTES_A_TOKEN: u64 = 4;

/// Longest event that is looked into.
const LONGEST_LINE: usize = 64 * 1024;

#[derive(Deserialize)]
struct Told {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

impl Usage {
    fn total(&self) -> Option<u64> {
        let sum = || Some(self.prompt_tokens?.saturating_add(self.completion_tokens.unwrap_or(0)));
        self.total_tokens.or_else(sum)
    }
}

/// Watches an answer pass.
#[derive(Debug)]
pub(super) struct Meter {
    /// What the question counts for where nobody tells.
    question: u64,
    streamed: bool,
    line: Vec<u8>,
    bytes: u64,
    events: u64,
    told: Option<u64>,
}

impl Meter {
    /// For the answer to a question of so many bytes.
    pub(super) fn new(question_bytes: usize) -> Self {
        let question = (question_bytes as u64).div_ceil(BYTES_A_TOKEN);
        Self { question, streamed: false, line: Vec::new(), bytes: 0, events: 0, told: None }
    }

    /// A piece of the answer, as the model sent it.
    pub(super) fn see(&mut self, piece: &[u8], streamed: bool) {
        self.streamed = streamed;
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        for part in piece.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            if self.line.len() + part.len() <= LONGEST_LINE || !streamed {
                self.line.extend_from_slice(part);
            }
            if streamed && matches!(part.last(), Some(b'\n' | b'\r')) {
                self.end_of_line();
            }
        }
    }

    fn end_of_line(&mut self) {
        if let Some(event) = self.line.strip_prefix(b"data:") {
            self.events += 1;
            // Looked for first: reading every event would cost more than passing it on.
            if event.windows(7).any(|window| window == b"\"usage\"") {
                self.told = read(event).or(self.told);
            }
        }
        self.line.clear();
    }

    /// What it has cost so far.
    pub(super) fn tokens(&mut self) -> u64 {
        if !self.streamed {
            self.told = read(&self.line).or(self.told);
        } else if !self.line.is_empty() {
            self.end_of_line();
        }
        let spoken = if self.streamed { self.events } else { self.bytes.div_ceil(BYTES_A_TOKEN) };
        self.told.unwrap_or(self.question.saturating_add(spoken))
    }
}

/// The usage in a JSON text.
fn read(json: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Told>(json).ok()?.usage?.total()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(answer: &str, streamed: bool, piece: usize) -> u64 {
        let mut meter = Meter::new(40);
        for piece in answer.as_bytes().chunks(piece) {
            meter.see(piece, streamed);
        }
        meter.tokens()
    }

    #[test]
    fn what_the_model_tells_counts_however_it_is_cut() {
        let usage = r#""usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}"#;
        for piece in [1, 7, 1000] {
            for (answer, streamed, expected, why) in [
                (format!(r#"{{"choices":[],{usage}}}"#), false, 12, "an answer"),
                (
                    format!("data: {{\"a\":1}}\n\ndata: {{{usage}}}\n\ndata: [DONE]\n\n"),
                    true,
                    12,
                    "a stream's last event",
                ),
                (format!("data: {{\"a\":1}}\r\rdata: {{{usage}}}\r\r"), true, 12, "other line ends"),
                (
                    "data: {\"usage\":null}\n\ndata: {}\n\n".to_owned(),
                    true,
                    12,
                    "nothing told: ten for the question, two events",
                ),
                ("x".repeat(9), false, 13, "no JSON: ten for the question, three for nine bytes"),
                (r#"{"usage":{"prompt_tokens":7}}"#.to_owned(), false, 7, "an embedding's"),
            ] {
                assert_eq!(measured(&answer, streamed, piece), expected, "{why}, {piece} bytes at once");
            }
        }
    }
}
