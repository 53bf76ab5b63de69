//! Any bytes where a name is looked for: DNS, TLS and HTTP are read to an end; what is asked for more bytes asks for more than
//! there are, and nothing that is found as a name could move a terminal's cursor.
#![no_main]

use bailiwick::egress::names::{Found, read_any};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (message, server, host) = read_any(bytes);
    let mut names = Vec::new();
    names.extend(message.as_ref().and_then(|message| message.question.host()));
    match server {
        Found::Name(server) => names.push(server.name),
        Found::More(wanted) => assert!(wanted > bytes.len()),
        Found::Nothing => {}
    }
    match host {
        Found::Name(host) => names.push(host),
        Found::More(wanted) => assert!(wanted > bytes.len()),
        Found::Nothing => {}
    }
    for name in names {
        for shown in [name.shown(), name.shown_domain()] {
            assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()) && shown.len() <= 253, "{shown:?}");
        }
    }
});
