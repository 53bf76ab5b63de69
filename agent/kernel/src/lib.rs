//! # Kernel: load, attach, pin, fill, read, tell the truth
//!
//! The only crate that speaks to the kernel's BPF. It turns [`Rules`] (which cgroups, which ports, which networks) into map
//! entries, keeps what decides about sockets attached at the cgroup root and what decides about packets at each held slice,
//! hands on what they report, and says what is really in force. It also asks the kernel's socket tables (sock_diag(7))
//! whose socket is on a model's port, and ends those that are not the model's.
//!
//! ```text
//!   Site::find ─▶ Guard::attach ─▶ Guard::apply(Rules) ─▶ Guard::refresh …      the agent's side
//!                      │                 │                      │
//!        bpffs   <pins>/v<schema>/links  └── <pins>/v<schema>/maps
//!                      │                 │                      │
//!   kernel       6 programs at the cgroup root, 2 at each slice ◀── one generation ──▶ ring buffers ─▶ Events::next, Flows::next
//!                      │
//!                  status (anyone, agent or no agent)      release (the explicit way out)
//! ```
//!
//! Invariants:
//! - What is pinned outlives the agent. Dropping a [`Guard`], killing the agent or upgrading it opens nothing.
//! - A policy is one generation: it is written whole beside the one in force, switched to by one write, and
//!   the old one is deleted afterwards. A failure before the switch changes nothing; a crash leaves entries
//!   that no program reads, and the next [`Guard::apply`] sweeps them up.
//! - Links are updated in place, so traffic never meets a moment without a program. When the pinned maps hold
//!   no policy but pinned links stand (somebody removed a map's pin), the standing programs stay until the new
//!   maps hold a policy.
//! - A pinned map is used again only when its type, key, value and size are what this agent means by them. A
//!   change of meaning is a new schema, with a directory of its own; until the new one has a policy, both are
//!   attached, and a packet must pass both.
//! - [`status`] reads links, programs and maps from the kernel and the cgroup tree, never from memory.
//!
//! What it does not do: it decides no policy and knows no region; it does nothing by itself: [`TreeWatch`] says when to
//! call [`Guard::refresh`], and [`Guard::truth`] when to call [`Guard::repair`]. It cannot stop root from removing
//! links, only say so and put them back.

mod aggregate;
mod attached;
mod destroy;
mod error;
mod events;
mod flows;
#[cfg(test)]
mod frames;
mod guard;
mod links;
mod maps;
mod object;
mod places;
mod preflight;
mod rules;
mod site;
mod sock_diag;
mod sockets;
mod status;
mod syscall;
mod tree;

pub use attached::{Neighbour, Place};
pub use destroy::SocketDestroy;
pub use error::{KernelError, RuleProblem};
pub use events::{Event, Events, Hook, Process, Reason, Verdict};
pub use flows::{Captured, FlowCount, FlowVerdict, Flows, Observation, Opened};
pub use guard::{Guard, release};
pub use preflight::{CgroupLayout, Kernel, OLDEST_KERNEL, kernel};
pub use rules::{Peer, Rules, Scope, ScopeKind};
pub use site::{Site, own_slice, slice_path};
pub use sock_diag::{Protocol, Socket, State, destroy, dump, exact};
pub use sockets::{Slices, foreign, taken_by};
pub use status::{HookStatus, Intruder, Problem, ScopeStatus, Status, standing, status};
pub use tree::TreeWatch;
