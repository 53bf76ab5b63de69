//! A model behind a Unix socket, which the kernel's hooks do not see: it is the proxy that finds out whose it is.
//! The model servers here are processes of their own, in cgroups below the root of cgroup2. Needs root.

use crate::model::{Step, chat};
use crate::world::{CREDENTIAL, World, ask, limits};
use bailiwick::config::settings::ModelAddress;
use bailiwick_tests::caller::{Answer, Protocol};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write, stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PLACE: &str = "BAILIWICK_TEST_SOCKET_DIRECTORY";
const ROLE: &str = "BAILIWICK_TEST_SOCKET_ROLE";

/// A slice of this test, a cgroup beside it, and a directory for the socket.
struct Ground {
    slice: String,
    root: PathBuf,
    directory: TempDir,
    /// Whether servers leave their listener to another process.
    heirs: bool,
}

impl Ground {
    fn new() -> Self {
        Self::with(false)
    }

    fn with_heirs() -> Self {
        Self::with(true)
    }

    fn with(heirs: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let slice = format!("bailiwick_socket_{}_{number}.slice", std::process::id());
        let directory = tempfile::tempdir().unwrap();
        let ground = Self { slice, root: cgroup2(), directory, heirs };
        for cgroup in [ground.model(), ground.other()] {
            fs::create_dir_all(&cgroup)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}; run as root", cgroup.display()));
        }
        ground
    }

    /// A service in the model's slice.
    fn model(&self) -> PathBuf {
        self.root.join(&self.slice).join("llama.service")
    }

    /// A slice whose name starts alike.
    fn other(&self) -> PathBuf {
        self.root.join(format!("{}2.slice", self.slice))
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("model.sock")
    }

    /// What the server was sent.
    fn received(&self) -> String {
        fs::read_to_string(self.directory.path().join("received")).unwrap_or_default()
    }

    /// A proxy whose model is here.
    async fn proxy(&self) -> World {
        World::configured(Vec::new(), limits(), |model| {
            model.slice = self.slice.clone();
            model.upstream = ModelAddress::Socket(self.socket());
        })
        .await
    }

    /// A model server in `cgroup` that makes the socket itself.
    fn serve(&self, cgroup: &Path) -> Server {
        let role = if self.heirs { "bequeath" } else { "listen" };
        let server = self.start(cgroup, role, Stdio::piped());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.socket().exists() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn start(&self, cgroup: &Path, role: &str, stdin: Stdio) -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["unix_upstream::server", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(PLACE, self.directory.path())
            .env(ROLE, role)
            .stdin(stdin)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
        // One that waits for the end of its input listens only now, in its cgroup.
        drop(child.stdin.take());
        Server { child, heir: None }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Servers are dropped before; a cgroup empties a moment after its last process.
        for cgroup in [self.model(), self.root.join(&self.slice), self.other()] {
            let deadline = Instant::now() + Duration::from_secs(2);
            while fs::remove_dir(&cgroup).is_err() && cgroup.exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A server, and a process that inherits its listener.
struct Server {
    child: Child,
    heir: Option<Pid>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(heir) = self.heir {
            let _ = kill(heir, Signal::SIGKILL);
        }
    }
}

fn cgroup2() -> PathBuf {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounted = table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    mounted.expect("a cgroup2 mount: these tests need one")
}

fn code(answer: &Answer) -> Option<String> {
    answer.error().and_then(|error| error.code)
}

#[tokio::test]
async fn a_model_on_a_socket_of_its_slice_is_asked() {
    let ground = Ground::new();
    let world = ground.proxy().await;
    let answer = world.chat(Protocol::Http1, &ask("hello")).await;
    assert_eq!(
        (answer.status.as_u16(), code(&answer).as_deref()),
        (503, Some("model-unavailable")),
        "not there yet"
    );
    let _server = ground.serve(&ground.model());
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let answer = world.chat(protocol, &ask("hello from lovelace@example.com")).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body()));
        assert_eq!(answer.text(), "Write to [email].", "masked on the way back");
    }
    let received = ground.received();
    assert!(received.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{received}");
    assert!(received.contains("host: localhost\r\n"), "{received}");
    assert!(received.contains(&format!("authorization: Bearer {CREDENTIAL}\r\n")), "{received}");
    assert!(!received.contains("lovelace"), "masked on the way in: {received}");
    assert_eq!(world.model.connections(), 0, "no port is dialled");
}

