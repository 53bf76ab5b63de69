//! The six steps, and before them the same attempts without a guard.

mod trail;

use super::StoryError;
use super::cast::{Cast, Chat, MODEL_PORT, ModelView, Reply, TokenKind};
use super::stage::{FOREIGN_PORT, Stage};
use crate::narrator::Narrator;
use crate::probe::Attempt;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// What the caller asks, and the personal data in it. The IBAN and the card number are the ones that their
/// standards print as examples; the address is in a domain reserved for examples.
const PROMPT: &str = "Please summarise: anna.schmidt@example.com paid 40 euros to IBAN DE89 3704 0044 0532 0130 00 \
                      with card 4111 1111 1111 1111.";
const PERSONAL: [&str; 3] =
    ["anna.schmidt@example.com", "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111"];

/// What the kernel says where a program of the guard refuses (connect(2)).
const BY_THE_KERNEL: &str = "EPERM";

/// Plays everything.
pub(super) fn all(stage: &mut Stage, cast: &mut dyn Cast, narrator: &mut Narrator) -> Result<(), StoryError> {
    without_guard(stage, cast, narrator)?;
    narrator.step("Bailiwick is installed: systemd units, config, start");
    stage.install(cast, narrator)?;
    let status = stage.system().run(&["bailiwick", "status"])?;
    narrator.shows("bailiwick status, read from the kernel:", status.trim_end());
    let mut scene = Scene { stage, cast, narrator, token: String::new() };
    scene.only_way_in()?;
    scene.through_the_proxy()?;
    scene.denied()?;
    scene.held_in_its_region()?;
    scene.without_an_agent()?;
    scene.trail()
}

/// The controls: what is refused later is possible now.
fn without_guard(stage: &Stage, cast: &mut dyn Cast, narrator: &mut Narrator) -> Result<(), StoryError> {
    narrator.step("Before: no guard yet, so that the refusals below mean something");
    let mut scene = Scene { stage, cast, narrator, token: String::new() };
    for to in local_doors(stage) {
        let happened = stage.local_connects(to)?;
        scene.expect(&format!("a local process connects to {to}"), "ok", &happened, Attempt::connected)?;
    }
    let doors = remote_doors(stage);
    for (to, happened) in doors.iter().zip(stage.remote_connects(&doors)?) {
        scene.expect(&format!("a remote host connects to {to}"), "ok", &happened, Attempt::connected)?;
    }
    for to in abroad(stage) {
        scene.model_tries(to, "the foreign region", "ok", Attempt::connected)?;
    }
    Ok(())
}

struct Scene<'a> {
    stage: &'a Stage,
    cast: &'a mut dyn Cast,
    narrator: &'a mut Narrator,
    /// The valid token, to look for it where it must not be.
    token: String,
}

