//! All seeds, and mutations of them from a fixed seed, through all targets: what an ordinary test run sees of fuzzing.

use std::fs;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_fuzz::{run, seed_folders};

/// Mutations of each target; a run takes a second or two.
const ROUNDS: usize = 2000;

fn replay(target: &str) {
    let mut seeds = Vec::new();
    for folder in seed_folders(target) {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            println!("{}", path.display());
            run(target, &bytes);
            seeds.push(bytes);
        }
    }
    assert!(!seeds.is_empty(), "{target} has seeds");
    run(target, &[]);
    let mut random = StdRng::seed_from_u64(2026);
    for round in 0..ROUNDS {
        let mut input = seeds[random.random_range(0..seeds.len())].clone();
        for _ in 0..random.random_range(1..6) {
            mutate(&mut input, &seeds, &mut random);
        }
        // Shown when the test fails; the input is then kept as a seed.
        if let Err(panic) = std::panic::catch_unwind(|| run(target, &input)) {
            let path = std::env::temp_dir().join(format!("veche-fuzz-{target}-{round}"));
            fs::write(&path, &input).unwrap();
            println!("the input is in {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let end = (at + random.random_range(0..40)).min(input.len());
    match random.random_range(0..6) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        3 => {
            let other = &seeds[random.random_range(0..seeds.len())];
            let from = random.random_range(0..=other.len());
            let to = (from + random.random_range(0..200)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        4 => input[at..end].iter_mut().for_each(|byte| *byte = random.random()),
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
    }
}

macro_rules! targets {
    ($($name:ident)+) => {
        $( #[test] fn $name() { replay(stringify!($name)); } )+

        #[test]
        fn every_target_is_replayed() {
            assert_eq!([$(stringify!($name)),+], veche_fuzz::TARGETS.map(|(name, _)| name));
        }
    };
}

targets! { bridge data doors dtls engine first_bytes form frame headers jpeg messaging picture_stream protobuf rtcp rtp sdp signaling srtp stun tcp token turn turn_stream }
