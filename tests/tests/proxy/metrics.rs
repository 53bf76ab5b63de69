//! Health, readiness and numbers: that they are there, true, well-formed, and hold nothing of what was said by whom.

use crate::model::{chat, stream, whole};
use crate::world::{CREDENTIAL, World, ask, ask_streamed, limits};
use bailiwick::config::settings::{HealthCheck, MetricsListener};
use bailiwick::metrics::{Listener, Metrics, Sources};
use bailiwick_kernel::Status;
use bailiwick_tests::caller::Protocol;
use bailiwick_tests::issuer::Wish;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

/// What the listener needs, and what a test can change of it.
struct Told {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
}

impl Told {
    fn of(world: &World) -> Self {
        let (stop, stopping) = watch::channel(false);
        let metrics = Arc::clone(world.policy().borrow().metrics());
        let at = MetricsListener::Address("127.0.0.1:0".parse().unwrap());
        let listener = Listener::bind(&at, Arc::clone(&metrics), sources(world, stopping)).unwrap();
        let address = listener.address().unwrap();
        tokio::spawn(listener.serve());
        Self { address, metrics, stop }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        exchange(TcpStream::connect(self.address).await.unwrap(), "GET", path).await
    }

    async fn ready(&self) -> (u16, BTreeMap<String, Option<String>>) {
        let (status, body) = self.get("/readyz").await;
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["ready"], status == 200, "{body}");
        let checks = value["checks"].as_array().unwrap().iter();
        let check = |check: &Value| {
            assert_eq!(check["ok"].as_bool().unwrap(), check["reason"].is_null(), "{check}");
            (check["name"].as_str().unwrap().to_owned(), check["reason"].as_str().map(str::to_owned))
        };
        (status, checks.map(check).collect())
    }
}

fn sources(world: &World, stopping: watch::Receiver<bool>) -> Sources {
    Sources { policy: world.policy(), log: world.log.clone(), stopping }
}

/// One request over a connection of its own; status and body.
async fn exchange(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What a kernel that holds everything, or not, would say.
fn truth(guarded: bool) -> Status {
    Status {
        guarded,
        cgroup_root: "/nowhere".into(),
        schema: 1,
        generation: Some(42),
        lost_maps: Vec::new(),
        policy_problem: None,
        hooks: Vec::new(),
        scopes: Vec::new(),
        intruders: Vec::new(),
        warnings: Vec::new(),
        allowed: 0,
        denied: BTreeMap::from([("not-proxy".to_owned(), 3)]),
        would_deny: BTreeMap::from([("unknown-region".to_owned(), 5)]),
        lost_events: 7,
        lost_observations: 11,
    }
}

/// A sample by its name and labels.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// Reads Prometheus' text format 0.0.4 as strictly as its documentation reads, and the conventions for names.
fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line ends");
    let (mut types, mut helped) = (BTreeMap::<String, String>::new(), BTreeSet::<String>::new());
    let mut samples = Samples::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "one HELP: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(name.starts_with("bailiwick_") && helped.contains(name), "HELP before TYPE: {line}");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "counters and only they are totals: {line}"
            );
            assert!(!name.contains("_ms") && !name.contains("_milli"), "base units: {line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "one TYPE: {line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels_of(labels.strip_suffix('}').unwrap())),
                None => (series, BTreeMap::new()),
            };
            let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(valid), "{line}");
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
                name.strip_suffix(suffix)
                    .filter(|base| types.get(*base).is_some_and(|kind| kind == "histogram"))
            });
            assert!(base.is_some() || types.contains_key(name), "TYPE before samples: {line}");
            let value = if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() };
            assert!(value >= 0.0, "{line}");
            assert!(
                samples.insert((name.to_owned(), labels), value).is_none(),
                "one sample a series: {line}"
            );
        }
    }
    for (name, kind) in &types {
        if kind == "histogram" {
            check_histogram(name, &samples);
        }
    }
    samples
}

