//! Redundant audio (RFC 2198): a packet carries older ones along, so that sound outlives their loss.
//!
//! Only the lengths in the block headers are read; the blocks may be end-to-end encrypted.

use crate::ids::PayloadType;

/// The most older packets that the server adds to one. Three losses in a row then cost sound: 0.8 % at 20 % loss.
pub const MAX_OLDER: usize = 2;

/// The longest distance of timestamps and the longest older block that a header can tell (RFC 2198 section 3).
const MAX_DISTANCE: u32 = (1 << 14) - 1;
const MAX_BLOCK: usize = (1 << 10) - 1;
/// The header of an older block, and of the newest.
const OLDER_HEADER: usize = 4;
const PRIMARY_HEADER: usize = 1;
/// Set in all headers but the last.
const FOLLOWED: u8 = 0x80;
/// A payload of this length still fits into 1,200 bytes with RTP header, extensions and the tag of SRTP.
const MAX_PAYLOAD: usize = 1_100;

/// An older packet that is carried along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older<'a> {
    /// Its timestamp.
    pub timestamp: u32,
    /// Its payload, without redundancy of its own.
    pub payload: &'a [u8],
}

/// The primary block of a RED payload: what it would be without redundancy. Empty when the payload does not parse.
pub fn primary(payload: &[u8]) -> &[u8] {
    let mut headers = 0;
    let mut redundant = 0;
    loop {
        match payload.get(headers) {
            None => return &[],
            // F is clear: the primary's header has one byte and its block is the rest.
            Some(byte) if byte & FOLLOWED == 0 => {
                return payload.get(headers + PRIMARY_HEADER + redundant..).unwrap_or(&[]);
            }
            Some(_) => {
                let Some(length) = payload.get(headers + 2..headers + OLDER_HEADER) else { return &[] };
                redundant += usize::from(u16::from_be_bytes([length[0] & 0x03, length[1]]));
                headers += OLDER_HEADER;
            }
        }
    }
}

/// How many older packets a RED payload carries.
pub fn older_blocks(payload: &[u8]) -> usize {
    payload.iter().step_by(OLDER_HEADER).take_while(|byte| **byte & FOLLOWED != 0).count()
}

/// Makes all blocks of a RED payload this payload type: publisher and subscriber may have different ones for Opus.
pub fn set_payload_type(payload: &mut [u8], payload_type: PayloadType) {
    for byte in payload.iter_mut().step_by(OLDER_HEADER) {
        let followed = *byte & FOLLOWED;
        *byte = followed | (payload_type.0 & !FOLLOWED);
        if followed == 0 {
            return;
        }
    }
}

/// The payloads with redundancy of one packet: each is made when the first subscriber wants it, and shared by all.
#[derive(Debug, Default)]
pub struct RedPayloads {
    /// With up to one older packet, with up to two. Empty when there is none to carry.
    payloads: [Vec<u8>; MAX_OLDER],
    made: [bool; MAX_OLDER],
}

impl RedPayloads {
    /// Another packet follows.
    pub fn clear(&mut self) {
        self.made = Default::default();
    }

    /// The packet's `payload` with up to `older` packets before it, of which `find` gives the one that is so many
    /// sequence numbers back. `None` when there is nothing to carry along. The payload type of the blocks is still to
    /// be set.
    pub fn get<'a>(
        &mut self,
        older: u8,
        timestamp: u32,
        payload: &[u8],
        find: impl Fn(u64) -> Option<Older<'a>>,
    ) -> Option<&[u8]> {
        let place = usize::from(older).min(MAX_OLDER).checked_sub(1)?;
        let made = &mut self.payloads[place];
        if !std::mem::replace(&mut self.made[place], true) {
            made.clear();
            let found = [2, 1].map(|back| find(back).filter(|_| back <= place as u64 + 1));
            write(made, timestamp, found, payload);
        }
        (!made.is_empty()).then_some(&**made)
    }

    /// What [`RedPayloads::get`] has made.
    pub fn made(&self, older: u8) -> Option<&[u8]> {
        let place = usize::from(older).min(MAX_OLDER).checked_sub(1)?;
        let made = &self.payloads[place];
        (self.made[place] && !made.is_empty()).then_some(&**made)
    }
}

