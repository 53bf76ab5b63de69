//! Any bytes as a file of published ranges or of countries: a dataset that says the same each time and has a place for no
//! address that is not in it, or an error with a cure; and a kind is told only of what can be read as one.
#![no_main]

use bailiwick_policy::{DatasetInfo, Name};
use bailiwick_regions::{Kind, detect, read};
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (choice, bytes) = input;
    let kind = Kind::ALL[usize::from(choice) % Kind::ALL.len()];
    if let Err(error) = detect(&bytes) {
        assert!(!error.to_string().is_empty());
    }
    match read(kind, &bytes) {
        Ok(reading) => {
            assert!(reading.networks() > 0, "a dataset without a network");
            let again = read(kind, &bytes).expect("the same bytes were read");
            assert_eq!((reading.networks(), &reading.version), (again.networks(), &again.version));
            let dataset = reading.dataset(info(kind));
            // Documentation addresses and the ends of both families.
            for address in ["0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "2001:db8::1", "ffff::ffff"] {
                let address: IpAddr = address.parse().expect("an address");
                let _ = dataset.at(address);
            }
            assert!(
                dataset.changes(&again.dataset(info(kind))).is_empty(),
                "the same bytes say something else"
            );
        }
        Err(error) => {
            let again = read(kind, &bytes).expect_err("the same bytes were refused");
            assert_eq!(error.to_string(), again.to_string());
        }
    }
});

fn info(kind: Kind) -> DatasetInfo {
    DatasetInfo {
        name: Name::new("fuzz").expect("a name"),
        origin: kind.origin(),
        version: String::new(),
        date: String::new(),
        sha256: String::new(),
    }
}
