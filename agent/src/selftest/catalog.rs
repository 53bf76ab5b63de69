//! Every attack of the suite by name: what it is about, what closes it, and whether it can be closed at all.

use serde::Serialize;

use Closes::{
    Bind, Call, CgroupPermissions, DropIn, Ended, NotDumpable, PacketIn, PacketOut, Pins, ProxySide,
};
use Direction::{In, Out};
use Runs::{Live, Suite};

/// One attack.
#[derive(Clone, Debug, Serialize)]
pub struct Attack {
    /// Kebab-case; the test of the suite has the same name with underscores.
    pub name: &'static str,
    /// To the model, or out of its slice.
    pub direction: Direction,
    /// What closes it; `None` when nothing does.
    pub closes: Option<Closes>,
    /// Where it runs.
    pub runs: Runs,
    /// How it ends.
    pub outcome: Outcome,
}

/// To the model, or out of its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Law 1: to the model.
    In,
    /// From the model's slice to somewhere that its policy does not allow.
    Out,
}

/// What closes an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closes {
    /// connect(2) and sendmsg(2), at the call.
    Call,
    /// bind(2): the port is reserved.
    Bind,
    /// The packet, where it arrives at the slice.
    PacketIn,
    /// The packet, where it leaves the slice.
    PacketOut,
    /// The proxy's own packets: to a guarded port they go to the model's slice or nowhere.
    ProxySide,
    /// A listener on a guarded port that is not the model's, and what it accepted, are ended (sock_diag(7)).
    Ended,
    /// Links and maps that outlive the agent.
    Pins,
    /// The drop-in of the model's unit.
    DropIn,
    /// Who may write to the cgroup tree.
    CgroupPermissions,
    /// The agent cannot be taken apart by other users (prctl(2), PR_SET_DUMPABLE).
    NotDumpable,
}

impl Closes {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Call => "connect(2) and sendmsg(2) are refused",
            Self::Bind => "bind(2) is refused: the port is reserved",
            Self::PacketIn => "the packet is dropped where it arrives",
            Self::PacketOut => "the packet is refused where it leaves",
            Self::ProxySide => "the proxy sends to the model's slice or not at all",
            Self::Ended => "listeners on the port that are not the model's are ended",
            Self::Pins => "links and maps outlive the agent",
            Self::DropIn => "the drop-in of the model's unit",
            Self::CgroupPermissions => "only root writes to the cgroup tree",
            Self::NotDumpable => "the agent is not dumpable",
        }
    }
}

/// Where an attack runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runs {
    /// In the suite only.
    Suite,
    /// In the suite, and in `bailiwick selftest` on a live host.
    Live,
}

/// How an attack ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It gets nothing through.
    Held,
    /// It gets through; the suite proves that, too.
    Open {
        /// Why nothing stops it.
        reason: &'static str,
        /// What shows it.
        detected_by: &'static str,
        /// Whether `bailiwick status` shows it.
        seen_by_status: bool,
    },
}

/// The attack of that name, in kebab-case or with underscores.
#[must_use]
pub fn find(name: &str) -> Option<&'static Attack> {
    let name = name.replace('_', "-");
    ATTACKS.iter().find(|attack| attack.name == name)
}

const fn held(name: &'static str, direction: Direction, closes: Closes, runs: Runs) -> Attack {
    Attack { name, direction, closes: Some(closes), runs, outcome: Outcome::Held }
}

