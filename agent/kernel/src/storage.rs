//! The map that keeps a word in each socket. The kernel makes it only with a description of its types (BTF), which the
//! object does without, so that it loads anywhere: here the two types are written out.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use bailiwick_abi::SOCKETS;

use crate::syscall;

/// `BPF_F_NO_PREALLOC`, which the kernel demands, and `BPF_F_CLONE`: a listener's entry passes on to what it accepts.
const FLAGS: u32 = 1 | 1 << 9;

/// Makes `SOCKETS`, not yet pinned.
pub(crate) fn create() -> io::Result<OwnedFd> {
    let btf = syscall::btf_load(&types())?;
    syscall::map_create(&SOCKETS, FLAGS, btf.as_fd())
}

/// The key, a descriptor, as type 1 and the value as type 2: integers both (Documentation/bpf/btf.rst of Linux).
fn types() -> Vec<u8> {
    const HEADER: u32 = 24;
    const KIND_INT: u32 = 1 << 24;
    const SIGNED: u32 = 1 << 24;
    const NAMES: &[u8] = b"\0descriptor\0connection\0";
    const VALUE_BITS: u32 = SOCKETS.value_size * 8;
    let types: [[u32; 4]; 2] =
        [[1, KIND_INT, SOCKETS.key_size, SIGNED | 32], [12, KIND_INT, SOCKETS.value_size, VALUE_BITS]];
    let length = 32_u32;
    let mut bytes = Vec::new();
    bytes.extend(0xeb9f_u16.to_ne_bytes());
    bytes.extend([1, 0]);
    for word in [HEADER, 0, length, length, u32::try_from(NAMES.len()).unwrap_or(0)] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(types.iter().flatten().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(NAMES);
    bytes
}
