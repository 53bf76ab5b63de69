//! What else is attached where the guard is, and which of it could overrule the guard.
//!
//! The kernel runs a hook's programs from the socket's cgroup upwards, those of one cgroup in the order of their
//! attachment. Every one of them can refuse; at the address hooks (bind, connect, sendmsg) a later one can also
//! turn an earlier refusal into a success (`bpf_set_retval`). At the packet hooks none can: a refusal there is final,
//! and it is the packet hooks that hold the laws.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use crate::{
    Rules, Site,
    links::{Attachment, HookSpec},
    site::schema_directories,
    syscall,
};

/// A program of somebody else at one of the guard's hooks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Neighbour {
    /// As the kernel says it.
    pub program_id: u32,
    /// Its name, at most 15 bytes; empty when it has none or is gone already.
    pub name: String,
    /// A digest of its instructions.
    pub tag: String,
    /// Where it is attached, relative to the guard's root.
    pub place: Place,
    /// The cgroup, where it is known.
    pub cgroup: Option<PathBuf>,
    /// It runs after the guard's program and could turn a refusal into a success.
    pub may_override: bool,
}

/// Where a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// At the guard's own cgroup, run before it.
    Before,
    /// At the guard's own cgroup, run after it.
    After,
    /// At a cgroup above: run last.
    Above,
    /// At a cgroup on the way to a scope, or in it: run first.
    Below,
}

/// Deep trees are looked at this far; a slice of model servers has a handful of cgroups.
const CGROUPS_LOOKED_AT: usize = 256;

/// The neighbours at every attachment, in their order.
///
/// # Errors
/// When the root cannot be asked; a slice that went away meanwhile is no error.
pub(crate) fn neighbours(
    site: &Site,
    rules: &Rules,
    attachments: &[Attachment],
) -> io::Result<Vec<Vec<Neighbour>>> {
    let own = own_programs(site);
    let below = cgroups_below(site, rules);
    let ask = |attachment: &Attachment| {
        let found = at(site, attachment, &own, &below);
        // A slice comes and goes as it likes.
        if attachment.scope.is_some() { Ok(found.unwrap_or_default()) } else { found }
    };
    attachments.iter().map(ask).collect()
}

fn at(
    site: &Site,
    attachment: &Attachment,
    own: &BTreeSet<u32>,
    below: &[(PathBuf, File)],
) -> io::Result<Vec<Neighbour>> {
    let spec = attachment.spec;
    let cgroup = File::open(&attachment.cgroup)?;
    let relative = attachment.cgroup.strip_prefix(&site.cgroup_root).unwrap_or(Path::new(""));
    let (here, _) = syscall::programs_at(cgroup.as_fd(), spec.attach_type, false)?;
    let (effective, _) = syscall::programs_at(cgroup.as_fd(), spec.attach_type, true)?;
    let first_of_ours = here.iter().position(|id| own.contains(id));
    let mut found = Vec::new();
    for (index, id) in here.iter().enumerate().filter(|(_, id)| !own.contains(id)) {
        let after = first_of_ours.is_some_and(|ours| index > ours);
        let place = if after { Place::After } else { Place::Before };
        found.push(neighbour(*id, spec, place, Some(Path::new("/").join(relative))));
    }
    for id in effective.iter().filter(|id| !here.contains(id) && !own.contains(id)) {
        found.push(neighbour(*id, spec, Place::Above, None));
    }
    for (path, cgroup) in below.iter().filter(|(path, _)| path != relative && path.starts_with(relative)) {
        // A cgroup that is being removed has nothing to say.
        let Ok((ids, _)) = syscall::programs_at(cgroup.as_fd(), spec.attach_type, false) else {
            continue;
        };
        let foreign = ids.iter().filter(|id| !own.contains(id));
        found.extend(foreign.map(|id| neighbour(*id, spec, Place::Below, Some(path.clone()))));
    }
    Ok(found)
}

fn neighbour(program_id: u32, spec: &HookSpec, place: Place, cgroup: Option<PathBuf>) -> Neighbour {
    let info =
        syscall::program_by_id(program_id).and_then(|program| syscall::program_info(program.as_fd())).ok();
    let (name, tag) = info.map(|info| (info.name, info.tag)).unwrap_or_default();
    let runs_later = match place {
        Place::After | Place::Above => true,
        Place::Before | Place::Below => false,
    };
    Neighbour { program_id, name, tag, place, cgroup, may_override: runs_later && spec.takes_return_values() }
}

/// The programs behind every link that is pinned below the site's pins, of whatever schema.
fn own_programs(site: &Site) -> BTreeSet<u32> {
    schema_directories(&site.pins)
        .into_iter()
        .filter_map(|schema| fs::read_dir(schema.join("links")).ok())
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| syscall::open_pin(&entry.path()).ok())
        .filter_map(|link| syscall::link_info(link.as_fd()).ok())
        .map(|info| info.program_id)
        .collect()
}

/// The cgroups between the root and each scope, the scope's own, and those in it.
fn cgroups_below(site: &Site, rules: &Rules) -> Vec<(PathBuf, File)> {
    let mut paths = BTreeSet::new();
    for scope in &rules.scopes {
        for path in scope.cgroup.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            paths.insert(path.to_path_buf());
        }
        descend(&site.cgroup_root, &scope.cgroup, &mut paths);
    }
    paths
        .into_iter()
        .filter_map(|path| File::open(site.cgroup_root.join(&path)).ok().map(|file| (path, file)))
        .collect()
}

fn descend(root: &Path, relative: &Path, paths: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(root.join(relative)) else { return };
    for entry in entries.flatten() {
        if paths.len() >= CGROUPS_LOOKED_AT {
            return;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = relative.join(entry.file_name());
            descend(root, &path, paths);
            paths.insert(path);
        }
    }
}