impl Scene<'_> {
    fn only_way_in(&mut self) -> Result<(), StoryError> {
        self.narrator.step("1. The model's port, tried directly");
        self.doors_are_closed()
    }

    fn through_the_proxy(&mut self) -> Result<(), StoryError> {
        self.narrator
            .step("2. A caller with a valid token and the right group asks through the proxy, over TLS");
        let token = self.cast.token(self.stage, TokenKind::Valid)?;
        self.token.clone_from(&token);
        let reply = self.chat(Some(&token))?;
        let several = matches!(&reply, Reply::Answered { pieces } if pieces.len() > 2 && spread(pieces));
        let tried = format!("POST {}/chat/completions with stream=true", self.stage.base_url());
        self.happened(&tried, "200, an answer that streams, piece by piece", &reply.summary(), several)?;
        self.narrator.shows("the caller sent:", PROMPT);
        self.narrator.shows("the caller got:", &reply.text());

        let view = self.cast.seen_by_model(self.stage)?;
        self.narrator.shows(&format!("{}:", view.source), &view.everything);
        self.masked(&view)?;
        let (happened, arrived) = match &view.credential {
            Ok(how) => (how, true),
            Err(why) => (why, false),
        };
        self.happened("look for the model's credential", "injected by the proxy", happened, arrived)?;
        let mut traces: Vec<&str> =
            view.hidden.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        traces.extend([token.as_str(), "203.0.113.10", "2001:db8:c::10"]);
        let found: Vec<&str> = traces.iter().copied().filter(|word| view.everything.contains(word)).collect();
        let happened = if found.is_empty() { "no trace".into() } else { format!("{} traces", found.len()) };
        let tried =
            "look for the caller's token, address, user agent, user and customer id in what the model saw";
        self.happened(tried, "no trace of the caller", &happened, found.is_empty())?;
        if let Some(said) = &view.said {
            let leaked = reply.text().contains(said.as_str());
            let happened = if leaked { "it is there" } else { "it is not there" };
            let tried = "look in the answer for an address that the model said, cut up by the stream";
            self.happened(tried, "masked on its way back", happened, !leaked)?;
        }
        Ok(())
    }

    fn masked(&mut self, view: &ModelView) -> Result<(), StoryError> {
        let leaked = PERSONAL.iter().filter(|personal| view.everything.contains(**personal)).count();
        let masked =
            ["[email]", "[iban]", "[card]"].iter().filter(|mask| view.prompt.contains(**mask)).count();
        self.happened(
            "look for the e-mail address, the IBAN and the card number in what the model saw",
            "0 of 3 there, 3 of 3 masked",
            &format!("{leaked} of 3 there, {masked} of 3 masked"),
            leaked == 0 && masked == 3,
        )
    }

    fn denied(&mut self) -> Result<(), StoryError> {
        self.narrator.step(
            "3. Callers that may not: refused in the API's own error shape, each recorded with its reason",
        );
        let cases = [
            ("with a token of another group", Some(TokenKind::OtherGroup), 403, "group-not-allowed"),
            ("with a token for another service", Some(TokenKind::OtherAudience), 401, "audience-mismatch"),
            ("with an expired token", Some(TokenKind::Expired), 401, "token-expired"),
            ("without a token", None, 401, "no-credentials"),
        ];
        let before = self.denials()?.len();
        let mut ids = Vec::new();
        for (how, kind, wanted_status, wanted_code) in cases {
            let token = kind.map(|kind| self.cast.token(self.stage, kind)).transpose()?;
            let reply = self.chat(token.as_deref())?;
            let fits = matches!(&reply, Reply::Refused { status, code, .. } if *status == wanted_status && code == wanted_code);
            let expected = format!("{wanted_status} {wanted_code}");
            self.happened(&format!("the same request {how}"), &expected, &reply.summary(), fits)?;
            ids.push(match reply {
                Reply::Refused { request_id, .. } => request_id,
                Reply::Answered { .. } => None,
            });
        }
        let denials = self.denials()?;
        let fresh = denials.get(before..).unwrap_or_default();
        for ((record, id), (how, _, status, reason)) in fresh.iter().zip(&ids).zip(cases) {
            let same = id.as_ref().is_none_or(|id| record["request"] == id.as_str());
            let fits = same && record["reason"] == reason && record["status"] == status;
            let tried = format!("look up the request {how} in the audit trail");
            let happened = format!("{} {} (request {})", record["type"], record["reason"], record["request"]);
            self.happened(
                &tried,
                &format!("a denial with the reason {reason}"),
                &happened.replace('"', ""),
                fits,
            )?;
        }
        let happened = format!("{} records", fresh.len());
        self.happened("count the denials", "4 records", &happened, fresh.len() == cases.len())
    }

    fn held_in_its_region(&mut self) -> Result<(), StoryError> {
        self.narrator.step("4. The model process tries to reach a foreign region");
        let home = self.stage.lab().issuer.at_v4(443);
        self.model_tries(home, "an allowed region (control)", "ok", Attempt::connected)?;
        for to in abroad(self.stage) {
            self.model_tries(to, "the foreign region", "refused by the kernel (EPERM)", by_the_kernel)?;
            self.alert(to)?;
        }
        Ok(())
    }

    fn alert(&mut self, to: SocketAddr) -> Result<(), StoryError> {
        let processes: Vec<String> = self.stage.model_processes()?.iter().map(ToString::to_string).collect();
        let wanted = [
            ("BAILIWICK_MODEL", "llama".to_owned()),
            ("BAILIWICK_DESTINATION", to.ip().to_string()),
            ("BAILIWICK_PORT", to.port().to_string()),
            ("BAILIWICK_REGION", "overseas".to_owned()),
            ("BAILIWICK_VERDICT", "deny".to_owned()),
        ];
        let fits = |entry: &Value| wanted.iter().all(|(field, value)| entry[field] == value.as_str());
        let filter = ["SYSLOG_IDENTIFIER=bailiwick"];
        let found = self.stage.system().wait_for_journal(&filter, Duration::from_secs(5), fits)?;
        let tried = "journalctl -o json SYSLOG_IDENTIFIER=bailiwick";
        let expected =
            format!("an alert: llama, {}, port {}, overseas, deny, the process", to.ip(), to.port());
        let Some(entry) = found else {
            return self.happened(tried, &expected, "no such alert within 5 s", false);
        };
        let field = |name: &str| entry[name].as_str().unwrap_or("?").to_owned();
        let named = processes.contains(&field("BAILIWICK_PID")) && field("BAILIWICK_COMM") != "?";
        let happened = format!("found, process {} ({})", field("BAILIWICK_PID"), field("BAILIWICK_COMM"));
        let mut lines: Vec<String> = entry
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| {
                name.starts_with("BAILIWICK_")
                    || ["MESSAGE", "PRIORITY", "_SYSTEMD_UNIT"].contains(&name.as_str())
            })
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("?")))
            .collect();
        // The message first; journald gives the fields in no order.
        lines.sort_by_key(|line| (!line.starts_with("MESSAGE="), line.clone()));
        self.narrator.shows("the alert, as read from the journal:", &lines.join("\n"));
        self.happened(tried, &expected, &happened, named)
    }

    fn without_an_agent(&mut self) -> Result<(), StoryError> {
        self.narrator.step("5. The agent is killed with SIGKILL");
        // A longer pause before the restart, so that the time without an agent can be looked at.
        let system = self.stage.system();
        let pause = "/run/systemd/system/bailiwick.service.d/story.conf";
        system.write(pause, "[Service]\nRestartSec=6\n", 0o644)?;
        system.run(&["systemctl", "daemon-reload"])?;
        let before = self.stage.agent_pid()?;
        system.run(&["systemctl", "kill", "--signal=SIGKILL", "bailiwick.service"])?;
        self.stage.wait_for_agent(false, Duration::from_secs(3))?;
        self.narrator.progress("the agent is dead; systemd will start it again in 6 s");
        self.doors_are_closed()?;
        for to in abroad(self.stage) {
            self.model_tries(to, "the foreign region", "refused by the kernel (EPERM)", by_the_kernel)?;
        }
        let meanwhile = self.stage.agent_pid()?;
        let happened = if meanwhile.is_none() { "no process" } else { "it is back already" };
        self.happened("look for the agent's process after all that", "none", happened, meanwhile.is_none())?;

        self.narrator.progress("waiting for systemd to start the agent again");
        let after = self.stage.wait_for_agent(true, Duration::from_secs(20))?;
        let happened = format!("process {} before, {} now", shown(before), shown(after));
        self.happened("wait for the agent", "a new process", &happened, after.is_some() && after != before)?;
        let token = self.cast.token(self.stage, TokenKind::Valid)?;
        let reply = self.chat(Some(&token))?;
        let answered = matches!(reply, Reply::Answered { .. });
        self.happened(
            "ask again through the proxy",
            "200, an answer that streams",
            &reply.summary(),
            answered,
        )?;
        self.doors_are_closed()
    }

    fn doors_are_closed(&mut self) -> Result<(), StoryError> {
        for to in local_doors(self.stage) {
            let happened = self.stage.local_connects(to)?;
            let tried = format!("a local process, root, connects to {to}");
            self.expect(&tried, "refused by the kernel (EPERM)", &happened, by_the_kernel)?;
        }
        let doors = remote_doors(self.stage);
        for (to, happened) in doors.iter().zip(self.stage.remote_connects(&doors)?) {
            let tried = format!("a remote host connects to {to}");
            let dropped = |attempt: &Attempt| *attempt == Attempt::TimedOut;
            self.expect(&tried, "dropped by the kernel (timeout)", &happened, dropped)?;
        }
        Ok(())
    }

    fn model_tries(
        &mut self,
        to: SocketAddr,
        where_to: &str,
        expected: &str,
        fits: impl Fn(&Attempt) -> bool,
    ) -> Result<(), StoryError> {
        let happened = self.cast.model_connects(self.stage, to)?;
        let tried = format!("{} connects to {to}, {where_to}", self.cast.who_connects());
        self.expect(&tried, expected, &happened, fits)
    }

    fn chat(&mut self, token: Option<&str>) -> Result<Reply, StoryError> {
        self.cast.chat(self.stage, &Chat { base_url: &self.stage.base_url(), token, prompt: PROMPT })
    }

    fn denials(&self) -> Result<Vec<Value>, StoryError> {
        Ok(self.stage.records()?.into_iter().filter(|record| record["type"] == "denied").collect())
    }

    fn expect(
        &mut self,
        tried: &str,
        expected: &str,
        happened: &Attempt,
        fits: impl Fn(&Attempt) -> bool,
    ) -> Result<(), StoryError> {
        self.happened(tried, expected, &happened.to_string(), fits(happened))
    }

    fn happened(
        &mut self,
        tried: &str,
        expected: &str,
        happened: &str,
        fits: bool,
    ) -> Result<(), StoryError> {
        if self.narrator.attempt(tried, expected, happened, fits) {
            return Ok(());
        }
        let step = self.narrator.attempts().last().map(|told| told.step.clone()).unwrap_or_default();
        let [tried, expected, happened] = [tried, expected, happened].map(str::to_owned);
        Err(StoryError::Unexpected { step, tried, expected, happened })
    }
}

fn local_doors(stage: &Stage) -> [SocketAddr; 3] {
    [
        SocketAddr::from(([127, 0, 0, 1], MODEL_PORT)),
        SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], MODEL_PORT)),
        stage.lab().host.at_v4(MODEL_PORT),
    ]
}

fn remote_doors(stage: &Stage) -> [SocketAddr; 2] {
    [stage.lab().host.at_v4(MODEL_PORT), stage.lab().host.at_v6(MODEL_PORT)]
}

fn abroad(stage: &Stage) -> [SocketAddr; 2] {
    [stage.lab().foreign.at_v4(FOREIGN_PORT), stage.lab().foreign.at_v6(FOREIGN_PORT)]
}

fn by_the_kernel(attempt: &Attempt) -> bool {
    *attempt == Attempt::Refused(BY_THE_KERNEL.to_owned())
}

/// Whether the pieces came one after another rather than all at the end.
fn spread(pieces: &[(Duration, String)]) -> bool {
    match pieces {
        [(first, _), .., (last, _)] => last.saturating_sub(*first) > Duration::from_millis(20),
        _ => false,
    }
}

fn shown(pid: Option<u32>) -> String {
    pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string())
}
