//! How many tokens an answer cost: what the model says (each dialect in its own words), or an estimate on the high side.
//!
//! Some streams tell their usage only to who asks for it (`stream_options`), and a caller's request is not changed for that.
//! Where nothing is told, each event of a stream counts as a token, as servers send them, and text as a token for four bytes.

use crate::protocol::Form;
use serde::Deserialize;

/// Bytes of text that count as one token where nobody counts.
pub(super) const BYTES_A_TOKEN: u64 = 4;

/// Longest event that is looked into.
const LONGEST_LINE: usize = 64 * 1024;

/// Longest last event, which may repeat the whole answer.
const LONGEST_LAST: usize = 8 * 1024 * 1024;

/// What stands in an event that tells, in any dialect. Looked for first: reading every event would cost more than passing
/// it on.
const TELLING: [&[u8]; 3] = [b"\"usage\"", b"\"eval_count\"", b"\"generated_tokens\""];

/// Where usage stands: OpenAI's own place, Anthropic's first event, the last event of the responses, TGI's details, and
/// Ollama's numbers at the root.
#[derive(Deserialize)]
struct Told {
    usage: Option<Usage>,
    message: Option<Holder>,
    response: Option<serde_json::Value>,
    details: Option<Details>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct Holder {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Details {
    generated_tokens: Option<u64>,
}

/// OpenAI's names and, as Anthropic and the responses have it, others.
#[derive(Default, Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    input_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

impl Told {
    fn usage(self) -> Usage {
        let nested = self.message.and_then(|message| message.usage);
        // Ollama's `response` is a text.
        let response = self.response.and_then(|response| serde_json::from_value::<Holder>(response).ok());
        let details = self.details.and_then(|details| details.generated_tokens);
        let told = self.usage.or(nested).or_else(|| response.and_then(|response| response.usage));
        let told = told.unwrap_or_default();
        Usage {
            prompt_tokens: told.prompt_tokens.max(told.input_tokens).or(self.prompt_eval_count),
            completion_tokens: told.completion_tokens.max(told.output_tokens).or(self.eval_count).or(details),
            ..told
        }
    }
}

/// What was told so far: a stream may tell it in parts, each a sum.
#[derive(Debug, Default)]
struct Count {
    prompt: Option<u64>,
    answer: Option<u64>,
    total: Option<u64>,
}

impl Count {
    fn add(&mut self, usage: &Usage) {
        let cached =
            usage.cache_creation_input_tokens.unwrap_or(0) + usage.cache_read_input_tokens.unwrap_or(0);
        let prompt = usage.prompt_tokens.map(|tokens| tokens.saturating_add(cached));
        self.prompt = self.prompt.max(prompt);
        self.answer = self.answer.max(usage.completion_tokens);
        self.total = self.total.max(usage.total_tokens);
    }

    /// The sum, with the question as estimated where only the answer was counted.
    fn total(&self, question: u64) -> Option<u64> {
        let sum = match (self.prompt, self.answer) {
            (None, None) => None,
            (prompt, answer) => Some(prompt.unwrap_or(question).saturating_add(answer.unwrap_or(0))),
        };
        self.total.or(sum)
    }
}

/// Watches an answer pass.
#[derive(Debug)]
pub(super) struct Meter {
    /// What the question counts for where nobody tells.
    question: u64,
    form: Form,
    line: Vec<u8>,
    bytes: u64,
    events: u64,
    told: Count,
}

impl Meter {
    /// For the answer to a question of so many bytes.
    pub(super) fn new(question_bytes: usize) -> Self {
        let question = (question_bytes as u64).div_ceil(BYTES_A_TOKEN);
        let (line, told) = (Vec::new(), Count::default());
        Self { question, form: Form::Json, line, bytes: 0, events: 0, told }
    }

    /// A piece of the answer, as the model sent it.
    pub(super) fn see(&mut self, piece: &[u8], form: Form) {
        self.form = form;
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        if !form.is_stream() {
            self.line.extend_from_slice(piece);
            return;
        }
        for part in piece.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            if self.line.len() + part.len() <= LONGEST_LAST {
                self.line.extend_from_slice(part);
            }
            if matches!(part.last(), Some(b'\n' | b'\r')) {
                self.end_of_line();
            }
        }
    }

    fn end_of_line(&mut self) {
        let event = match self.form {
            Form::Lines => Some(self.line.trim_ascii()).filter(|line| !line.is_empty()),
            Form::Json | Form::Events | Form::Text(_) | Form::Nothing => self.line.strip_prefix(b"data:"),
        };
        if let Some(event) = event {
            self.events += 1;
            // What comes last of a long event is the usage.
            let searched = &event[event.len().saturating_sub(LONGEST_LINE)..];
            let tells = |what: &&[u8]| searched.windows(what.len()).any(|window| window == *what);
            if TELLING.iter().any(tells) {
                self.told.read(event);
            }
        }
        self.line.clear();
    }

    /// What it has cost so far.
    pub(super) fn tokens(&mut self) -> u64 {
        if !self.form.is_stream() {
            self.told.read(&self.line);
        } else if !self.line.is_empty() {
            self.end_of_line();
        }
        let spoken = if self.form.is_stream() { self.events } else { self.bytes.div_ceil(BYTES_A_TOKEN) };
        self.told.total(self.question).unwrap_or(self.question.saturating_add(spoken))
    }
}

impl Count {
    /// The usage in a JSON text.
    fn read(&mut self, json: &[u8]) {
        if let Ok(told) = serde_json::from_slice::<Told>(json) {
            self.add(&told.usage());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(answer: &str, form: Form, piece: usize) -> u64 {
        let mut meter = Meter::new(40);
        for piece in answer.as_bytes().chunks(piece) {
            meter.see(piece, form);
        }
        meter.tokens()
    }

    #[test]
    fn every_dialect_tells_in_its_own_words() {
        for (answer, form, expected, why) in [
            (
                concat!(
                    "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1,",
                    "\"cache_read_input_tokens\":2}}}\n\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}}\n\n",
                ),
                Form::Events,
                14,
                "Anthropic's in two events",
            ),
            (
                r#"{"type":"message","usage":{"input_tokens":7,"output_tokens":5}}"#,
                Form::Json,
                12,
                "and whole",
            ),
            (
                r#"{"usage":{"input_tokens":7,"prompt_tokens":7,"output_tokens":5,"completion_tokens":5}}"#,
                Form::Json,
                12,
                "the same by both names",
            ),
            (
                "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":5,\"total_tokens\":12}}}\n\n",
                Form::Events,
                12,
                "the responses' last event",
            ),
            (
                "{\"response\":\"Hi\",\"done\":false}\n{\"response\":\"\",\"done\":true,\"prompt_eval_count\":7,\"eval_count\":5}\n",
                Form::Lines,
                12,
                "Ollama's last line",
            ),
            (
                r#"{"response":"Hi","done":true,"prompt_eval_count":7,"eval_count":5}"#,
                Form::Json,
                12,
                "and whole",
            ),
            (
                "data:{\"generated_text\":\"x\",\"details\":{\"generated_tokens\":5}}\n\n",
                Form::Events,
                15,
                "TGI counts its own part: ten for the question",
            ),
            ("{\"response\":\"Hi\"}\n{\"response\":\"!\"}\n", Form::Lines, 12, "nothing told: two lines"),
        ] {
            for piece in [1, 7, 1000] {
                assert_eq!(measured(answer, form, piece), expected, "{why}");
            }
        }
    }

    #[test]
    fn what_the_model_tells_counts_however_it_is_cut() {
        let usage = r#""usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}"#;
        for piece in [1, 7, 1000] {
            for (answer, form, expected, why) in [
                (format!(r#"{{"choices":[],{usage}}}"#), Form::Json, 12, "an answer"),
                (
                    format!("data: {{\"a\":1}}\n\ndata: {{{usage}}}\n\ndata: [DONE]\n\n"),
                    Form::Events,
                    12,
                    "a stream's last event",
                ),
                (format!("data: {{\"a\":1}}\r\rdata: {{{usage}}}\r\r"), Form::Events, 12, "other line ends"),
                (
                    "data: {\"usage\":null}\n\ndata: {}\n\n".to_owned(),
                    Form::Events,
                    12,
                    "nothing told: ten for the question, two events",
                ),
                ("x".repeat(9), Form::Json, 13, "no JSON: ten for the question, three for nine bytes"),
                (r#"{"usage":{"prompt_tokens":7}}"#.to_owned(), Form::Json, 7, "an embedding's"),
            ] {
                assert_eq!(measured(&answer, form, piece), expected, "{why}, {piece} bytes at once");
            }
        }
    }
}
