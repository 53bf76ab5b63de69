//! Cloudflare's lists of networks (`ips-v4`, `ips-v6`; one file may hold both): a network a line, all of it anycast.

use super::{FETCH_AGAIN, Reading, network};
use crate::FormatError;
use bailiwick_policy::Place;

pub(super) fn read(bytes: &[u8]) -> Result<Reading, FormatError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| FormatError::new("not text", FETCH_AGAIN).at_byte(error.valid_up_to()))?;
    let mut reading = Reading::default();
    let claim = reading.claim(Place::Anycast, "anycast")?;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let network = network(line, String::new).map_err(|mut error| {
            error.spot.key = None;
            error.at_line(index + 1, 1)
        })?;
        reading.builder.add(network, claim);
    }
    Ok(reading)
}
