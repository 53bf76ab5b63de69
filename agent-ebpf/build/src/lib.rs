//! Finds an eBPF toolchain and compiles agent-ebpf with it.
