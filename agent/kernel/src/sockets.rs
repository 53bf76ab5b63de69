//! Whose sockets they are: the two things that the hooks at the way in cannot say.
//!
//! A listener may have come to a guarded port without a bind that a hook could refuse: from before the guard, or by a
//! port that the kernel chose at listen(2). So the proxy asks, before a prompt is sent, whose socket took its connection
//! ([`taken_by`], [`Slices`]), and the guard asks, again and again, who else is on the model's port ([`foreign`]).
//!
//! A socket is of the cgroup in which it was made, whoever has it now; what is accepted is of its listener's. All of it is
//! about this process's network namespace.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bailiwick_policy::Name;

use crate::{
    Rules, Scope, Site,
    places::{self, Places},
    site::cgroup_id,
    sock_diag::{Protocol, Socket, State, destroy, dump, exact},
};

/// How long is waited between looks: connect(2) may return before the other side has taken the handshake's last packet.
const PAUSES: [Duration; 9] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(50),
];

/// More cgroups than the slices of any host's models have.
const MOST_KNOWN: usize = 4096;

/// The states of a TCP socket that has another end, and is whole.
const CONNECTED: [State; 6] =
    [State::Established, State::FinWait1, State::FinWait2, State::CloseWait, State::LastAck, State::Closing];

/// The cgroup of the socket at the other end of an established connection within this network namespace: `local` is our
/// end, `peer` the other. Looks once more for at most 100 ms when the other end is not whole yet.
///
/// # Errors
/// When the kernel cannot be asked, or finds nothing whole there: the connection leads elsewhere (another namespace or
/// host, a rewritten address), it is closed already, or the server lets the kernel wait for data before it takes a
/// connection (`TCP_DEFER_ACCEPT`). In every case nothing is known, and nothing may be sent.
pub async fn taken_by(local: SocketAddr, peer: SocketAddr) -> io::Result<u64> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let found = exact(Protocol::Tcp, peer, local)?;
        if let Some(cgroup_id) = found.and_then(|socket| socket.cgroup_id) {
            return Ok(cgroup_id);
        }
        let Some(pause) = pauses.next() else { return Err(not_taken(peer, found)) };
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}

fn not_taken(peer: SocketAddr, found: Option<Socket>) -> io::Error {
    // Without the module every look finds nothing; that is another story.
    if let Err(error) = dump(false, Protocol::Tcp, &[], None) {
        return error;
    }
    let text = match found.map(|socket| socket.state) {
        None => format!(
            "no socket of this network namespace took the connection to {peer}; the model server must run in the \
             agent's own, and no rule may rewrite the address"
        ),
        Some(State::SynReceived | State::NewSynReceived) => format!(
            "nobody took the connection to {peer}: its server is overloaded, or waits for data first; turn \
             TCP_DEFER_ACCEPT off there"
        ),
        Some(state) => format!("the connection to {peer} is ending already ({state:?})"),
    };
    io::Error::new(io::ErrorKind::NotFound, text)
}

/// Which cgroup lies in which slice: what is asked of every connection to a model.
#[derive(Debug)]
pub struct Slices {
    root: PathBuf,
    /// Where cgroups were found, relative to the root. A number is never used twice, and no cgroup is ever moved.
    known: Mutex<HashMap<u64, PathBuf>>,
    names: Mutex<Option<Places>>,
}

