//! Spans as an `ExportTraceServiceRequest` in OTLP's JSON (opentelemetry-proto 1.x, "JSON Protobuf Encoding"): ids in hex,
//! 64-bit numbers as strings, enums as numbers.

use super::Span;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// `SPAN_KIND_SERVER`
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`
const ERROR: u8 = 2;

/// One message with all of them; those for whom the system has no random id are left out.
pub(super) fn message(host: &str, spans: &[Span]) -> Value {
    let spans: Vec<Value> = spans.iter().filter_map(of).collect();
    let resource = [
        text("service.name", "bailiwick"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("host.name", host),
    ];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "bailiwick"}, "spans": spans}],
    }]})
}

fn of(span: &Span) -> Option<Value> {
    let mut attributes = vec![
        text("bailiwick.request.id", &span.request),
        text("bailiwick.outcome", span.outcome),
        number("http.response.status_code", span.status.into()),
    ];
    let operation = span.endpoint.map(operation);
    attributes.extend(operation.map(|name| text("gen_ai.operation.name", name)));
    attributes.extend(span.provider.map(|name| text("gen_ai.provider.name", name)));
    attributes.extend(span.model.as_deref().map(|name| text("gen_ai.request.model", name)));
    attributes.extend(span.upstream.as_deref().map(|name| text("bailiwick.upstream", name)));
    attributes.extend(span.tokens.map(|tokens| number("bailiwick.tokens", tokens)));
    attributes.extend(span.first_token.map(|after| {
        json!({"key": "bailiwick.time_to_first_token", "value": {"doubleValue": after.as_secs_f64()}})
    }));
    let failed = !span.reason.is_empty();
    if failed {
        attributes.push(text("error.type", span.reason));
    }
    let name = match (operation, &span.model) {
        (Some(operation), Some(model)) => format!("{operation} {model}"),
        _ => "request".to_owned(),
    };
    let start = span.start.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut value = json!({
        "traceId": span.context.trace,
        "spanId": id()?,
        "name": name,
        "kind": SERVER,
        "startTimeUnixNano": start.as_nanos().to_string(),
        "endTimeUnixNano": (start + span.duration).as_nanos().to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = &span.context.parent {
        value["parentSpanId"] = json!(parent);
    }
    if failed {
        value["status"] = json!({"code": ERROR, "message": span.reason});
    }
    Some(value)
}

/// What the conventions call it.
fn operation(endpoint: &'static str) -> &'static str {
    match endpoint {
        "completions" => "text_completion",
        "responses" | "messages" => "chat",
        other => other,
    }
}

/// 8 random bytes, not all zero.
fn id() -> Option<String> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).ok()?;
    Some(format!("{:016x}", u64::from_be_bytes(bits).max(1)))
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}
