//! Tells a story to a terminal: what was tried, what was expected, what happened. At most 100 columns; colours only
//! where the listener is a terminal and `NO_COLOR` is not set.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The widest line.
const WIDTH: usize = 100;

/// Where excerpts are indented to.
const MARGIN: &str = "    ";

/// Tells the story, and keeps count.
pub struct Narrator {
    out: Box<dyn Write + Send>,
    colours: bool,
    began: Instant,
    attempts: Vec<Told>,
    step: String,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The heading it stood under.
    pub step: String,
    /// What was tried.
    pub tried: String,
    /// What was expected of it.
    pub expected: String,
    /// What happened.
    pub happened: String,
    /// Whether that is what was expected.
    pub as_expected: bool,
}

impl std::fmt::Debug for Narrator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Narrator").field("attempts", &self.attempts.len()).finish_non_exhaustive()
    }
}

impl Narrator {
    /// Tells it on stdout.
    #[must_use]
    pub fn to_stdout() -> Self {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colours, ..Self::to(Box::new(io::stdout())) }
    }

    /// Tells it to a writer, without colours.
    #[must_use]
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self { out, colours: false, began: Instant::now(), attempts: Vec::new(), step: String::new() }
    }

    /// Begins a part of the story.
    pub fn step(&mut self, title: &str) {
        title.clone_into(&mut self.step);
        let title = self.painted("1", title);
        self.line(&format!("\n{title}"));
    }

    /// A sentence in between.
    pub fn says(&mut self, text: &str) {
        for line in wrapped(text, WIDTH - 2) {
            self.line(&format!("  {line}"));
        }
    }

    /// A line that says that something long goes on, with the time since the story began.
    pub fn progress(&mut self, text: &str) {
        let elapsed = self.began.elapsed().as_secs_f32();
        let line = self.painted("2", &format!("  [{elapsed:5.1} s] {text}"));
        self.line(&line);
    }

    /// Something as it was found, cut into lines that fit.
    pub fn shows(&mut self, what: &str, text: &str) {
        self.line(&format!("  {what}"));
        for line in text.lines().flat_map(|line| wrapped(line, WIDTH - MARGIN.len() - 2)) {
            let line = self.painted("36", &format!("{MARGIN}| {line}"));
            self.line(&line);
        }
    }

    /// One attempt and its outcome; gives back whether it was as expected.
    pub fn attempt(&mut self, tried: &str, expected: &str, happened: &str, as_expected: bool) -> bool {
        self.labelled("tried", tried);
        self.labelled("expected", expected);
        let verdict =
            if as_expected { self.painted("32", "ok") } else { self.painted("1;31", "NOT AS EXPECTED") };
        self.labelled("happened", &format!("{happened}  [{verdict}]"));
        self.attempts.push(Told {
            step: self.step.clone(),
            tried: tried.to_owned(),
            expected: expected.to_owned(),
            happened: happened.to_owned(),
            as_expected,
        });
        as_expected
    }

    /// Everything that was tried so far.
    #[must_use]
    pub fn attempts(&self) -> &[Told] {
        &self.attempts
    }

    /// Since the story began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn labelled(&mut self, label: &str, text: &str) {
        let label = format!("{label:<9}");
        for (number, line) in wrapped(text, WIDTH - 12).into_iter().enumerate() {
            let label = if number == 0 { label.as_str() } else { "         " };
            self.line(&format!("  {label} {line}"));
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn line(&mut self, line: &str) {
        // A listener that left (a closed pipe) must not end the story before it has cleaned up.
        let _the_story_goes_on = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}

/// Breaks text at spaces where there are some, and within words longer than a line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut letters: Vec<char> = word.chars().collect();
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + 1 + letters.len() > width {
            lines.last_mut().into_iter().for_each(|line| line.truncate(line.trim_end().len()));
            lines.push(String::new());
        } else if used > 0 {
            lines.last_mut().into_iter().for_each(|line| line.push(' '));
        }
        while !letters.is_empty() {
            let used = lines.last().map_or(0, |line| line.chars().count());
            let room = (width - used).min(letters.len());
            lines.last_mut().into_iter().for_each(|line| line.extend(letters.drain(..room)));
            if !letters.is_empty() {
                lines.push(String::new());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let text = format!("{} {}", "word ".repeat(60), "x".repeat(300));
        let lines = wrapped(&text, 40);
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""), "and no letter is lost");
    }
}
