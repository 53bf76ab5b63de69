//! Further servers of a model, and how all of them are asked whether they are well.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::raw;
use super::super::report::{At, Report};
use super::super::settings::{HealthCheck, Replica, ServerPreset};
use super::scopes::Ground;
use super::{bounded, files};
use std::path::PathBuf;
use std::time::Duration;

/// Servers of one model, its own included.
const MOST: usize = 16;

/// Seconds unless the config says otherwise.
const INTERVAL: u64 = 5;
const TIMEOUT: u64 = 2;
/// Answers in a row unless the config says otherwise.
const FALL: u64 = 3;
const RISE: u64 = 2;

/// Every further server that could be read. Each has the model's own credential unless it names another.
pub(super) fn compile(
    model: &raw::Model,
    credential: Option<&PathBuf>,
    ground: &mut Ground,
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Vec<Replica> {
    let mut replicas = Vec::new();
    for (index, raw) in model.upstreams.iter().enumerate() {
        if let Some(text) = &raw.elsewhere {
            // The guarantees are the kernel's, and this host's kernel sees neither who else reaches that port nor what that
            // server sends. Proof of the other host's identity would not change that.
            let message = "a server on another host: nothing here can guard its port or hold what it sends";
            let cure = "run Bailiwick on that host, too, and balance between the two proxies (their /readyz tells); \
                        name only servers of this host here";
            report.error(&text.place, Problem::Conflict, message, cure);
        }
        let name = raw.name.as_ref().and_then(|name| ground.name(name, report));
        let cgroup = raw.slice.as_ref().and_then(|slice| ground.slice(slice, report));
        let called = raw.name.as_ref().map_or("?", |name| name.value.as_str());
        let (number, path) = (raw.port.as_ref(), raw.socket.as_ref());
        let address = ground.address(number, path, called, host, report, warnings);
        let own = raw.credential.as_ref().and_then(|text| {
            let what = format!("upstream \"{called}\": its credential");
            files::credential(text, &what, host, report, warnings)
        });
        if let (Some(name), true) = (&raw.name, index + 2 > MOST) {
            let message = format!("more than {MOST} servers of one model");
            report.error(&name.place, Problem::OutOfRange, message, "make another model of the rest");
        }
        if let (Some(name), Some(slice), Some(_), Some(address)) = (name, &raw.slice, cgroup, address) {
            let credential = if raw.credential.is_some() { own } else { credential.cloned() };
            let backup = raw.backup.as_ref().is_some_and(|flag| flag.value);
            replicas.push(Replica { name, slice: slice.value.clone(), address, credential, backup });
        }
    }
    replicas
}

/// How the model's servers are asked: where the config says how, where there are several, and where somebody asks the agent
/// whether it is ready. One server alone is otherwise judged by its requests.
pub(super) fn health(
    model: &raw::Model,
    server: ServerPreset,
    told: bool,
    report: &Report<'_>,
) -> Option<HealthCheck> {
    let none = raw::Health { path: None, interval: None, timeout: None, fall: None, rise: None };
    let raw = match &model.health {
        Some(raw) => raw,
        None if told || !model.upstreams.is_empty() => &none,
        None => return None,
    };
    let number = |raw: &Option<At<i128>>, default, most, unit| match raw {
        None => Some(default),
        Some(number) => bounded(number, 1, most, unit, report),
    };
    let path = match &raw.path {
        None => Some(server.health_path().to_owned()),
        Some(path) => health_path(path, report),
    };
    let interval = number(&raw.interval, INTERVAL, 3600, "seconds");
    let timeout = number(&raw.timeout, TIMEOUT.min(interval.unwrap_or(TIMEOUT)), 60, "seconds");
    let (fall, rise) = (
        number(&raw.fall, FALL, 100, "failures in a row"),
        number(&raw.rise, RISE, 100, "successes in a row"),
    );
    if let (Some(interval), Some(timeout), Some(written)) = (interval, timeout, &raw.timeout)
        && timeout > interval
    {
        let message = format!("longer than the {interval} seconds between two checks");
        report.error(&written.place, Problem::Conflict, message, "make it at most [model.health] interval");
    }
    Some(HealthCheck {
        path: path?,
        interval: Duration::from_secs(interval?),
        timeout: Duration::from_secs(timeout?),
        fall: u32::try_from(fall?).unwrap_or(u32::MAX),
        rise: u32::try_from(rise?).unwrap_or(u32::MAX),
    })
}

/// A path as it is sent: no query, nothing to decode.
fn health_path(path: &At<String>, report: &Report<'_>) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    if path.value.starts_with('/') && path.value.len() <= 256 && path.value.bytes().all(plain) {
        return Some(path.value.clone());
    }
    let cure = "write a path such as \"/health\": letters, digits and /-_.~";
    report.error(&path.place, Problem::Invalid, "not a path", cure);
    None
}
