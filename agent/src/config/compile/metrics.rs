//! Where health and metrics are told.

use super::super::errors::Problem;
use super::super::raw;
use super::super::report::{At, Report};
use super::super::settings::MetricsListener;
use super::{described, line_of_text};
use std::net::SocketAddr;
use std::path::{Component, Path};

/// What a Unix socket's path begins with, as others write it (nginx, curl).
const UNIX: &str = "unix:";
/// The longest path of a Unix socket in bytes (unix(7)).
const LONGEST_SOCKET: usize = 107;

/// The listener. It has no TLS and asks nobody who they are, so that it stays on this host unless the operator says why not.
pub(super) fn compile(
    raw: &raw::Metrics,
    config: &raw::Config,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Option<MetricsListener> {
    let reason = raw.reason.as_ref().and_then(|reason| line_of_text(reason, report));
    let listen = raw.listen.as_ref()?;
    if let Some(path) = listen.value.strip_prefix(UNIX) {
        return socket(path, listen, report);
    }
    let Ok(address) = listen.value.parse::<SocketAddr>() else {
        let cure = "write \"127.0.0.1:9464\", \"[::1]:9464\" or \"unix:/run/bailiwick/metrics\"";
        report.error(&listen.place, Problem::Invalid, "not an address with a port, nor a socket", cure);
        return None;
    };
    if !address.ip().is_loopback() {
        if raw.reason.is_none() {
            let message =
                "others than this host could read it: there is no TLS, and nobody is asked who they are";
            let cure = "listen on 127.0.0.1, [::1] or unix:/…, or say why not: reason = \"…\"";
            report.error(&listen.place, Problem::Conflict, message, cure);
            return None;
        }
        if let Some(reason) = reason {
            warnings.push(format!(
                "metrics.listen: {address} is open to whoever reaches it, without TLS ({reason}); let a firewall keep others out"
            ));
        }
    } else if let Some(reason) = &raw.reason {
        let cure = "take reason out, or listen elsewhere";
        report.error(&reason.place, Problem::Conflict, "nothing to give a reason for: it is loopback", cure);
    }
    clashes(listen, address, config, report).then_some(MetricsListener::Address(address))
}

/// Whether nobody else of this file has the port; what clashes is reported.
fn clashes(listen: &At<String>, address: SocketAddr, config: &raw::Config, report: &Report<'_>) -> bool {
    let of_models = config.models.iter().flat_map(|model| {
        model.port.iter().chain(model.upstreams.iter().filter_map(|upstream| upstream.port.as_ref()))
    });
    let is_same = |port: &&At<i128>| port.value == i128::from(address.port());
    if let Some(port) = of_models.into_iter().find(is_same) {
        let message = format!("the port is a model's ({})", described(&port.place, report));
        report.error(&listen.place, Problem::Conflict, message, "listen on another port");
        return false;
    }
    let proxy = config.proxy.as_ref().and_then(|proxy| proxy.listen.as_ref());
    let same = |proxy: &&At<String>| {
        proxy
            .value
            .parse::<SocketAddr>()
            .is_ok_and(|proxy| proxy.port() == address.port() && proxy.port() != 0)
    };
    if let Some(proxy) = proxy.filter(same) {
        let message = format!("the port is the proxy's ({})", described(&proxy.place, report));
        report.error(&listen.place, Problem::Conflict, message, "listen on another port");
        return false;
    }
    true
}

fn socket(path: &str, listen: &At<String>, report: &Report<'_>) -> Option<MetricsListener> {
    let file = Path::new(path);
    let plain = path.starts_with('/')
        && path.len() <= LONGEST_SOCKET
        && file.file_name().is_some()
        && !path.contains('\0')
        && !file.components().any(|part| part == Component::ParentDir);
    if plain {
        return Some(MetricsListener::Socket(file.to_owned()));
    }
    let cure =
        "write \"unix:\" and an absolute path of at most 107 bytes, such as \"unix:/run/bailiwick/metrics\"";
    report.error(&listen.place, Problem::Invalid, "not a socket's path", cure);
    None
}
