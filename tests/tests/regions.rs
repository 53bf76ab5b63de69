//! Countries in the kernel: what real datasets say of an address is what a model that tries it meets.
//!
//! The datasets are those that an operator would import (the five providers' ranges and a table of countries), the
//! kernel is the real one, and the model asks it by `connect`: a refusal is EPERM, anything else was let past the guard.

mod kernel_support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bailiwick_kernel::{KernelError, Rules};
use bailiwick_policy::{CountryGroup, EgressPolicy, Mode, Region, RegionTable, Unplaced};
use bailiwick_regions::Store;
use bailiwick_tests::real;
use ipnet::IpNet;
use kernel_support::{Actor, Errno, Kind, MODEL, Stage, at, name, rules};

/// A region of the European Economic Area, with everything imported that there is.
fn eea() -> RegionTable {
    let real = real::datasets(&mut |line| eprintln!("{line}")).expect("the real datasets");
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::new(directory.path());
    for file in real.ranges.iter().chain([&real.dbip]) {
        let prepared = store.prepare(file, None, None).unwrap_or_else(|error| panic!("{error}"));
        store.commit(prepared, false).unwrap_or_else(|error| panic!("{error}"));
    }
    let kept = store.load().unwrap_or_else(|errors| panic!("{errors:?}"));
    let datasets: Arc<[_]> = kept.into_iter().map(|kept| kept.dataset).collect();
    let region = Region {
        name: name("eu"),
        countries: CountryGroup::Eea.countries(),
        networks: vec!["198.51.100.0/24".parse().expect("a network")],
    };
    RegionTable::with_datasets(vec![region], datasets)
}

fn policy(networks: Vec<IpNet>) -> EgressPolicy {
    EgressPolicy { mode: Mode::Enforce, regions: vec![name("eu")], networks, exceptions: Vec::new() }
}

/// Asks the kernel, as a process of the model does; there is no route, so that nothing is sent.
struct Asker {
    model: Actor,
    v4: kernel_support::actor::Socket,
    v6: kernel_support::actor::Socket,
}

impl Asker {
    fn new(stage: &Stage) -> Self {
        let mut model = stage.actor(MODEL);
        let (v4, v6) = (model.open(Kind::Udp4), model.open(Kind::Udp6));
        Self { model, v4, v6 }
    }

    fn is_let(&mut self, address: IpAddr) -> bool {
        let socket = if address.is_ipv4() { self.v4 } else { self.v6 };
        self.model.connect(socket, at(&address.to_string(), 443)) != Err(Errno::EPERM)
    }
}

#[test]
fn the_kernel_and_the_look_up_agree_at_the_edges_of_real_networks() {
    /// Every so manyth network is tried at its edges.
    const STEP: usize = 97;
    /// So many addresses of each kind are tried.
    const MOST_EACH: usize = 500;
    let (table, allowed) = (eea(), [name("eu")]);
    let networks = table.networks_of(&allowed);
    let rules = rules(policy(networks.clone()));
    assert!(rules.kernel_memory() <= Rules::MOST_KERNEL_MEMORY / 2, "{} bytes", rules.kernel_memory());
    let stage = Stage::new();
    let _guard = stage.guard(&rules);
    let mut asker = Asker::new(&stage);

    let edges = networks.iter().step_by(STEP).flat_map(|network| around(*network));
    let mut tried = 0;
    for address in edges {
        let location = table.locate(address);
        assert_eq!(asker.is_let(address), location.is_in(&allowed), "{address} is {location:?}");
        tried += 1;
    }
    assert!(tried > 10_000, "{tried}");

    // Addresses all over, some for each reason to be in no region.
    let mut met = BTreeMap::<&str, usize>::new();
    let nobodys = ["192.0.2.1", "2001:db8::1", "3f00::1"].map(|text| text.parse().expect("an address"));
    for address in (0..200_000).map(anywhere).chain(nobodys) {
        let location = table.locate(address);
        let why = location.unplaced().map_or("placed", Unplaced::as_str);
        let count = met.entry(why).or_default();
        *count += 1;
        if *count <= MOST_EACH {
            assert_eq!(asker.is_let(address), location.is_in(&allowed), "{address} is {location:?}");
        }
    }
    for reason in Unplaced::ALL {
        assert!(met.contains_key(reason.as_str()), "no address was {}: {met:?}", reason.as_str());
    }
}

#[test]
fn more_networks_than_the_kernel_is_to_hold_are_refused_and_change_nothing() {
    let few: IpNet = "198.51.100.0/24".parse().expect("a network");
    let stage = Stage::new();
    let mut guard = stage.guard(&rules(policy(vec![few])));
    let generation = stage.status(guard.rules()).generation;
    // Single addresses, of which no two can be joined.
    let many = (0..400_000_u32)
        .map(|number| IpNet::from(IpAddr::from(Ipv4Addr::from_bits(0x2000_0000 | number << 2))));
    let error = guard.apply(&rules(policy(many.collect()))).expect_err("it was applied");
    assert!(matches!(error, KernelError::Rules(_)), "{error}");
    let words = error.to_string();
    assert!(words.contains("may take 64") && words.contains("allow fewer countries"), "{words}");
    assert_eq!(stage.status(guard.rules()).generation, generation, "the policy before is in force");
    let mut asker = Asker::new(&stage);
    for (address, expected) in [("198.51.100.7", true), ("32.0.0.4", false)] {
        assert_eq!(asker.is_let(address.parse().expect("an address")), expected, "{address}");
    }
}

/// The first and last address of a network, and the ones before and after it.
fn around(network: IpNet) -> Vec<IpAddr> {
    match (network.network(), network.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from_bits(bits).into())
                .into()
        }
        (first, last) => {
            let bits = |address| match address {
                IpAddr::V6(v6) => v6.to_bits(),
                IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            };
            let (first, last) = (bits(first), bits(last));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from_bits(bits).into())
                .into()
        }
    }
}

/// Addresses all over what is given out (1.0.0.0 to 223.255.255.255, 2400::/6), always the same ones.
fn anywhere(number: u64) -> IpAddr {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 31;
    if number.is_multiple_of(2) {
        let [a, b, c, d, ..] = mixed.to_be_bytes();
        return Ipv4Addr::new(1 + a % 223, b, c, d).into();
    }
    Ipv6Addr::from_bits((0x24 << 120) | (u128::from(mixed >> 6) << 64) | u128::from(mixed)).into()
}
