//! Prints how fast text is masked, in MB/s: `cargo run --release -p bailiwick-masking --example throughput`.
//!
//! One line a case: its name, a tab, megabytes (10^6 bytes) of input per second.

use bailiwick_masking::{Action, Entity, Findings, Mask, Masker};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As in the agent.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLEAN: &str = "The quarterly report shows that revenue grew by 12 percent, and that the new office in Tallinn \
    opened on time. Nobody expected the migration to finish in 2024; it did, with 3 days to spare. ";
const DENSE: &str = "Write to alice.b@example.com or bob@mail.example.org, pay DE89 3704 0044 0532 0130 00 \
    with 4111 1111 1111 1111, call 4111 1111 1111 1112. ";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mask = Mask::new(Entity::ALL, &[], Action::Redact, [7; 32])?;
    let masker = Masker { masks: vec![Arc::new(mask)] };
    for (name, text) in [("clean", CLEAN.repeat(300)), ("dense", DENSE.repeat(300))] {
        let document = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        report(&format!("json, {name}"), document.len(), || {
            masker.json(document.as_bytes(), &mut Findings::default()).map(|masked| masked.len())
        })?;
        for piece in [5, 1024] {
            report(&format!("stream of {piece} bytes, {name}"), text.len(), || {
                let (mut channel, mut findings, mut length) = (masker.channel(), Findings::default(), 0);
                for bytes in text.as_bytes().chunks(piece) {
                    let piece = std::str::from_utf8(bytes).unwrap_or_default();
                    length += channel.push(piece, &mut findings)?.len();
                }
                Ok(length + channel.finish(&mut findings)?.len())
            })?;
        }
    }
    Ok(())
}

/// Runs for about a second and prints the best round.
#[allow(clippy::print_stdout, reason = "the table is this program's output")]
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn report(
    name: &str,
    bytes: usize,
    mut round: impl FnMut() -> Result<usize, bailiwick_masking::MaskError>,
) -> Result<(), bailiwick_masking::MaskError> {
    let started = Instant::now();
    let mut best = Duration::MAX;
    while started.elapsed() < Duration::from_secs(1) {
        let began = Instant::now();
        std::hint::black_box(round()?);
        best = best.min(began.elapsed());
    }
    println!("{name}\t{:.0}", bytes as f64 / best.as_secs_f64() / 1e6);
    Ok(())
}
