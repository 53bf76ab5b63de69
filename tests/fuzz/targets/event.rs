//! Any bytes in the ring buffer: an event that can be told to the journal, or an error; never a panic, and no field
//! of the journal but those that the alert has.
#![no_main]

use bailiwick::egress::Alert;
use bailiwick_kernel::Event;
use bailiwick_policy::{Name, RegionTable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let decode = || {
        Event::decode(
            bytes,
            |_, scope| Name::new(&format!("model-{scope}")).ok(),
            |cgroup_id| Some(format!("system.slice/{cgroup_id}.service").into()),
        )
    };
    let Ok(event) = decode() else {
        return;
    };
    let Ok(again) = decode() else {
        panic!("the same bytes were an event");
    };
    assert_eq!(event, again);
    let alert = Alert::new(&event, &RegionTable::default());
    assert!(!alert.message().is_empty());
    for (field, _) in alert.fields() {
        assert!(field.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{field}");
    }
    let _ = alert.blocked();
});
