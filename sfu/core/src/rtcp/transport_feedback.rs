//! When the packets of a transport have arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).

use super::split_senders;
use crate::ids::Ssrc;

/// How many packets one feedback may report on. A browser reports every 100 ms or more often; without a limit a few
/// bytes could make the reader walk over 65,535 packets that never were.
pub const MAX_STATUSES: u16 = 2048;

/// Ticks of 250 µs in one unit of the reference time.
pub const TICKS_PER_REFERENCE: i64 = 256;

/// The symbols for one packet.
pub(super) const NOT_RECEIVED: u8 = 0;
pub(super) const SMALL_DELTA: u8 = 1;
pub(super) const LARGE_DELTA: u8 = 2;

/// A feedback whose chunks and deltas are known to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    /// Who has received the packets.
    pub sender: Ssrc,
    /// One of the streams, of no meaning.
    pub media: Ssrc,
    /// The transport sequence number of the first packet.
    pub base_seq: u16,
    /// How many packets are reported on.
    pub status_count: u16,
    /// The time that the first delta counts from, in units of 64 ms on the receiver's clock: 24 bits with a sign.
    pub reference_time: i32,
    /// Counts the feedbacks, so that lost ones are noticed.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender, media, rest) = split_senders(body)?;
        let (&[base0, base1, count0, count1, time0, time1, time2, feedback_count], rest) =
            rest.split_first_chunk()?;
        let status_count = u16::from_be_bytes([count0, count1]);
        if status_count > MAX_STATUSES {
            return None;
        }
        let (mut left, mut chunks_len, mut deltas_len) = (status_count, 0, 0);
        while left > 0 {
            let chunk = Chunk::read(rest.get(chunks_len..)?)?;
            let used = chunk.len().min(left);
            deltas_len += chunk.deltas_len(used)?;
            chunks_len += Chunk::LEN;
            left -= used;
        }
        let (chunks, deltas) = rest.split_at_checked(chunks_len)?;
        Some(Self {
            sender,
            media,
            base_seq: u16::from_be_bytes([base0, base1]),
            status_count,
            reference_time: i32::from_be_bytes([time0, time1, time2, 0]) >> 8,
            feedback_count,
            chunks,
            deltas: deltas.get(..deltas_len)?,
        })
    }

    /// Every packet that is reported on, in order: its transport sequence number and, when it has arrived, the time
    /// since the one that arrived before it in this list, in ticks of 250 µs. The first counts from `reference_time`.
    pub fn statuses(self) -> Statuses<'a> {
        Statuses {
            seq: self.base_seq,
            left: self.status_count,
            chunk: Chunk::EMPTY,
            chunks: self.chunks,
            deltas: self.deltas,
        }
    }
}

/// The iterator of [`TransportFeedback::statuses`].
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    seq: u16,
    left: u16,
    chunk: Chunk,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl Iterator for Statuses<'_> {
    type Item = (u16, Option<i16>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.chunk.len() == 0 {
            self.chunk = Chunk::read(self.chunks)?;
            self.chunks = self.chunks.get(Chunk::LEN..)?;
        }
        let delta = match self.chunk.take_symbol() {
            SMALL_DELTA => {
                let (&delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                Some(i16::from(delta))
            }
            LARGE_DELTA => {
                let (&delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                Some(i16::from_be_bytes(delta))
            }
            _ => None,
        };
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        Some((seq, delta))
    }
}

/// The symbols of some packets in a row (sections 3.1.3 and 3.1.4).
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Run {
        symbol: u8,
        left: u16,
    },
    /// The next symbol is in the highest bits.
    Vector {
        symbols: u16,
        bits: u16,
        left: u16,
    },
}

impl Chunk {
    const LEN: usize = 2;
    const EMPTY: Chunk = Chunk::Run { symbol: NOT_RECEIVED, left: 0 };

    /// A run of no packets would never end, so it is malformed.
    fn read(bytes: &[u8]) -> Option<Self> {
        let word = u16::from_be_bytes(*bytes.first_chunk()?);
        Some(match word >> 14 {
            0 | 1 => {
                let (symbol, left) = ((word >> 13) as u8 & 3, word & 0x1fff);
                (left > 0).then_some(Self::Run { symbol, left })?
            }
            2 => Self::Vector { symbols: word << 2, bits: 1, left: 14 },
            _ => Self::Vector { symbols: word << 2, bits: 2, left: 7 },
        })
    }

