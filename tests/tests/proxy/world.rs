//! A proxy in this very process, with a real audit trail, a real issuer and a scripted model.

use crate::model::{Model, Step};
use bailiwick::config::settings::{self, Settings};
use bailiwick::identity::Timing;
use bailiwick::proxy::{self, Limits, Policy, Witness};
use bailiwick_audit::{Log, LogSettings};
use bailiwick_masking::{Action, Entity, Mask};
use bailiwick_policy::{AccessPolicy, AccessRule, Name, Operation, Region, RegionTable, RuleMasks};
use bailiwick_tests::authority::{Authority, Identity, client_as};
use bailiwick_tests::caller::{Answer, Caller, Protocol, json_request};
use bailiwick_tests::issuer::{Algorithm, Issuer, Plan, Wish};
use bytes::Bytes;
use http::Request;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

/// The model's own credential.
pub(crate) const CREDENTIAL: &str = "sk-model-credential";
/// Largest body that the test's proxy takes.
pub(crate) const MAX_BODY: u64 = 256 * 1024;
/// The chat endpoint of the one model.
pub(crate) const CHAT: &str = "/llama/v1/chat/completions";

/// Everything a test needs, and its end when dropped.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) model: Model,
    pub(crate) issuer: Issuer,
    pub(crate) log: Log,
    pub(crate) authority: Authority,
    pub(crate) directory: TempDir,
    policy: watch::Sender<Arc<Policy>>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<std::io::Result<()>>,
}

/// Times short enough to wait for.
pub(crate) fn limits() -> Limits {
    Limits {
        head: Duration::from_millis(500),
        body_idle: Duration::from_millis(500),
        model_idle: Duration::from_secs(5),
        drain: Duration::from_secs(3),
        last_words: Duration::from_secs(2),
        ..Limits::default()
    }
}

impl World {
    /// A proxy before a model that follows `script`.
    pub(crate) async fn new(script: Vec<Step>) -> Self {
        Self::within(script, limits()).await
    }

    /// The same with other limits.
    pub(crate) async fn within(script: Vec<Step>, limits: Limits) -> Self {
        Self::configured(script, limits, |_| {}).await
    }

    /// The same with a model that is configured otherwise.
    pub(crate) async fn configured(
        script: Vec<Step>,
        limits: Limits,
        change: impl FnOnce(&mut settings::Model),
    ) -> Self {
        Self::witnessed(script, limits, change, None).await
    }

    /// The same with a witness of whose socket takes a connection.
    pub(crate) async fn witnessed(
        script: Vec<Step>,
        limits: Limits,
        change: impl FnOnce(&mut settings::Model),
        witness: Option<Arc<dyn Witness>>,
    ) -> Self {
        let change = |settings: &mut Settings, _: &Path| {
            change(settings.models.values_mut().next().and_then(Arc::get_mut).unwrap());
        };
        Self::begun(script, limits, change, witness).await
    }

    /// The same with settings that are changed; a change that needs files has a directory, with the authority's
    /// certificate in it as `ca.pem`.
    pub(crate) async fn adjusted(
        script: Vec<Step>,
        limits: Limits,
        change: impl FnOnce(&mut Settings, &Path),
    ) -> Self {
        Self::begun(script, limits, change, None).await
    }

