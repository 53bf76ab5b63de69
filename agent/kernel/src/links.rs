//! The links: made, updated in place, and undone when a later one fails.
//!
//! What is asked of a process (connect, sendmsg, bind) is asked at the cgroup root, of everyone. What is asked of a packet
//! is asked at the slices that are held, and only there: a program at the root would run for every packet of the host.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use bailiwick_policy::Name;

use crate::{
    KernelError, Rules, Scope, ScopeKind, Site,
    object::Loaded,
    site::{cgroup_id, schema_directories},
    syscall,
};

/// A program and where it is attached.
#[derive(Debug)]
pub(crate) struct HookSpec {
    /// The program's name; also its pin's.
    pub(crate) name: &'static str,
    /// `enum bpf_attach_type` of linux/bpf.h.
    pub(crate) attach_type: u32,
    /// At which cgroups.
    place: Attach,
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attach {
    /// At the cgroup root.
    Root,
    /// At the slice of each model and workload.
    Held,
}

/// One program at one cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub(crate) spec: &'static HookSpec,
    /// Absolute.
    pub(crate) cgroup: PathBuf,
    /// As the kernel numbers it.
    pub(crate) cgroup_id: u64,
    /// The scope whose slice it is; `None` at the root.
    pub(crate) scope: Option<Name>,
}

impl Attachment {
    /// `ingress:llama`, or `bind4` at the root.
    pub(crate) fn label(&self) -> String {
        match &self.scope {
            Some(scope) => format!("{}:{scope}", self.spec.name),
            None => self.spec.name.to_owned(),
        }
    }

    pub(crate) fn pin(&self, site: &Site) -> PathBuf {
        match self.spec.place {
            Attach::Root => site.link_pin(self.spec.name),
            Attach::Held => site.link_pin(&slice_pin(self.spec, self.cgroup_id)),
        }
    }
}

fn slice_pin(spec: &HookSpec, cgroup_id: u64) -> String {
    format!("{}_{cgroup_id}", spec.name)
}

/// Every program at every cgroup where it should be. `live` are the cgroups of the scopes of `rules` that exist, in their
/// order.
pub(crate) fn attachments(
    site: &Site,
    rules: &Rules,
    live: &[Option<u64>],
) -> Result<Vec<Attachment>, KernelError> {
    let root_id = cgroup_id(&site.cgroup_root)?.ok_or(KernelError::NoCgroup2)?;
    let mut found = Vec::new();
    for spec in HOOKS {
        if spec.place == Attach::Root {
            found.push(Attachment {
                spec,
                cgroup: site.cgroup_root.clone(),
                cgroup_id: root_id,
                scope: None,
            });
            continue;
        }
        for (scope, id) in rules.scopes.iter().zip(live) {
            // What is attached further up runs for this one as well.
            let above = |other: &&Scope| {
                other.cgroup != scope.cgroup
                    && scope.cgroup.starts_with(&other.cgroup)
                    && spec.belongs_to(other)
            };
            if let Some(cgroup_id) = *id
                && spec.belongs_to(scope)
                && rules.scopes.iter().find(above).is_none()
            {
                let cgroup = site.cgroup_root.join(&scope.cgroup);
                found.push(Attachment { spec, cgroup, cgroup_id, scope: Some(scope.name.clone()) });
            }
        }
    }
    Ok(found)
}

impl HookSpec {
    /// Whether a later program can turn a refusal into a success (`bpf_set_retval`): the kernel keeps that helper from
    /// the packet hooks.
    pub(crate) fn takes_return_values(&self) -> bool {
        !matches!(self.attach_type, 0 | 1)
    }

    fn belongs_to(&self, scope: &Scope) -> bool {
        match (self.place, scope.kind) {
            (Attach::Root, _) | (_, ScopeKind::Proxy) => false,
            (Attach::Held, ScopeKind::Model { .. } | ScopeKind::SealedModel) => true,
            (place, ScopeKind::Workload) => place == Attach::Held,
        }
    }
}

