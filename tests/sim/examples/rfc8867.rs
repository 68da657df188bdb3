//! Prints the table of `docs/networks.md`: `make networks`. With a section such as 5.4 as its argument, only that case.

use veche_sim::contestants::ALL;
use veche_sim::rfc8867::{CASES, Outcome};

/// The seed of the table.
const SEED: u64 = 1;

fn main() {
    println!("{}", Outcome::HEAD);
    let only = std::env::args().nth(1);
    for case in CASES.iter().filter(|case| only.as_ref().is_none_or(|only| case.section == only)) {
        for contestant in ALL {
            println!("{}", case.run(contestant, SEED).row(case, contestant.name));
        }
    }
}