fn labels_of(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        let end = after.find('"').unwrap();
        let value = &after[..end];
        assert!(!value.contains('\\'), "nothing of ours needs an escape: {text}");
        assert!(labels.insert(name.to_owned(), value.to_owned()).is_none(), "{text}");
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    labels
}

/// Buckets grow, the last one is +Inf and is the count.
fn check_histogram(name: &str, samples: &Samples) {
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for ((sample, labels), value) in samples {
        if *sample == format!("{name}_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            series.entry(labels).or_default().push((bound, *value));
        }
    }
    for (labels, mut buckets) in series {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
        let last = buckets.last().unwrap();
        assert!(last.0.is_infinite());
        let of = |suffix: &str| samples[&(format!("{name}_{suffix}"), labels.clone())];
        assert_eq!(last.1.to_bits(), of("count").to_bits(), "{name}");
        assert!(of("sum") >= 0.0);
    }
}

fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    samples.get(&(name.to_owned(), labels)).copied()
}

#[track_caller]
fn is(samples: &Samples, name: &str, labels: &[(&str, &str)], expected: f64) {
    let found = value(samples, name, labels);
    assert_eq!(found.map(f64::to_bits), Some(expected.to_bits()), "{name} {labels:?}: {found:?}");
}

/// Requests of every kind; then everything is read, and none of what was said or who said it is in there.
#[tokio::test]
async fn the_numbers_are_true_well_formed_and_tell_nothing_of_what_was_said() {
    let change = |settings: &mut bailiwick::config::settings::Settings, _: &std::path::Path| {
        settings.metrics = Some(MetricsListener::Address("127.0.0.1:9464".parse().unwrap()));
    };
    let pieces = ["the answer ", "is xylophone ", "ada@example.com"];
    let world = World::adjusted(stream(&pieces, 40, Duration::from_millis(1)), limits(), change).await;
    let told = Told::of(&world);
    told.metrics.guard_seen(truth(true));
    let subject = "subject-quetzal";
    let wish = Wish { subject: subject.into(), groups: Some(vec!["ml-analysts".into()]), ..Wish::default() };
    let token = world.token_of(&wish);
    let prompt = "marzipan for lovelace@example.com, DE89 3704 0044 0532 0130 00";
    let send = async |token: Option<&str>, path: &str| {
        let request =
            bailiwick_tests::caller::json_request(&world.url(path), token, &ask_streamed(prompt)).unwrap();
        world.send(Protocol::Http2, request).await.status.as_u16()
    };
    assert_eq!(send(Some(&token), crate::world::CHAT).await, 200);
    assert_eq!(send(Some(&token), crate::world::CHAT).await, 200);
    assert_eq!(send(None, crate::world::CHAT).await, 401);
    assert_eq!(send(Some("not.a.token"), crate::world::CHAT).await, 401);
    assert_eq!(send(Some(&token), "/marzipan/v1/chat/completions").await, 404);
    assert_eq!(send(Some(&token), "/llama/v1/xylophone").await, 404);
    world.recorded("outcome", 2).await;

    let (status, text) = told.get("/metrics").await;
    assert_eq!(status, 200);
    let samples = parse(&text);
    let chat = [("endpoint", "chat"), ("model", "llama")];
    let ended = |outcome, reason| [("outcome", outcome), ("reason", reason)];
    let with = |labels: [(&'static str, &'static str); 2]| [chat.as_slice(), labels.as_slice()].concat();
    is(&samples, "bailiwick_requests_total", &with(ended("complete", "")), 2.0);
    is(&samples, "bailiwick_requests_total", &with(ended("denied", "no-credentials")), 1.0);
    let nowhere = |reason| [("endpoint", ""), ("model", ""), ("outcome", "denied"), ("reason", reason)];
    is(&samples, "bailiwick_requests_total", &nowhere("model-unknown"), 1.0);
    is(&samples, "bailiwick_requests_total", &nowhere("endpoint-unknown"), 1.0);
    is(&samples, "bailiwick_request_duration_seconds_count", &chat, 4.0);
    is(&samples, "bailiwick_time_to_first_token_seconds_count", &chat, 2.0);
    let llama = [("model", "llama")];
    is(&samples, "bailiwick_active_requests", &llama, 0.0);
    is(&samples, "bailiwick_active_streams", &llama, 0.0);
    for counted in ["request_bytes_total", "response_bytes_total", "tokens_total"] {
        assert!(value(&samples, &format!("bailiwick_{counted}"), &llama).unwrap() > 1.0, "{counted}");
    }
    assert!(value(&samples, "bailiwick_audit_commit_duration_seconds_count", &[]).unwrap() >= 8.0);
    is(&samples, "bailiwick_guard_stands", &[], 1.0);
    is(&samples, "bailiwick_policy_generation", &[], 42.0);
    is(&samples, "bailiwick_guard_denied_total", &[("reason", "not-proxy")], 3.0);
    is(&samples, "bailiwick_guard_would_deny_total", &[("reason", "unknown-region")], 5.0);
    is(&samples, "bailiwick_guard_lost_events_total", &[], 7.0);
    is(&samples, "bailiwick_guard_lost_observations_total", &[], 11.0);
    is(&samples, "bailiwick_upstream_up", &[("model", "llama"), ("upstream", "llama")], 1.0);
    is(&samples, "bailiwick_audit_writable", &[], 1.0);
    is(&samples, "bailiwick_ready", &[], 1.0);
    assert!(value(&samples, "bailiwick_issuer_key_age_seconds", &[("issuer", world.issuer.url())]).is_some());
    let expiry = value(&samples, "bailiwick_tls_certificate_expiry_timestamp_seconds", &[]).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch fit")]
    let now = OffsetDateTime::now_utc().unix_timestamp() as f64;
    assert!(expiry > now, "{expiry}");

    let readiness = told.get("/readyz").await.1;
    for said in [
        "marzipan",
        "lovelace",
        "xylophone",
        "ada@",
        "DE89",
        "3704",
        subject,
        "ml-analysts",
        CREDENTIAL,
        "analysts",
        "127.0.0.1",
    ]
    .into_iter()
    .chain(token.split('.'))
    {
        // The issuer's URL is of the config, and has the loopback address in it here.
        let text = text.replace(world.issuer.url(), "");
        assert!(!text.contains(said) && !readiness.contains(said), "{said:?} is told: {text}");
    }

    // A second look tells the kernel's counters as they are, not their sum.
    let again = parse(&told.get("/metrics").await.1);
    is(&again, "bailiwick_guard_lost_events_total", &[], 7.0);
    is(&again, "bailiwick_guard_lost_observations_total", &[], 11.0);
    is(&again, "bailiwick_guard_denied_total", &[("reason", "not-proxy")], 3.0);
}

