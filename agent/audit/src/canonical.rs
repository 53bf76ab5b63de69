//! Canonical JSON after RFC 8785: keys sorted by UTF-16 code units, no whitespace, the shortest escapes.
//!
//! Records hold strings, booleans and integers below 2^53 only; RFC 8785's rules for fractions are not needed here.

use serde_json::Value;

/// One value, one byte string: whoever encodes the same record gets the same bytes, and so the same leaf hash.
pub(crate) fn to_bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        // serde_json's Display is compact and escapes as RFC 8785 asks: \b \t \n \f \r \" \\ and \u00xx in lower case.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.extend_from_slice(value.to_string().as_bytes());
        }
        Value::Array(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (position, (key, item)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
                out.push(b':');
                write(item, out);
            }
            out.push(b'}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_form() {
        // (given, expected, why)
        let rows = [
            (r#"{ "b": 1, "a": [ true, null ] }"#, r#"{"a":[true,null],"b":1}"#, "sorted, no whitespace"),
            (
                "{\"x\":\"\\u000A\\u0001\\u20ac\"}",
                "{\"x\":\"\\n\\u0001€\"}",
                "shortest escapes, UTF-8 otherwise",
            ),
            (
                "{\"\u{fb33}\":1,\"\u{1f600}\":2}",
                "{\"\u{1f600}\":2,\"\u{fb33}\":1}",
                "sorted by UTF-16, not UTF-8",
            ),
            (r#"{"b":{"d":1,"c":2}}"#, r#"{"b":{"c":2,"d":1}}"#, "nested objects too"),
        ];
        for (given, expected, why) in rows {
            let value: Value = serde_json::from_str(given).unwrap();
            assert_eq!(String::from_utf8(to_bytes(&value)).unwrap(), expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_string_survives_and_the_form_is_stable(key in ".*", text in ".*") {
            let value = serde_json::json!({ key: text });
            let bytes = to_bytes(&value);
            let again: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&again, &value);
            prop_assert_eq!(to_bytes(&again), bytes);
        }
    }
}
