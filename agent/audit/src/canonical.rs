//! Canonical JSON after RFC 8785: keys sorted by UTF-16 code units, no whitespace, the shortest escapes.
//!
//! Records hold strings, booleans and integers below 2^53 only; RFC 8785's rules for fractions are not needed here.

use serde::Serialize;
use serde_json::Error;

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Flag(bool),
    /// Left out, with its name.
    Absent,
    Object(Vec<(&'a str, Self)>),
}

/// One object, one byte string: whoever encodes the same record gets the same bytes, and so the same leaf hash.
pub(crate) fn to_bytes(fields: Vec<(&str, Value<'_>)>) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(768);
    object(fields, &mut out)?;
    // Not one byte longer than it is: up to a second's entries wait in memory to be integrated.
    Ok(out.as_slice().to_vec())
}

fn object(mut fields: Vec<(&str, Value<'_>)>, out: &mut Vec<u8>) -> Result<(), Error> {
    // Of ASCII, which names are, the order of bytes is that of code units.
    if fields.iter().all(|(name, _)| name.is_ascii()) {
        fields.sort_unstable_by_key(|(name, _)| *name);
    } else {
        fields.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    }
    out.push(b'{');
    let mut separator: &[u8] = b"";
    for (name, value) in fields.into_iter().filter(|(_, value)| *value != Value::Absent) {
        out.extend_from_slice(separator);
        separator = b",";
        scalar(name, out)?;
        out.push(b':');
        match value {
            Value::Text(text) => scalar(text, out),
            Value::Number(number) => scalar(&number, out),
            Value::Flag(flag) => scalar(&flag, out),
            Value::Object(fields) => object(fields, out),
            Value::Absent => Ok(()),
        }?;
    }
    out.push(b'}');
    Ok(())
}

/// serde_json writes scalars as RFC 8785 asks: \b \t \n \f \r \" \\ and \u00xx in lower case.
fn scalar<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    serde_json::to_writer(out, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(fields: Vec<(&str, Value<'_>)>) -> String {
        String::from_utf8(to_bytes(fields).unwrap()).unwrap()
    }

    #[test]
    fn canonical_form() {
        let inner = || Value::Object(vec![("d", Value::Number(1)), ("c", Value::Number(2))]);
        // (given, expected, why)
        let rows = [
            (
                vec![("b", Value::Number(1)), ("c", Value::Absent), ("a", Value::Flag(true))],
                r#"{"a":true,"b":1}"#,
                "sorted, no whitespace, nothing that is absent",
            ),
            (
                vec![("x", Value::Text("\n\u{1}\u{20ac}\"\\\u{8}\u{c}\r\t/\u{7f}"))],
                "{\"x\":\"\\n\\u0001€\\\"\\\\\\b\\f\\r\\t/\u{7f}\"}",
                "shortest escapes, UTF-8 otherwise",
            ),
            (
                vec![("\u{fb33}", Value::Number(1)), ("\u{1f600}", Value::Number(2))],
                "{\"\u{1f600}\":2,\"\u{fb33}\":1}",
                "sorted by UTF-16, not UTF-8",
            ),
            (vec![("b", inner()), ("a", Value::Object(vec![]))], r#"{"a":{},"b":{"c":2,"d":1}}"#, "nested"),
        ];
        for (given, expected, why) in rows {
            assert_eq!(canonical(given), expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_string_survives_in_the_order_of_its_name(names in proptest::collection::btree_set(".*", 0..4), text in ".*") {
            let fields: Vec<_> = names.iter().map(|name| (name.as_str(), Value::Text(&text))).collect();
            let bytes = canonical(fields.iter().rev().cloned().collect());
            let again: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&bytes).unwrap();
            prop_assert_eq!(again.len(), names.len());
            prop_assert!(again.values().all(|value| value.as_str() == Some(&text)));
            let order: Vec<Vec<u16>> = again.keys().map(|name| name.encode_utf16().collect()).collect();
            prop_assert!(order.is_sorted());
            prop_assert_eq!(canonical(fields), bytes);
        }
    }
}
