//! The testbed: everything that Bailiwick's tests and its demo need around the real agent.

pub mod authority;
pub mod binary;
pub mod caller;
mod cgroup;
pub mod issuer;
pub mod lab_network;
pub mod model_server;
pub mod narrator;
pub mod net_namespace;
pub mod preconditions;
pub mod probe;
pub mod real;
pub mod reaper;
pub mod story;
pub mod system_box;
