//! # The testbed: everything around the real agent
//!
//! Bailiwick's tests and its demo need a model host, a network, a model server, an issuer, callers and hosts abroad, on
//! this machine's own kernel, and nothing of it may remain.
//!
//! ```text
//!   story ── tells, tries, expects ──▶ narrator
//!     ├── system_box      a real systemd as PID 1, with journald, in namespaces of its own
//!     ├── lab_network     hosts behind a router, with documentation addresses and no way out
//!     ├── model_host      box, lab, issuer and the agent's files in their places, for the tests of a living agent
//!     ├── model_server    OpenAI's shapes; shows what it saw; its own process can be told to connect somewhere
//!     ├── issuer          OIDC discovery, keys, tokens of every kind
//!     ├── caller          an HTTP client that shows every frame and when it came
//!     ├── authority       certificates for issuer and proxy
//!     └── reaper          kills and removes all of it when its owner ends, however it ends
//! ```
//!
//! What runs inside boxes and namespaces is the program `bailiwick-testbed`, a subcommand a part; the library starts it and
//! is therefore told where it is.
//!
//! Invariants:
//! - What the machine lacks is an error with its cure ([`preconditions`]); nothing is skipped.
//! - Everything is held by processes in one cgroup and by file descriptors: no names in `/run/netns`, no mounts in
//!   the machine's own namespace, no files but one temporary directory.
//! - Nothing here is sent beyond loopback and the lab's own namespaces.
//!
//! What it does not do: it knows nothing of the agent's code. It sees the agent as its users do: files, units, commands,
//! HTTPS, the journal.

pub mod authority;
pub mod binary;
pub mod caller;
mod cgroup;
pub mod issuer;
pub mod lab_network;
pub mod model_host;
pub mod model_server;
pub mod narrator;
pub mod net_namespace;
pub mod preconditions;
pub mod probe;
pub mod real;
pub mod reaper;
pub mod story;
pub mod system_box;