impl Slices {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        Self { root: site.cgroup_root.clone(), known: Mutex::default(), names: Mutex::default() }
    }

    /// Whether the cgroup is `slice` (relative to the cgroup root) or lies below it, as the tree is now. A cgroup that is
    /// gone lies nowhere.
    #[must_use]
    pub fn holds(&self, slice: &Path, id: u64) -> bool {
        let is_at = |path: &Path| cgroup_id(&self.root.join(path)).is_ok_and(|found| found == Some(id));
        if is_at(slice) {
            return true;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = known.get(&id) {
            return path.starts_with(slice) && is_at(path);
        }
        let found = places::walk(&self.root.join(slice)).found;
        if known.len() + found.len() > MOST_KNOWN {
            known.clear();
        }
        let inside = found.contains_key(&id);
        known.extend(found.into_iter().map(|(id, path)| (id, slice.join(path))));
        inside
    }

    /// Proves that an established connection (`local` is our end) was taken by a socket in `slice`.
    ///
    /// # Errors
    /// As [`taken_by`]; [`io::ErrorKind::PermissionDenied`] with the cgroup that has the socket when it is another.
    pub async fn prove(&self, local: SocketAddr, peer: SocketAddr, slice: &Path) -> io::Result<()> {
        let id = taken_by(local, peer).await?;
        if self.holds(slice, id) {
            return Ok(());
        }
        let text = format!(
            "the connection to {peer} was taken by a socket in {}, which is not in the model's slice /{}; `ss -ltnp` \
             shows whose it is",
            self.place(id),
            slice.display()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    /// Where a cgroup is, in words.
    #[must_use]
    pub fn place(&self, id: u64) -> String {
        if cgroup_id(&self.root).is_ok_and(|root| root == Some(id)) {
            return "the root cgroup".to_owned();
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get_or_insert_with(|| Places::new(&self.root)).find(id) {
            Some(path) => format!("cgroup /{}", path.display()),
            None => format!("cgroup {id}, which is gone or not to be seen"),
        }
    }
}

/// Every socket of this network namespace that is on one of these ports and is not its model's: TCP listeners, TCP
/// sockets with another end, and unconnected UDP sockets. `inside` says whether a cgroup (by its number) is of the slice
/// that the port is reserved for; see [`Slices::holds`].
///
/// Among those with another end ([`State::Established`] and so on) may be somebody's outgoing connection that got the port
/// by chance: keep guarded ports out of `net.ipv4.ip_local_port_range`, or in `net.ipv4.ip_local_reserved_ports`. Handshakes
/// under way are not among them: they end with their listener. Neither are ports that are bound and not listened on.
///
/// Each can be ended by [`crate::destroy`], if the kernel has `CONFIG_INET_DIAG_DESTROY` (all large distributions do); without
/// it this is [`io::ErrorKind::Unsupported`], and what is left is to report them, and [`Slices::prove`].
///
/// # Errors
/// When the kernel cannot be asked; see [`dump`]. A socket whose cgroup the kernel does not tell is foreign.
pub fn foreign(ports: &[u16], inside: impl Fn(u16, u64) -> bool) -> io::Result<Vec<Socket>> {
    let mut states = CONNECTED.to_vec();
    states.push(State::Listen);
    let mut found = Vec::new();
    for port in ports {
        for v6 in [false, true] {
            found.extend(dump(v6, Protocol::Tcp, &states, Some(*port))?);
            found.extend(dump(v6, Protocol::Udp, &[State::Close], Some(*port))?);
        }
    }
    found.retain(|socket| socket.cgroup_id.is_none_or(|id| !inside(socket.source.port(), id)));
    Ok(found)
}

/// The listeners that somebody else than its model has on a guarded port: `(model, socket)`.
pub(crate) fn intruders(slices: &Slices, rules: &Rules) -> io::Result<Vec<(Name, Socket)>> {
    let ports: Vec<u16> = rules.scopes.iter().map(Scope::port).filter(|port| *port != 0).collect();
    let model = |port: u16| rules.scopes.iter().find(|scope| scope.port() == port);
    let inside = |port, id| model(port).is_some_and(|scope| slices.holds(&scope.cgroup, id));
    let found = foreign(&ports, inside)?;
    Ok(found
        .into_iter()
        .filter(|socket| socket.protocol == Protocol::Tcp)
        .filter_map(|socket| Some((model(socket.source.port())?.name.clone(), socket)))
        .collect())
}

/// Ends the listeners that are on a model's port and not the model's, and what they have accepted. A connected socket
/// alone is left: it may be somebody's own call that got the port by chance.
///
/// # Errors
/// When the kernel cannot be asked, or cannot end a socket ([`io::ErrorKind::Unsupported`]).
pub(crate) fn end_intruders(slices: &Slices, rules: &Rules) -> io::Result<Vec<(Name, Socket)>> {
    let mut found = intruders(slices, rules)?;
    let listened: Vec<u16> = found
        .iter()
        .filter(|(_, socket)| socket.state == State::Listen)
        .map(|(_, socket)| socket.source.port())
        .collect();
    found.retain(|(_, socket)| listened.contains(&socket.source.port()));
    for (_, socket) in &found {
        destroy(socket)?;
    }
    Ok(found)
}
