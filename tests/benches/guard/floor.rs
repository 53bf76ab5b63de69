//! Programs that do nothing, at the same hooks: what any program there costs, however little it does.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::Measured;

/// `enum bpf_cmd` of linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
/// `enum bpf_prog_type`.
const CGROUP_SKB: u32 = 8;
const CGROUP_SOCK_ADDR: u32 = 18;

/// Attached until it is dropped.
pub(crate) struct Floor {
    _links: Vec<OwnedFd>,
}

impl Floor {
    /// `hooks` are named as in the guard's status; what names a scope is attached at `slice`, the others at `root`.
    pub(crate) fn attach(hooks: &[String], root: &Path, slice: &Path) -> Measured<Self> {
        let (root, slice) = (File::open(root)?, File::open(slice)?);
        let link = |hook: &String| {
            let (name, cgroup) = match hook.split_once(':') {
                Some((name, _)) => (name, &slice),
                None => (hook.as_str(), &root),
            };
            let (kind, attach_type) = kind(name).ok_or_else(|| format!("an unknown hook: {hook}"))?;
            let program = load(kind, attach_type)?;
            let mut attributes = [0_u8; 16];
            put(&mut attributes, 0, &program.as_raw_fd().to_ne_bytes());
            put(&mut attributes, 4, &cgroup.as_raw_fd().to_ne_bytes());
            put(&mut attributes, 8, &attach_type.to_ne_bytes());
            Ok(bpf(LINK_CREATE, &attributes)?)
        };
        Ok(Self { _links: hooks.iter().map(link).collect::<Measured<_>>()? })
    }
}

/// The program's type, and `enum bpf_attach_type` of linux/bpf.h.
fn kind(name: &str) -> Option<(u32, u32)> {
    Some(match name {
        "ingress" => (CGROUP_SKB, 0),
        "egress" => (CGROUP_SKB, 1),
        "bind4" => (CGROUP_SOCK_ADDR, 8),
        "bind6" => (CGROUP_SOCK_ADDR, 9),
        "connect4" => (CGROUP_SOCK_ADDR, 10),
        "connect6" => (CGROUP_SOCK_ADDR, 11),
        "sendmsg4" => (CGROUP_SOCK_ADDR, 14),
        "sendmsg6" => (CGROUP_SOCK_ADDR, 15),
        _ => return None,
    })
}

/// `return 1`: let pass.
fn load(kind: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let code: [u64; 2] = [1 << 32 | 0xb7, 0x95];
    let mut attributes = [0_u8; 72];
    put(&mut attributes, 0, &kind.to_ne_bytes());
    put(&mut attributes, 4, &2_u32.to_ne_bytes());
    put(&mut attributes, 8, &(code.as_ptr() as u64).to_ne_bytes());
    put(&mut attributes, 16, &(c"GPL".as_ptr() as u64).to_ne_bytes());
    put(&mut attributes, 68, &attach_type.to_ne_bytes());
    bpf(PROG_LOAD, &attributes)
}

fn put(attributes: &mut [u8], at: usize, bytes: &[u8]) {
    attributes[at..at + bytes.len()].copy_from_slice(bytes);
}

fn bpf(command: libc::c_long, attributes: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the attributes, and what they point to, outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(io::Error::other)?) })
}
