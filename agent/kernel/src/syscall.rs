//! The few bpf(2) calls that aya does not offer for cgroup links: update in place, and what the kernel knows of
//! links, programs and maps. Layouts follow `union bpf_attr` and the info structures of linux/bpf.h; the kernel
//! accepts shorter ones and fills as much of an info as it knows.

use std::{
    ffi::CString,
    io,
    mem::size_of,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// `BPF_LINK_TYPE_CGROUP`
const CGROUP_LINK: u32 = 3;
/// More than any program of ours has.
const MAP_ROOM: u32 = 32;
/// The kernel allows 64 programs of one hook at one cgroup (`BPF_CGROUP_MAX_PROGS`); the path adds to that.
const PROGRAM_ROOM: u32 = 1024;
/// `BPF_F_QUERY_EFFECTIVE`
const QUERY_EFFECTIVE: u32 = 1;

/// What the kernel says of a cgroup link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkInfo {
    pub(crate) id: u32,
    pub(crate) program_id: u32,
    /// 0 when the cgroup is gone: the link is dead.
    pub(crate) cgroup_id: u64,
    pub(crate) attach_type: u32,
}

/// What the kernel says of a program.
#[derive(Clone, Debug)]
pub(crate) struct ProgramInfo {
    pub(crate) id: u32,
    pub(crate) tag: String,
    /// At most 15 bytes of it; empty when it has none.
    pub(crate) name: String,
    pub(crate) map_ids: Vec<u32>,
    /// 0 unless `kernel.bpf_stats_enabled` is on.
    pub(crate) run_time_ns: u64,
    pub(crate) runs: u64,
}

/// What the kernel says of a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapInfo {
    pub(crate) map_type: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}

pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        program: RawFd,
        target: RawFd,
        attach_type: u32,
        flags: u32,
        rest: [u64; 4],
    }
    let attr =
        Attr { program: program.as_raw_fd(), target: cgroup.as_raw_fd(), attach_type, ..Attr::default() };
    // SAFETY: the attribute matches the command, and its descriptors are open.
    unsafe { new_descriptor(LINK_CREATE, &attr) }
}

/// The kernel checks the program's type but not always its attach type: the caller has to.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        link: RawFd,
        program: RawFd,
        flags: u32,
        old_program: RawFd,
    }
    let attr = Attr { link: link.as_raw_fd(), program: program.as_raw_fd(), ..Attr::default() };
    // SAFETY: the attribute matches the command, and its descriptors are open.
    unsafe { bpf(LINK_UPDATE, &attr) }.map(drop)
}

pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link: RawFd,
    }
    // SAFETY: the attribute matches the command, and its descriptor is open.
    unsafe { bpf(LINK_DETACH, &Attr { link: link.as_raw_fd() }) }.map(drop)
}

pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = PathAttr { path: path.as_ptr() as u64, fd: object.as_raw_fd(), flags: 0 };
    // SAFETY: the attribute matches the command; the path outlives the call.
    unsafe { bpf(OBJ_PIN, &attr) }.map(drop)
}

pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = PathAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the attribute matches the command; the path outlives the call.
    unsafe { new_descriptor(OBJ_GET, &attr) }
}

pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: the attribute matches the command.
    unsafe { new_descriptor(PROG_GET_FD_BY_ID, &IdAttr { id, next_id: 0, flags: 0 }) }
}

