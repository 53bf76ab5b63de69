//! The project's own players: [`crate::model_server`], [`crate::issuer`], [`crate::caller`].

use super::StoryError;
use super::cast::{AUDIENCE, Cast, Chat, GROUP, MODEL_KEY_FILE, MODEL_PORT, ModelView, Reply, TokenKind};
use super::stage::{Stage, TESTBED_IN_BOX};
use crate::caller::{Caller, Protocol, json_request};
use crate::issuer::{Algorithm, Issuer, Plan, Wish};
use crate::model_server::Control;
use crate::probe::Attempt;
use crate::system_box::init::Bind;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Where the model server's control socket is in the box.
const CONTROL: &str = "/run/llama/control";

/// What the model says of its own accord: personal data that the caller must not get.
const SAID: &str = "jonas.weber@example.org";

/// Identity and data in fields of the request that are not the prompt.
const CUSTOMER: &str = "customer-4711";
const USER: &str = "anna-at-her-desk";

/// The embedded players.
#[derive(Default)]
pub(super) struct Embedded {
    issuer: Option<Issuer>,
    last_token: String,
}

impl Cast for Embedded {
    fn introduction(&self) -> String {
        "the project's own small model server, OIDC issuer and HTTP client".into()
    }

    fn binds(&self) -> Vec<Bind> {
        Vec::new()
    }

    fn preset(&self) -> &'static str {
        "openai"
    }

    fn model_service(&self) -> Result<String, StoryError> {
        Ok(format!(
            "LoadCredential=api-key:{MODEL_KEY_FILE}\n\
             RuntimeDirectory=llama\n\
             ExecStart={TESTBED_IN_BOX} model-server --listen [::]:{MODEL_PORT} --api-key-file %d/api-key \
             --control {CONTROL} --piece 5 --cut 97 --pause 15 --aside \"Please write to {SAID} for more.\"\n"
        ))
    }

    fn model_patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn start_issuer(&mut self, stage: &Stage) -> Result<String, StoryError> {
        let host = &stage.lab().issuer;
        let issuer = Issuer::start(Plan {
            listen: host.at_v4(443),
            namespace: Some(host.namespace.clone()),
            identity: Some(stage.authority().issue(&[&host.v4.to_string()])?),
            algorithms: vec![Algorithm::Es256, Algorithm::EdDsa],
            clients: Vec::new(),
        })?;
        let url = issuer.url().to_owned();
        self.issuer = Some(issuer);
        Ok(url)
    }

    fn token(&mut self, _stage: &Stage, kind: TokenKind) -> Result<String, StoryError> {
        let issuer =
            self.issuer.as_ref().ok_or_else(|| StoryError::Cast("the issuer is not started".into()))?;
        let groups = |name: &str| Some(vec![name.to_owned()]);
        let wish = Wish { groups: groups(GROUP), audience: Some(AUDIENCE.into()), ..Wish::default() };
        Ok(issuer.mint(&match kind {
            TokenKind::Valid => wish,
            TokenKind::OtherGroup => Wish { groups: groups("interns"), ..wish },
            TokenKind::OtherAudience => Wish { audience: Some("another-service".into()), ..wish },
            TokenKind::Expired => Wish { lifetime: -3600, ..wish },
        })?)
    }

    fn chat(&mut self, stage: &Stage, ask: &Chat<'_>) -> Result<Reply, StoryError> {
        let body = json!({
            "model": "echo",
            "stream": true,
            "user": USER,
            "metadata": {"customer_id": CUSTOMER},
            "messages": [{"role": "user", "content": ask.prompt}],
        });
        let caller = Caller::new(stage.authority().certificate())
            .from(&stage.lab().client.namespace)
            .speaking(Protocol::Http2);
        let mut request = json_request(&format!("{}/chat/completions", ask.base_url), ask.token, &body)?;
        let agent = http::HeaderValue::from_static("embedded-caller/1");
        request.headers_mut().insert(http::header::USER_AGENT, agent);
        let forwarded = http::HeaderValue::from_static("203.0.113.10");
        request.headers_mut().insert("x-forwarded-for", forwarded);
        ask.token.unwrap_or_default().clone_into(&mut self.last_token);
        let answer = caller.send(request)?;
        if answer.status == http::StatusCode::OK {
            let pieces = answer.frames.iter().flat_map(|frame| {
                let text = String::from_utf8_lossy(&frame.bytes).into_owned();
                text.lines().filter_map(content).map(|piece| (frame.after, piece)).collect::<Vec<_>>()
            });
            return Ok(Reply::Answered { pieces: pieces.collect() });
        }
        let error = answer.error().ok_or_else(|| {
            let body = String::from_utf8_lossy(&answer.body()).into_owned();
            StoryError::Absent(format!("{} without an error in the API's shape: {body}", answer.status))
        })?;
        Ok(Reply::Refused {
            status: answer.status.as_u16(),
            code: error.code.unwrap_or_default(),
            message: error.message,
            request_id: error.request_id,
            exception: None,
        })
    }

    fn seen_by_model(&mut self, stage: &Stage) -> Result<ModelView, StoryError> {
        let seen = control(stage).seen()?;
        let last = seen.into_iter().rev().find(|seen| seen.path == "/v1/chat/completions");
        let last = last.ok_or_else(|| StoryError::Absent("the model saw no chat request".into()))?;
        let body: Value = serde_json::from_str(&last.body)?;
        let credential = match last.header("authorization") {
            Some(value) if value == format!("Bearer {}", stage.model_key()) => {
                Ok("header 'authorization' holds the model's own key".to_owned())
            }
            Some(_) => Err("header 'authorization' holds something else than the model's key".to_owned()),
            None => Err("no header 'authorization'".to_owned()),
        };
        let headers: Vec<String> =
            last.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let everything = format!("{} {}\n{}\n\n{}", last.method, last.path, headers.join("\n"), last.body);
        Ok(ModelView {
            source: "the request as the model server received it (its key is shown as ***)",
            prompt: body["messages"][0]["content"].as_str().unwrap_or_default().to_owned(),
            everything: everything.replace(stage.model_key(), "***"),
            credential,
            hidden: [CUSTOMER, USER, "embedded-caller", "x-forwarded-for", "caller-1", &self.last_token]
                .map(str::to_owned)
                .to_vec(),
            said: Some(SAID.to_owned()),
        })
    }

    fn model_connects(&mut self, stage: &Stage, to: SocketAddr) -> Result<Attempt, StoryError> {
        Ok(control(stage).connect(to)?)
    }

    fn who_connects(&self) -> &'static str {
        "the model server's own process"
    }
}

fn control(stage: &Stage) -> Control {
    Control::at(&stage.system().path(CONTROL))
}

/// The text of one line of an event stream, if it has any.
fn content(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line.strip_prefix("data:")?.trim()).ok()?;
    let text = event["choices"][0]["delta"]["content"].as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}
