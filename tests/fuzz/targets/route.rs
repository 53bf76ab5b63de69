//! Any text as a request's method and target: a model's own endpoint, by a path that every reader reads alike, or a refusal
//! in words that hold nothing of it.
#![no_main]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use bailiwick::config::settings::Settings;
use bailiwick::config::{self, HostFacts};
use bailiwick::proxy;
use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;

static SETTINGS: OnceLock<Settings> = OnceLock::new();
/// What each code says: always the same, and so nothing of the request.
static MESSAGES: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());

fuzz_target!(|input: (String, String)| {
    let (method, target) = input;
    let settings = SETTINGS.get_or_init(settings);
    let Ok(target) = target.parse::<Uri>() else { return };
    let named = method.parse::<Method>().ok();
    for method in [Method::GET, Method::POST].into_iter().chain(named) {
        match proxy::route(settings, &method, &target) {
            Ok((model, _)) => {
                assert!(settings.models.contains_key(&model));
                assert!(method == Method::GET || method == Method::POST, "{method} opens something");
                let path = target.path();
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
                assert!(path.bytes().all(plain) && !path.contains("//"), "{path:?} can be read in two ways");
                assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{path:?}");
            }
            Err(refusal) => {
                assert!((400..500).contains(&refusal.status));
                let mut messages = MESSAGES.lock().expect("messages");
                let known = messages.entry(refusal.code).or_insert_with(|| refusal.message.clone());
                assert_eq!(*known, refusal.message, "the message depends on the request");
            }
        }
    }
});

/// Those of the example that is installed.
fn settings() -> Settings {
    let facts = HostFacts {
        credentials_directory: None,
        agent_cgroup: "bailiwick.slice/bailiwick-agent.slice".into(),
        hostname: "host-1".to_owned(),
        mask_key: [7; 32],
        check_files: false,
        read_datasets: false,
    };
    let example = include_str!("../../../config/bailiwick.toml");
    config::compile(example, Path::new("bailiwick.toml"), &facts).expect("the example compiles")
}
