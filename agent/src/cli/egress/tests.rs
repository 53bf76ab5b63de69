//! What is shown of a register.

use super::*;
use crate::egress::register::{Bounds, Flow, FlowKey, Pending, Seen, Store};
use serde_json::Value;
use std::path::Path;

fn flow(region: &str, address: &str, deed: Deed, process: &str) -> Flow {
    let key = FlowKey {
        scope: "llama".to_owned(),
        process: process.to_owned(),
        protocol: 6,
        address: address.parse().unwrap(),
        port: 443,
        deed,
        reason: if deed.is_violation() { "destination-not-allowed" } else { "" },
    };
    let mut seen = Seen::at(UNIX_EPOCH + Duration::from_secs(1_780_272_061), region);
    (seen.told, seen.sent_bytes) = (2, if deed.is_violation() { 0 } else { 2048 });
    Flow { key, seen }
}

fn register(directory: &Path) -> Reader {
    let path = directory.join("register.sqlite");
    let mut pending = Pending::default();
    pending.add(flow("eu", "198.51.100.7", Deed::Allowed, "python3"));
    pending.add(flow("unknown", "2001:db8::7", Deed::Denied, "x\u{1b}[2J\n"));
    pending.add(flow("unknown", "192.0.2.7", Deed::WouldDeny, "curl"));
    Store::open(&path, Bounds::OURS).unwrap().write(&pending).unwrap();
    Reader::open(&path).unwrap()
}

#[test]
fn the_table_is_by_region_and_nothing_in_it_moves_the_cursor() {
    let directory = tempfile::tempdir().unwrap();
    let reader = register(directory.path());
    let text = page(&reader, &EgressArgs { flows: 1, ..EgressArgs::default() }).unwrap();
    assert!(text.contains("REGION eu: 1 flow, 2 times allowed, 2.0 KiB sent, 0 B received"), "{text}");
    assert!(text.contains("REGION unknown: 2 flows, 2 times would be refused, 2 times refused"), "{text}");
    assert!(text.contains("and 1 more") && text.contains("2026-06-01 00:01:01"), "{text}");
    assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let denied = EgressArgs { flows: 20, verdict: Some(Deed::Denied), ..EgressArgs::default() };
    let text = page(&reader, &denied).unwrap();
    assert!(text.contains("tcp [2001:db8::7]:443") && !text.contains("curl"), "{text}");
    let nobody = EgressArgs { model: Some("phi".to_owned()), ..EgressArgs::default() };
    assert!(page(&reader, &nobody).unwrap().starts_with("nothing"), "and says so");
}

#[test]
fn the_object_has_sums_and_every_flow() {
    let directory = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    whole(&register(directory.path()), &Filter::default(), &mut out).unwrap();
    let value: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["regions"].as_array().map(Vec::len), Some(3), "{value}");
    let flows = value["flows"].as_array().unwrap();
    assert_eq!(flows.len(), 3);
    let flow = flows.iter().find(|flow| flow["process"] == "curl").unwrap();
    assert_eq!(
        (&flow["protocol"], &flow["verdict"], &flow["count"]),
        (&json!("tcp"), &json!("would-deny"), &json!(2))
    );
    assert_eq!(flow["last_seen"], "2026-06-01T00:01:01Z");
}