/// Every program. The packet hooks come first: they alone hold the laws, the rest is courtesy and detail.
pub(crate) const HOOKS: &[HookSpec] = &[
    HookSpec { name: "ingress", attach_type: 0, place: Attach::Held },
    HookSpec { name: "egress", attach_type: 1, place: Attach::Held },
    HookSpec { name: "bind4", attach_type: 8, place: Attach::Root },
    HookSpec { name: "bind6", attach_type: 9, place: Attach::Root },
    HookSpec { name: "connect4", attach_type: 10, place: Attach::Root },
    HookSpec { name: "connect6", attach_type: 11, place: Attach::Root },
    HookSpec { name: "sendmsg4", attach_type: 14, place: Attach::Root },
    HookSpec { name: "sendmsg6", attach_type: 15, place: Attach::Root },
];

/// How to take one step back.
enum Undo {
    /// A link was made: detach it and remove its pin.
    Made { link: OwnedFd, pin: PathBuf },
    /// A link was updated: put its program back. Only CAP_SYS_ADMIN may open a program by its id, and the service
    /// is without it: then the new program stays, over the same maps and the policy that is in force.
    Updated { link: OwnedFd, program: Option<OwnedFd> },
    /// A dead link's pin was replaced by a live one; the live one stays, it denies at most.
    Replaced,
}

/// Whether any link is pinned.
pub(crate) fn any_pinned(site: &Site) -> bool {
    HOOKS.iter().any(|spec| site.link_pin(spec.name).exists())
}