/// Writes a RED payload, `older` from the oldest on; nothing when none of them can be carried along.
fn write(out: &mut Vec<u8>, timestamp: u32, older: [Option<Older<'_>>; MAX_OLDER], payload: &[u8]) {
    let mut room = MAX_PAYLOAD.saturating_sub(PRIMARY_HEADER + payload.len());
    let mut carried = older.map(|older| older.filter(|o| fits(o, timestamp)));
    // The nearer a packet is, the likelier it is not too late yet.
    for place in carried.iter_mut().rev() {
        let needed = place.map_or(0, |older| OLDER_HEADER + older.payload.len());
        *place = place.filter(|_| needed <= room);
        room -= if place.is_some() { needed } else { 0 };
    }
    if payload.is_empty() || carried.iter().all(Option::is_none) {
        return;
    }
    for Older { timestamp: before, payload } in carried.iter().flatten() {
        let distance = timestamp.wrapping_sub(*before) << 10;
        out.push(FOLLOWED);
        out.extend_from_slice(&(distance | payload.len() as u32).to_be_bytes()[1..]);
    }
    out.push(0);
    for block in carried.iter().flatten() {
        out.extend_from_slice(block.payload);
    }
    out.extend_from_slice(payload);
}

/// Whether a block header can tell of it. A distance of nothing or a negative one is none of a predecessor.
fn fits(older: &Older<'_>, timestamp: u32) -> bool {
    let distance = timestamp.wrapping_sub(older.timestamp);
    (1..=MAX_DISTANCE).contains(&distance) && (1..=MAX_BLOCK).contains(&older.payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_is_what_follows_all_redundant_blocks() {
        assert_eq!(primary(&[111, 1, 2, 3]), [1, 2, 3]);
        let two = [0x80 | 0x6f, 0, 0, 2, 111, 9, 9, 1, 2, 3];
        assert_eq!(primary(&two), [1, 2, 3]);
        let three = [0x80 | 0x6f, 0, 0, 1, 0x80 | 0x6f, 0, 0, 2, 111, 8, 9, 9, 1];
        assert_eq!(primary(&three), [1]);
        assert_eq!([&[111, 1][..], &two, &three].map(older_blocks), [0, 1, 2]);
    }

    #[test]
    fn what_does_not_parse_is_empty() {
        assert_eq!(primary(&[]), [0u8; 0]);
        assert_eq!(primary(&[0x80, 0]), [0u8; 0]);
        assert_eq!(primary(&[0x80, 0, 3, 0xff, 111, 1]), [0u8; 0]);
        assert_eq!(primary(&[0xff; 64]), [0u8; 0]);
        let mut damaged = [0xff; 7];
        set_payload_type(&mut damaged, PayloadType(111));
        assert_eq!(damaged, [0xef, 0xff, 0xff, 0xff, 0xef, 0xff, 0xff]);
    }

    /// The packets 20 ms and 40 ms before the one with timestamp 5,000.
    fn before(back: u64) -> Option<Older<'static>> {
        let payload: &[u8] = [&[7, 7, 7][..], &[8, 8]].get(back as usize - 1)?;
        Some(Older { timestamp: 5_000 - 960 * back as u32, payload })
    }

    #[test]
    fn older_packets_stand_before_the_newest_from_the_oldest_on() {
        let mut red = RedPayloads::default();
        let two = red.get(2, 5_000, &[9], before).expect("two blocks");
        // 1,920 and 960 ticks in 14 bits, then 2 and 3 bytes in 10.
        assert_eq!(two, [0x80, 0x1e, 0, 2, 0x80, 0x0f, 0, 3, 0, 8, 8, 7, 7, 7, 9]);
        let mut copy = two.to_vec();
        set_payload_type(&mut copy, PayloadType(96));
        assert_eq!(copy, [0xe0, 0x1e, 0, 2, 0xe0, 0x0f, 0, 3, 96, 8, 8, 7, 7, 7, 9]);
        assert_eq!((primary(&copy), older_blocks(&copy)), (&[9][..], 2));
        let one = red.get(1, 5_000, &[9], before).expect("one block");
        assert_eq!(one, [0x80, 0x0f, 0, 3, 0, 7, 7, 7, 9]);
        assert_eq!(red.get(0, 5_000, &[9], before), None);
    }

    #[test]
    fn a_payload_is_made_once_for_a_packet() {
        let mut red = RedPayloads::default();
        let first = red.get(1, 5_000, &[9], before).expect("one block").to_vec();
        let again = red.get(1, 5_000, &[9], |_| panic!("made already"));
        assert_eq!(again, Some(&first[..]));
        red.clear();
        assert_eq!(red.get(1, 5_000, &[9], |_| None), None, "the next packet has no predecessor");
        assert_eq!(red.get(1, 5_000, &[9], before), None, "which is not looked for again");
    }

    #[test]
    fn a_missing_predecessor_is_left_out() {
        let mut red = RedPayloads::default();
        let only_second = red.get(2, 5_000, &[9], |back| before(back).filter(|_| back == 2));
        assert_eq!(only_second, Some(&[0x80, 0x1e, 0, 2, 0, 8, 8, 9][..]));
    }

    #[test]
    fn what_a_header_cannot_tell_or_a_packet_not_hold_is_left_out() {
        let long = [1; MAX_PAYLOAD];
        let carried = |timestamp: u32, older: &[u8], payload: &[u8]| {
            let mut red = RedPayloads::default();
            let older = Older { timestamp, payload: older };
            red.get(1, 20_000, payload, |_| Some(older)).is_some()
        };
        assert!(carried(20_000 - MAX_DISTANCE, &[7], &[9]));
        assert!(!carried(20_000 - MAX_DISTANCE - 1, &[7], &[9]), "silence lay between");
        assert!(!carried(20_000, &[7], &[9]) && !carried(20_960, &[7], &[9]), "time leapt back");
        assert!(carried(19_040, &long[..MAX_BLOCK], &[9]));
        assert!(!carried(19_040, &long[..=MAX_BLOCK], &[9]));
        assert!(carried(19_040, &long[..500], &long[..595]));
        assert!(!carried(19_040, &long[..500], &long[..596]));
        assert!(!carried(19_040, &[7], &[]), "padding carries nothing");
        assert!(!carried(19_040, &[], &[9]), "padding is not carried");
    }

    #[test]
    fn when_there_is_no_room_for_two_the_nearer_one_stays() {
        let long = [1; 600];
        let mut red = RedPayloads::default();
        let find = |back: u64| Some(Older { timestamp: 5_000 - 960 * back as u32, payload: &long[..] });
        let payload = red.get(2, 5_000, &[9], find).expect("one block");
        assert_eq!(payload[..5], [0x80, 0x0f, 0x02, 0x58, 0]);
        assert_eq!(primary(payload), [9]);
    }
}
