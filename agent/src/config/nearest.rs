//! "Did you mean": the nearest valid word to one that is not.

/// The candidate nearest to `word` by Damerau-Levenshtein distance, letter case aside; `None` when all are so
/// far off (more than a third of the letters) that to name one would mislead. The first of equals wins.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    // Distance is quadratic; no valid word is long.
    if length > 80 {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (length.max(candidate.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_word_is_named_when_it_is_near() {
        for (word, candidates, expected, reason) in [
            ("prot", &["name", "port", "slice"][..], Some("port"), "two letters swapped count once"),
            ("Port", &["port"], Some("port"), "letter case does not count"),
            ("models", &["model", "mode"], Some("model"), "one letter too many"),
            ("ue", &["eu", "us"], Some("eu"), "short words may differ by one"),
            ("credentials", &["credential"], Some("credential"), "plural"),
            ("xyzzy", &["name", "port"], None, "nothing is near"),
            ("a", &["port"], None, "shorter than the distance"),
            ("x", &[], None, "nothing to be near to"),
        ] {
            assert_eq!(nearest(word, candidates.iter().copied()).as_deref(), expected, "{word}: {reason}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), ["port"]), None);
    }
}
