//! # Preflight: what this kernel and host can hold, and what they cannot
//!
//! ```text
//!   kernel (tried)  ─┐
//!   units (systemd) ─┼─▶ Finding: what, which law it weakens, the cure
//!   processes (/proc)┤
//!   servers (asked) ─┘   their own settings: see server/
//! ```
//!
//! What no hook of the guard sees must be taken from the model by other means: raw packets, other address families, devices
//! that reach the network by themselves, the right to change the kernel or to leave the slice. This room looks whether it was.
//!
//! Invariants:
//! - Every weakness names the law that it weakens and the cure; a [`Weakness`] can be accepted by name in the config.
//! - What cannot be found out is said as unknown, and is not taken for good.
//! - At start only what is certain then is judged ([`units`]): what the units allow. Whoever looks later ([`everything`]) also
//!   sees what the processes have.
//!
//! What it does not do: it changes nothing, and it does not try the attacks; `status` says whether the guard stands.

mod network;
mod processes;
mod server;
mod systemd;

pub use server::{Asked, Caution, ask_all, warn_once};

use crate::config::settings::{ModelAddress, Replica, Settings};
use bailiwick_kernel::{CgroupLayout, Kernel, OLDEST_KERNEL, Rules, Site, kernel, standing};
use bailiwick_policy::{Mode, Name};
use serde::Serialize;
use std::path::{Path, PathBuf};

macro_rules! weaknesses {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $laws:literal,)+) => {
        /// A way past the guard that a host may leave open.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Weakness { $($(#[$doc])* $variant,)+ }

        impl Weakness {
            /// Every one of them, by its name in the config.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$variant),)+];

            /// Its name in the config and in reports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The law that it weakens.
            #[must_use]
            pub fn law(self) -> &'static str {
                match self { $(Self::$variant => $laws,)+ }
            }
        }
    };
}

const ONLY_WAY_IN: &str = "1 (only way in)";

weaknesses! {
    /// `CAP_NET_RAW`, `AF_PACKET`: packets that no cgroup hook sees.
    RawSockets = "raw-sockets": "2 (unknown means no)",
    /// `CAP_NET_ADMIN`: routes, tunnels, and with `CAP_BPF` the guard itself.
    NetworkAdmin = "network-admin": "1 (only way in)",
    /// `CAP_SYS_ADMIN`, `CAP_BPF`, `CAP_SYS_MODULE`: the guard can be taken down.
    SystemAdmin = "system-admin": "1 (only way in)",
    /// `CAP_SYS_PTRACE`: the proxy's memory and sockets can be taken.
    Ptrace = "ptrace": "6 (the model never learns who calls)",
    /// Address families besides IP: VSOCK, RDS, TIPC.
    AddressFamilies = "address-families": "2 (unknown means no)",
    /// The model can move itself to another cgroup.
    Cgroups = "cgroups": "1 (only way in)",
    /// An open device that reaches a network by itself: RDMA, vfio, vsock.
    Devices = "devices": "2 (unknown means no)",
    /// A process outside the slice holds a listening socket on the model's port.
    ForeignListener = "foreign-listener": "1 (only way in)",
    /// The kernel may give the model's port to whoever asks for any port.
    EphemeralPort = "ephemeral-port": "1 (only way in)",
    /// The kernel cannot end connections from before the guard.
    StandingSockets = "standing-sockets": "1 (only way in)",
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// As it should be.
    Good,
    /// Worth a look; no law is weakened.
    Note,
    /// A server's own setting that only the guard and the proxy make harmless; no law is weakened while they stand.
    Unsafe,
    /// A law is weakened, and the config accepts that.
    Accepted,
    /// A law is weakened.
    Weak,
}

/// One thing that was found out.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at; for a weakness its name.
    pub what: String,
    /// The model, where it is about one.
    pub model: Option<Name>,
    /// How much it matters.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// The law that is weakened or, of a note and of what is unsafe, that it bears on.
    pub law: Option<&'static str>,
    /// Why, where the law's name does not say it.
    pub why: Option<&'static str>,
    /// What to do about it.
    pub cure: Option<String>,
}

/// A model as this room sees it.
pub(crate) struct Subject {
    pub(crate) name: Name,
    pub(crate) cgroup: PathBuf,
    pub(crate) slice: String,
    /// `None` for a model on a Unix socket.
    pub(crate) port: Option<u16>,
}

