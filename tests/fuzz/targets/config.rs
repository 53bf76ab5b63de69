//! Any text as a config: settings or errors, each of which points into the text; the same for the same text.
#![no_main]

use std::path::Path;

use bailiwick::config::{self, HostFacts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let facts = || HostFacts {
        credentials_directory: None,
        agent_cgroup: "bailiwick.slice/bailiwick-agent.slice".into(),
        hostname: "host-1".to_owned(),
        mask_key: [7; 32],
        check_files: false,
        read_datasets: false,
    };
    let compile = || config::compile(text, Path::new("bailiwick.toml"), &facts());
    match compile() {
        Ok(settings) => {
            // What compiles can be guarded: the kernel's own room finds no contradiction in it.
            assert!(settings.kernel.check().is_ok(), "the kernel room refuses what compiled");
            assert!(!settings.id.is_empty());
        }
        Err(errors) => {
            let lines = text.split('\n').count();
            assert!(!errors.as_slice().is_empty(), "refused without a reason");
            for error in errors.as_slice() {
                assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error}");
                assert!(!error.cure.is_empty() && !error.message.is_empty(), "{error}");
            }
            let again = compile().expect_err("the same text was refused");
            assert_eq!(errors.to_string(), again.to_string());
        }
    }
});