#[tokio::test]
async fn a_stream_under_way_is_counted_while_it_lasts() {
    let world = World::new(vec![crate::model::stream_head(), crate::model::Step::Hang]).await;
    let told = Told::of(&world);
    let caller = world.caller(Protocol::Http1);
    let request = bailiwick_tests::caller::json_request(
        &world.url(crate::world::CHAT),
        Some(&world.token()),
        &ask_streamed("hello"),
    )
    .unwrap();
    let call = tokio::spawn(async move { caller.exchange(request).await });
    world.model.reached(1).await;
    let samples = parse(&told.get("/metrics").await.1);
    is(&samples, "bailiwick_active_streams", &[("model", "llama")], 1.0);
    is(&samples, "bailiwick_upstream_active_requests", &[("model", "llama"), ("upstream", "llama")], 1.0);
    call.abort();
    world.recorded("outcome", 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let samples = parse(&told.get("/metrics").await.1);
    is(&samples, "bailiwick_active_streams", &[("model", "llama")], 0.0);
    is(&samples, "bailiwick_upstream_active_requests", &[("model", "llama"), ("upstream", "llama")], 0.0);
    let left =
        [("endpoint", "chat"), ("model", "llama"), ("outcome", "cancelled"), ("reason", "caller-left")];
    is(&samples, "bailiwick_requests_total", &left, 1.0);
}

#[tokio::test]
async fn it_is_ready_only_when_everything_that_a_request_needs_is_there() {
    let checks = HealthCheck {
        path: "/health".into(),
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(50),
        fall: 1,
        rise: 1,
    };
    let change = |script| {
        let checks = checks.clone();
        World::configured(script, limits(), move |model| model.health = Some(checks))
    };
    let world = change(chat("hello")).await;
    let told = Told::of(&world);
    assert_eq!(told.get("/healthz").await, (200, "{\"alive\":true}\n".to_owned()), "alive it is");
    world.model.reached(2).await;
    let why = |checks: &BTreeMap<String, Option<String>>| {
        checks.iter().filter(|(_, reason)| reason.is_some()).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let (status, said) = told.ready().await;
    assert_eq!(
        (status, why(&said)),
        (503, vec!["guard".to_owned()]),
        "nobody has looked at the kernel: {said:?}"
    );
    told.metrics.guard_seen(truth(false));
    assert_eq!(told.ready().await.0, 503, "the guard has a gap");
    told.metrics.guard_seen(truth(true));
    let (status, said) = told.ready().await;
    assert_eq!((status, why(&said)), (200, vec![]), "{said:?}");
    told.stop.send_replace(true);
    let (status, said) = told.ready().await;
    assert_eq!((status, why(&said)), (503, vec!["draining".to_owned()]));
    assert_eq!(told.get("/healthz").await.0, 200, "and still alive");
    told.stop.send_replace(false);

    let sick = change(whole("503 Service Unavailable", "text/plain", "loading")).await;
    let told = Told::of(&sick);
    told.metrics.guard_seen(truth(true));
    sick.model.reached(2).await;
    let (status, said) = told.ready().await;
    assert_eq!((status, why(&said)), (503, vec!["upstreams".to_owned()]));
    let reason = said["upstreams"].clone().unwrap();
    assert!(reason.contains("llama is down"), "{reason}");
}

#[tokio::test]
async fn the_listener_is_for_reading_three_paths() {
    let world = World::new(chat("hello")).await;
    let told = Told::of(&world);
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/readyz", 405),
        ("HEAD", "/healthz", 200),
    ] {
        let socket = TcpStream::connect(told.address).await.unwrap();
        assert_eq!(exchange(socket, method, path).await.0, status, "{method} {path}");
    }
    assert_eq!(world.model.connections(), 0, "none of it leads to the model");
}

#[tokio::test]
async fn it_can_listen_on_a_unix_socket_that_others_cannot_open() {
    let world = World::new(chat("hello")).await;
    let path = world.directory.path().join("metrics");
    let at = MetricsListener::Socket(path.clone());
    let metrics = Arc::clone(world.policy().borrow().metrics());
    let bind = || Listener::bind(&at, Arc::clone(&metrics), sources(&world, watch::channel(false).1));
    std::fs::write(&path, "somebody's").unwrap();
    assert!(bind().unwrap_err().to_string().contains("[metrics] listen"), "a file is not taken away");
    std::fs::remove_file(&path).unwrap();
    let left = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(left);
    let serving = tokio::spawn(bind().unwrap().serve());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let socket = UnixStream::connect(&path).await.unwrap();
    assert_eq!(exchange(socket, "GET", "/healthz").await.0, 200);
    serving.abort();
    assert!(serving.await.is_err() && !path.exists(), "nothing stays");
    assert_eq!(world.chat(Protocol::Http1, &ask("hello")).await.status, 200);
}
