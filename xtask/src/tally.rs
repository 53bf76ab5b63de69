//! Counts tests from what the runners print: libtest's `test result:` line, and nothing else.

use std::ops::AddAssign;

/// What the runners said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// passed
    pub(crate) passed: u64,
    /// failed, and runners that ended without saying how
    pub(crate) failed: u64,
    /// marked as ignored in the source
    pub(crate) ignored: u64,
}

impl Tally {
    /// Reads one line of output; None when it is not a result line.
    ///
    /// The form is libtest's: `test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; …`.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (_verdict, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word: &str| {
            counts.split(';').find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }

    /// A program without libtest's harness that ended well.
    pub(crate) fn one() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// The result of a runner that ended without a result line, or that failed although it counted no failure.
    pub(crate) fn broken() -> Self {
        Self { failed: 1, ..Self::default() }
    }
}

/// Whether a line is libtest's first, `running 3 tests`, for which a result line is owed.
pub(crate) fn begins(line: &str) -> bool {
    let count = line
        .strip_prefix("running ")
        .and_then(|rest| rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test")));
    count.is_some_and(|count| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()))
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_began_owes_a_result() {
        for (line, expected) in [
            ("running 3 tests", true),
            ("running 1 test", true),
            ("running  tests", false),
            ("running some tests", false),
            ("    running 3 tests", false),
        ] {
            assert_eq!(begins(line), expected, "{line:?}");
        }
    }

    #[test]
    fn only_result_lines_count() {
        let rows = [
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s",
                Some((12, 0, 1)),
                "the usual line",
            ),
            (
                "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
                Some((2, 3, 0)),
                "failures are counted by the runner",
            ),
            ("test result::reads ... ok", None, "a test may be named like the line"),
            ("test tally ... ok", None, "a single test"),
            ("12 passed; 0 failed", None, "somebody's own words"),
            ("test result: ok. many passed; 0 failed; 0 ignored", None, "not a number"),
        ];
        for (line, expected, why) in rows {
            let read = Tally::read(line).map(|tally| (tally.passed, tally.failed, tally.ignored));
            assert_eq!(read, expected, "{why}: {line}");
        }
    }
}
