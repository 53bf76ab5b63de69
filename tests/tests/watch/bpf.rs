//! What somebody with root might do to the guard through bpf(2): detach a link, attach a program of his own.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const PROG_LOAD: libc::c_long = 5;
const OBJ_GET: libc::c_long = 7;
const LINK_CREATE: libc::c_long = 28;
const LINK_DETACH: libc::c_long = 34;

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`, `BPF_CGROUP_INET4_CONNECT`
const SOCK_ADDR: u32 = 18;
pub(crate) const CONNECT4: u32 = 10;

/// Detaches the pinned link; its pin stays.
pub(crate) fn detach(pin: &Path) {
    let path = CString::new(pin.as_os_str().as_bytes()).unwrap();
    let link = bpf(OBJ_GET, &[path.as_ptr() as u64, 0]);
    let detached = bpf_raw(LINK_DETACH, &[u64::try_from(link.as_raw_fd()).unwrap()]);
    assert!(detached >= 0, "cannot detach {}: {}", pin.display(), io::Error::last_os_error());
}

/// Attaches a program that allows everything; it goes when the descriptor is dropped.
pub(crate) fn attach_stranger(cgroup: &Path, attach_type: u32) -> OwnedFd {
    // r0 = 1; exit
    let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let licence = CString::new("GPL").unwrap();
    // union bpf_attr of BPF_PROG_LOAD: type, count, instructions, licence, log level, size and buffer, version, flags,
    // name (16 bytes), ifindex, expected attach type.
    let name = u64::from_le_bytes(*b"stranger");
    let attributes = [
        u64::from(SOCK_ADDR) | (2 << 32),
        instructions.as_ptr() as u64,
        licence.as_ptr() as u64,
        0,
        0,
        0,
        name,
        0,
        u64::from(attach_type) << 32,
    ];
    let program = bpf(PROG_LOAD, &attributes);
    let directory = File::open(cgroup).unwrap();
    let pair = |low: RawFd, high: RawFd| u64::try_from(low).unwrap() | (u64::try_from(high).unwrap() << 32);
    bpf(LINK_CREATE, &[pair(program.as_raw_fd(), directory.as_raw_fd()), u64::from(attach_type), 0, 0])
}

fn bpf(command: libc::c_long, attributes: &[u64]) -> OwnedFd {
    let made = bpf_raw(command, attributes);
    assert!(made >= 0, "bpf({command}): {}; this test needs root", io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(made).unwrap()) }
}

fn bpf_raw(command: libc::c_long, attributes: &[u64]) -> libc::c_long {
    // SAFETY: the kernel reads the attributes' bytes, and pointers in them are to values that outlive the call.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) }
}