    async fn begun(
        script: Vec<Step>,
        limits: Limits,
        change: impl FnOnce(&mut Settings, &Path),
        witness: Option<Arc<dyn Witness>>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("test root").unwrap();
        let identity = authority.issue(&["127.0.0.1"]).unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let tls = settings::Tls {
            certificate: file("tls.crt", &identity.certificate),
            key: file("tls.key", &identity.key),
        };
        let credential = file("credential", &format!("{CREDENTIAL}\n"));
        let model = Model::start(script).await;
        let issuer = Issuer::start(Plan {
            listen: "127.0.0.1:0".parse().unwrap(),
            namespace: None,
            identity: None,
            algorithms: vec![Algorithm::Es256],
            clients: vec![],
        })
        .unwrap();
        let trail = directory.path().join("audit");
        let log =
            Log::open(LogSettings { directory: trail.clone(), origin: "bailiwick/test".into() }).unwrap();
        file("ca.pem", authority.certificate());
        let mut settings = settings(&model, &issuer, tls, credential, trail);
        change(&mut settings, directory.path());
        let (ready, bound) = oneshot::channel();
        let (stop, stopping) = watch::channel(false);
        let timing = Timing { debounce: Duration::from_millis(100), ..Timing::default() };
        let traces = settings.traces.clone();
        let policy = Policy::new(Arc::new(settings), timing, witness).unwrap();
        let tracer = traces.map(|to| bailiwick::traces::start(&to, "test-host", policy.metrics()).0);
        let policy = Arc::new(policy.traced_by(tracer));
        let (policy, current) = watch::channel(policy);
        let serving = tokio::spawn(proxy::serve_current(current, log.clone(), limits, ready, stopping));
        let address = bound.await.expect("the proxy is ready");
        Self { address, model, issuer, log, authority, directory, policy, stop, serving }
    }

    /// Another policy, as a reload brings it: the settings made anew, and changed.
    pub(crate) fn reload(&self, change: impl FnOnce(&mut Settings, &Path)) {
        self.try_reload(change).unwrap();
    }

    /// The same; what cannot be used changes nothing.
    pub(crate) fn try_reload(&self, change: impl FnOnce(&mut Settings, &Path)) -> std::io::Result<()> {
        let path = |name: &str| self.directory.path().join(name);
        let tls = settings::Tls { certificate: path("tls.crt"), key: path("tls.key") };
        let mut settings = settings(&self.model, &self.issuer, tls, path("credential"), path("audit"));
        settings.id = "fedcba9876543210".into();
        change(&mut settings, self.directory.path());
        let next = self.policy.borrow().succeeded_by(Arc::new(settings))?;
        self.policy.send_replace(Arc::new(next));
        Ok(())
    }