/// Everything that can be found out; `settings` adds the models, and what the config accepts.
#[must_use]
pub fn everything(settings: Option<&Settings>) -> Vec<Finding> {
    let kernel = kernel();
    let mut findings = of_kernel(&kernel);
    findings.push(of_systemd());
    let Ok(site) = Site::find() else { return findings };
    let Some(settings) = settings else { return findings };
    findings.extend(of_neighbours(&site, &settings.kernel));
    for subject in subjects(settings) {
        findings.extend(of_units(&subject));
        findings.extend(network::of_port(&subject));
        findings.extend(processes::findings(&subject, &site.cgroup_root));
    }
    findings.extend(server::findings(settings, &site.cgroup_root));
    accept(findings, settings)
}

/// What the units of the models allow; all that is certain before the models run.
#[must_use]
pub fn units(settings: &Settings) -> Vec<Finding> {
    accept(subjects(settings).iter().flat_map(of_units).collect(), settings)
}

/// Those that keep an agent from starting: weak, not accepted, and of a model that is to be held (`enforce`).
pub fn refusals<'a>(findings: &'a [Finding], settings: &'a Settings) -> impl Iterator<Item = &'a Finding> {
    let enforced = |name: &Name| {
        settings.kernel.scopes.iter().any(|scope| scope.name == *name && scope.egress.mode == Mode::Enforce)
    };
    findings
        .iter()
        .filter(move |finding| finding.grade == Grade::Weak && finding.model.as_ref().is_some_and(enforced))
}

impl Finding {
    fn good(what: &str, found: impl Into<String>) -> Self {
        Self::new(what, Grade::Good, found.into(), None)
    }

    fn note(what: &str, found: impl Into<String>, cure: &str) -> Self {
        Self::new(what, Grade::Note, found.into(), Some(cure.to_owned()))
    }

    fn broken(what: &str, found: impl Into<String>, cure: &str) -> Self {
        Self { law: Some(ONLY_WAY_IN), ..Self::new(what, Grade::Weak, found.into(), Some(cure.to_owned())) }
    }

    pub(crate) fn weak(weakness: Weakness, subject: &Subject, found: String, cure: String) -> Self {
        Self {
            law: Some(weakness.law()),
            model: Some(subject.name.clone()),
            ..Self::new(weakness.as_str(), Grade::Weak, found, Some(cure))
        }
    }

    /// A weakness of the host, whatever the model.
    fn weak_host(weakness: Weakness, found: impl Into<String>, cure: &str) -> Self {
        let finding = Self::new(weakness.as_str(), Grade::Weak, found.into(), Some(cure.to_owned()));
        Self { law: Some(weakness.law()), ..finding }
    }

    fn about(mut self, subject: &Subject) -> Self {
        self.model = Some(subject.name.clone());
        self
    }

    fn new(what: &str, grade: Grade, found: String, cure: Option<String>) -> Self {
        Self { what: what.to_owned(), model: None, grade, found, law: None, why: None, cure }
    }
}

fn subjects(settings: &Settings) -> Vec<Subject> {
    let subject = |server: Replica| {
        let scope = settings.kernel.scopes.iter().find(|scope| scope.name == server.name)?;
        Some(Subject {
            name: server.name,
            cgroup: scope.cgroup.clone(),
            slice: server.slice,
            port: match &server.address {
                ModelAddress::Port(address) => Some(address.port()),
                ModelAddress::Socket(_) => None,
            },
        })
    };
    settings.models.values().flat_map(|model| model.servers()).filter_map(subject).collect()
}

fn accept(mut findings: Vec<Finding>, settings: &Settings) -> Vec<Finding> {
    for finding in findings.iter_mut().filter(|finding| finding.grade == Grade::Weak) {
        if settings.accepted.iter().any(|weakness| weakness.as_str() == finding.what) {
            finding.grade = Grade::Accepted;
        }
    }
    findings
}