/// The ids of the programs at a hook, in the order in which the kernel runs them, and the flags of the hook:
/// those attached at this very cgroup, or with `effective` all that run for its sockets, those of the cgroups
/// above it (which run last) included.
pub(crate) fn programs_at(
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
    effective: bool,
) -> io::Result<(Vec<u32>, u32)> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        target: RawFd,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    let mut ids = vec![0_u32; PROGRAM_ROOM as usize];
    let mut attr = Attr {
        target: cgroup.as_raw_fd(),
        attach_type,
        query_flags: if effective { QUERY_EFFECTIVE } else { 0 },
        ids: ids.as_mut_ptr() as u64,
        count: PROGRAM_ROOM,
        ..Attr::default()
    };
    // SAFETY: the attribute matches the command; `ids` has room for `count` and outlives the call; the kernel
    // writes flags and count back into the attribute, which is borrowed mutably for that.
    unsafe { bpf_mut(PROG_QUERY, &mut attr) }?;
    ids.truncate(usize::try_from(attr.count).unwrap_or(0));
    Ok((ids, attr.attach_flags))
}

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// # Errors
/// Also when `link` is not a cgroup link.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        link_type: u32,
        id: u32,
        program_id: u32,
        padding: u32,
        cgroup_id: u64,
        attach_type: u32,
        rest: [u32; 11],
    }
    let mut info = Info::default();
    // SAFETY: plain integers; any bytes are valid.
    unsafe { object_info(link, &mut info)? };
    if info.link_type != CGROUP_LINK {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a cgroup link"));
    }
    let Info { id, program_id, cgroup_id, attach_type, .. } = info;
    Ok(LinkInfo { id, program_id, cgroup_id, attach_type })
}

pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        program_type: u32,
        id: u32,
        tag: [u8; 8],
        jited_length: u32,
        translated_length: u32,
        jited: u64,
        translated: u64,
        load_time: u64,
        uid: u32,
        map_count: u32,
        map_ids: u64,
        name: [u8; 16],
        ifindex: u32,
        gpl_compatible: u32,
        netns_dev: u64,
        netns_ino: u64,
        symbols: [u32; 2],
        symbols_and_lengths: [u64; 2],
        btf: [u32; 2],
        func_info: u64,
        line_counts: [u32; 2],
        line_info: [u64; 2],
        line_info_counts: [u32; 2],
        line_info_size_and_tags: [u32; 2],
        tags: u64,
        run_time_ns: u64,
        runs: u64,
    }
    const _: () = assert!(size_of::<Info>() == 208);
    let mut ids = [0_u32; MAP_ROOM as usize];
    let mut info = Info { map_count: MAP_ROOM, map_ids: ids.as_mut_ptr() as u64, ..Info::default() };
    // SAFETY: plain integers; the only pointer in it is to `ids`, whose length is given and which outlives the
    // call; all other counts are 0.
    unsafe { object_info(program, &mut info)? };
    let count = usize::try_from(info.map_count).unwrap_or(0).min(ids.len());
    Ok(ProgramInfo {
        id: info.id,
        tag: info.tag.iter().map(|byte| format!("{byte:02x}")).collect(),
        name: text(&info.name),
        map_ids: ids[..count].to_vec(),
        run_time_ns: info.run_time_ns,
        runs: info.runs,
    })
}

pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        map_type: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
    }
    let mut info = Info::default();
    // SAFETY: plain integers; any bytes are valid.
    unsafe { object_info(map, &mut info)? };
    let Info { map_type, id, key_size, value_size, max_entries, .. } = info;
    Ok(MapInfo { map_type, id, key_size, value_size, max_entries })
}

#[repr(C)]
struct PathAttr {
    path: u64,
    fd: RawFd,
    flags: u32,
}

/// # Safety
/// `T` must be valid for any bytes, and every pointer and count in it must describe memory that may be written.
unsafe fn object_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        fd: RawFd,
        length: u32,
        info: u64,
    }
    let length = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let attr = Attr { fd: object.as_raw_fd(), length, info: std::ptr::from_mut(info) as u64 };
    // SAFETY: the attribute matches the command; the rest is the caller's promise.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &attr) }.map(drop)
}

/// # Safety
/// As [`bpf`], and the command must return a new descriptor.
unsafe fn new_descriptor<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the kernel has just made it for us; bpf(2) descriptors are close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// # Safety
/// `attr` must have the layout of the command's part of `union bpf_attr`, with every pointer in it valid.
unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes at `attr`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    answer(result)
}

/// For commands that write into their attribute.
///
/// # Safety
/// As [`bpf`], and `T` must be valid for any bytes.
unsafe fn bpf_mut<T>(command: libc::c_long, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes at `attr`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    answer(result)
}

fn answer(result: libc::c_long) -> io::Result<RawFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}
