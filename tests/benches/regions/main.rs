//! From files to a policy, with everything that can be imported: 130,000 networks of five providers and a whole table of
//! countries, IPv4 and IPv6; and from the policy into the real kernel. Measured is what the agent does at its start and at
//! every reload, in a process of its own. Needs root.
//!
//! Prints figures for `cargo xtask bench`: name, value, unit, separated by tabs.

#![allow(clippy::print_stdout, reason = "the figures are this program's output")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod kernel;

use bailiwick_policy::{CountryGroup, Name, Region, RegionTable};
use bailiwick_regions::Store;
use bailiwick_tests::real;
use std::error::Error;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

/// Set for the process that is measured, which finds the datasets imported.
const STORE: &str = "BAILIWICK_BENCH_STORE";

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(store) = std::env::var_os(STORE) {
        return measure(&Store::new(store));
    }
    let real = real::datasets(&mut |line| eprintln!("{line}"))?;
    let directory = tempfile::tempdir()?;
    let store = Store::new(directory.path());
    for file in real.ranges.iter().chain([&real.dbip]) {
        store.commit(store.prepare(file, None, None)?, false)?;
    }
    // What the import used would be counted with the rest: memory is measured where nothing else was done.
    let status = Command::new(std::env::current_exe()?).env(STORE, directory.path()).status()?;
    if status.success() { Ok(()) } else { Err("the measured process failed".into()) }
}

fn measure(store: &Store) -> Result<(), Box<dyn Error>> {
    let before = resident()?;
    let began = Instant::now();
    let kept = store.load().map_err(|mut errors| errors.remove(0))?;
    let loaded = began.elapsed();
    let networks: usize = kept.iter().map(|kept| kept.dataset.networks()).sum();
    let runs: usize = kept.iter().map(|kept| kept.dataset.runs()).sum();
    let name = Name::new("eu")?;
    let region = Region {
        name: name.clone(),
        countries: CountryGroup::Eea.countries(),
        networks: vec!["10.20.0.0/16".parse()?],
    };
    let datasets: Vec<_> = kept.into_iter().map(|kept| kept.dataset).collect();
    let began = Instant::now();
    let table = RegionTable::with_datasets(vec![region], datasets.into());
    let allowed = table.networks_of(&[name]);
    let compiled = began.elapsed();
    let held = resident()?;

    println!("load and compile\t{:.3}\ts", (loaded + compiled).as_secs_f64());
    println!("load and check the files\t{:.3}\ts", loaded.as_secs_f64());
    println!("compile for the kernel\t{:.3}\ts", compiled.as_secs_f64());
    println!("memory\t{:.1}\tMB", held as f64 / 1e6);
    println!("memory of the datasets\t{:.1}\tMB", held.saturating_sub(before) as f64 / 1e6);
    println!("memory at its most\t{:.1}\tMB", peak()? as f64 / 1e6);
    println!("networks read\t{networks}\t");
    println!("runs of addresses\t{runs}\t");
    println!("networks for the kernel\t{}\t", allowed.len());
    kernel::measure(&allowed)?;
    let mut at = 0_u64;
    look_ups("look-ups, IPv4", || {
        at = mixed(at);
        let [.., a, b, c, d] = at.to_be_bytes();
        black_box(table.locate(IpAddr::V4(Ipv4Addr::from([a, b, c, d]))));
    });
    look_ups("look-ups, IPv6", || {
        at = mixed(at);
        // In 2000::/3, where addresses are given out.
        let address = (1_u128 << 125) | (u128::from(at) << 60 & !(7 << 125));
        black_box(table.locate(IpAddr::V6(Ipv6Addr::from_bits(address))));
    });
    Ok(())
}

/// A second of them.
fn look_ups(name: &str, mut one: impl FnMut()) {
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < Duration::from_secs(1) {
        for _ in 0..1000 {
            one();
        }
        count += 1000;
    }
    println!("{name}\t{:.0}\t1/s", f64::from(count) / began.elapsed().as_secs_f64());
}

/// The next of a sequence that jumps about (splitmix64).
fn mixed(at: u64) -> u64 {
    let mut next = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
    next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    next ^ (next >> 31)
}

/// Resident memory in bytes.
fn resident() -> Result<u64, Box<dyn Error>> {
    of_the_process("VmRSS:")
}

fn peak() -> Result<u64, Box<dyn Error>> {
    of_the_process("VmHWM:")
}

fn of_the_process(field: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field)).ok_or("no such field")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kilobytes * 1024)
}
