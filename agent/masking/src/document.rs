//! Masks a whole JSON document by walking its tree and collecting edits of its bytes.

use crate::canonical::{Pushed, View};
use crate::encoded;
use crate::json::{self, Document, Edits, Kind, Member, Node, quote};
use crate::jsonpath::{Path, Progress, Step};
use crate::look::Look;
use crate::recognize::{Set, Text};
use crate::rules::{Rules, hashed};
use crate::scan::scan;
use crate::{Action, Findings, Mask, MaskError, Masker};
use std::collections::HashSet;

/// How deep JSON within JSON strings is read.
const MOST_NESTED: usize = 4;

/// Masks a document; see [`Masker::document`].
pub(crate) fn mask(
    document: &Document<'_>,
    masker: &Masker,
    findings: &mut Findings,
) -> Result<Option<Vec<u8>>, MaskError> {
    let mut pass = Pass::new(masker, findings);
    let mut edits = Edits::default();
    let progress = Progress::start(pass.paths.len());
    pass.value(document, document.root(), &progress, 0, &mut edits)?;
    Ok((!edits.is_empty()).then(|| edits.apply(document.bytes())))
}

/// Masks a text; see [`Masker::text`].
pub(crate) fn mask_text(text: &str, masker: &Masker, findings: &mut Findings) -> Result<String, MaskError> {
    let mut pass = Pass::new(masker, findings);
    if !may_hold_json(text.as_bytes()) && Look::at(text.as_bytes(), pass.wanted).shows_nothing() {
        return Ok(text.to_owned());
    }
    let written = quote(text);
    let progress = Progress::start(pass.paths.len());
    let document = json::parse(written.as_bytes())?;
    let mut edits = Edits::default();
    pass.string(&document, document.root(), &progress, 0, &mut edits)?;
    if edits.is_empty() {
        return Ok(text.to_owned());
    }
    let masked = edits.apply(written.as_bytes());
    let document = json::parse(&masked)?;
    document
        .text(document.root())
        .map(std::borrow::Cow::into_owned)
        .ok_or(MaskError::Unreadable("masking a text did not give a text"))
}

struct Pass<'a> {
    rules: Rules,
    wanted: Set,
    paths: Vec<&'a Path>,
    /// The mask that each path belongs to.
    owners: Vec<&'a Mask>,
    findings: &'a mut Findings,
    view: View,
}

impl<'a> Pass<'a> {
    fn new(masker: &'a Masker, findings: &'a mut Findings) -> Self {
        let rules = Rules::new(&masker.masks);
        let fields =
            masker.masks.iter().flat_map(|mask| mask.fields().iter().map(move |path| (path, &**mask)));
        let (paths, owners) = fields.unzip();
        Self { wanted: rules.wanted(), rules, paths, owners, findings, view: View::default() }
    }

