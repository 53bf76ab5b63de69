//! Law 1, attacked: no byte reaches the model except through the proxy, and it is the kernel that refuses.
//! Every attack has its control: without the guard it succeeds.

mod kernel_support;

use bailiwick_kernel::{Hook, Reason, Verdict};
use kernel_support::{Errno, MODEL, OTHER, PORT, PROXY, Stage, actor::talk, at, closed};

#[test]
fn a_local_process_is_refused_at_once_and_by_name() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut thief = stage.actor(OTHER);
    let listener = model.serve_on(at("::", PORT));
    let ways = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"];
    for ip in ways {
        talk(&mut thief, &mut model, listener, at(ip, PORT)).unwrap_or_else(|error| panic!("control: {ip}: {error}"));
    }
    let _guard = stage.guard(&closed());
    for ip in ways {
        assert_eq!(thief.dial(at(ip, PORT)), Err(Errno::EPERM), "{ip}");
    }
    let event = stage.event("the thief", |event| event.hook == Hook::Connect);
    assert_eq!(event.reason, Reason::NotProxy);
    assert_eq!(event.verdict, Verdict::Deny);
    assert_eq!(event.process.map(|process| process.pid), Some(thief.pid()));
    assert_eq!(event.scope.map(|name| name.to_string()).as_deref(), Some("llama"));
    assert_eq!(event.destination.port(), PORT);
}

#[test]
fn the_proxy_is_admitted_and_nothing_hangs() {
    let stage = Stage::new();
    let mut model = stage.actor(MODEL);
    let mut proxy = stage.actor(PROXY);
    let listener = model.serve_on(at("::", PORT));
    let _guard = stage.guard(&closed());
    for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        talk(&mut proxy, &mut model, listener, at(ip, PORT)).unwrap_or_else(|error| panic!("{ip}: {error}"));
    }
    assert_eq!(stage.take_events(), []);
}
