//! # The eBPF programs: the guard on the way in, the verdict on the way out
//!
//! Eight programs. What is asked of a process is asked at the cgroup root, of everyone, whichever cgroup, namespace or
//! container it is in; what is none of our business leaves after a look at two array entries. What is asked of a packet is
//! asked at the slices that are held, and nowhere else: nobody else's packets run a program.
//!
//! ```text
//!                    whose process?          known connection?    whose socket?       whose peer?
//!   connect4/6 ────▶ current task's cgroup
//!   sendmsg4/6 ────▶ current task's cgroup
//!   bind4/6 ───────▶ current task's cgroup
//!   egress  ───────────────────────────────▶ socket's cookie ───▶ socket's cgroup ──▶ loopback only: socket lookup
//!   ingress ───────────────────────────────▶ socket's cookie ───▶ socket's cgroup ──▶ reverse socket lookup
//! ```
//!
//! What passes is counted where it passes (`flow.rs`), for each socket and on each CPU.
//!
//! Two independent lines stand behind each law. At the system call a process is refused at once, by name; at
//! the packet the kernel refuses whatever came around the system call: a raw socket, a forged header, a socket
//! opened before the guard stood, a descriptor passed from elsewhere, a remote host.
//!
//! Invariants:
//! - Every path that is not explicitly allowed for a scope is denied, with a [`Reason`](bailiwick_abi::Reason).
//! - A guarded port needs no entry to stay shut: the model's own scope carries its port, and what is not
//!   provably the proxy's is not the proxy's.
//! - A named peer is an entry of the same trie: (its network, a port) opens that port of the slice to it and that
//!   port of its own to the slice, and what answers on such a flow; never the guarded port, never loopback.
//! - IPv4 and IPv6 share one verdict (`verdict.rs`) over one address type.
//! - Caches hold only what was found under the epoch in force, each finding in one word. A connection is remembered by its
//!   socket's cookie, from its first packet on; what a listener accepts knows nothing yet.
//! - Generation 0 means that no policy was ever applied: nothing is decided then, and the agent does not call
//!   that guarded.
//!
//! What it does not do: it does not see the packets of sockets outside the held slices, so that a process that may forge
//! packets (CAP_NET_RAW in the host's network) can forge the proxy's as well; it sees no AF_PACKET, AF_VSOCK or AF_UNIX
//! traffic, and keeps no connection state beyond caches. Of payloads it reads what names a destination (`head.rs`), and
//! hands it to the agent; what is decided never depends on it.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod bind;
mod cache;
mod connect;
mod connection;
mod egress;
mod flow;
mod head;
mod ingress;
mod maps;
mod observed;
mod packet;
mod peer;
mod report;
mod scope;
mod sendmsg;
mod sock_addr;
mod verdict;

/// The helpers used here are open to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