    fn value(
        &mut self,
        document: &Document<'_>,
        node: &Node<'_>,
        progress: &Progress,
        nested: usize,
        edits: &mut Edits,
    ) -> Result<(), MaskError> {
        match &node.kind {
            Kind::Null | Kind::Bool(_) => Ok(()),
            Kind::Number => self.number(document, node, edits),
            Kind::String => self.string(document, node, progress, nested, edits),
            Kind::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.child(document, element, Step::Index(index), progress, nested, edits)?;
                }
                Ok(())
            }
            Kind::Object(members) => self.members(document, members, progress, nested, edits),
        }
    }

    fn members(
        &mut self,
        document: &Document<'_>,
        members: &[Member<'_>],
        progress: &Progress,
        nested: usize,
        edits: &mut Edits,
    ) -> Result<(), MaskError> {
        // Masked keys must not become equal to others. Filled when the first key is masked.
        let mut taken: HashSet<String> = HashSet::new();
        let mut number = 1u64;
        for member in members {
            let mut of_key = Edits::default();
            self.characters(document, &member.key, &mut of_key)?;
            if !of_key.is_empty() {
                if taken.is_empty() {
                    taken.extend(members.iter().map(|member| member.name.clone().into_owned()));
                }
                let masked = decoded(&of_key.apply_within(document.bytes(), member.key.span()))?;
                let mut key = masked.clone();
                while !taken.insert(key.clone()) {
                    number += 1;
                    key = format!("{masked}~{number}");
                }
                edits.replace(member.key.span(), quote(&key));
            }
            self.child(document, &member.value, Step::Name(&member.name), progress, nested, edits)?;
        }
        Ok(())
    }

    fn child(
        &mut self,
        document: &Document<'_>,
        node: &Node<'_>,
        step: Step<'_>,
        progress: &Progress,
        nested: usize,
        edits: &mut Edits,
    ) -> Result<(), MaskError> {
        let mut owners: Vec<&Mask> = Vec::new();
        let next = progress.step(&self.paths, step, |path| owners.push(self.owners[path]));
        let Some(first) = owners.first() else {
            return self.value(document, node, &next, nested, edits);
        };
        self.findings.fields += 1;
        let deciding = owners.iter().find(|mask| mask.action() == Action::Block).unwrap_or(first);
        let placeholder = match deciding.action() {
            Action::Block => return Err(MaskError::BlockedField),
            Action::Redact => "[masked]".to_owned(),
            Action::Hash => match document.text(node) {
                Some(text) => hashed("masked", deciding.key(), text.as_bytes()),
                None => hashed("masked", deciding.key(), document.raw(node)),
            },
        };
        edits.replace(node.span(), quote(&placeholder));
        Ok(())
    }

    /// A string: as JSON if it holds a JSON object or array, otherwise as text.
    fn string(
        &mut self,
        document: &Document<'_>,
        node: &Node<'_>,
        progress: &Progress,
        nested: usize,
        edits: &mut Edits,
    ) -> Result<(), MaskError> {
        let raw = document.raw(node);
        if !may_hold_json(&raw[1..]) {
            return self.characters(document, node, edits);
        }
        let text = document.text(node).unwrap_or_default();
        match text.trim_start_matches([' ', '\t', '\n', '\r']).as_bytes().first() {
            Some(b'{' | b'[') => {}
            _ => return self.characters(document, node, edits),
        }
        match json::parse(text.as_bytes()) {
            Ok(_) if nested == MOST_NESTED => {
                Err(MaskError::Unreadable("JSON strings hold JSON more than 4 levels deep"))
            }
            Ok(inner) => {
                let mut of_inner = Edits::default();
                self.value(&inner, inner.root(), progress, nested + 1, &mut of_inner)?;
                if !of_inner.is_empty() {
                    let masked = of_inner.apply(text.as_bytes());
                    let masked = String::from_utf8(masked)
                        .map_err(|_| MaskError::Unreadable("masking a text did not give a text"))?;
                    edits.replace(node.span(), quote(&masked));
                }
                Ok(())
            }
            // Not JSON after all: every character of it is scanned as text.
            Err(_) => self.characters(document, node, edits),
        }
    }

    /// A string as text.
    fn characters(
        &mut self,
        document: &Document<'_>,
        node: &Node<'_>,
        edits: &mut Edits,
    ) -> Result<(), MaskError> {
        let raw = document.raw(node);
        if self.wanted.is_empty() {
            return Ok(());
        }
        let look = Look::at(raw, self.wanted);
        if look.shows_nothing() {
            return Ok(());
        }
        self.view.clear();
        let mut excess = Vec::new();
        offset(raw.len())?;
        if look.simple {
            self.view.push_plain(&raw[1..raw.len() - 1], 1);
        } else {
            for (c, start, end) in json::characters(raw) {
                if self.view.push(c, offset(start)?, offset(end)?) == Pushed::Excess {
                    excess.push((start, end));
                }
            }
            // JSON that is none to us (a key twice, say) may be some to its reader, who decodes it once more.
            if self.view.chars().contains(&'\\') {
                self.view.unescape();
            }
        }

        let chars = self.view.chars();
        let mut hits = Vec::new();
        scan(Text { chars, before: None, complete: true }, look.possible, &mut hits);
        let mut replaced = Vec::new();
        for hit in &hits {
            let placeholder = self.rules.decide(hit.entity, &chars[hit.from..hit.to], self.findings)?;
            replaced.push((hit.from, hit.to, placeholder));
        }
        // What is encoded is looked for between the matches.
        let starts = std::iter::once(0).chain(hits.iter().map(|hit| hit.to));
        let ends = hits.iter().map(|hit| hit.from).chain(std::iter::once(chars.len()));
        for (start, end) in starts.zip(ends).filter(|_| look.coded) {
            for run in encoded::runs(&chars[start..end], self.wanted) {
                let mut placeholder = String::new();
                for hit in run.hits {
                    let decoded = &run.decoded.chars()[hit.from..hit.to];
                    placeholder.push_str(&self.rules.decide(hit.entity, decoded, self.findings)?);
                }
                replaced.push((start + run.from, start + run.to, placeholder));
            }
        }

        let mut spans: Vec<_> = replaced
            .into_iter()
            .map(|(from, to, with)| (self.view.span(from).0, self.view.span(to - 1).1, with))
            .collect();
        spans.sort_unstable_by_key(|(start, ..)| *start);
        for (start, end) in excess {
            let next = spans.partition_point(|(_, to, _)| *to <= start);
            if spans.get(next).is_none_or(|(from, ..)| *from > start) {
                edits.replace(node.start + start..node.start + end, Vec::new());
            }
        }
        for (start, end, with) in spans {
            edits.replace(node.start + start..node.start + end, with);
        }
        Ok(())
    }

    /// A number: a card number is one, however it is written.
    fn number(
        &mut self,
        document: &Document<'_>,
        node: &Node<'_>,
        edits: &mut Edits,
    ) -> Result<(), MaskError> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let Some(digits) = integer_digits(document.raw(node)) else {
            return Ok(());
        };
        let chars: Vec<char> = digits.chars().collect();
        let mut hits = Vec::new();
        scan(Text { chars: &chars, before: None, complete: true }, self.wanted, &mut hits);
        if let Some(hit) = hits.first() {
            let placeholder = self.rules.decide(hit.entity, &chars[hit.from..hit.to], self.findings)?;
            edits.replace(node.span(), quote(&placeholder));
        }
        Ok(())
    }
}

