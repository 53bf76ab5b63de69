//! The catalog and the suite name the same attacks.

use std::collections::BTreeSet;

use bailiwick::selftest::catalog::ATTACKS;

use crate::{impostors, lapse, packets, way_in, way_out};

/// Attacks on what the drop-in takes from a model's unit; they need a systemd, so they live in `tests/selftest.rs`.
const IN_A_BOX: [&str; 5] = [
    "drop_in_af_packet",
    "drop_in_af_vsock",
    "drop_in_namespace",
    "drop_in_cgroup_move",
    "drop_in_raw_socket",
];

#[test]
fn every_attack_is_in_the_catalog_and_every_entry_is_an_attack() {
    let suite: Vec<&str> =
        [way_in::ATTACKS, impostors::ATTACKS, way_out::ATTACKS, packets::ATTACKS, lapse::ATTACKS]
            .concat()
            .iter()
            .map(|attack| attack.name)
            .chain(IN_A_BOX)
            .collect();
    let named: BTreeSet<&str> = suite.iter().copied().collect();
    assert_eq!(named.len(), suite.len(), "two attacks have one name");
    let listed: BTreeSet<String> = ATTACKS.iter().map(|attack| attack.name.replace('-', "_")).collect();
    assert_eq!(listed.len(), ATTACKS.len(), "two entries have one name");
    let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
    let missing: Vec<_> = named.symmetric_difference(&listed).collect();
    assert_eq!(missing, Vec::<&&str>::new(), "in one of the two only");
    assert!(named.len() >= 60, "{}", named.len());
}
