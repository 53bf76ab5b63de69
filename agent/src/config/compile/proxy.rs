//! The proxy's listener.

use super::super::errors::Problem;
use super::super::host::HostFacts;
use super::super::raw;
use super::super::report::{At, Report};
use super::super::settings::{ClientCertificates, IdentityFields, OnRemoval, Proxy, PseudonymKey, Tls};
use super::files::{self, Content};
use super::{bounded, described, report_repeats, word};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Bytes of a request body allowed unless the config says otherwise, at least and at most.
const MAX_BODY: u64 = 16 << 20;
const SMALLEST_MAX_BODY: u64 = 1 << 10;
const LARGEST_MAX_BODY: u64 = 1 << 30;
/// Seconds between the comments in a silent stream unless the config says otherwise, at least and at most.
const PING: u64 = 15;
const SHORTEST_PING: u64 = 1;
const LONGEST_PING: u64 = 3600;

/// The listener, if all of it could be read.
pub(super) fn compile(
    raw: &raw::Proxy,
    models: &[raw::Model],
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Option<Proxy> {
    let listen = raw.listen.as_ref().and_then(|listen| listen_address(listen, models, report));
    let certificate =
        raw.certificate.as_ref().and_then(|path| files::pem(path, Content::Certificates, host, report));
    let key = raw.key.as_ref().and_then(|path| files::pem(path, Content::Key, host, report));
    let key = match (&certificate, &raw.key) {
        (Some(certificate), Some(path)) if host.check_files => {
            key.filter(|_| files::belong_together(certificate, path, report))
        }
        _ => key,
    };
    let max_body = match &raw.max_body {
        None => Some(MAX_BODY),
        Some(bytes) => bounded(bytes, SMALLEST_MAX_BODY, LARGEST_MAX_BODY, "bytes", report),
    };
    let ping = match &raw.ping {
        None => Some(PING),
        Some(seconds) => bounded(seconds, SHORTEST_PING, LONGEST_PING, "seconds", report),
    };
    if let Some(key) = key.as_deref().filter(|_| host.check_files)
        && readable_by_all(key)
    {
        warnings
            .push(format!("{}: every user of this host can read the TLS key; chmod 600 it", key.display()));
    }
    if listen.is_some_and(|listen| listen.port() == 0) {
        warnings
            .push("proxy.listen: port 0 is another port at every start; name one, such as 8443".to_owned());
    }
    let removals = [("finish", OnRemoval::Finish), ("cut", OnRemoval::Cut)];
    let on_removal = match &raw.on_removal {
        None => OnRemoval::default(),
        Some(text) => word(text, "what becomes of it", &removals, report).unwrap_or_default(),
    };
    let clients = raw.clients.as_ref().map(|clients| client_certificates(clients, host, report, warnings));
    let identity = raw.identity.as_ref().map(|identity| identity_fields(identity, host, report));
    Some(Proxy {
        listen: listen?,
        tls: Tls { certificate: certificate?, key: key? },
        max_body: max_body?,
        clients: clients.flatten(),
        on_removal,
        identity: identity.unwrap_or_default(),
        ping: Duration::from_secs(ping?),
    })
}

fn client_certificates(
    raw: &raw::Clients,
    host: &HostFacts,
    report: &Report<'_>,
    warnings: &mut Vec<String>,
) -> Option<ClientCertificates> {
    let authorities =
        raw.authorities.as_ref().and_then(|path| files::pem(path, Content::Certificates, host, report));
    let revoked = raw.revoked.as_ref().map(|path| files::pem(path, Content::Revocations, host, report));
    if let Some(Some(lists)) = revoked.as_ref().filter(|_| host.check_files) {
        warnings.extend(files::expired_lists(lists).into_iter().map(|expired| {
            format!(
                "proxy.clients.revoked: {}: {expired}; every client certificate of that authority is refused until \
                 the current list is there and the agent reloaded",
                lists.display()
            )
        }));
    }
    let is_set = |flag: &Option<At<bool>>| flag.as_ref().is_some_and(|flag| flag.value);
    Some(ClientCertificates {
        authorities: authorities?,
        revoked: revoked.flatten(),
        require: is_set(&raw.require),
        identify: is_set(&raw.identify),
    })
}

/// What becomes of the members that say who calls, and which ones there are besides those that are known.
fn identity_fields(raw: &raw::Identity, host: &HostFacts, report: &Report<'_>) -> IdentityFields {
    let actions = [("remove", false), ("pseudonym", true)];
    let action = raw.action.as_ref().and_then(|text| word(text, "an action", &actions, report));
    let mut fields = Vec::new();
    if let Some(list) = &raw.fields {
        report_repeats(&list.value, report);
        for field in &list.value {
            let path: Vec<String> = field.value.split('.').map(str::to_owned).collect();
            let one_name = |name: &String| {
                !name.is_empty() && !name.contains(|c: char| "$[]*\"'".contains(c) || c.is_control())
            };
            if path.iter().all(one_name) && field.value.len() <= 256 {
                fields.push(path);
            } else {
                let cure = "write names with dots between them, such as \"metadata.tenant\"";
                report.error(&field.place, Problem::Invalid, "not a field's path", cure);
            }
        }
    }
    let pseudonym = (action == Some(true)).then_some(PseudonymKey(host.mask_key));
    IdentityFields { pseudonym, fields }
}

fn listen_address(listen: &At<String>, models: &[raw::Model], report: &Report<'_>) -> Option<SocketAddr> {
    let Ok(address) = listen.value.parse::<SocketAddr>() else {
        let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = listen.value.rsplit_once(':').map(|(_, port)| port).filter(|port| digits(port));
        match port {
            Some(port) if port.parse::<u16>().is_err() => {
                report.error(
                    &listen.place,
                    Problem::OutOfRange,
                    "not a port",
                    "use a number from 1 to 65535",
                );
            }
            _ => {
                let cure = "write an address and a port, such as \"[::]:8443\" or \"192.0.2.1:8443\"";
                report.error(&listen.place, Problem::Invalid, "not an address with a port", cure);
            }
        }
        return None;
    };
    // The kernel keeps a model's port for its slice, so that the proxy could not bind it.
    let same_port = |port: &&At<i128>| port.value == i128::from(address.port());
    let mut ports = models.iter().flat_map(|model| {
        model.port.iter().chain(model.upstreams.iter().filter_map(|upstream| upstream.port.as_ref()))
    });
    if let Some(port) = ports.find(same_port) {
        let message = format!("the port is the model's ({})", described(&port.place, report));
        report.error(&listen.place, Problem::Conflict, message, "listen on another port");
        return None;
    }
    Some(address)
}

fn readable_by_all(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}
