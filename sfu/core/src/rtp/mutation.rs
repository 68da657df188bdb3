//! Seeded damage for tests of parsers: whatever comes out must be parsed without a panic.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Calls `check` with `rounds` inputs: random bytes, and `samples` with bytes changed, cut off, doubled or removed.
pub(crate) fn damaged(seed: u64, rounds: usize, samples: &[&[u8]], mut check: impl FnMut(&[u8])) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..rounds {
        let mut bytes: Vec<u8> = if samples.is_empty() || rng.random_ratio(1, 8) {
            (0..rng.random_range(0..100)).map(|_| rng.random()).collect()
        } else {
            samples[rng.random_range(0..samples.len())].to_vec()
        };
        for _ in 0..rng.random_range(0..4) {
            if !bytes.is_empty() {
                damage(&mut rng, &mut bytes);
            }
        }
        check(&bytes);
    }
}

fn damage(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..5) {
        0 => bytes[at] = rng.random(),
        1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2 => bytes.truncate(at),
        3 => bytes.insert(at, rng.random()),
        _ => {
            bytes.remove(at);
        }
    }
}

/// Bytes from hexadecimal digits, with spaces wherever they help the eye.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}
