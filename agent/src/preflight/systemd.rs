//! What systemd says of a slice's units, through systemctl(1).

use super::Weakness;
use std::collections::BTreeMap;
use std::process::Command;

/// Address families that the guard sees, or that cannot leave the host.
const HARMLESS: [&str; 4] = ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"];
/// Families that must be named where a unit forbids families instead of naming the allowed ones.
const HARMFUL: [&str; 5] = ["AF_PACKET", "AF_VSOCK", "AF_XDP", "AF_RDS", "AF_TIPC"];

const PROPERTIES: &str = "Id,Slice,User,DynamicUser,NoNewPrivileges,CapabilityBoundingSet,AmbientCapabilities,\
                          RestrictAddressFamilies,Delegate,ProtectControlGroups";

/// A unit's settings, as far as they matter here.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    properties: BTreeMap<String, String>,
}

/// The manager's version, if it answers.
pub(super) fn version() -> Option<String> {
    let text = systemctl(&["show", "--property=Version", "--value"])?;
    Some(text.trim().to_owned()).filter(|version| !version.is_empty())
}

/// The services and scopes in a slice or below it; `None` when systemd does not answer.
pub(super) fn units_of(slice: &str) -> Option<Vec<Unit>> {
    let property = format!("--property={PROPERTIES}");
    let text = systemctl(&["show", &property, "--", "*.service", "*.scope"])?;
    let inner = format!("{}-", slice.strip_suffix(".slice").unwrap_or(slice));
    let of_slice = |unit: &Unit| unit.get("Slice") == slice || unit.get("Slice").starts_with(&inner);
    Some(text.split("\n\n").filter_map(Unit::parse).filter(of_slice).collect())
}

fn systemctl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("systemctl").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Unit {
    fn parse(block: &str) -> Option<Self> {
        let pairs = block.lines().filter_map(|line| line.split_once('='));
        let properties: BTreeMap<String, String> =
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Some(Self { name: properties.get("Id")?.clone(), properties })
    }

    fn get(&self, property: &str) -> &str {
        self.properties.get(property).map_or("", String::as_str)
    }

    /// What the unit allows and no hook sees: the weakness, what was found, the lines of a drop-in that cure it.
    pub(super) fn weaknesses(&self) -> Vec<(Weakness, String, &'static str)> {
        const DROP: &str = "CapabilityBoundingSet=~CAP_NET_RAW CAP_NET_ADMIN CAP_BPF CAP_PERFMON CAP_SYS_ADMIN \
                            CAP_SYS_PTRACE CAP_SYS_MODULE and NoNewPrivileges=yes";
        let mut found = Vec::new();
        let capabilities = [
            (Weakness::RawSockets, &["cap_net_raw"][..]),
            (Weakness::NetworkAdmin, &["cap_net_admin"]),
            (Weakness::SystemAdmin, &["cap_sys_admin", "cap_bpf", "cap_sys_module"]),
            (Weakness::Ptrace, &["cap_sys_ptrace"]),
        ];
        for (weakness, names) in capabilities {
            let held: Vec<String> =
                names.iter().filter(|name| self.may_have(name)).map(|name| name.to_uppercase()).collect();
            if !held.is_empty() {
                found.push((weakness, format!("may have {}", held.join(", ")), DROP));
            }
        }
        if let Some(families) = self.families() {
            let cure = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK";
            found.push((Weakness::AddressFamilies, families, cure));
        }
        if self.get("Delegate") == "yes" {
            found.push((Weakness::Cgroups, "its cgroup is delegated to it".to_owned(), "Delegate=no"));
        } else if self.get("ProtectControlGroups") != "yes" && self.is_root() {
            let text = "it runs as root and may write to the cgroup tree".to_owned();
            found.push((Weakness::Cgroups, text, "ProtectControlGroups=yes"));
        }
        found
    }

    /// A scope has no settings of its own: its processes are looked at instead.
    fn is_scope(&self) -> bool {
        self.name.ends_with(".scope")
    }

    fn is_root(&self) -> bool {
        !self.is_scope() && matches!(self.get("User"), "" | "root" | "0") && self.get("DynamicUser") != "yes"
    }

    /// In the bounding set, with a way to get it: root, a set-uid program, or the ambient set.
    fn may_have(&self, capability: &str) -> bool {
        let holds = |property| self.get(property).split_whitespace().any(|name| name == capability);
        let reachable = self.is_root() || self.get("NoNewPrivileges") != "yes";
        !self.is_scope() && (holds("AmbientCapabilities") || (reachable && holds("CapabilityBoundingSet")))
    }

    fn families(&self) -> Option<String> {
        if self.is_scope() {
            return None;
        }
        let setting = self.get("RestrictAddressFamilies");
        let (forbids, names) = match setting.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, setting),
        };
        let names: Vec<&str> = names.split_whitespace().collect();
        let open: Vec<&str> = match (forbids, names.as_slice()) {
            (false, []) => return Some("may use every address family".to_owned()),
            (true, names) => HARMFUL.into_iter().filter(|family| !names.contains(family)).collect(),
            (false, names) => {
                names.iter().copied().filter(|name| *name != "none" && !HARMLESS.contains(name)).collect()
            }
        };
        (!open.is_empty()).then(|| format!("may use {}", open.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: &str = "Id=m.service\nSlice=m.slice\nUser=\nNoNewPrivileges=yes\nCapabilityBoundingSet=cap_chown\n\
                        AmbientCapabilities=\nRestrictAddressFamilies=AF_INET AF_UNIX\nDelegate=no\nProtectControlGroups=yes";

    #[test]
    fn a_unit_is_judged_by_what_it_allows() {
        use Weakness::{AddressFamilies, Cgroups, NetworkAdmin, Ptrace, RawSockets, SystemAdmin};
        for (why, from, to, expected) in [
            ("the drop-in", "", "", &[][..]),
            ("root with raw sockets", "cap_chown", "cap_chown cap_net_raw", &[RawSockets]),
            ("a user who can gain nothing", "User=", "User=m\nX=cap_net_raw", &[]),
            (
                "an ambient capability",
                "AmbientCapabilities=",
                "AmbientCapabilities=cap_net_admin",
                &[NetworkAdmin],
            ),
            ("bpf is as good as all", "cap_chown", "cap_bpf", &[SystemAdmin]),
            ("ptrace", "cap_chown", "cap_sys_ptrace", &[Ptrace]),
            ("no word on families", "AF_INET AF_UNIX", "", &[AddressFamilies]),
            ("a family too many", "AF_INET AF_UNIX", "AF_INET AF_VSOCK", &[AddressFamilies]),
            ("some forbidden", "AF_INET AF_UNIX", "~AF_PACKET", &[AddressFamilies]),
            ("all forbidden", "AF_INET AF_UNIX", "~AF_PACKET AF_VSOCK AF_XDP AF_RDS AF_TIPC", &[]),
            ("no families at all", "AF_INET AF_UNIX", "none", &[]),
            ("delegated", "Delegate=no", "Delegate=yes", &[Cgroups]),
            ("root in the cgroup tree", "ProtectControlGroups=yes", "ProtectControlGroups=no", &[Cgroups]),
        ] {
            let unit = Unit::parse(&HELD.replace(from, to)).unwrap();
            let unit = if from.is_empty() { Unit::parse(HELD).unwrap() } else { unit };
            let found: Vec<Weakness> =
                unit.weaknesses().into_iter().map(|(weakness, _, _)| weakness).collect();
            assert_eq!(found, expected, "{why}");
        }
    }
}