    fn len(self) -> u16 {
        match self {
            Self::Run { left, .. } | Self::Vector { left, .. } => left,
        }
    }

    fn take_symbol(&mut self) -> u8 {
        match self {
            Self::Run { symbol, left } => {
                *left = left.saturating_sub(1);
                *symbol
            }
            Self::Vector { symbols, bits, left } => {
                let symbol = *symbols >> (16 - *bits);
                *symbols <<= *bits;
                *left = left.saturating_sub(1);
                symbol as u8
            }
        }
    }

    /// The bytes that the deltas of the first `count` packets take; `None` for the symbol that is reserved.
    fn deltas_len(mut self, count: u16) -> Option<usize> {
        let symbol_len = |symbol| match symbol {
            NOT_RECEIVED => Some(0),
            SMALL_DELTA => Some(1),
            LARGE_DELTA => Some(2),
            _ => None,
        };
        if let Self::Run { symbol, .. } = self {
            return Some(symbol_len(symbol)? * usize::from(count));
        }
        (0..count).map(|_| symbol_len(self.take_symbol())).sum()
    }
}

#[cfg(test)]
mod tests {
    use crate::drops::DropReason;
    use crate::rtcp::{Packet, parse};
    use crate::rtp::mutation::hex;

    fn read(text: &str) -> Result<Vec<(u16, Option<i16>)>, DropReason> {
        match parse(&hex(text)).next().unwrap()? {
            Packet::TransportFeedback(feedback) => Ok(feedback.statuses().collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_forms_of_chunks_are_read() {
        // The chunks of the draft's examples: a run of 221 packets that did not arrive, one bit each, two bits each.
        let run = read("8fcd 0005 00000001 00000002 fff0 00dd 000001 05 00dd 0000").unwrap();
        assert_eq!(run.len(), 221);
        assert!(run.iter().all(|(_, delta)| delta.is_none()));
        assert_eq!((run[0].0, run[16].0), (0xfff0, 0));
        // 0 1111 1000 1110 0
        let bits =
            read("8fcd 0007 00000001 00000002 0001 000e 000001 05 9f1c 0102030405060708 0000").unwrap();
        let deltas: Vec<_> = bits.iter().map(|(_, delta)| delta.unwrap_or(0)).collect();
        assert_eq!(deltas, [0, 1, 2, 3, 4, 5, 0, 0, 0, 6, 7, 8, 0, 0]);
        // 00 11 would be reserved; here 0 1 2 1 0 2 1, of which six count.
        let pairs =
            read("8fcd 0006 00000001 00000002 0001 0006 000001 05 c649 ff fffe 07 8000 00 0000").unwrap();
        let deltas: Vec<_> = pairs.iter().map(|(_, delta)| *delta).collect();
        assert_eq!(deltas, [None, Some(255), Some(-2), Some(7), None, Some(i16::MIN)]);
    }

    #[test]
    fn the_reference_time_has_a_sign() {
        let bytes = hex("8fcd 0005 00000001 00000002 0001 0001 fffffe 05 0001 0000");
        let Some(Ok(Packet::TransportFeedback(feedback))) = parse(&bytes).next() else {
            panic!("not parsed")
        };
        assert_eq!((feedback.reference_time, feedback.feedback_count), (-2, 5));
        assert_eq!((feedback.base_seq, feedback.status_count), (1, 1));
    }

    #[test]
    fn what_is_incomplete_or_claims_too_much_is_malformed() {
        let bad = Err(DropReason::RtcpMalformed);
        assert_eq!(read("8fcd 0004 00000001 00000002 0001 0001 000001 05"), bad, "no chunk");
        assert_eq!(
            read("8fcd 0005 00000001 00000002 0001 0003 000001 05 2003 0000"),
            bad,
            "two deltas of three"
        );
        assert_eq!(read("8fcd 0005 00000001 00000002 0001 0003 000001 05 0000 0000"), bad, "an empty run");
        assert_eq!(read("8fcd 0005 00000001 00000002 0001 0001 000001 05 6001 0000"), bad, "reserved");
        assert_eq!(
            read("8fcd 0006 00000001 00000002 0001 2001 000001 05 1fff 0002 00000000"),
            bad,
            "too many"
        );
    }
}
