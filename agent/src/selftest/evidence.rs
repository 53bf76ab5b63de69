//! What a selftest comes to, as it is kept: numbers, and names of the catalog. Nothing that was sent or answered.

use super::Row;
use super::catalog;
use crate::app::control;
use bailiwick_audit::Record;
use serde::{Deserialize, Serialize};

/// The look at the kernel, which is no attack of the catalog.
const STATUS: &str = "status";
/// Characters of a policy's id; it has 16.
const LONGEST_POLICY: usize = 64;

/// The result of one selftest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Evidence {
    /// The policy that was tested.
    pub policy: String,
    /// Attempts that the guard held.
    pub held: u32,
    /// Attempts that could not be made.
    pub not_tried: u32,
    /// The attacks that got through, by their names in the catalog.
    pub through: Vec<String>,
}

impl Evidence {
    /// What the rows of a selftest of this policy come to.
    #[must_use]
    pub fn of(rows: &[Row], policy: &str) -> Self {
        let count = |wanted| rows.iter().filter(|row| row.ok == wanted).fold(0, |sum, _| sum + 1);
        let mut through: Vec<String> =
            rows.iter().filter(|row| row.ok == Some(false)).map(|row| row.attack.clone()).collect();
        through.dedup();
        Self { policy: policy.to_owned(), held: count(Some(true)), not_tried: count(None), through }
    }

    /// Whether it says nothing but what a selftest can say; for evidence that somebody else hands over.
    ///
    /// # Errors
    /// What it says besides, without repeating it.
    pub fn check(&self) -> Result<(), &'static str> {
        let known =
            |name: &String| name == STATUS || catalog::ATTACKS.iter().any(|attack| attack.name == name);
        if self.policy.len() > LONGEST_POLICY || !self.policy.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err("its policy is no id of a policy");
        }
        if self.through.len() > catalog::ATTACKS.len() + 1 {
            return Err("it names more attacks than there are");
        }
        if !self.through.iter().all(known) {
            return Err("it names an attack that is not in this version's catalog");
        }
        Ok(())
    }

    /// As the trail keeps it; `writer` is who wrote it there.
    #[must_use]
    pub fn record(&self, writer: &str) -> Record {
        let (held, not_tried) = (self.held.to_string(), self.not_tried.to_string());
        let (count, names) = (self.through.len().to_string(), self.through.join(" "));
        let detail = [
            ("policy", self.policy.as_str()),
            ("held", &held),
            ("through", &count),
            ("not-tried", &not_tried),
            ("attacks-through", &names),
            ("written-by", writer),
        ];
        control("self-test", detail)
    }
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { held, not_tried, through, .. } = self;
        write!(f, "{held} held, {} got through, {not_tried} not tried", through.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(attack: &str, ok: Option<bool>) -> Row {
        let (model, target, happened) = ("llama".to_owned(), String::new(), String::new());
        Row { attack: attack.to_owned(), model, target, expected: "refused", happened, ok }
    }

    #[test]
    fn rows_are_counted_and_what_got_through_is_named_once() {
        let rows = [
            row(STATUS, Some(true)),
            row("tcp-loopback-v4", Some(false)),
            row("tcp-loopback-v4", Some(false)),
            row("out-sctp", None),
        ];
        let evidence = Evidence::of(&rows, "0123456789abcdef");
        assert_eq!(evidence.to_string(), "1 held, 1 got through, 1 not tried");
        assert_eq!(evidence.through, ["tcp-loopback-v4"]);
        assert_eq!(evidence.check(), Ok(()));
    }

    #[test]
    fn nothing_but_the_catalogs_words_gets_into_the_trail() {
        let good = Evidence { policy: "0123456789abcdef".into(), held: 1, not_tried: 0, through: Vec::new() };
        let with = |change: &dyn Fn(&mut Evidence)| {
            let mut evidence = good.clone();
            change(&mut evidence);
            evidence.check()
        };
        assert_eq!(with(&|_| ()), Ok(()));
        assert_eq!(with(&|evidence| evidence.through.push("status".into())), Ok(()));
        assert!(with(&|evidence| evidence.through.push("a prompt".into())).is_err(), "free text");
        assert!(with(&|evidence| evidence.policy = "a prompt".into()).is_err(), "free text");
        assert!(with(&|evidence| evidence.policy = "a".repeat(65)).is_err(), "no id is that long");
        let all = || vec!["status".to_owned(); catalog::ATTACKS.len() + 2];
        assert!(with(&|evidence| evidence.through = all()).is_err(), "more than there are");
    }
}
