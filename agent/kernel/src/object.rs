//! The compiled programs, and how they get into the kernel.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    thread,
};

use aya::{Ebpf, EbpfLoader, programs::Program};
use bailiwick_abi::{MAPS, MapShape};

use crate::{
    KernelError, Site,
    links::{self, HOOKS, HookSpec},
    syscall,
};

pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("BAILIWICK_EBPF_OBJECT"));

/// One program in the kernel, not yet attached by us.
pub(crate) struct Loaded {
    pub(crate) spec: &'static HookSpec,
    pub(crate) program: OwnedFd,
}

/// Program → tag.
pub(crate) type Tags = BTreeMap<&'static str, String>;

/// Loads every program over the pinned maps; makes and pins the maps that are not there yet, and takes those pins
/// away again on a failure.
pub(crate) fn load(site: &Site) -> Result<Vec<Loaded>, KernelError> {
    raise_memlock_limit();
    for directory in ["maps", "links"] {
        let path = site.schema_directory().join(directory);
        fs::create_dir_all(&path).map_err(|source| KernelError::file("create", path, source))?;
    }
    for shape in MAPS {
        check_pin(site, shape)?;
    }
    let missing = |shape: &&MapShape| !site.map_pin(shape.name).exists();
    if MAPS.iter().any(|shape| missing(&shape)) && links::any_pinned(site) {
        // Somebody removed a map's pin. Programs over an empty map beside full ones would be a policy with a hole
        // in it: begin with a whole new set, and let the standing programs keep theirs until that holds a policy.
        for shape in MAPS.iter().filter(|shape| !missing(shape)) {
            let path = site.map_pin(shape.name);
            fs::remove_file(&path).map_err(|source| KernelError::file("remove", path, source))?;
        }
    }
    let fresh: Vec<&MapShape> = MAPS.iter().filter(missing).collect();
    let loaded = load_over_pins(site).and_then(|loaded| {
        // Also those just made: what the object declares is what the table says.
        MAPS.iter().try_for_each(|shape| check_pin(site, shape)).map(|()| loaded)
    });
    if loaded.is_err() {
        for shape in fresh {
            // What was just made holds nothing yet; a pin that never came to be is no loss.
            let _ = fs::remove_file(site.map_pin(shape.name));
        }
    }
    loaded
}

fn load_over_pins(site: &Site) -> Result<Vec<Loaded>, KernelError> {
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    for shape in MAPS {
        loader.map_pin_path(shape.name, site.map_pin(shape.name));
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| KernelError::Load { message: chain(&error) })?;
    load_programs(&mut ebpf)
}

/// The tag of each program as this kernel computes it for what was built in: loads them once more, attaches nothing,
/// pins nothing. (A tag covers the instructions without the maps' descriptors; how it is computed is the kernel's own.)
pub(crate) fn built_in_tags(site: &Site) -> Result<Tags, KernelError> {
    raise_memlock_limit();
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    for shape in MAPS {
        // Only what is there: a map that is not pinned is made for this load and goes with it.
        if site.map_pin(shape.name).exists() {
            loader.map_pin_path(shape.name, site.map_pin(shape.name));
        }
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| KernelError::Load { message: chain(&error) })?;
    tags_of(&load_programs(&mut ebpf)?)
}

/// The tags of loaded programs, by name.
pub(crate) fn tags_of(programs: &[Loaded]) -> Result<Tags, KernelError> {
    let tag = |loaded: &Loaded| match syscall::program_info(loaded.program.as_fd()) {
        Ok(info) => Ok((loaded.spec.name, info.tag)),
        Err(error) => Err(KernelError::Program { program: loaded.spec.name, message: error.to_string() }),
    };
    programs.iter().map(tag).collect()
}

/// Every pinned map.
pub(crate) fn open_maps(site: &Site) -> Result<Vec<(&'static str, OwnedFd)>, KernelError> {
    let open = |shape: &MapShape| {
        let path = site.map_pin(shape.name);
        let map = syscall::open_pin(&path).map_err(|source| KernelError::file("open", path, source))?;
        Ok((shape.name, map))
    };
    MAPS.iter().map(open).collect()
}

