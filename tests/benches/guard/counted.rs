//! What each program takes, as the kernel counts it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use bailiwick_kernel::HookStatus;

use crate::children::{Work, Worked};
use crate::place::Place;
use crate::{Measured, Row, figure};

/// Does the work under the guard with counting on, and reports what each program took.
pub(crate) fn report(place: &Place, row: &Row, work: impl FnOnce() -> Measured<Worked>) -> Measured<()> {
    let counting = count_runs()?;
    let before = place.status()?.hooks;
    let worked = work()?;
    let after = place.status()?.hooks;
    drop(counting);
    let mut total = 0.0;
    for (before, after) in before.iter().zip(&after) {
        let Some((each, runs, nanoseconds)) = difference(before, after) else { continue };
        figure(&format!("{}: program {}, a run", row.name, after.hook), each, "ns", None);
        if row.work != Work::Stream {
            figure(
                &format!("{}: program {}, runs each", row.name, after.hook),
                runs / worked.count,
                "",
                None,
            );
        }
        total += nanoseconds;
    }
    let (unit, scale) = if row.work == Work::Stream { ("a megabyte", 1e6) } else { ("each", 1.0) };
    figure(&format!("{}: all programs, {unit}", row.name), total / worked.count * scale, "ns", None);
    Ok(())
}

/// Nanoseconds a run, runs, nanoseconds in all; None where it ran too rarely to say anything.
#[allow(clippy::cast_precision_loss, reason = "counts of a quarter of a second")]
fn difference(before: &HookStatus, after: &HookStatus) -> Option<(f64, f64, f64)> {
    let runs = after.runs.saturating_sub(before.runs);
    let nanoseconds = after.run_time_ns.saturating_sub(before.run_time_ns);
    (runs >= 100).then(|| (nanoseconds as f64 / runs as f64, runs as f64, nanoseconds as f64))
}

/// Counting is on while this descriptor is open (bpf(2), `BPF_ENABLE_STATS`, Linux 5.8).
fn count_runs() -> Measured<OwnedFd> {
    const ENABLE_STATS: libc::c_long = 32;
    /// `BPF_STATS_RUN_TIME`
    const RUN_TIME: u32 = 0;
    let kind: u32 = RUN_TIME;
    // SAFETY: the command reads four bytes at the pointer, which outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, ENABLE_STATS, &raw const kind, size_of::<u32>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd)?) })
}
