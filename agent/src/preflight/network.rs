//! What the host's network stack does by itself with a model's port, and whether it can end a socket that stands.

use super::{Finding, Subject, Weakness};
use bailiwick_kernel::SocketDestroy;
use std::fs;
use std::ops::RangeInclusive;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Whether the kernel hands the model's port to whoever asks for any port (ip(7)). No hook sees that choice.
pub(super) fn of_port(subject: &Subject) -> Option<Finding> {
    let port = subject.port?;
    let read = |path| fs::read_to_string(path).ok();
    Some(match (read(RANGE).as_deref().and_then(range), read(RESERVED)) {
        (Some(range), Some(reserved)) => judge(subject, port, &range, reserved.trim()),
        (None, _) | (_, None) => {
            Finding::note(NAME, "unknown", "read net.ipv4.ip_local_port_range as root").about(subject)
        }
    })
}

const NAME: &str = Weakness::EphemeralPort.as_str();

fn judge(subject: &Subject, port: u16, range: &RangeInclusive<u16>, reserved: &str) -> Finding {
    if !range.contains(&port) || lists(reserved, port) {
        let found = format!("the kernel gives port {port} to nobody who did not ask for it");
        return Finding::good(NAME, found).about(subject);
    }
    let found = format!(
        "port {port} is one of those that the kernel gives to any connection ({}-{}): while the model is down, another \
         process can get it, unseen by the hook that forbids taking it",
        range.start(),
        range.end()
    );
    let with_others = if reserved.is_empty() { port.to_string() } else { format!("{reserved},{port}") };
    let cure = format!(
        "sysctl net.ipv4.ip_local_reserved_ports={with_others}, and the same line in /etc/sysctl.d; or a port below {}",
        range.start()
    );
    Finding::weak(Weakness::EphemeralPort, subject, found, cure)
}

/// Two numbers with a tab between them.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_whitespace().map(str::parse);
    Some(ends.next()?.ok()?..=ends.next()?.ok()?)
}

/// `8000,9000-9010`.
fn lists(reserved: &str, port: u16) -> bool {
    reserved.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.trim().parse(), last.trim().parse()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}

/// Whether connections that stand can be ended where they stand.
pub(super) fn of_sockets(destroy: &SocketDestroy) -> Finding {
    const NAME: &str = Weakness::StandingSockets.as_str();
    match destroy {
        SocketDestroy::Works => {
            Finding::good(NAME, "the kernel can end a connection that stands (SOCK_DESTROY)")
        }
        SocketDestroy::Missing => Finding::weak_host(
            Weakness::StandingSockets,
            "this kernel cannot end a connection that stands (it is built without CONFIG_INET_DIAG_DESTROY): one that was \
             accepted before the guard, on a socket of another service, goes on",
            "restart the model server once the guard stands; or run a kernel with CONFIG_INET_DIAG_DESTROY",
        ),
        SocketDestroy::Unknown(why) => Finding::note(
            NAME,
            format!("unknown: {why}"),
            "run this as root, where netlink sockets may be opened",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    fn subject(port: Option<u16>) -> Subject {
        let name = bailiwick_policy::Name::new("llama").unwrap();
        Subject { name, cgroup: "bailiwick.slice".into(), slice: "bailiwick.slice".into(), port }
    }

    #[test]
    fn a_port_that_anybody_may_get_is_weak_until_it_is_reserved() {
        let default = range("32768\t60999\n").unwrap();
        let rows = [
            (8000, "", Grade::Good, "below the range"),
            (61000, "", Grade::Good, "above it"),
            (32768, "", Grade::Weak, "its first port"),
            (60999, "", Grade::Weak, "its last port"),
            (40000, "40000", Grade::Good, "reserved"),
            (40000, "8000,39990-40010", Grade::Good, "reserved as part of a range"),
            (40000, "4000,40001-40010", Grade::Weak, "others are reserved"),
        ];
        for (port, reserved, grade, why) in rows {
            let finding = judge(&subject(Some(port)), port, &default, reserved);
            assert_eq!(finding.grade, grade, "{port} {reserved:?}: {why}");
            assert_eq!(finding.law.is_some(), grade == Grade::Weak, "{why}");
        }
        let cure = judge(&subject(Some(40000)), 40000, &default, "8000,9000-9010").cure.unwrap();
        assert!(cure.contains("ip_local_reserved_ports=8000,9000-9010,40000"), "keeps the others: {cure}");
        assert!(of_port(&subject(None)).is_none(), "a model on a Unix socket has no port");
    }

    #[test]
    fn a_range_that_cannot_be_read_is_none() {
        for text in ["", "32768", "a b", "32768 99999"] {
            assert_eq!(range(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_missing_is_weak_and_what_is_unknown_is_not_taken_for_good() {
        assert_eq!(of_sockets(&SocketDestroy::Works).grade, Grade::Good);
        let missing = of_sockets(&SocketDestroy::Missing);
        assert_eq!((missing.grade, missing.law), (Grade::Weak, Some(Weakness::StandingSockets.law())));
        assert_eq!(of_sockets(&SocketDestroy::Unknown("no".into())).grade, Grade::Note);
    }
}
