//! The peers, each as its own manual would have it do what it is measured for, on the caller's side over TLS 1.3 with the same
//! certificate, on the model's side over kept connections.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bailiwick_tests::real::{Launch, Peers};
use serde_json::{Value, json};

use crate::load::{self, Target};
use crate::setting::{AUDIENCE, GROUP, Setting};
use crate::{Measured, seat};

/// A peer that serves. It ends when dropped.
pub(crate) struct Peer {
    child: Child,
    pub(crate) target: Target,
}

impl Peer {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn start(launch: &Launch, address: SocketAddr, setting: &Setting) -> Measured<Self> {
        seat::take(1, None);
        let child = launch.command().stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        seat::take(0, None);
        let mut peer = Self { child: child?, target: setting.caller(address)? };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            if peer.child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(format!("{} does not listen; see above", launch.program.display()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx: passes on, checks nothing.
pub(crate) fn nginx(peers: &Peers, setting: &Setting) -> Measured<Peer> {
    let address = Setting::free_address()?;
    let prefix = setting.at("nginx");
    fs::create_dir(&prefix)?;
    let (upstream, directory) = (setting.upstream, prefix.display());
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| setting.at(name).display().to_string());
    let configuration = write(
        setting,
        "nginx.conf",
        &format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/pid;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 1000000;\n  client_body_buffer_size 64k;\n\
             {temporary}\
             upstream model {{ server {upstream}; keepalive 128; keepalive_requests 1000000; }}\n\
             server {{\n    listen {address} ssl;\n    ssl_protocols TLSv1.3;\n\
             ssl_certificate {certificate};\n    ssl_certificate_key {key};\n\
             location / {{\n      proxy_pass http://model;\n      proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\";\n      proxy_buffering off;\n    }}\n  }}\n}}\n",
            temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|what| format!("{what}_temp_path {directory}/{what};\n"))
                .concat(),
        ),
    )?;
    Peer::start(&peers.nginx(&configuration, &prefix), address, setting)
}

/// HAProxy: checks the signature, the issuer, the audience, the time and the group, each time anew.
pub(crate) fn haproxy(peers: &Peers, setting: &Setting) -> Measured<Peer> {
    let address = Setting::free_address()?;
    let (upstream, issuer) = (setting.upstream, setting.issuer.url());
    let [pem, key] = ["tls.pem", "issuer.pem"].map(|name| setting.at(name).display().to_string());
    let configuration = write(
        setting,
        "haproxy.cfg",
        &format!(
            r#"global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-no-delay
frontend callers
  bind {address} ssl crt {pem} ssl-min-ver TLSv1.3 alpn http/1.1
  http-request set-var(txn.token) http_auth_bearer
  http-request set-var(txn.algorithm) var(txn.token),jwt_header_query('$.alg')
  http-request set-var(txn.expires) var(txn.token),jwt_payload_query('$.exp','int')
  http-request set-var(txn.claims) var(txn.token),word(2,.),ub64dec
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.algorithm) -m str RS256 }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.iss') -m str {issuer} }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.aud') -m str {AUDIENCE} }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(txn.algorithm,"{key}") -m int 1 }}
  http-request deny deny_status 401 if {{ var(txn.expires),sub(txn.now) -m int lt 0 }}
  http-request deny deny_status 403 unless {{ var(txn.claims) -m reg '"groups":[[][^]]*"{GROUP}"' }}
  default_backend model
backend model
  http-reuse always
  server model {upstream} maxconn 512
"#
        ),
    )?;
    checked(Peer::start(&peers.haproxy(&configuration), address, setting)?, address, setting)
}

/// Envoy: `jwt_authn` with the issuer's key set, and `rbac` on the group.
pub(crate) fn envoy(peers: &Peers, setting: &Setting) -> Measured<Peer> {
    let address = Setting::free_address()?;
    let configuration = write(setting, "envoy.json", &envoy_configuration(address, setting).to_string())?;
    checked(Peer::start(&peers.envoy(&configuration), address, setting)?, address, setting)
}

/// What does not check is not measured as what checks.
fn checked(peer: Peer, address: SocketAddr, setting: &Setting) -> Measured<Peer> {
    let status = load::ask_once(&setting.impostor(address)?)?;
    if status != http::StatusCode::UNAUTHORIZED {
        return Err(format!("a forged token got {status} from a peer that is to check it").into());
    }
    Ok(peer)
}

fn write(setting: &Setting, name: &str, text: &str) -> Measured<PathBuf> {
    let path = setting.at(name);
    fs::write(&path, text)?;
    Ok(path)
}

fn typed(name: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/envoy.{name}"));
    value
}

fn envoy_configuration(address: SocketAddr, setting: &Setting) -> Value {
    let socket = |address: SocketAddr| json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
    let file = |name: &str| json!({ "filename": setting.at(name) });
    let tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({ "common_tls_context": {
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{ "certificate_chain": file("tls.crt"), "private_key": file("tls.key") }],
        }}),
    );
    let provider = json!({
        "issuer": setting.issuer.url(),
        "audiences": [AUDIENCE],
        "local_jwks": { "inline_string": setting.issuer.key_set().to_string() },
        "payload_in_metadata": "token",
    });
    let authentication = typed(
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": { "issuer": provider },
            "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "issuer" } }],
        }),
    );
    let in_group = json!({ "metadata": {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{ "key": "token" }, { "key": "groups" }],
        "value": { "list_match": { "one_of": { "string_match": { "exact": GROUP } } } },
    }});
    let access = typed(
        "extensions.filters.http.rbac.v3.RBAC",
        json!({ "rules": { "action": "ALLOW", "policies": {
            "callers": { "permissions": [{ "any": true }], "principals": [in_group] },
        }}}),
    );
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    let manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "callers",
            "http_filters": [
                { "name": "envoy.filters.http.jwt_authn", "typed_config": authentication },
                { "name": "envoy.filters.http.rbac", "typed_config": access },
                { "name": "envoy.filters.http.router", "typed_config": router },
            ],
            "route_config": { "virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "model", "timeout": "60s" } }],
            }]},
        }),
    );
    let plenty = json!({ "max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096 });
    json!({ "static_resources": {
        "listeners": [{
            "name": "callers", "address": socket(address),
            "filter_chains": [{
                "transport_socket": { "name": "tls", "typed_config": tls },
                "filters": [{
                    "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
                }],
            }],
        }],
        "clusters": [{
            "name": "model", "type": "STATIC", "connect_timeout": "5s",
            "circuit_breakers": { "thresholds": [plenty] },
            "load_assignment": { "cluster_name": "model", "endpoints": [{
                "lb_endpoints": [{ "endpoint": { "address": socket(setting.upstream) } }],
            }]},
        }],
    }})
}