const fn open(
    name: &'static str,
    direction: Direction,
    seen_by_status: bool,
    reason: &'static str,
    detected_by: &'static str,
) -> Attack {
    let outcome = Outcome::Open { reason, detected_by, seen_by_status };
    Attack { name, direction, closes: None, runs: Suite, outcome }
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    // Bytes to the model that did not come from the proxy.
    held("tcp-loopback-v4", In, Call, Live),
    held("tcp-loopback-v6", In, Call, Live),
    held("tcp-v4-mapped", In, Call, Live),
    held("tcp-unspecified-v4", In, Call, Live),
    held("tcp-unspecified-v6", In, Call, Live),
    held("tcp-mapped-unspecified", In, Call, Suite),
    held("tcp-other-loopback-address", In, Call, Live),
    held("tcp-own-address-v4", In, Call, Live),
    held("tcp-own-address-v6", In, Call, Live),
    held("tcp-own-address-mapped", In, Call, Suite),
    held("tcp-link-local-v6", In, Call, Suite),
    held("tcp-from-an-own-address", In, Call, Suite),
    held("tcp-side-port-v4", In, PacketIn, Suite),
    held("tcp-side-port-v6", In, PacketIn, Suite),
    held("tcp-side-port-from-the-proxy", In, PacketIn, Suite),
    held("tcp-side-port-from-a-remote-host", In, PacketIn, Suite),
    held("tcp-fast-open-sendto", In, Call, Suite),
    held("tcp-fast-open-connect", In, Call, Suite),
    held("tcp-urgent", In, Call, Suite),
    held("mptcp", In, Call, Suite),
    held("io-uring-connect", In, Call, Suite),
    held("tcp-reconnect-after-unspec", In, Call, Suite),
    held("tcp-simultaneous-open", In, PacketIn, Suite),
    held("tcp-source-port-of-the-model", In, Call, Suite),
    held("tcp-source-port-of-the-proxy", In, Call, Suite),
    held("remote-source-port-of-the-proxy", In, PacketIn, Suite),
    held("mark", In, Call, Suite),
    held("bind-to-device", In, Bind, Suite),
    held("priority-and-tos", In, Call, Suite),
    held("ip-freebind", In, Call, Suite),
    held("ip-transparent", In, Call, Suite),
    held("remote-v4", In, PacketIn, Suite),
    held("remote-v6", In, PacketIn, Suite),
    held("remote-link-local", In, PacketIn, Suite),
    held("remote-to-loopback-by-route", In, PacketIn, Suite),
    held("proxys-slice-in-another-network", In, PacketIn, Suite),
    held("container", In, PacketIn, Suite),
    held("container-with-the-hosts-network", In, Call, Suite),
    held("new-cgroup-namespace", In, Call, Live),
    held("new-user-namespace", In, Call, Suite),
    held("back-into-the-hosts-network", In, Call, Suite),
    held("socket-of-the-hosts-network-used-in-another", In, PacketIn, Suite),
    held("deeply-nested-cgroup", In, Call, Suite),
    held("unprivileged", In, Call, Suite),
    held("connection-from-before", In, PacketIn, Suite),
    held("connection-from-before-to-the-side-port", In, PacketIn, Suite),
    held("remote-connection-from-before", In, PacketIn, Suite),
    held("udp-connected-before", In, PacketIn, Suite),
    held("connection-from-before-to-a-given-listener", In, Ended, Suite),
    held("given-listener-local", In, Call, Suite),
    held("given-listener-remote", In, Ended, Suite),
    held("socket-made-inside-connected-outside", In, PacketIn, Suite),
    held("socket-made-by-the-proxy-connected-outside", In, PacketIn, Suite),
    held("udp-socket-made-inside-used-outside", In, PacketIn, Suite),
    open(
        "connection-made-inside-used-outside",
        In,
        false,
        "a process of the slice may hand on what it has, as it could relay it",
        "nothing of the guard: what runs in the slice is trusted with the model's port",
    ),
    held("pidfd-getfd-unprivileged", In, NotDumpable, Suite),
    open(
        "pidfd-getfd-root",
        In,
        false,
        "root may take any process apart",
        "nothing of the guard: audit pidfd_getfd(2) and ptrace(2) with auditd",
    ),
    open(
        "cgroup-move-into-the-proxys-slice",
        In,
        false,
        "root may put any process into any cgroup",
        "a process in the agent's slice that is not the agent's: compare its cgroup.procs with the unit",
    ),
    open(
        "cgroup-move-into-the-models-slice",
        In,
        false,
        "root may put any process into any cgroup; inside the slice the port is open to it",
        "a process in the slice that its unit did not start",
    ),
    held("cgroup-move-unprivileged", In, CgroupPermissions, Suite),
    held("old-socket-after-a-move-into-the-proxys-slice", In, Call, Suite),
    held("udp-guarded-port", In, Call, Live),
    held("udp-guarded-port-v6", In, Call, Live),
    held("udp-side-port", In, PacketIn, Suite),
    held("udp-side-port-v4-mapped", In, PacketIn, Suite),
    held("udp-connected", In, Call, Live),
    held("udp-reconnected", In, Call, Suite),
    held("udp-sendmmsg", In, Call, Suite),
    held("udp-family-unspecified", In, Call, Suite),
    held("udp-remote", In, PacketIn, Suite),
    held("udp-remote-side-port", In, PacketIn, Suite),
    held("udp-multicast-v4", In, PacketIn, Suite),
    held("udp-multicast-v6", In, PacketIn, Suite),
    held("udp-multicast-remote", In, PacketIn, Suite),
    held("udp-broadcast", In, PacketIn, Suite),
    held("udp-broadcast-remote", In, PacketIn, Suite),
    held("udp-fragments", In, PacketIn, Suite),
    held("udp-fragments-v6", In, PacketIn, Suite),
    held("udp-lite", In, PacketIn, Suite),
    held("udp-lite-connected-v6", In, PacketIn, Suite),
    // Somebody else in the model's place.
    held("bind-reuse-port", In, Bind, Live),
    held("bind-reuse-port-v6", In, Bind, Suite),
    held("bind-loopback-v4", In, Bind, Live),
    held("bind-loopback-v6", In, Bind, Live),
    held("bind-v4-mapped", In, Bind, Live),
    held("bind-wildcard-v4", In, Bind, Live),
    held("bind-wildcard-v6", In, Bind, Live),
    held("bind-own-address", In, Bind, Suite),
    held("bind-udp-v4", In, Bind, Live),
    held("bind-udp-v6", In, Bind, Live),
    held("bind-mptcp", In, Bind, Suite),
    held("bind-from-the-proxys-slice", In, Bind, Suite),
    held("bind-from-a-container", In, Bind, Suite),
    held("bind-after-close", In, Bind, Suite),
    held("socket-made-inside-bound-outside", In, Bind, Suite),
    held("autobind-by-port-range", In, ProxySide, Suite),
    held("tproxy-listener", In, ProxySide, Suite),
    held("given-listener-in-foreign-hands", In, Ended, Suite),
    // Bytes from the slice to where its policy does not allow.
    held("out-tcp-v4", Out, Call, Live),
    held("out-tcp-v6", Out, Call, Live),
    held("out-tcp-v4-mapped", Out, Call, Live),
    held("out-udp-v4", Out, Call, Live),
    held("out-udp-v6", Out, Call, Live),
    held("out-udp-v4-mapped", Out, Call, Live),
    held("out-udp-connected", Out, Call, Live),
    held("out-udp-reconnected", Out, Call, Suite),
    held("out-udp-sendmmsg", Out, Call, Suite),
    held("out-udp-connected-to-an-allowed-host-sent-elsewhere", Out, Call, Suite),
    held("out-udp-family-unspecified", Out, Call, Suite),
    held("out-udp-fragments", Out, Call, Suite),
    held("out-udp-corked", Out, Call, Suite),
    held("out-udp-segmented", Out, Call, Suite),
    held("out-tcp-fast-open", Out, Call, Suite),
    held("out-mptcp", Out, Call, Suite),
    held("out-io-uring", Out, Call, Suite),
    held("out-io-uring-udp", Out, Call, Suite),
    held("out-tcp-urgent", Out, Call, Suite),
    held("out-tcp-reconnect-after-unspec", Out, Call, Suite),
    held("out-udp-lite", Out, PacketOut, Suite),
    held("out-udp-lite-to-an-allowed-host", Out, PacketOut, Suite),
    held("out-raw-experiment", Out, PacketOut, Suite),
    held("out-raw-experiment-v6", Out, PacketOut, Suite),
    held("out-raw-connected", Out, PacketOut, Suite),
    held("out-sctp", Out, PacketOut, Live),
    held("out-gre", Out, PacketOut, Suite),
    held("out-ip-in-ip", Out, PacketOut, Suite),
    held("out-icmp-echo", Out, PacketOut, Suite),
    held("out-icmp-raw", Out, PacketOut, Live),
    held("out-icmp-v6", Out, PacketOut, Suite),
    held("out-icmp-connected", Out, PacketOut, Suite),
    held("out-nat64", Out, Call, Live),
    held("out-nat64-local-use", Out, PacketOut, Suite),
    held("out-6to4", Out, Call, Live),
    held("out-teredo", Out, Call, Suite),
    held("out-isatap", Out, Call, Suite),
    held("out-multicast", Out, Call, Suite),
    held("out-multicast-v6", Out, Call, Suite),
    held("out-link-local-v6", Out, PacketOut, Suite),
    held("out-broadcast", Out, Call, Suite),
    held("out-limited-broadcast", Out, Call, Suite),
    held("out-mark", Out, Call, Suite),
    held("out-mark-in-a-message", Out, Call, Suite),
    held("out-bind-to-device", Out, Call, Suite),
    held("out-ip-transparent", Out, Call, Suite),
    held("out-ip-freebind", Out, Call, Suite),
    held("out-source-in-a-message", Out, Call, Suite),
    held("out-dont-route", Out, Call, Suite),
    held("out-source-port-of-the-model", Out, Call, Suite),
    held("out-connection-from-before", Out, PacketOut, Suite),
    held("out-udp-connected-before", Out, PacketOut, Suite),
    held("out-sendfile-on-a-connection-from-before", Out, PacketOut, Suite),
    held("out-splice-on-a-connection-from-before", Out, PacketOut, Suite),
    held("out-connection-from-before-used-outside", Out, PacketOut, Suite),
    held("out-foreign-socket-connected-inside", Out, Call, Suite),
    held("out-foreign-udp-socket-used-inside", Out, Call, Suite),
    open(
        "out-connection-of-an-accomplice",
        Out,
        false,
        "the socket belongs to somebody outside of the slice, who could relay the bytes as well",
        "the accomplice's own egress, where it is a workload; sockets foreign to the slice in its processes",
    ),
    open(
        "out-raw-socket-of-an-accomplice",
        Out,
        false,
        "the socket belongs to somebody outside of the slice, who could relay the bytes as well",
        "the accomplice's own egress, where it is a workload; sockets foreign to the slice in its processes",
    ),
    held("out-own-socket-after-leaving-the-slice", Out, PacketOut, Suite),
    open(
        "out-cgroup-move-out-of-the-slice",
        Out,
        false,
        "root may put any process into any cgroup; the drop-in takes the means from the model",
        "a process that left its unit's cgroup",
    ),
    held("out-deeply-nested-cgroup", Out, PacketOut, Suite),
    held("out-new-cgroup-namespace", Out, Call, Live),
    held("out-another-network", Out, Call, Suite),
    held("out-new-user-and-network-namespace", Out, Call, Suite),
    held("out-container", Out, Call, Suite),
    held("out-orphan", Out, Call, Suite),
    held("out-unprivileged", Out, Call, Suite),
    held("out-resolver-of-an-allowed-region", Out, Call, Suite),
    held("out-resolver-of-an-allowed-region-tcp", Out, Call, Suite),
    held("out-resolver-of-an-allowed-region-tls", Out, Call, Suite),
    held("out-resolver-of-an-allowed-region-quic", Out, Call, Suite),
    held("out-local-resolver", Out, PacketOut, Suite),
    held("out-local-forwarder-tcp", Out, PacketOut, Suite),
    held("out-local-forwarder-on-an-own-address", Out, PacketOut, Suite),
    held("out-local-forwarder-v6", Out, PacketOut, Suite),
    held("out-local-forwarder-unspecified", Out, PacketOut, Suite),
    held("out-the-twin-as-forwarder", Out, PacketOut, Suite),
    open(
        "out-unix-socket-forwarder",
        Out,
        false,
        "AF_UNIX is not IP: a local daemon that takes the model's words speaks for itself",
        "the daemon's own egress, where it is a workload",
    ),
    held("out-answer-to-a-caller-from-abroad", Out, PacketOut, Suite),
    open(
        "out-af-packet",
        Out,
        false,
        "no cgroup hook sees AF_PACKET",
        "the drop-in closes it (drop-in-af-packet); ss --packet shows such sockets",
    ),
    // Forged and unusual packets.
    held("raw-forged-udp", In, PacketIn, Suite),
    held("raw-forged-udp-from-the-proxys-port", In, PacketIn, Suite),
    open(
        "raw-forged-udp-from-the-models-own-port",
        In,
        false,
        "the packet looks like the slice's own; it takes CAP_NET_RAW in the host's network, which can write frames as well, and asking every packet of the host whose it is would slow everyone",
        "processes with raw sockets: ss --raw; the drop-in keeps them from the model",
    ),
    open(
        "frame-forged-udp-from-the-models-own-port",
        In,
        false,
        "no cgroup hook sees AF_PACKET, and the frame looks like the slice's own; it takes CAP_NET_RAW in the host's network, and a host that accepts its own addresses from outside",
        "processes with AF_PACKET sockets: ss --packet; the drop-in keeps it from the model",
    ),
    held("raw-udp-to-a-named-resolvers-port", In, PacketIn, Suite),
    open(
        "raw-inject-into-the-proxys-connection",
        In,
        false,
        "the packet looks like the proxy's own; it takes CAP_NET_RAW in the host's network, which can write frames as well, and asking every packet of the host whose it is would slow everyone",
        "processes with raw sockets: ss --raw; the drop-in keeps them from the model",
    ),
    open(
        "frame-inject-into-the-proxys-connection",
        In,
        false,
        "no cgroup hook sees AF_PACKET, and the frame looks like the proxy's own; it takes CAP_NET_RAW in the host's network",
        "processes with AF_PACKET sockets: ss --packet; the drop-in keeps it from the model",
    ),
    held("raw-experiment", In, PacketIn, Suite),
    held("raw-experiment-v6", In, PacketIn, Suite),
    held("raw-sctp", In, PacketIn, Suite),
    held("raw-experiment-remote", In, PacketIn, Suite),
    held("icmp-tunnel", In, PacketIn, Suite),
    held("icmp-tunnel-v6", In, PacketIn, Suite),
    held("ip-options", In, PacketIn, Suite),
    held("destination-options-header", In, PacketIn, Suite),
    held("hop-by-hop-header", In, PacketIn, Suite),
    held("hop-by-hop-header-remote", In, PacketIn, Suite),
    held("raw-v6-fragment-header", In, PacketIn, Suite),
    held("source-address-of-the-model-remote", In, PacketIn, Suite),
    held("out-raw-forged-header", Out, PacketOut, Live),
    held("out-raw-header-and-call-disagree", Out, PacketOut, Suite),
    held("out-raw-forged-source", Out, PacketOut, Suite),
    held("out-raw-tcp-syn-with-data", Out, PacketOut, Suite),
    held("out-raw-tcp-without-a-connection", Out, PacketOut, Suite),
    held("out-raw-from-the-guarded-port", Out, PacketOut, Suite),
    held("out-raw-tcp-after-an-allowed-packet", Out, PacketOut, Suite),
    held("out-raw-udp-after-an-allowed-packet", Out, PacketOut, Suite),
    held("out-raw-question-to-a-resolver-of-an-allowed-region", Out, PacketOut, Suite),
    held("out-raw-fragment", Out, PacketOut, Suite),
    held("out-raw-v6-forged", Out, PacketOut, Suite),
    held("out-raw-v6-fragment-header", Out, PacketOut, Suite),
    held("out-source-route", Out, PacketOut, Suite),
    held("out-ip-options", Out, PacketOut, Suite),
    held("out-destination-options-header", Out, PacketOut, Suite),
    held("out-hop-by-hop-header", Out, PacketOut, Suite),
    held("out-routing-header", Out, PacketOut, Suite),
    held("out-ip-over-udp", Out, PacketOut, Suite),
    // While the agent, the pins or a neighbour in the kernel fail.
    held("agent-dead", In, Pins, Suite),
    held("agent-killed-while-it-applies", In, Pins, Suite),
    held("agent-comes-back-with-rules-that-fail", In, Pins, Suite),
    held("policy-map-unpinned", In, Pins, Suite),
    open("links-unpinned", In, true, "root may take links away", "status, and the watch on it: not guarded"),
    held("connect-links-unpinned", In, PacketIn, Suite),
    held("bpf-override-at-connect", In, PacketIn, Suite),
    held("bpf-override-at-bind", In, ProxySide, Suite),
    held("out-bpf-override-at-connect", Out, PacketOut, Suite),
    held("out-bpf-override-at-sendmsg", Out, PacketOut, Suite),
    held("slice-goes-and-comes-back-unseen", In, Bind, Suite),
    held("slice-goes-and-comes-back-unseen-remote", In, Bind, Suite),
    open(
        "slice-goes-and-comes-back-unseen-side-port",
        In,
        true,
        "a slice that is made anew is a new cgroup, at which the agent attaches once it has seen it; the drop-in lets nothing of the server run before that (status --wait)",
        "bailiwick status: the scope is NOT GUARDED",
    ),
    open(
        "out-of-a-slice-that-came-back-unseen",
        Out,
        true,
        "a slice that is made anew is a new cgroup, which the kernel knows once the agent has seen it; the drop-in lets nothing of the server run before that (status --wait)",
        "status, and the watch on it: not guarded",
    ),
    held("out-agent-dead", Out, Pins, Suite),
    // What the drop-in takes from a model's unit.
    held("drop-in-af-packet", Out, DropIn, Suite),
    held("drop-in-af-vsock", Out, DropIn, Suite),
    held("drop-in-namespace", Out, DropIn, Suite),
    held("drop-in-cgroup-move", Out, DropIn, Suite),
    held("drop-in-raw-socket", Out, DropIn, Suite),
];