/// Attaches each program where it should be, or none that was not attached before.
pub(crate) fn install(
    site: &Site,
    programs: &[Loaded],
    attachments: &[Attachment],
) -> Result<(), KernelError> {
    let directory = site.schema_directory().join("links");
    fs::create_dir_all(&directory).map_err(|source| KernelError::file("create", directory, source))?;
    let mut done = Vec::new();
    for attachment in attachments {
        let Some(loaded) = programs.iter().find(|loaded| loaded.spec.name == attachment.spec.name) else {
            continue;
        };
        match install_one(site, attachment, loaded) {
            Ok(undo) => done.push(undo),
            Err(error) => {
                undo_all(done);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn install_one(site: &Site, attachment: &Attachment, loaded: &Loaded) -> Result<Undo, KernelError> {
    let Attachment { spec, cgroup, cgroup_id, .. } = attachment;
    let program = &loaded.program;
    let pin = attachment.pin(site);
    let fail = |action, path: &PathBuf| {
        let path = path.clone();
        move |source| KernelError::Link { action, program: spec.name, path, source }
    };
    let mut replaces = false;
    match syscall::open_pin(&pin) {
        Ok(link) => {
            if let Some(undo) = update(link, spec, *cgroup_id, program).map_err(fail("update", &pin))? {
                return Ok(undo);
            }
            replaces = true;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(fail("open", &pin)(source)),
    }
    let directory = File::open(cgroup).map_err(|source| KernelError::file("open", cgroup, source))?;
    let link = syscall::link_create(program.as_fd(), directory.as_fd(), spec.attach_type)
        .map_err(fail("attach", cgroup))?;
    if replaces {
        // The new link stands before the old one's pin goes. (bpffs takes no dots in names.)
        let aside = pin.with_file_name(format!("{}_next", spec.name));
        let _ = fs::remove_file(&aside);
        syscall::pin(link.as_fd(), &aside).map_err(fail("pin", &aside))?;
        fs::rename(&aside, &pin).map_err(fail("pin", &pin))?;
        return Ok(Undo::Replaced);
    }
    syscall::pin(link.as_fd(), &pin).map_err(fail("pin", &pin))?;
    Ok(Undo::Made { link, pin })
}

/// Puts the loaded programs on the links that stand at slices, whatever policy they were made for.
pub(crate) fn update_slices(site: &Site, programs: &[Loaded]) -> Result<(), KernelError> {
    for (spec, id, pin) in slice_pins(site) {
        if let Some(loaded) = programs.iter().find(|loaded| loaded.spec.name == spec.name) {
            let updated = syscall::open_pin(&pin).and_then(|link| update(link, spec, id, &loaded.program));
            updated.map_err(|source| KernelError::Link {
                action: "update",
                program: spec.name,
                path: pin,
                source,
            })?;
        }
    }
    Ok(())
}

/// Takes away the links at slices that `keep` does not want, and the pins of those whose cgroup is gone with its last
/// socket.
pub(crate) fn prune_slices(site: &Site, keep: impl Fn(&HookSpec, u64) -> bool) -> Result<(), KernelError> {
    for (spec, id, pin) in slice_pins(site) {
        let Ok(link) = syscall::open_pin(&pin) else { continue };
        let alive = syscall::link_info(link.as_fd()).is_ok_and(|info| info.cgroup_id != 0);
        if alive && keep(spec, id) {
            continue;
        }
        if alive && let Err(error) = syscall::link_detach(link.as_fd()) {
            tracing::debug!(%error, pin = %pin.display(), "a link was not detached, only unpinned");
        }
        fs::remove_file(&pin).map_err(|source| KernelError::file("remove", pin, source))?;
    }
    Ok(())
}

/// The pins of links at slices: hook, cgroup, pin.
fn slice_pins(site: &Site) -> Vec<(&'static HookSpec, u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(site.schema_directory().join("links")) else {
        return Vec::new();
    };
    let parse = |pin: PathBuf| {
        let (name, id) = pin.file_name()?.to_str()?.split_once('_')?;
        let spec = HOOKS.iter().find(|spec| spec.name == name && spec.place != Attach::Root)?;
        Some((spec, id.parse().ok()?, pin))
    };
    entries.flatten().filter_map(|entry| parse(entry.path())).collect()
}

/// Puts `program` on a pinned link. `None` when the link is of no use: dead, at another cgroup, or at another hook.
fn update(link: OwnedFd, spec: &HookSpec, cgroup_id: u64, program: &OwnedFd) -> io::Result<Option<Undo>> {
    const DEAD: i32 = libc::ENOLINK;
    let Ok(info) = syscall::link_info(link.as_fd()) else {
        return Ok(None);
    };
    if info.cgroup_id != cgroup_id || info.attach_type != spec.attach_type {
        return Ok(None);
    }
    let before = match syscall::program_by_id(info.program_id) {
        Ok(program) => Some(program),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => return Err(error),
    };
    match syscall::link_update(link.as_fd(), program.as_fd()) {
        Ok(()) => Ok(Some(Undo::Updated { link, program: before })),
        Err(error) if error.raw_os_error() == Some(DEAD) => Ok(None),
        Err(error) => Err(error),
    }
}

fn undo_all(done: Vec<Undo>) {
    for undo in done.into_iter().rev() {
        let outcome = match undo {
            Undo::Made { link, pin } => {
                syscall::link_detach(link.as_fd()).and_then(|()| fs::remove_file(pin))
            }
            Undo::Updated { link, program: Some(program) } => {
                syscall::link_update(link.as_fd(), program.as_fd())
            }
            Undo::Updated { program: None, .. } | Undo::Replaced => Ok(()),
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "a step of a failed attach could not be taken back; what is attached still denies");
        }
    }
}

/// Detaches every link of every schema and removes every pin.
pub(crate) fn remove_all(site: &Site) -> Result<(), KernelError> {
    for directory in schema_directories(&site.pins) {
        remove_schema(&directory)?;
    }
    remove_directory(&site.pins)
}

/// Removes the links, maps and directory of one schema.
pub(crate) fn remove_schema(directory: &PathBuf) -> Result<(), KernelError> {
    for part in ["links", "maps"] {
        let part = directory.join(part);
        let entries = match fs::read_dir(&part) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(KernelError::file("read", part, source)),
        };
        for entry in entries.flatten() {
            let pin = entry.path();
            // Somebody else may hold the link open: detach it, do not only forget it. A dead link, and a map,
            // cannot be detached.
            if let Ok(object) = syscall::open_pin(&pin)
                && syscall::link_info(object.as_fd()).is_ok()
                && let Err(error) = syscall::link_detach(object.as_fd())
            {
                tracing::debug!(%error, pin = %pin.display(), "a link was not detached, only unpinned");
            }
            fs::remove_file(&pin).map_err(|source| KernelError::file("remove", pin, source))?;
        }
        remove_directory(&part)?;
    }
    remove_directory(directory)
}

fn remove_directory(path: &PathBuf) -> Result<(), KernelError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KernelError::file("remove", path, source)),
    }
}
