//! The real counterparts as the players of the [story](crate::story).

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, header};

use super::client::{self, ChatEvent};
use super::model::{self, ModelServer};
use super::{Real, issuer};
use crate::caller::{Caller, CallerError};
use crate::probe::Attempt;
use crate::story::cast::{Cast, Chat, MODEL_KEY_FILE, MODEL_PORT, ModelView, Reply, TokenKind};
use crate::story::{Stage, StoryError};
use crate::system_box::init::Bind;

/// Where the model server writes its prompts in the box: a tmpfs of the unit's own.
const PROMPTS: &str = "/run/llama/prompts";
/// The longest answer; long enough to see it stream.
const MAX_TOKENS: u32 = 48;
/// Joins the model server's cgroup, connects, says what became of it, and stays until it is ended: an alert
/// names a process, and that process should be there to be looked at.
const CONNECT: &str = r#"
import errno, os, socket, sys, time
group, address, port = sys.argv[1:]
with open("/sys/fs/cgroup" + group + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM) as tcp:
    tcp.settimeout(2)
    try:
        tcp.connect((address, int(port)))
        said = "ok"
    except TimeoutError:
        said = "timeout"
    except OSError as error:
        said = errno.errorcode.get(error.errno, str(error))
print(said, flush=True)
time.sleep(60)
"#;

/// llama.cpp's server, oidc-provider and the openai client.
#[derive(Debug)]
pub struct Players {
    real: Real,
    issuer: Option<RunningIssuer>,
    connecting: Vec<Child>,
    last_token: String,
}

/// Ends when dropped.
#[derive(Debug)]
struct RunningIssuer {
    child: Child,
    url: String,
    // The process would be ended by a write to a pipe that nobody holds.
    output: BufReader<ChildStdout>,
}

impl Drop for RunningIssuer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.connecting.iter_mut().for_each(end);
    }
}

impl Players {
    /// With what is installed.
    #[must_use]
    pub fn new(real: Real) -> Self {
        Self { real, issuer: None, connecting: Vec::new(), last_token: String::new() }
    }
}

impl Cast for Players {
    fn introduction(&self) -> String {
        "llama.cpp's server with SmolLM2-135M, npm's oidc-provider and the official openai client".into()
    }

    fn binds(&self) -> Vec<Bind> {
        // At the path it has: it may be on another file system than the root, or where a box mounts one of its own.
        vec![Bind::read_only(self.real.directory(), self.real.directory())]
    }

