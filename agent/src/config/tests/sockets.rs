//! Models that listen on a Unix socket.

use super::*;
use crate::config::settings::ModelAddress;
use std::os::unix::fs::PermissionsExt;

const SOCKET: &str = "socket = \"/run/llama/model.sock\"";

#[test]
fn a_model_on_a_socket_needs_no_port_and_is_sealed_whole() {
    let settings = compiled(&with("port = 8000", SOCKET));
    let upstream = &settings.models[&name("llama")].upstream;
    assert_eq!(*upstream, ModelAddress::Socket("/run/llama/model.sock".into()));
    assert_eq!(settings.kernel.scopes[1].kind, ScopeKind::SealedModel);
    let said = |text: &str| settings.warnings.iter().any(|warning| warning.contains(text));
    assert!(
        said("by its permissions alone"),
        "what the kernel does not do is said: {:#?}",
        settings.warnings
    );
}

#[test]
fn each_mistake_in_a_socket_is_told_in_its_place() {
    let long = format!("socket = \"/run/{}\"", "x".repeat(103));
    for (text, problem, key, hint) in [
        (with("port = 8000", ""), Problem::MissingKey, "model[0].port", "add port"),
        (
            with("port = 8000", &format!("port = 8000\n{SOCKET}")),
            Problem::Conflict,
            "model[0].socket",
            "take one",
        ),
        (
            with("port = 8000", "socket = \"model.sock\""),
            Problem::Invalid,
            "model[0].socket",
            "start it with /",
        ),
        (with("port = 8000", "socket = \"@model\""), Problem::Invalid, "model[0].socket", "start it with /"),
        (
            with("port = 8000", "socket = \"/run/../x.sock\""),
            Problem::Invalid,
            "model[0].socket",
            "name the file",
        ),
        (with("port = 8000", "socket = \"/\""), Problem::Invalid, "model[0].socket", "name the file"),
        (with("port = 8000", &long), Problem::Invalid, "model[0].socket", "107"),
        (with("port = 8000", "socket = 8000"), Problem::WrongType, "model[0].socket", "quotes"),
        (
            with("port = 8000", SOCKET).replace("port = 0x1f41", SOCKET),
            Problem::Duplicate,
            "model[1].socket",
            "own",
        ),
    ] {
        let found = errors(&text);
        assert_eq!(found.len(), 1, "{hint}: {found:#?}");
        assert_eq!((found[0].problem, found[0].key.as_str()), (problem, key), "{hint}");
        assert!(found[0].to_string().contains(hint), "{hint:?} not in {}", found[0]);
    }
    let misspelt = errors(&with("port = 8000", "sokcet = \"/run/llama/model.sock\""));
    assert!(misspelt.iter().any(|error| error.nearest.as_deref() == Some("socket")), "{misspelt:#?}");
}

#[test]
fn a_socket_that_is_there_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.sock");
    let text = with("port = 8000", &format!("socket = \"{}\"", path.display())).replace(
        "tls = { certificate = \"/etc/bailiwick/tls.crt\", key = \"/etc/bailiwick/tls.key\" }\n",
        "",
    );
    let look = || {
        let facts = HostFacts { check_files: true, ..facts() };
        let errors = compile(&text, Path::new("b.toml"), &facts).expect_err("there is no [proxy] tls");
        errors.as_slice().iter().any(|error| error.key == "model[0].socket")
    };
    assert!(!look(), "the model makes it when it starts");
    std::fs::write(&path, "").unwrap();
    assert!(look(), "a file is no socket");
    std::fs::remove_file(&path).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!look(), "a mode that is too wide is a warning: the model may set it when it starts again");
}
