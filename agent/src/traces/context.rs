//! Whose trace a request is part of (W3C Trace Context, version 00).

use http::HeaderMap;

/// A trace, and the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// 16 bytes, hex.
    pub trace: String,
    /// The caller's span, 8 bytes, hex.
    pub parent: Option<String>,
}

impl Context {
    /// The caller's, or a new one of this id (32 hex digits), where the caller sent none or one that is not well-formed.
    #[must_use]
    pub fn of(headers: &HeaderMap, otherwise: &str) -> Self {
        let mut values = headers.get_all("traceparent").iter();
        let only = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        };
        only.and_then(Self::read).unwrap_or_else(|| Self { trace: otherwise.to_owned(), parent: None })
    }

    /// `00-<trace>-<span>-<flags>`; later versions may have more after it.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let more = parts.next();
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
        let known = hex(version, 2) && version != "ff" && (version != "00" || more.is_none());
        let sound = hex(trace, 32) && !zero(trace) && hex(parent, 16) && !zero(parent) && hex(flags, 2);
        (known && sound).then(|| Self { trace: trace.to_owned(), parent: Some(parent.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_a_well_formed_parent_is_taken() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (text, taken, why) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), true, "as the standard has it"),
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), true, "not sampled: the operator decides"),
            (format!("01-{TRACE}-00f067aa0ba902b7-01-what-comes"), true, "a later version"),
            (format!("00-{TRACE}-00f067aa0ba902b7-01-more"), false, "more than version 00 has"),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), false, "the invalid version"),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false, "no trace"),
            (format!("00-{TRACE}-0000000000000000-01"), false, "no span"),
            (format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false, "upper case"),
            (format!("00-{TRACE}-00f067aa0ba902b7"), false, "no flags"),
            ("my secret".to_owned(), false, "anything"),
            (String::new(), false, "nothing"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_str(&text).unwrap());
            let context = Context::of(&headers, "own");
            assert_eq!(context.parent.is_some(), taken, "{why}");
            assert_eq!(context.trace, if taken { TRACE } else { "own" }, "{why}");
        }
        let mut twice = HeaderMap::new();
        for span in ["00f067aa0ba902b7", "00f067aa0ba902b8"] {
            let value = HeaderValue::from_str(&format!("00-{TRACE}-{span}-01")).unwrap();
            twice.append("traceparent", value);
        }
        assert_eq!(Context::of(&twice, "own").parent, None, "which one?");
    }
}