/// By what a text begins with: a bracket, or an escape that may be one.
fn may_hold_json(text: &[u8]) -> bool {
    matches!(text.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'[' | b'\\'))
}

/// The integer part of a number, if it has at most 19 digits: `4.1e1` is 41. Digits behind the point are no card number,
/// and vectors are full of them.
fn integer_digits(raw: &[u8]) -> Option<String> {
    const MOST: usize = 19;
    let text = std::str::from_utf8(raw).ok()?.trim_start_matches('-');
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().ok()?;
    let written = format!("{whole}{fraction}");
    let places = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let places = usize::try_from(places).ok()?;
    let cut = written.get(..places).unwrap_or(&written).trim_start_matches('0');
    let zeros = if cut.is_empty() { 0 } else { places.saturating_sub(written.len()) };
    (cut.len().saturating_add(zeros) <= MOST).then(|| format!("{cut}{}", "0".repeat(zeros)))
}

fn decoded(raw: &[u8]) -> Result<String, MaskError> {
    let document = json::parse(raw)?;
    Ok(document.text(document.root()).unwrap_or_default().into_owned())
}

fn offset(bytes: usize) -> Result<u32, MaskError> {
    u32::try_from(bytes).map_err(|_| MaskError::Unreadable("a JSON string is longer than 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entity;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn masker(action: Action, fields: &[&str]) -> Masker {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        Masker { masks: vec![Arc::new(Mask::new(Entity::ALL, &fields, action, [7; 32]).unwrap())] }
    }

    fn redacted(document: &str, fields: &[&str]) -> Result<String, MaskError> {
        let masked = masker(Action::Redact, fields).json(document.as_bytes(), &mut Findings::default())?;
        Ok(String::from_utf8(masked).unwrap())
    }

    #[test]
    fn documents() {
        for (document, masked, why) in [
            (
                r#" { "a" : [1, 2.50, "x\u0041\/"] } "#,
                r#" { "a" : [1, 2.50, "x\u0041\/"] } "#,
                "byte for byte",
            ),
            (r#"{"a":"to alice@example.com\n"}"#, r#"{"a":"to [email]\n"}"#, "only the match"),
            (r#""alice\u0040example\u002ecom""#, r#""[email]""#, "escapes"),
            (r#""\u0061\u006cice@example.com\u0021""#, r#""[email]\u0021""#, "escapes keep their place"),
            (r#""alice\u0000@\u007fexample.com""#, r#""[email]""#, "control characters"),
            (
                "\"alice@\u{7f}example.com\"",
                r#""[email]""#,
                "the one control character that JSON leaves unescaped",
            ),
            (r#"{"bob@example.com":1}"#, r#"{"[email]":1}"#, "keys"),
            (
                r#"{"a@b.io":1,"c@d.io":2,"[email]~2":3}"#,
                r#"{"[email]":1,"[email]~3":2,"[email]~2":3}"#,
                "masked keys stay different",
            ),
            (r#"{"card":4111111111111111}"#, r#"{"card":"[card]"}"#, "numbers"),
            (
                r#"[4111111111111111.0, 4.111111111111111e15, -0.4111111111111111E+16, 4111111111111111.5, 41111111111111115e-1]"#,
                r#"["[card]", "[card]", "[card]", "[card]", "[card]"]"#,
                "numbers in other notations",
            ),
            (
                r#"[0.4111111111111111, -0.0, 1e999, 1e-9, 0, 0e9223372036854775807, 1e9223372036854775807, 1e-9223372036854775808]"#,
                r#"[0.4111111111111111, -0.0, 1e999, 1e-9, 0, 0e9223372036854775807, 1e9223372036854775807, 1e-9223372036854775808]"#,
                "fractions",
            ),
            (
                r#"{"arguments":"{\"to\":\"alice@example.com\",\"n\":4111111111111111}"}"#,
                r#"{"arguments":"{\"to\":\"[email]\",\"n\":\"[card]\"}"}"#,
                "JSON in a string stays JSON",
            ),
            (r#""[\"alice\\u0040example.com\"]""#, r#""[\"[email]\"]""#, "escapes within JSON in a string"),
            (r#""{not json alice@example.com""#, r#""{not json [email]""#, "what only looks like JSON"),
            (
                r#"{"arguments":"{\"a\":1,\"a\":2,\"to\":\"\\u0061lice@\\u0065xample.com\"}"}"#,
                r#"{"arguments":"{\"a\":1,\"a\":2,\"to\":\"[email]\"}"}"#,
                "escapes within JSON in a string that a strict reader refuses",
            ),
            (
                r#""say alice@\\u0065xample\\u200b.com \\u00""#,
                r#""say [email] \\u00""#,
                "escapes within text",
            ),
            (r#""x YWxpY2VAZXhhbXBsZS5jb20= y a@b.io""#, r#""x [email] y [email]""#, "base64"),
            (
                r#""a@b.io616c696365406578616d706c652e636f6d""#,
                r#""[email]""#,
                "glued to a domain, it is a part of it",
            ),
            ("\"DE89\u{a0}3704\u{a0}0044\u{a0}0532\u{a0}0130\u{a0}00\"", r#""[iban]""#, "unusual spaces"),
        ] {
            assert_eq!(redacted(document, &[]).as_deref(), Ok(masked), "{why}");
        }
    }

    #[test]
    fn the_deepest_document_needs_little_stack() {
        let nest =
            |inner: &str| format!("{}{inner}{}", "[".repeat(json::MOST_DEPTH), "]".repeat(json::MOST_DEPTH));
        let mut document = nest("\"a@b.io\"");
        for _ in 0..MOST_NESTED {
            document = nest(&quote(&document));
        }
        let small = std::thread::Builder::new().stack_size(1 << 20);
        let masked =
            small.spawn(move || redacted(&document, &["$..never"])).unwrap().join().unwrap().unwrap();
        assert!(masked.contains("[email]"));
    }

    #[test]
    fn a_document_of_very_many_values_is_refused() {
        let document = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(json::parse(document(json::MOST_VALUES).as_bytes()).is_ok(), "as many as are allowed");
        assert!(json::parse(document(json::MOST_VALUES + 1).as_bytes()).is_err(), "one more");
    }

    #[test]
    fn fields_are_replaced_whole_whatever_they_are() {
        for (document, fields, masked) in [
            (r#"{"m":{"id":"x", "k":1}}"#, &["$.m.id"][..], r#"{"m":{"id":"[masked]", "k":1}}"#),
            (r#"{"m":{"id":{"deep":[1]}}}"#, &["$.m.id"], r#"{"m":{"id":"[masked]"}}"#),
            (
                r#"{"m":[{"id":1},{"id":null}]}"#,
                &["$.m[*].id"],
                r#"{"m":[{"id":"[masked]"},{"id":"[masked]"}]}"#,
            ),
            (r#"{"a":{"id":1},"id":[{"id":2}]}"#, &["$..id"], r#"{"a":{"id":"[masked]"},"id":"[masked]"}"#),
            (r#"{"a":"{\"id\":7}"}"#, &["$..id"], r#"{"a":"{\"id\":\"[masked]\"}"}"#),
            (r#"{"a":1}"#, &["$.b"], r#"{"a":1}"#),
        ] {
            assert_eq!(redacted(document, fields).as_deref(), Ok(masked));
        }
        let mut findings = Findings::default();
        let blocked = masker(Action::Block, &["$.a"]).json(br#"{"a":1}"#, &mut findings);
        assert_eq!(blocked, Err(MaskError::BlockedField));
        assert_eq!(findings.fields, 1);
    }

    #[test]
    fn hashes_are_keyed_and_do_not_depend_on_the_spelling() {
        let with = |key: u8, text: &str| {
            let mask = Mask::new(Entity::ALL, &[], Action::Hash, [key; 32]).unwrap();
            Masker { masks: vec![Arc::new(mask)] }.text(text, &mut Findings::default()).unwrap()
        };
        let hash = with(1, "alice@example.com");
        assert!(hash.starts_with("[email:") && hash.len() == "[email:]".len() + 12, "{hash}");
        assert_eq!(with(1, "ALICE%40example.com"), hash);
        assert_ne!(with(2, "alice@example.com"), hash);
        assert_ne!(with(1, "alicf@example.com"), hash);
    }

    #[test]
    fn the_strictest_mask_wins() {
        let mask = |action| Arc::new(Mask::new(&[Entity::Card], &[], action, [7; 32]).unwrap());
        let masker = Masker { masks: vec![mask(Action::Redact), mask(Action::Block)] };
        let result = masker.text("4111111111111111", &mut Findings::default());
        assert_eq!(result, Err(MaskError::Blocked(Entity::Card)));
        let masker = Masker { masks: vec![mask(Action::Redact), mask(Action::Hash)] };
        assert_eq!(masker.text("4111111111111111", &mut Findings::default()).as_deref(), Ok("[card]"));
    }

    #[test]
    fn bad_documents_are_refused() {
        let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
        let nested = (0..6).fold("1".to_owned(), |inner, _| format!("[{}]", quote(&inner)));
        for document in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "nul",
            "truex",
            "\"\n\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\u12\"",
            "\"",
            "1 2",
            "[1}",
            "\u{feff}1",
            &deep,
            &nested,
            "{\"a\" 1}",
            "NaN",
            "\"\\",
            "-",
            "{\"a\":}",
            "\u{a0}1",
        ] {
            assert!(matches!(redacted(document, &[]), Err(MaskError::Unreadable(_))), "{document}");
        }
        for document in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"a":1,"b":2,"a":3}}]"#] {
            assert_eq!(redacted(document, &[]), Err(MaskError::DuplicateKey), "{document}");
        }
        let many: Vec<String> = (0..40).map(|key| format!("\"{}\":0", key % 39)).collect();
        assert_eq!(redacted(&format!("{{{}}}", many.join(",")), &[]), Err(MaskError::DuplicateKey));
        let bytes = masker(Action::Redact, &[]).json(b"\"\xff\"", &mut Findings::default());
        assert!(matches!(bytes, Err(MaskError::Unreadable(_))));
        let deepest = format!("{}{}", "[".repeat(128), "]".repeat(128));
        assert_eq!(redacted(&deepest, &[]).as_deref(), Ok(&*deepest));
    }

    #[test]
    fn neither_errors_nor_debug_show_what_was_found() {
        let masker = masker(Action::Block, &[]);
        let error = masker.json(br#"{"a":"alice@example.com"}"#, &mut Findings::default()).unwrap_err();
        let mut channel = masker.channel();
        let held = channel.push("alice@exa", &mut Findings::default()).unwrap();
        assert_eq!(held, "");
        let shown = format!("{error} {error:?} {channel:?} {masker:?}");
        assert!(!shown.contains("alice") && !shown.contains("exa") && !shown.contains("7, 7"), "{shown}");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let text = prop_oneof![
            "[ -~äé世\u{200b}\n\"\\\\]{0,20}",
            Just("alice@example.com".to_owned()),
            Just("pay DE89 3704 0044 0532 0130 00 now".to_owned()),
            Just("[\"4111111111111111\",4111111111111111]".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f32>().prop_map(|n| serde_json::json!(n)),
            text.clone().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(text.clone(), inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn escapes_and_invisible_characters_hide_nothing(
            spellings in prop::collection::vec(0usize..5, 17),
            before in "[ -~\u{200b}\u{3164}]{0,12}",
            keys in prop::sample::select(vec![("", ""), ("{\"a\":1,\"to\":\"", "\"}"), ("{\"a\":1,\"a\":2,\"to\":\"", "\"}")]),
        ) {
            let hidden: String = "alice@example.com".chars().zip(&spellings).map(|(c, spelling)| match spelling {
                0 => format!("\\u{:04x}", u32::from(c)),
                1 => format!("\\u{:04X}", u32::from(c)),
                2 => format!("{c}\u{ffa0}"),
                3 => format!("\0{c}"),
                _ => c.to_string(),
            }).collect();
            let (open, close) = keys;
            let text = if open.is_empty() { format!("{before} {hidden}{close}") } else { format!("{open}{hidden}{close}") };
            let document = serde_json::json!({"text": text, "list": [text]}).to_string();
            let masked = redacted(&document, &[]).unwrap();
            prop_assert_eq!(masked.matches("[email]").count(), 2, "{}", masked);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{}", masked);
        }

        #[test]
        fn the_reader_agrees_with_another(value in any_json()) {
            for written in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                let document = json::parse(written.as_bytes()).unwrap();
                prop_assert_eq!(document.raw(document.root()), written.as_bytes());
                // Without masks nothing changes; with masks it is still JSON, and masked again it stays as it is.
                let kept = Masker::default().json(written.as_bytes(), &mut Findings::default()).unwrap();
                prop_assert_eq!(&kept, written.as_bytes());
                let masked = redacted(&written, &[]).unwrap();
                prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok());
                prop_assert!(!masked.contains("alice@example.com") && !masked.contains("4111111111111111"));
                prop_assert_eq!(redacted(&masked, &[]).unwrap(), masked);
            }
        }

        #[test]
        fn what_another_reader_refuses_is_refused(written in "[\\[\\]{}\",:0-9aeE+.tnul\\\\ -]{0,16}") {
            let ours = json::parse(written.as_bytes());
            let theirs = serde_json::from_str::<serde_json::Value>(&written);
            match (ours, theirs) {
                (Ok(_), Ok(_)) | (Err(_), Err(_)) | (Err(MaskError::DuplicateKey), Ok(_)) => {}
                // serde_json refuses numbers beyond f64; RFC 8259 does not.
                (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("out of range"), "{}", error),
                (Err(error), Ok(_)) => prop_assert!(false, "{}", error),
            }
        }
    }
}