#[tokio::test]
async fn an_impostor_outside_the_slice_is_not_sent_one_byte() {
    let ground = Ground::new();
    let world = ground.proxy().await;
    let impostor = ground.serve(&ground.other());
    let answer = world.chat(Protocol::Http1, &ask("a secret")).await;
    assert_eq!((answer.status.as_u16(), code(&answer).as_deref()), (502, Some("upstream-impostor")));
    let outcome = world.recorded("outcome", 1).await.pop().unwrap();
    assert_eq!(
        (outcome["outcome"].as_str(), outcome["reason"].as_str()),
        (Some("upstream-failed"), Some("upstream-impostor"))
    );
    drop(impostor);
    assert_eq!(ground.received(), "");
    // The control: the same program in the model's slice is asked.
    fs::remove_file(ground.socket()).unwrap();
    let _server = ground.serve(&ground.model());
    assert_eq!(world.chat(Protocol::Http1, &ask("a secret")).await.status, 200);
}

#[tokio::test]
async fn a_socket_that_somebody_else_listens_on_is_not_the_models_even_if_the_model_accepts() {
    let ground = Ground::new();
    let world = ground.proxy().await;
    let listener = UnixListener::bind(ground.socket()).unwrap();
    fs::set_permissions(ground.socket(), fs::Permissions::from_mode(0o660)).unwrap();
    let _server = ground.start(&ground.model(), "accept", OwnedFd::from(listener).into());
    let answer = world.chat(Protocol::Http1, &ask("a secret")).await;
    assert_eq!((answer.status.as_u16(), code(&answer).as_deref()), (502, Some("upstream-impostor")));
    assert_eq!(ground.received(), "");
}

#[tokio::test]
async fn a_listener_whose_process_is_gone_is_nobodys() {
    let ground = Ground::with_heirs();
    let world = ground.proxy().await;
    let mut server = ground.serve(&ground.model());
    assert_eq!(world.chat(Protocol::Http1, &ask("hello")).await.status, 200, "control");
    let heir = fs::read_to_string(ground.directory.path().join("heir")).unwrap();
    server.heir = Some(Pid::from_raw(heir.parse().unwrap()));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    UnixStream::connect(ground.socket()).expect("control: the heir keeps the socket open");
    let before = ground.received();
    let answer = world.chat(Protocol::Http1, &ask("a secret")).await;
    assert_eq!((answer.status.as_u16(), code(&answer).as_deref()), (502, Some("upstream-impostor")));
    assert_eq!(ground.received(), before);
}

#[tokio::test]
async fn a_socket_that_every_user_can_open_is_refused() {
    let ground = Ground::new();
    let world = ground.proxy().await;
    let _server = ground.serve(&ground.model());
    fs::set_permissions(ground.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let answer = world.chat(Protocol::Http1, &ask("a secret")).await;
    assert_eq!((answer.status.as_u16(), code(&answer).as_deref()), (502, Some("upstream-impostor")));
    fs::set_permissions(ground.socket(), fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(world.chat(Protocol::Http1, &ask("hello")).await.status, 200, "control");
}

/// The other side: this program, started again to be a model server.
#[test]
#[ignore = "not a test: the process that the tests start"]
fn server() {
    let place = PathBuf::from(std::env::var_os(PLACE).expect("started by a test"));
    let role = std::env::var(ROLE).unwrap();
    let mut heirs = Vec::new();
    let listener = if role == "accept" {
        UnixListener::from(stdin().as_fd().try_clone_to_owned().unwrap())
    } else {
        stdin().read_to_end(&mut Vec::new()).unwrap();
        // Bound under another name and moved into place, so that nobody meets it half made.
        let unready = place.join("unready.sock");
        let listener = UnixListener::bind(&unready).unwrap();
        fs::set_permissions(&unready, fs::Permissions::from_mode(0o660)).unwrap();
        if role == "bequeath" {
            fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            let heir = Command::new("sleep").arg("30").spawn().unwrap();
            fs::write(place.join("heir"), heir.id().to_string()).unwrap();
            heirs.push(heir);
        }
        fs::rename(unready, place.join("model.sock")).unwrap();
        listener
    };
    let Some(Step::Send(answer)) = chat("Write to bo@example.com.").pop() else { panic!("bytes to send") };
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut bytes = vec![0; 65_536];
        let length = stream.read(&mut bytes).unwrap();
        let mut received =
            fs::OpenOptions::new().create(true).append(true).open(place.join("received")).unwrap();
        received.write_all(&bytes[..length]).unwrap();
        if length > 0 {
            stream.write_all(&answer).unwrap();
        }
    }
}