    fn preset(&self) -> &'static str {
        "llama.cpp"
    }

    fn model_service(&self) -> Result<String, StoryError> {
        let launch = self.real.model_server(&ModelServer {
            address: Ipv6Addr::UNSPECIFIED.into(),
            port: MODEL_PORT,
            api_key_file: Path::new(MODEL_KEY_FILE),
            prompts: Path::new(PROMPTS),
            threads: 1,
        });
        let launch = launch.map_err(|error| StoryError::Cast(error.to_string()))?;
        Ok(format!("RuntimeDirectory=llama\nRuntimeDirectoryMode=0700\n{}\n", launch.unit_lines()))
    }

    fn model_patience(&self) -> Duration {
        Duration::from_secs(90)
    }

    fn model_is_ready(&self, stage: &Stage) -> Result<bool, StoryError> {
        // Its log, as under guard nobody here may ask it; of this start, as an earlier one was ready too.
        let show = ["systemctl", "show", "--property=InvocationID", "--value", "llama.service"];
        let invocation = format!("_SYSTEMD_INVOCATION_ID={}", stage.system().run(&show)?.trim());
        let log = stage.system().run(&["journalctl", "--no-pager", "--quiet", "-o", "cat", &invocation])?;
        Ok(log.contains(model::READY))
    }

    fn start_issuer(&mut self, stage: &Stage) -> Result<String, StoryError> {
        let host = &stage.lab().issuer;
        let identity = stage.authority().issue(&[&host.v4.to_string()])?;
        let (certificate, key) = (stage.directory().join("issuer.crt"), stage.directory().join("issuer.key"));
        fs::write(&certificate, identity.certificate)?;
        fs::write(&key, identity.key)?;
        let url = format!("https://{}", host.v4);
        let launch = self.real.issuer(&issuer::Issuer {
            url: &url,
            listen: host.at_v4(443),
            certificate: &certificate,
            key: &key,
        });
        let log = stage.directory().join("issuer.log");
        let mut command = host.command(&launch.program)?;
        launch.fill(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or_else(|| StoryError::Absent("the issuer's output".into()))?;
        let mut running = RunningIssuer { child, url: url.clone(), output: BufReader::new(output) };
        let mut line = String::new();
        running.output.read_line(&mut line)?;
        if !line.starts_with("ready") {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(StoryError::Cast(format!("the issuer did not start: {line}{said}")));
        }
        self.issuer = Some(running);
        Ok(url)
    }

    fn token(&mut self, stage: &Stage, kind: TokenKind) -> Result<String, StoryError> {
        let issuer =
            self.issuer.as_ref().ok_or_else(|| StoryError::Cast("the issuer is not started".into()))?;
        let ask = match kind {
            TokenKind::Valid => issuer::TokenKind::Valid,
            TokenKind::OtherGroup => issuer::TokenKind::OtherGroup,
            TokenKind::OtherAudience => issuer::TokenKind::OtherAudience,
            TokenKind::Expired => issuer::TokenKind::Expired,
        }
        .request();
        let basic = STANDARD.encode(format!("{}:{}", ask.client, ask.secret));
        let request = Request::post(format!("{}/token", issuer.url))
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from_static(ask.body.as_bytes()))
            .map_err(|error| CallerError::Request(error.to_string()))?;
        let caller = Caller::new(stage.authority().certificate()).from(&stage.lab().client.namespace);
        let answer = caller.send(request)?;
        match answer.json()["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(StoryError::Absent(format!("{}: no token from the issuer", answer.status))),
        }
    }

    fn chat(&mut self, stage: &Stage, ask: &Chat<'_>) -> Result<Reply, StoryError> {
        let authority = self.authority(stage)?;
        let token = ask.token.unwrap_or_default();
        token.clone_into(&mut self.last_token);
        let launch = self.real.chat(&client::Chat {
            base_url: ask.base_url,
            authority: &authority,
            token,
            model: model::ALIAS,
            prompt: ask.prompt,
            max_tokens: MAX_TOKENS,
        });
        let mut command = stage.lab().client.command(&launch.program)?;
        launch.fill(&mut command);
        let output = command.stdin(Stdio::null()).output()?;
        let (text, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let events = client::events(&text)?;
        let mut pieces = Vec::new();
        for event in events {
            match event {
                ChatEvent::Chunk { text, after_ms } => pieces.push((Duration::from_millis(after_ms), text)),
                ChatEvent::End { .. } => return Ok(Reply::Answered { pieces }),
                ChatEvent::Refused { status: Some(status), exception, code, message, request_id, .. } => {
                    let (code, exception) = (code.unwrap_or_default(), Some(exception));
                    return Ok(Reply::Refused { status, code, message, request_id, exception });
                }
                ChatEvent::Refused { status: None, exception, message, .. } => {
                    return Err(StoryError::Cast(format!(
                        "the client had no answer: {exception}: {message}"
                    )));
                }
            }
        }
        Err(StoryError::Cast(format!("the client ended with {}: {complaint}", output.status)))
    }

    fn seen_by_model(&mut self, stage: &Stage) -> Result<ModelView, StoryError> {
        let prompts = model::prompts(&stage.system().path(PROMPTS))?;
        let last = prompts.into_iter().last();
        let last = last.ok_or_else(|| StoryError::Absent("the model saw no prompt".into()))?;
        Ok(ModelView {
            source: "the prompt as llama.cpp's server gave it to the model",
            everything: last.clone(),
            prompt: last,
            // Its middleware compares keys before anything reads the body: a prompt that got here had the key.
            credential: Ok("the server answers only to its own key, and it answered".to_owned()),
            hidden: ["OpenAI/Python", "x-stainless", &self.last_token].map(str::to_owned).to_vec(),
            said: None,
        })
    }

    fn model_connects(&mut self, stage: &Stage, to: SocketAddr) -> Result<Attempt, StoryError> {
        let show = ["systemctl", "show", "--property=ControlGroup", "--value", "llama.service"];
        let group = stage.system().run(&show)?;
        let (address, port) = (to.ip().to_string(), to.port().to_string());
        let command = ["/usr/bin/python3", "-c", CONNECT, group.trim(), &address, &port];
        let mut command = stage.system().command(&command)?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let output = child.stdout.take();
        self.connecting.push(child);
        let mut line = String::new();
        if let Some(output) = output {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.is_empty() {
            return Err(StoryError::Absent("the outcome of a connection from the model's cgroup".into()));
        }
        Ok(Attempt::parse(&line))
    }

    fn who_connects(&self) -> &'static str {
        "a process in the model server's cgroup"
    }
}

impl Players {
    /// The certificate that the client trusts, as a file.
    fn authority(&self, stage: &Stage) -> Result<PathBuf, StoryError> {
        let path = stage.directory().join("authority.crt");
        fs::write(&path, stage.authority().certificate())?;
        Ok(path)
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself, which is as well.
    let _ = child.kill();
    let _ = child.wait();
}
