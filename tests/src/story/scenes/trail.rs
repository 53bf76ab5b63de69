//! The last step: the trail is complete, holds nothing that it must not, verifies, and shows a changed byte.

use super::super::StoryError;
use super::super::stage::TRAIL;
use super::{PERSONAL, Scene, abroad};
use serde_json::Value;
use std::time::{Duration, Instant};

impl Scene<'_> {
    pub(super) fn trail(&mut self) -> Result<(), StoryError> {
        self.narrator.step("6. The audit trail of all that");
        let records = self.stage.records()?;
        let lines: Vec<String> = records.iter().map(summary).collect();
        self.narrator
            .shows(&format!("bailiwick audit show --directory {TRAIL} (shortened):"), &lines.join("\n"));
        let of = |kind: &str| records.iter().filter(|record| record["type"] == kind).collect::<Vec<_>>();
        let abroad = abroad(self.stage).map(|to| to.ip().to_string());
        let held = |to: &String| of("violation").iter().any(|record| record["destination"] == to.as_str());
        let counts = [
            ("admissions", of("admit").len(), 2),
            ("outcomes", of("outcome").len(), 2),
            ("denials", of("denied").len(), 4),
            ("foreign destinations among the violations", abroad.iter().filter(|to| held(to)).count(), 2),
        ];
        for (what, count, wanted) in counts {
            let tried = format!("count the {what}");
            self.happened(&tried, &wanted.to_string(), &count.to_string(), count == wanted)?;
        }
        let text = |kinds: &[&str]| -> String {
            kinds.iter().flat_map(|kind| of(kind)).map(ToString::to_string).collect()
        };
        let requests = ["admit", "outcome", "denied"];
        let all = text(&["admit", "outcome", "denied", "violation", "control"]);
        let secrets = PERSONAL.iter().copied().chain([self.stage.model_key(), self.token.as_str()]);
        let leaks = secrets.filter(|secret| all.contains(secret)).count();
        let tried =
            "look in every record for the prompt's personal data, the model's key, the caller's token";
        self.happened(tried, "0 found", &format!("{leaks} found"), leaks == 0)?;
        let client = self.stage.lab().client.v4.to_string();
        let found = usize::from(text(&requests).contains(&client));
        let tried = "look in the records of the requests for the caller's address";
        self.happened(tried, "0 found: it is a keyed hash", &format!("{found} found"), found == 0)?;

        self.wait_until_signed()?;
        let system = self.stage.system();
        let verified = system.exec(&["bailiwick", "audit", "verify", "--directory", TRAIL])?;
        self.narrator.shows("bailiwick audit verify:", verified.stdout.trim_end());
        let happened = verified.status.to_string();
        self.happened("verify the trail", "exit status: 0", &happened, verified.status.success())?;

        let copy = "/tmp/trail-copy";
        system.run(&["cp", "-a", TRAIL, copy])?;
        let pristine = system.exec(&["bailiwick", "audit", "verify", "--directory", copy])?;
        let happened = pristine.status.to_string();
        self.happened(
            "verify a copy of it (control)",
            "exit status: 0",
            &happened,
            pristine.status.success(),
        )?;
        let listed = system.run(&["find", copy, "-type", "f", "-path", "*/entries/*", "-size", "+0"])?;
        let file =
            listed.lines().min().ok_or_else(|| StoryError::Absent(format!("{copy} has no entries")))?;
        let mut bytes = system.read(file)?;
        let place = bytes.len() / 2;
        bytes[place] ^= 1;
        system.write(file, &bytes, 0o600)?;
        let tampered = system.exec(&["bailiwick", "audit", "verify", "--directory", copy])?;
        let said = format!("{}{}", tampered.stdout, tampered.stderr);
        self.narrator
            .shows(&format!("byte {place} of {file} changed; bailiwick audit verify:"), said.trim_end());
        let name = file.trim_start_matches(copy).trim_start_matches('/');
        let named = said.contains(name);
        let happened = format!(
            "{}, {}",
            tampered.status,
            if named { "it names the file" } else { "the file is not named" }
        );
        let detected = tampered.status.code() == Some(1) && named;
        self.happened(
            "verify the copy with one bit changed",
            "exit status: 1, it names the file",
            &happened,
            detected,
        )
    }

    /// The trail signs itself every second; a copy is taken of one at rest.
    fn wait_until_signed(&self) -> Result<(), StoryError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let said = self.stage.system().exec(&[
                "bailiwick",
                "audit",
                "verify",
                "--directory",
                TRAIL,
                "--json",
            ])?;
            let unsigned =
                serde_json::from_str::<Value>(&said.stdout).map(|verified| verified["unsigned"] == 0);
            if unsigned.unwrap_or(false) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(StoryError::Absent(format!(
                    "the trail is not signed within 10 s: {}",
                    said.stdout
                )));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A record in one line: the time of the day, the type, and what fits; request ids are cut to their first digits.
fn summary(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or("?").to_owned();
    let time: String = text("time").chars().skip_while(|letter| *letter != 'T').skip(1).collect();
    let mut line = format!("{:<12} {:<9}", time.trim_end_matches('Z'), text("type"));
    for key in ["event", "request", "rule", "outcome", "status", "reason", "destination", "region", "process"]
    {
        match &record[key] {
            Value::Null => {}
            Value::String(id) if key == "request" => line += &format!(" {}…", id.get(..8).unwrap_or(id)),
            Value::String(text) => line += &format!(" {key}={text}"),
            other => line += &format!(" {key}={other}"),
        }
    }
    line
}