    /// The policy in force, as the listener of metrics sees it.
    pub(crate) fn policy(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    /// A token that every rule for analysts accepts.
    pub(crate) fn token(&self) -> String {
        self.token_of(&Wish { groups: Some(vec!["ml-analysts".into()]), ..Wish::default() })
    }

    /// A token as wished.
    pub(crate) fn token_of(&self, wish: &Wish) -> String {
        self.issuer.mint(wish).unwrap()
    }

    /// A URL of the proxy.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// A caller who trusts the proxy's certificate.
    pub(crate) fn caller(&self, protocol: Protocol) -> Caller {
        Caller::new(self.authority.certificate()).speaking(protocol)
    }

    /// Posts to the chat endpoint with a good token.
    pub(crate) async fn chat(&self, protocol: Protocol, body: &Value) -> Answer {
        let request = json_request(&self.url(CHAT), Some(&self.token()), body).unwrap();
        self.send(protocol, request).await
    }

    /// Sends any request.
    pub(crate) async fn send(&self, protocol: Protocol, request: Request<Bytes>) -> Answer {
        self.caller(protocol).exchange(request).await.unwrap()
    }

    /// A TLS connection to write bytes on that no HTTP library would.
    pub(crate) async fn raw(&self) -> TlsStream<TcpStream> {
        self.raw_as(None, self.authority.certificate()).await.unwrap()
    }

    /// The same, showing a certificate, and trusting another authority.
    pub(crate) async fn raw_as(
        &self,
        identity: Option<&Identity>,
        roots: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config = client_as(identity, roots, &["http/1.1"]).unwrap();
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        tokio_rustls::TlsConnector::from(config).connect(name, socket).await
    }

    /// Every record of the trail so far.
    pub(crate) fn records(&self) -> Vec<Value> {
        bailiwick_audit::records(&self.directory.path().join("audit"))
            .unwrap()
            .into_iter()
            .map(|(_, bytes)| serde_json::from_slice(&bytes).unwrap())
            .collect()
    }

    /// The records of one type, once there are `count` of them.
    pub(crate) async fn recorded(&self, kind: &str, count: usize) -> Vec<Value> {
        for _ in 0..200 {
            let found: Vec<_> = self.records().into_iter().filter(|record| record["type"] == kind).collect();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no {count} records of type {kind} in {:?}", self.records());
    }

    /// Everything on disk below the test's directory but the TLS and credential files, as one text.
    pub(crate) fn everything_on_disk(&self) -> String {
        fn read(directory: &Path, into: &mut Vec<u8>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, into);
                } else {
                    into.extend(std::fs::read(path).unwrap());
                }
            }
        }
        let mut bytes = Vec::new();
        read(&self.directory.path().join("audit"), &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn settings(
    model: &Model,
    issuer: &Issuer,
    tls: settings::Tls,
    credential: std::path::PathBuf,
    trail: std::path::PathBuf,
) -> Settings {
    let regions = RegionTable::new(vec![
        Region { name: name("eu"), countries: vec![], networks: vec!["127.0.0.0/8".parse().unwrap()] },
        Region { name: name("far"), countries: vec![], networks: vec!["192.0.2.0/24".parse().unwrap()] },
    ]);
    let masks = RuleMasks { request: vec![name("pii")], response: vec![name("pii")] };
    let rule = |rule: &str, group: &str, from: &str, endpoints: Option<Vec<Operation>>| AccessRule {
        groups: Some(vec![group.into()]),
        from: Some(vec![name(from)]),
        endpoints,
        masks: masks.clone(),
        ..AccessRule::open(name(rule), vec![name("llama")])
    };
    let access = AccessPolicy::new(vec![
        rule("analysts", "ml-analysts", "eu", None),
        rule("embedders", "ml-embedders", "eu", Some(vec![Operation::Embeddings])),
        rule("far-away", "ml-far", "far", None),
    ]);
    let pii = Mask::new(&[Entity::Email, Entity::Iban, Entity::Card], &[], Action::Redact, [7; 32]).unwrap();
    Settings {
        id: "0123456789abcdef".into(),
        models: BTreeMap::from([(
            name("llama"),
            Arc::new(settings::Model {
                name: name("llama"),
                slice: "bailiwick-llama.slice".into(),
                upstream: settings::ModelAddress::Port(model.address),
                server: settings::ServerPreset::LlamaCpp,
                credential: Some(credential),
                replicas: Vec::new(),
                health: None,
                fetch_urls: false,
            }),
        )]),
        proxy: settings::Proxy {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls,
            max_body: MAX_BODY,
            clients: None,
            on_removal: settings::OnRemoval::Finish,
            identity: settings::IdentityFields::default(),
            ping: Duration::from_millis(200),
        },
        issuers: vec![settings::Issuer {
            leeway: 5,
            ..settings::Issuer::new(issuer.url(), "bailiwick", name("eu"))
        }],
        access,
        masks: BTreeMap::from([(name("pii"), Arc::new(pii))]),
        regions,
        datasets: settings::Datasets::default(),
        audit: settings::Audit { directory: trail, origin: "bailiwick/test".into() },
        accepted: Vec::new(),
        metrics: None,
        traces: None,
        kernel: bailiwick_kernel::Rules::default(),
        warnings: vec![],
    }
}

/// A chat request.
pub(crate) fn ask(text: &str) -> Value {
    json!({"model": "echo", "messages": [{"role": "user", "content": text}]})
}

/// A chat request for a stream.
pub(crate) fn ask_streamed(text: &str) -> Value {
    json!({"model": "echo", "stream": true, "messages": [{"role": "user", "content": text}]})
}
