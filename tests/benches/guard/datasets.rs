//! The policy of a host that has imported everything: 131,000 networks of providers, and a whole table of countries.

use bailiwick_policy::{CountryGroup, Name, Region, RegionTable};
use bailiwick_regions::Store;
use bailiwick_tests::real;
use ipnet::IpNet;

use crate::Measured;

/// Those of the EEA, as they are loaded into the kernel, and the network of the bench's other host.
pub(crate) fn networks() -> Measured<Vec<IpNet>> {
    let real = real::datasets(&mut |line| eprintln!("{line}"))?;
    let directory = tempfile::tempdir()?;
    let store = Store::new(directory.path());
    for file in real.ranges.iter().chain([&real.dbip]) {
        store.commit(store.prepare(file, None, None)?, false)?;
    }
    let kept = store.load().map_err(|mut errors| errors.remove(0))?;
    let name = Name::new("eu")?;
    let region = Region {
        name: name.clone(),
        countries: CountryGroup::Eea.countries(),
        networks: vec!["198.51.100.0/24".parse()?],
    };
    let datasets: Vec<_> = kept.into_iter().map(|kept| kept.dataset).collect();
    Ok(RegionTable::with_datasets(vec![region], datasets.into()).networks_of(&[name]))
}
