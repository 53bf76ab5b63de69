//! A record's fields, by the names that they have in its entry.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::canonical::Value;
use crate::record::{Pseudonym, Record, SCHEMA};

/// Name and value.
pub(crate) type Fields<'a> = Vec<(&'static str, Value<'a>)>;

impl Record {
    /// Everything that its entry says, in the order of names, so that nothing is left to sort.
    pub(crate) fn fields<'a>(&'a self, time: &'a str) -> Fields<'a> {
        let (time, v) = (Value::Text(time), Value::Number(SCHEMA));
        // Each pattern names every field, so that a new one does not compile until it is written.
        match self {
            Self::Admit {
                request,
                subject,
                issuer,
                rule,
                model,
                operation,
                client,
                client_region,
                streamed,
                request_bytes,
                masked,
                policy,
                upstream,
            } => vec![
                ("client", hash(client)),
                ("client_region", known(client_region)),
                ("issuer", text(issuer)),
                ("masked", counts(masked)),
                ("model", text(model)),
                ("operation", text(operation)),
                ("policy", text(policy)),
                ("request", text(request)),
                ("request_bytes", Value::Number(*request_bytes)),
                ("rule", text(rule)),
                ("streamed", Value::Flag(*streamed)),
                ("subject", hash(subject)),
                ("time", time),
                ("type", Value::Text("admit")),
                ("upstream", known(upstream)),
                ("v", v),
            ],
            Self::Outcome { request, outcome, status, response_bytes, duration_ms, masked, reason } => vec![
                ("duration_ms", Value::Number(*duration_ms)),
                ("masked", counts(masked)),
                ("outcome", text(outcome)),
                ("reason", known(reason)),
                ("request", text(request)),
                ("response_bytes", Value::Number(*response_bytes)),
                ("status", number(*status)),
                ("time", time),
                ("type", Value::Text("outcome")),
                ("v", v),
            ],
            Self::Denied {
                request,
                subject,
                issuer,
                client,
                client_region,
                method,
                endpoint,
                model,
                status,
                reason,
                rule,
            } => vec![
                ("client", hash(client)),
                ("client_region", known(client_region)),
                ("endpoint", known(endpoint)),
                ("issuer", known(issuer)),
                ("method", text(method)),
                ("model", known(model)),
                ("reason", text(reason)),
                ("request", text(request)),
                ("rule", known(rule)),
                ("status", number(*status)),
                ("subject", subject.as_ref().map_or(Value::Absent, hash)),
                ("time", time),
                ("type", Value::Text("denied")),
                ("v", v),
            ],
            Self::Violation {
                scope,
                hook,
                verdict,
                reason,
                protocol,
                source,
                destination,
                port,
                name,
                region,
                country,
                rule,
                dataset,
                process,
                executable,
                unit,
                pid,
                uid,
                count,
            } => vec![
                ("count", Value::Number(*count)),
                ("country", known(country)),
                ("dataset", known(dataset)),
                ("destination", text(destination)),
                ("executable", known(executable)),
                ("hook", text(hook)),
                ("name", known(name)),
                ("pid", pid.map_or(Value::Absent, number)),
                ("port", number(*port)),
                ("process", known(process)),
                ("protocol", text(protocol)),
                ("reason", text(reason)),
                ("region", known(region)),
                ("rule", known(rule)),
                ("scope", text(scope)),
                ("source", text(source)),
                ("time", time),
                ("type", Value::Text("violation")),
                ("uid", uid.map_or(Value::Absent, number)),
                ("unit", known(unit)),
                ("v", v),
                ("verdict", text(verdict)),
            ],
            Self::Control { event, detail } => {
                let detail = detail.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
                vec![
                    ("detail", Value::Object(detail)),
                    ("event", text(event)),
                    ("time", time),
                    ("type", Value::Text("control")),
                    ("v", v),
                ]
            }
        }
    }
}

/// RFC 3339, UTC, milliseconds: of years with four digits, as the clock tells them.
pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    let year = u16::try_from(time.year()).unwrap_or_default();
    let mut text = String::with_capacity(24);
    // Written digit by digit: formatting would cost as much as the rest of the record.
    let mut digits = |number: u16, places: u32, then: char| {
        for place in (0..places).rev() {
            text.extend(char::from_digit(u32::from(number / 10_u16.pow(place) % 10), 10));
        }
        text.push(then);
    };
    digits(year, 4, '-');
    digits(u8::from(time.month()).into(), 2, '-');
    digits(time.day().into(), 2, 'T');
    digits(time.hour().into(), 2, ':');
    digits(time.minute().into(), 2, ':');
    digits(time.second().into(), 2, '.');
    digits(time.millisecond(), 3, 'Z');
    text
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text)
}

fn hash(pseudonym: &Pseudonym) -> Value<'_> {
    Value::Text(&pseudonym.0)
}

fn counts(counts: &BTreeMap<String, u64>) -> Value<'_> {
    Value::Object(counts.iter().map(|(name, count)| (name.as_str(), Value::Number(*count))).collect())
}

fn number<'a>(number: impl Into<u64>) -> Value<'a> {
    Value::Number(number.into())
}

/// Where it is known.
fn known(some: &Option<String>) -> Value<'_> {
    some.as_deref().map_or(Value::Absent, Value::Text)
}
