//! The server's user name fragments: each begins with the number of the worker that gave it, so that a connection which comes
//! at a port of all workers finds its own by its first STUN request.

use crate::ids::WorkerId;

/// The alphabet of ICE (RFC 8839 section 5.4).
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How many characters tell the worker, 6 bits each: any number of 16 bits fits.
const MARK_LEN: u32 = 3;

/// The character for the six lowest bits.
pub(super) fn character(bits: u32) -> char {
    char::from(ALPHABET[(bits % 64) as usize])
}

/// What the fragments of a worker begin with.
pub(super) fn mark(WorkerId(worker): WorkerId) -> String {
    (0..MARK_LEN).rev().map(|place| character(u32::from(worker) >> (6 * place))).collect()
}

/// The worker that gave a fragment, or would have: whether anybody has it, only the worker knows. `None` when no worker gives
/// such a one.
pub fn worker(ufrag: &str) -> Option<WorkerId> {
    let mark = ufrag.as_bytes().get(..MARK_LEN as usize)?;
    let number = mark.iter().try_fold(0, |number, character| {
        let bits = ALPHABET.iter().position(|known| known == character)?;
        Some(number << 6 | bits)
    })?;
    u16::try_from(number).ok().map(WorkerId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_tells_its_worker() {
        for number in [0, 1, 63, 64, 4095, 4096, u16::MAX] {
            let ufrag = mark(WorkerId(number)) + "x9";
            assert_eq!(worker(&ufrag), Some(WorkerId(number)), "{ufrag}");
        }
        assert_eq!(mark(WorkerId(1)), "AAB");
        for strange in ["", "AA", "A:B", "ÄAB", "///rest"] {
            assert_eq!(worker(strange), None, "{strange}");
        }
    }
}
