//! Which core a process runs on, and what it has used.

use std::fs;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::Measured;

/// Puts a process (None: this one) on a core. Where there is no such core, or it is forbidden, the bench has more noise.
pub(crate) fn take(core: usize, process: Option<u32>) {
    let id = process.and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(id), &cores);
    }
}

/// User and system time of all threads (`/proc/PID/stat`, proc(5), fields 14 and 15).
pub(crate) fn cpu_time(process: u32) -> Measured<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').ok_or("stat without a name")?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || -> Measured<u64> { Ok(fields.next().ok_or("short stat")?.parse()?) };
    let ticks = ticks()? + ticks()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.ok_or("no clock tick")?;
    Ok(Duration::from_millis(ticks * 1000 / u64::try_from(per_second)?))
}

/// Resident set, in units of 10^6 bytes.
pub(crate) fn resident_megabytes(process: u32) -> Measured<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: f64 = line.split_whitespace().next().ok_or("empty VmRSS")?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
