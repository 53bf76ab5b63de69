//! What the kernel's truth means to a person: each problem with its place, its meaning and its cure.

use super::super::text::wrapped;
use bailiwick_kernel::{Rules, ScopeKind, ScopeStatus, Status};
use std::fs;
use std::path::Path;

/// One thing to know, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Finding {
    /// The hook or scope, or `host`.
    pub(super) place: String,
    /// What is so, and what it means.
    pub(super) finding: String,
    /// What to do.
    pub(super) cure: String,
}

impl Finding {
    fn new(place: &str, finding: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { place: place.to_owned(), finding: finding.into(), cure: cure.into() }
    }

    /// For people: `label: place: finding.` and the cure, folded.
    pub(super) fn line(&self, label: &str) -> String {
        let Self { place, finding, cure } = self;
        wrapped(&format!("{label}: {place}: {finding}. {cure}"), 4)
    }
}

/// Why it is not guarded; empty when it is.
pub(super) fn problems(truth: &Status) -> Vec<Finding> {
    if truth.guarded {
        return Vec::new();
    }
    let absent = |hook: &&bailiwick_kernel::HookStatus| {
        hook.link_id.is_none() && hook.problem.as_deref() == Some("no link is pinned")
    };
    if truth.generation.is_none() && truth.hooks.iter().all(|hook| absent(&hook)) {
        return vec![Finding::new(
            "host",
            "no guard stands: every local process can reach the model's port, and the model can reach everywhere",
            "Start the agent, which puts it up: systemctl start bailiwick; if it fails: systemctl status bailiwick",
        )];
    }
    let mut found: Vec<Finding> = truth
        .hooks
        .iter()
        .filter_map(|hook| {
            let problem = hook.problem.as_deref()?;
            Some(Finding::new(
                &hook.hook,
                format!("{problem}, so that {}", unguarded(&hook.hook)),
                "Put it back: systemctl restart bailiwick. Only root can have removed it: find out who",
            ))
        })
        .collect();
    found.extend(truth.lost_maps.iter().map(|map| {
        Finding::new(
            map,
            "the pin of this map is gone, so that what is in force cannot be read; it holds until the host restarts",
            "Put it back: systemctl restart bailiwick. Only root can have removed it: find out who",
        )
    }));
    found.extend(truth.intruders.iter().map(|intruder| {
        Finding::new(
            &format!("port {}", intruder.address.port()),
            format!(
                "{} listens at {}, which is reserved for {}; the proxy sends nothing there",
                intruder.place, intruder.address, intruder.model
            ),
            "Let the model server make its own socket, in its slice, and end whoever else has it: ss -ltnp shows them",
        )
    }));
    if !truth.lost_maps.is_empty() {
        return found;
    }
    if truth.generation.is_none() {
        found.push(Finding::new(
            "host",
            "the programs have no policy in force",
            "The agent gives them one: systemctl restart bailiwick",
        ));
    } else {
        found.extend(truth.scopes.iter().filter(|scope| escaped(scope)).map(|scope| {
            Finding::new(
                &scope.name,
                format!("the kernel does not know its cgroup /{}, so nothing holds what runs there", scope.cgroup.display()),
                "The agent tells the kernel within a second, if it runs: systemctl status bailiwick; after a change of the config: systemctl restart bailiwick",
            )
        }));
    }
    if found.is_empty() {
        found.push(Finding::new(
            "host",
            "the policy in force does not hold the port of every model in this config",
            "The config changed since the agent started: systemctl restart bailiwick",
        ));
    }
    found
}

/// What is guarded and still deserves a word.
pub(super) fn notes(truth: &Status, rules: &Rules) -> Vec<Finding> {
    if truth.generation.is_none() {
        return Vec::new();
    }
    let warning = |warning: &String| match warning.split_once(". ") {
        Some((finding, cure)) => Finding::new("host", finding, cure),
        None => Finding::new("host", warning.as_str(), ""),
    };
    let idle =
        rules.scopes.iter().filter(|scope| !populated(&truth.cgroup_root.join(&scope.cgroup))).map(|scope| {
            match scope.kind {
                ScopeKind::Proxy => Finding::new(
                    scope.name.as_str(),
                    "the agent does not run: the guard stands, and nobody is served",
                    "Start it: systemctl start bailiwick",
                ),
                ScopeKind::Model { port } => Finding::new(
                    scope.name.as_str(),
                    format!("nothing runs in its slice (port {port})"),
                    format!(
                        "Start the model server, with the drop-in that puts it into {}",
                        scope.cgroup.file_name().unwrap_or_default().to_string_lossy()
                    ),
                ),
                ScopeKind::SealedModel => Finding::new(
                    scope.name.as_str(),
                    "nothing runs in its slice",
                    format!(
                        "Start the model server, with the drop-in that puts it into {}",
                        scope.cgroup.file_name().unwrap_or_default().to_string_lossy()
                    ),
                ),
                ScopeKind::Workload => Finding::new(
                    scope.name.as_str(),
                    "nothing runs in its cgroup",
                    "Start it, or take it out of the config",
                ),
            }
        });
    truth.warnings.iter().map(warning).chain(idle).collect()
}

fn escaped(scope: &ScopeStatus) -> bool {
    scope.live_id.is_some() && scope.live_id != scope.guarded_id
}

/// cgroup.events (cgroups(7)): whether any process is in it or below.
fn populated(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// What a missing hook leaves open.
fn unguarded(hook: &str) -> &'static str {
    match hook.split(':').next().unwrap_or(hook) {
        "ingress" => "what comes to the model's port over the network is not refused",
        "egress" => "what the model's processes send is not held to its regions",
        "bind4" | "bind6" => "another process may take the model's port",
        "connect4" | "connect6" | "sendmsg4" | "sendmsg6" => {
            "refusals there are late: packets are dropped, and no process is named"
        }
        _ => "it does not take part in the guard",
    }
}
