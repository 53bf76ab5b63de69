//! Eight links at the cgroup root: made, updated in place, and undone when a later one fails.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
};

use crate::{KernelError, Site, object::Loaded, site::schema_directories, syscall};

/// A program and where it is attached.
#[derive(Debug)]
pub(crate) struct HookSpec {
    /// The program's name; also its pin's.
    pub(crate) name: &'static str,
    /// `enum bpf_attach_type` of linux/bpf.h.
    pub(crate) attach_type: u32,
}

impl HookSpec {
    /// Whether a later program can turn a refusal into a success (`bpf_set_retval`): the kernel keeps that helper from
    /// the packet hooks.
    pub(crate) fn takes_return_values(&self) -> bool {
        !matches!(self.attach_type, 0 | 1)
    }
}

/// Every program. The packet hooks come first: they alone hold the laws, the rest is courtesy and detail.
pub(crate) const HOOKS: &[HookSpec] = &[
    HookSpec { name: "ingress", attach_type: 0 },
    HookSpec { name: "egress", attach_type: 1 },
    HookSpec { name: "bind4", attach_type: 8 },
    HookSpec { name: "bind6", attach_type: 9 },
    HookSpec { name: "connect4", attach_type: 10 },
    HookSpec { name: "connect6", attach_type: 11 },
    HookSpec { name: "sendmsg4", attach_type: 14 },
    HookSpec { name: "sendmsg6", attach_type: 15 },
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

/// Attaches every program, or none that was not attached before.
pub(crate) fn install(site: &Site, programs: &[Loaded]) -> Result<(), KernelError> {
    let directory = site.schema_directory().join("links");
    fs::create_dir_all(&directory).map_err(|source| KernelError::file("create", directory, source))?;
    let root = File::open(&site.cgroup_root)
        .map_err(|source| KernelError::file("open", &site.cgroup_root, source))?;
    let root_id =
        root.metadata().map_err(|source| KernelError::file("look at", &site.cgroup_root, source))?.ino();
    let mut done = Vec::new();
    for loaded in programs {
        match install_one(site, &root, root_id, loaded) {
            Ok(undo) => done.push(undo),
            Err(error) => {
                undo_all(done);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn install_one(site: &Site, root: &File, root_id: u64, loaded: &Loaded) -> Result<Undo, KernelError> {
    let Loaded { spec, program } = loaded;
    let pin = site.link_pin(spec.name);
    let fail = |action, path: &PathBuf| {
        let path = path.clone();
        move |source| KernelError::Link { action, program: spec.name, path, source }
    };
    let mut replaces = false;
    match syscall::open_pin(&pin) {
        Ok(link) => {
            if let Some(undo) = update(link, spec, root_id, program).map_err(fail("update", &pin))? {
                return Ok(undo);
            }
            replaces = true;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(fail("open", &pin)(source)),
    }
    let link = syscall::link_create(program.as_fd(), root.as_fd(), spec.attach_type)
        .map_err(fail("attach", &site.cgroup_root))?;
    if replaces {
        // The new link stands before the old one's pin goes. (bpffs takes no dots in names.)
        let aside = site.link_pin(&format!("{}_next", spec.name));
        let _ = fs::remove_file(&aside);
        syscall::pin(link.as_fd(), &aside).map_err(fail("pin", &aside))?;
        fs::rename(&aside, &pin).map_err(fail("pin", &pin))?;
        return Ok(Undo::Replaced);
    }
    syscall::pin(link.as_fd(), &pin).map_err(fail("pin", &pin))?;
    Ok(Undo::Made { link, pin })
}

/// Puts `program` on a pinned link. `None` when the link is of no use: dead, at another cgroup, or at another hook.
fn update(link: OwnedFd, spec: &HookSpec, root_id: u64, program: &OwnedFd) -> io::Result<Option<Undo>> {
    const DEAD: i32 = libc::ENOLINK;
    let Ok(info) = syscall::link_info(link.as_fd()) else {
        return Ok(None);
    };
    if info.cgroup_id != root_id || info.attach_type != spec.attach_type {
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