fn of_kernel(kernel: &Kernel) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (major, minor) = OLDEST_KERNEL;
    findings.push(match kernel.version {
        Some(version) if version >= OLDEST_KERNEL => Finding::good("kernel", kernel.release.as_str()),
        Some(_) | None => Finding::broken(
            "kernel",
            format!("{}: older than {major}.{minor}, or not to be read", kernel.release),
            "run Linux 5.10 or later",
        ),
    });
    findings.push(match kernel.cgroups {
        CgroupLayout::Pure => Finding::good("cgroups", "v2 alone"),
        CgroupLayout::Hybrid => Finding::good("cgroups", "v2 beside v1 (hybrid)"),
        CgroupLayout::Missing => Finding::broken(
            "cgroups",
            "no cgroup v2 is mounted",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
    });
    findings.push(match &kernel.site {
        Ok(root) => {
            Finding::good("place", format!("cgroup root {}, bpf file system mounted", root.display()))
        }
        Err(error) => Finding::broken("place", error.as_str(), "mount what is missing"),
    });
    findings.push(match &kernel.programs {
        Ok(()) => Finding::good("programs", "all of them load, with the helpers and maps that they need"),
        Err(error) => Finding::broken(
            "programs",
            error.as_str(),
            "run this as root; if it was, this kernel cannot hold the guard",
        ),
    });
    findings.push(match kernel.jit.as_deref() {
        Some("0") => Finding::note(
            "jit",
            "off: programs are interpreted, each packet costs more",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        Some(_) => Finding::good("jit", "on"),
        None => Finding::note("jit", "unknown", "read net.core.bpf_jit_enable as root"),
    });
    findings.push(match kernel.unprivileged_bpf_disabled.as_deref() {
        Some("0") => Finding::note(
            "unprivileged-bpf",
            "every user may load BPF programs (none can be attached here by them)",
            "sysctl kernel.unprivileged_bpf_disabled=1",
        ),
        Some(_) => Finding::good("unprivileged-bpf", "disabled"),
        None => Finding::note("unprivileged-bpf", "unknown", "read kernel.unprivileged_bpf_disabled as root"),
    });
    let old = kernel.version.is_none_or(|version| version < (5, 11));
    findings.push(match (kernel.memlock_unlimited, old) {
        (false, true) => Finding::note(
            "memlock",
            "limited, and this kernel counts maps there",
            "the agent's unit sets LimitMEMLOCK=infinity; keep that",
        ),
        (true, _) | (false, false) => Finding::good("memlock", "maps do not meet a limit"),
    });
    findings.push(network::of_sockets(&kernel.socket_destroy));
    findings
}

fn of_systemd() -> Finding {
    match systemd::version() {
        Some(version) => Finding::good("systemd", version),
        None => Finding::note(
            "systemd",
            "does not answer: what units allow is unknown",
            "run this on a host whose service manager is systemd",
        ),
    }
}

fn of_neighbours(site: &Site, rules: &Rules) -> Vec<Finding> {
    let Ok(truth) = standing(site, rules) else { return Vec::new() };
    let mut findings = Vec::new();
    for hook in &truth.hooks {
        for neighbour in hook.neighbours.iter().filter(|neighbour| neighbour.may_override) {
            findings.push(Finding::note(
                "bpf-override",
                format!(
                    "program {} ({}) runs after the guard at {}",
                    neighbour.program_id, neighbour.name, hook.hook
                ),
                "packets are refused all the same; find who attached it: bpftool cgroup tree",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good("bpf-override", "no program of others runs after the guard"));
    }
    findings
}

fn of_units(subject: &Subject) -> Vec<Finding> {
    let Some(units) = systemd::units_of(&subject.slice) else {
        let cure = "run this where systemctl answers";
        return vec![Finding::note("unit", "unknown: systemd does not answer", cure).about(subject)];
    };
    if units.is_empty() {
        let found = format!("no unit is in {}", subject.slice);
        let cure = "put the model server's unit there: a drop-in with Slice=";
        return vec![Finding::note("unit", found, cure).about(subject)];
    }
    let mut findings = Vec::new();
    for unit in units {
        let weak = unit.weaknesses();
        if weak.is_empty() {
            let found = format!("{} has nothing that no hook sees", unit.name);
            findings.push(Finding::good("unit", found).about(subject));
        }
        for (weakness, found, cure) in weak {
            let found = format!("{}: {found}", unit.name);
            let cure = format!("in a drop-in of {}: {cure}", unit.name);
            findings.push(Finding::weak(weakness, subject, found, cure));
        }
    }
    findings
}

/// Whether `path`, below the cgroup root, lies in the subject's cgroup.
pub(crate) fn inside(subject: &Subject, path: &Path) -> bool {
    path.starts_with(&subject.cgroup)
}