/// Pins again every map whose pin is gone, or is another map's.
pub(crate) fn put_back_maps(site: &Site, maps: &[(&'static str, OwnedFd)]) -> Result<(), KernelError> {
    let directory = site.schema_directory().join("maps");
    fs::create_dir_all(&directory).map_err(|source| KernelError::file("create", directory, source))?;
    for (name, map) in maps {
        let pin = site.map_pin(name);
        let id = |map: &OwnedFd| syscall::map_info(map.as_fd()).map(|info| info.id);
        let own = id(map).map_err(|source| KernelError::file("look at the map of", &pin, source))?;
        if syscall::open_pin(&pin).and_then(|found| id(&found)).is_ok_and(|found| found == own) {
            continue;
        }
        // Made aside and moved into place: there is never no pin. (bpffs takes no dots in names.)
        let aside = site.map_pin(&format!("{name}_next"));
        let _ = fs::remove_file(&aside);
        syscall::pin(map.as_fd(), &aside).map_err(|source| KernelError::file("pin", &aside, source))?;
        fs::rename(&aside, &pin).map_err(|source| KernelError::file("pin", &pin, source))?;
    }
    Ok(())
}

/// Every program at once: the kernel takes half a second to verify the longest, and an agent that starts again carries no
/// request until the last one is in.
fn load_programs(ebpf: &mut Ebpf) -> Result<Vec<Loaded>, KernelError> {
    let mut programs: BTreeMap<&str, &mut Program> = ebpf.programs_mut().collect();
    thread::scope(|scope| {
        let start = |spec: &'static HookSpec| {
            let program = programs.remove(spec.name).ok_or_else(|| refused(spec, "not in the object"))?;
            thread::Builder::new()
                .spawn_scoped(scope, move || load_program(program, spec))
                .map_err(|error| refused(spec, error))
        };
        let started: Vec<_> = HOOKS.iter().map(start).collect();
        let end = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        started.into_iter().map(|started| started.and_then(end)).collect()
    })
}

fn load_program(program: &mut Program, spec: &'static HookSpec) -> Result<Loaded, KernelError> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "aya's enum of every program type there is")]
    let outcome = match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        _ => return Err(refused(spec, "of an unexpected type")),
    };
    outcome.map_err(|error| refused(spec, chain(&error)))?;
    let fd = program.fd().map_err(|error| refused(spec, chain(&error)))?;
    let program = fd.as_fd().try_clone_to_owned().map_err(|error| refused(spec, error))?;
    Ok(Loaded { spec, program })
}

fn refused(spec: &HookSpec, why: impl ToString) -> KernelError {
    KernelError::Program { program: spec.name, message: why.to_string() }
}

fn check_pin(site: &Site, shape: &MapShape) -> Result<(), KernelError> {
    let path = site.map_pin(shape.name);
    let map = match syscall::open_pin(&path) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(KernelError::file("open", path, source)),
    };
    let info =
        syscall::map_info(map.as_fd()).map_err(|source| KernelError::file("look at", &path, source))?;
    let found = MapShape {
        name: shape.name,
        map_type: info.map_type,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
    };
    if found == *shape {
        return Ok(());
    }
    Err(KernelError::IncompatibleMap { path, found: describe(&found), expected: describe(shape) })
}

fn describe(shape: &MapShape) -> String {
    let MapShape { name: _, map_type, key_size, value_size, max_entries } = shape;
    format!("type {map_type}, keys of {key_size}, values of {value_size}, {max_entries} entries")
}

/// Linux 5.10 charges maps to the locked-memory limit. Without the privilege the load itself will say so.
fn raise_memlock_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(errno) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!(%errno, "the locked-memory limit stays as it is");
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verifier refuses a program at a million instructions (`BPF_COMPLEXITY_LIMIT_INSNS`, Linux 5.2), and each kernel and
    /// compiler counts a little differently. An agent that starts again waits for it, too: half a second for so many.
    const MOST: u32 = 300_000;

    #[test]
    fn every_program_is_verified_long_before_the_verifier_gives_up() {
        raise_memlock_limit();
        let mut ebpf = EbpfLoader::new().btf(None).load(OBJECT).expect("this takes root");
        let loaded = load_programs(&mut ebpf).expect("this takes root");
        assert_eq!(loaded.len(), HOOKS.len());
        for (name, program) in ebpf.programs_mut() {
            let info = program.info().expect("what was loaded");
            let count = info.verified_instruction_count().expect("this takes Linux 5.16");
            assert!(count > 0 && count <= MOST, "{name}: {count} instructions");
        }
    }
}
