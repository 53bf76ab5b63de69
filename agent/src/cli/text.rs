//! Text for a terminal: lines that fit.

/// Columns that every terminal has.
pub(super) const WIDTH: usize = 100;

/// `text` in lines of at most [`WIDTH`] columns where its words allow; all but the first are indented.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for (number, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if number > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_no_word_is_lost() {
        let text = "word ".repeat(60);
        let lines = wrapped(text.trim_end(), 4);
        assert!(lines.lines().all(|line| line.chars().count() <= WIDTH), "{lines}");
        assert!(lines.lines().skip(1).all(|line| line.starts_with("    word")), "{lines}");
        assert_eq!(lines.split_whitespace().count(), 60);
        let long = "x".repeat(150);
        assert_eq!(wrapped(&long, 4), long, "what has no spaces is not cut");
        assert_eq!(wrapped("  two   spaces", 4), "  two   spaces", "columns stay columns");
    }
}
