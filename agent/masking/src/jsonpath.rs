//! The part of JSONPath (RFC 9535) that names fields: names, indexes, wildcards and descendants.

use crate::json;

const SUPPORTED: &str = "supported are `$` followed by `.name`, `['name']`, `[n]`, `[*]`, `.*` and `..name`";

/// A path from the document's root to fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// `..`: at any depth.
    descends: bool,
    selector: Selector,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Selector {
    Name(String),
    Index(usize),
    Any,
}

/// One step from a value to one in it.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// How far the paths have come at a value: pairs of a path's place and how many of its segments are matched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Vec<(usize, usize)>);

impl Progress {
    /// At the root, for that many paths.
    pub(crate) fn start(paths: usize) -> Self {
        Self((0..paths).map(|path| (path, 0)).collect())
    }

    /// One step on: the progress there, and the first path that ends there.
    pub(crate) fn step(&self, paths: &[&Path], step: Step<'_>, mut ends: impl FnMut(usize)) -> Self {
        let mut next = Vec::new();
        for (path, matched) in &self.0 {
            let Some(segment) = paths.get(*path).and_then(|path| path.0.get(*matched)) else {
                continue;
            };
            if segment.descends {
                next.push((*path, *matched));
            }
            if segment.selects(step) {
                if paths[*path].0.len() == matched + 1 {
                    ends(*path);
                } else {
                    next.push((*path, matched + 1));
                }
            }
        }
        next.sort_unstable();
        next.dedup();
        Self(next)
    }
}

impl Segment {
    fn selects(&self, step: Step<'_>) -> bool {
        match (&self.selector, step) {
            (Selector::Any, Step::Name(_) | Step::Index(_)) => true,
            (Selector::Name(name), Step::Name(key)) => name == key,
            (Selector::Index(index), Step::Index(place)) => *index == place,
            (Selector::Name(_), Step::Index(_)) | (Selector::Index(_), Step::Name(_)) => false,
        }
    }
}

impl Path {
    pub(crate) fn parse(expression: &str) -> Result<Self, String> {
        let refused = |why: &str| format!("field `{expression}`: {why}; {SUPPORTED}");
        let mut rest = expression.strip_prefix('$').ok_or_else(|| refused("it does not start with `$`"))?;
        let mut segments = Vec::new();
        while !rest.is_empty() {
            let descends = rest.starts_with("..");
            let after = rest.strip_prefix("..").or_else(|| rest.strip_prefix('.')).unwrap_or(rest);
            let dotted = after.len() < rest.len();
            let (selector, left) = match after.strip_prefix('[') {
                Some(_) if dotted && !descends => return Err(refused("a name is missing after `.`")),
                Some(inside) => bracketed(inside).map_err(refused)?,
                None if !dotted => return Err(refused("a segment starts with neither `.` nor `[`")),
                None => shorthand(after).map_err(refused)?,
            };
            segments.push(Segment { descends, selector });
            rest = left;
        }
        if segments.is_empty() {
            return Err(refused("it names the whole document, not a field"));
        }
        Ok(Self(segments))
    }
}

/// After a dot: `*`, or a name as RFC 9535 allows it there.
fn shorthand(text: &str) -> Result<(Selector, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('*') {
        return Ok((Selector::Any, rest));
    }
    let end =
        text.find(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = &text[..end];
    match name.chars().next() {
        None => Err("a name is missing after `.`"),
        Some(first) if first.is_ascii_digit() => Err("a name starts with a digit; write it as ['name']"),
        Some(_) => Ok((Selector::Name(name.to_owned()), &text[end..])),
    }
}

/// After `[`: `*`, an index, or a quoted name.
fn bracketed(text: &str) -> Result<(Selector, &str), &'static str> {
    const OPEN: &str = "a `[` is not closed";
    if let Some(rest) = text.strip_prefix("*]") {
        return Ok((Selector::Any, rest));
    }
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        return quoted(&text[1..], quote);
    }
    let (index, rest) = text.split_once(']').ok_or(OPEN)?;
    let canonical = index == "0" || !index.starts_with('0');
    match index.parse() {
        Ok(number) if canonical && index.bytes().all(|b| b.is_ascii_digit()) => {
            Ok((Selector::Index(number), rest))
        }
        _ => Err("between brackets there is neither an index, `*` nor a quoted name"),
    }
}

/// A quoted name: JSON's escapes, and the quote itself escaped.
fn quoted(text: &str, quote: char) -> Result<(Selector, &str), &'static str> {
    let mut escaped = false;
    let end = text.find(|c| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    let end = end.ok_or("a quote is not closed")?;
    let rest = text[end + 1..].strip_prefix(']').ok_or("a `[` is not closed")?;
    let as_json = match quote {
        '\'' => text[..end].replace('"', "\\\"").replace("\\'", "'"),
        _ => text[..end].to_owned(),
    };
    let literal = format!("\"{as_json}\"");
    let document = json::parse(literal.as_bytes()).map_err(|_| "a quoted name has a wrong escape")?;
    document
        .text(document.root())
        .map(|name| (Selector::Name(name.into_owned()), rest))
        .ok_or("a name is not text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(path: &str, steps: &[Step<'_>]) -> bool {
        let path = Path::parse(path).unwrap();
        let (mut progress, mut hit) = (Progress::start(1), false);
        for (place, step) in steps.iter().enumerate() {
            progress = progress.step(&[&path], *step, |_| hit |= place + 1 == steps.len());
        }
        hit
    }

    #[test]
    fn paths_select() {
        use Step::{Index as I, Name as N};
        for (path, steps, expected) in [
            ("$.a", &[N("a")][..], true),
            ("$.a", &[N("b")], false),
            ("$.a", &[N("a"), N("a")], false),
            ("$['a b']", &[N("a b")], true),
            ("$[\"a\\u0062\"]", &[N("ab")], true),
            ("$['it\\'s']", &[N("it's")], true),
            ("$.a[1].b", &[N("a"), I(1), N("b")], true),
            ("$.a[1].b", &[N("a"), I(2), N("b")], false),
            ("$.a[*]", &[N("a"), I(7)], true),
            ("$.a.*", &[N("a"), N("x")], true),
            ("$.*", &[I(0)], true),
            ("$..id", &[N("id")], true),
            ("$..id", &[N("a"), I(0), N("id")], true),
            ("$..a.b", &[N("a"), N("a"), N("b")], true),
            ("$..[0]", &[N("a"), I(0)], true),
            ("$..['x']", &[N("a"), N("x")], true),
        ] {
            assert_eq!(matched(path, steps), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for path in [
            "", "a", "$", "$.", "$..", "$a", "$.a.", "$.1a", "$.a-b", "$[", "$[]", "$[-1]", "$[01]", "$[+1]",
            "$['a", "$['a'", "$[?@.a]", "$[1:2]", "$[0,1]", "$.['a']", "$ .a", "$['\\q']",
        ] {
            let error = Path::parse(path).unwrap_err();
            assert!(error.contains(&format!("`{path}`")) && error.contains("`..name`"), "{error}");
        }
    }
}
