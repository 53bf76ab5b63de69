//! Who may send where, by the policy: what the kernel is given, asked of one place.

use bailiwick_kernel::Scope;
use bailiwick_policy::{EgressException, Location, Mode};
use ipnet::IpNet;
use serde_json::{Value, json};

/// What one model or workload would get.
pub(super) struct Verdict<'a> {
    scope: &'a Scope,
    region: Option<&'a str>,
    exceptions: Vec<&'a EgressException>,
    reason: String,
}

impl<'a> Verdict<'a> {
    /// About a network that lies in one place.
    pub(super) fn of(scope: &'a Scope, network: IpNet, location: &'a Location) -> Self {
        let allowed = &scope.egress.regions;
        let region =
            location.regions().iter().find(|region| allowed.contains(region)).map(|region| region.as_str());
        let exceptions = scope.egress.exceptions.iter();
        let exceptions: Vec<_> =
            exceptions.filter(|exception| exception.network.contains(&network)).collect();
        let reason = match location {
            Location::Unplaced { reason, .. } => reason.as_str().to_owned(),
            Location::Pinned { .. } => "pinned to a region that it may not reach".to_owned(),
            Location::Country { country, .. } => format!("{country} is in no region that it may reach"),
        };
        Self { scope, region, exceptions, reason }
    }

    /// In one line.
    pub(super) fn words(&self) -> String {
        let mode = match self.scope.egress.mode {
            Mode::Enforce => "",
            Mode::Shadow => " (shadow: reported, not blocked)",
            Mode::Monitor => " (monitor: not blocked)",
        };
        let name = &self.scope.name;
        match (self.region, self.exceptions.as_slice()) {
            (Some(region), _) => format!("{name}: allowed, region \"{region}\""),
            (None, []) => format!("{name}: denied, {}{mode}", self.reason),
            (None, exceptions) => {
                let each = |exception: &&EgressException| {
                    let port =
                        exception.port.map_or_else(|| "every port".to_owned(), |port| format!("port {port}"));
                    format!("{port} ({})", exception.reason)
                };
                let ports: Vec<String> = exceptions.iter().map(each).collect();
                format!(
                    "{name}: allowed by exception on {}; otherwise denied, {}{mode}",
                    ports.join(", "),
                    self.reason
                )
            }
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let everywhere = self.exceptions.iter().any(|exception| exception.port.is_none());
        let allowed = self.region.is_some() || everywhere;
        json!({
            "name": self.scope.name,
            "mode": self.scope.egress.mode,
            "allowed": allowed,
            "region": self.region,
            "exceptions": self.exceptions,
            "reason": (!allowed).then_some(self.reason.as_str()),
        })
    }
}
