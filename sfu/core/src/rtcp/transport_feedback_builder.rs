//! Writes transport feedback: [`super::TransportFeedback`] is what the other side reads.

use super::transport_feedback::{LARGE_DELTA, MAX_STATUSES, NOT_RECEIVED, SMALL_DELTA, TICKS_PER_REFERENCE};
use super::{FORMAT_TRANSPORT, TRANSPORT_LAYER_FEEDBACK, put_u32, write_packet};
use crate::ids::Ssrc;

/// The longest packet that is written, so that a report fits into a datagram with it.
const MAX_LEN: usize = 1000;
/// Header, senders and the fields in front of the chunks.
const FIXED_LEN: usize = 20;
/// The longest run of one chunk (section 3.1.3).
const MAX_RUN: u16 = 0x1fff;

/// Writes the feedback of one transport and counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFeedbackBuilder {
    sender: Ssrc,
    media: Ssrc,
    count: u8,
}

impl TransportFeedbackBuilder {
    /// Feedback of `sender` on a transport of which `media` is one of the streams.
    pub fn new(sender: Ssrc, media: Ssrc) -> Self {
        Self { sender, media, count: 0 }
    }

    /// Another stream of the transport from now on.
    pub fn set_media(&mut self, media: Ssrc) {
        self.media = media;
    }

    /// Appends feedback on the packets from `base_seq` on: the transport sequence numbers of those that have arrived,
    /// from old to new (across the wrap, none twice), with their times in ticks of 250 µs since any fixed moment. The
    /// numbers before and between them are reported as not received. It is split into as many packets as its length,
    /// and jumps of the time, ask for; a gap of [`MAX_STATUSES`] numbers or more is left out. Returns how many packets
    /// were written.
    pub fn write(&mut self, base_seq: u16, arrivals: &[(u16, i64)], out: &mut Vec<u8>) -> usize {
        let mut base_seq = base_seq;
        let mut rest = arrivals;
        let mut packets = 0;
        while let Some(&(first_seq, first_time)) = rest.first() {
            if first_seq.wrapping_sub(base_seq) >= MAX_STATUSES {
                base_seq = first_seq;
            }
            let start = out.len();
            let reference = first_time.div_euclid(TICKS_PER_REFERENCE);
            write_packet(out, usize::from(FORMAT_TRANSPORT), TRANSPORT_LAYER_FEEDBACK, |out| {
                put_u32(out, self.sender.0);
                put_u32(out, self.media.0);
                out.extend_from_slice(&base_seq.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                put_u32(out, (reference as u32) << 8 | u32::from(self.count));
                let (taken, statuses) = write_statuses(base_seq, rest, reference * TICKS_PER_REFERENCE, out);
                rest = rest.get(taken..).unwrap_or_default();
                base_seq = base_seq.wrapping_add(statuses);
                out[start + 14..start + 16].copy_from_slice(&statuses.to_be_bytes());
            });
            self.count = self.count.wrapping_add(1);
            packets += 1;
        }
        packets
    }
}

/// Appends chunks and deltas for the first of `arrivals`, at least one. Returns for how many, and how many packets
/// are reported on.
fn write_statuses(base_seq: u16, arrivals: &[(u16, i64)], mut time: i64, out: &mut Vec<u8>) -> (usize, u16) {
    let chunks_start = out.len();
    let mut chunk = PendingChunk::default();
    let mut deltas = [0; MAX_LEN];
    let mut deltas_len = 0;
    let (mut taken, mut statuses) = (0, 0);
    for &(seq, arrival) in arrivals {
        let expected = base_seq.wrapping_add(statuses);
        let gap = seq.wrapping_sub(expected);
        let Ok(delta) = i16::try_from(arrival - time) else { break };
        // Those that wait take two chunks at most, a gap and the packet behind it two each.
        let len = FIXED_LEN + (out.len() - chunks_start) + deltas_len + 2 * 6 + 2;
        if len > MAX_LEN || gap >= MAX_STATUSES - statuses {
            break;
        }
        for _ in 0..gap {
            chunk.add(NOT_RECEIVED, out);
        }
        if let Ok(small) = u8::try_from(delta) {
            chunk.add(SMALL_DELTA, out);
            deltas[deltas_len] = small;
            deltas_len += 1;
        } else {
            chunk.add(LARGE_DELTA, out);
            deltas[deltas_len..deltas_len + 2].copy_from_slice(&delta.to_be_bytes());
            deltas_len += 2;
        }
        time = arrival;
        statuses += gap + 1;
        taken += 1;
    }
    chunk.finish(out);
    out.extend_from_slice(&deltas[..deltas_len]);
    (taken, statuses)
}

/// Symbols that are not written yet: a run of equal ones, or what can still become a vector.
#[derive(Default)]
struct PendingChunk {
    /// The first of them.
    symbols: [u8; 14],
    len: u16,
    /// They are not all the same.
    mixed: bool,
    /// One of them needs two bits.
    large: bool,
}

impl PendingChunk {
    fn add(&mut self, symbol: u8, out: &mut Vec<u8>) {
        while !self.can_add(symbol) {
            self.write_one(false, out);
        }
        if let Some(place) = self.symbols.get_mut(usize::from(self.len)) {
            *place = symbol;
        }
        self.mixed |= symbol != self.symbols[0];
        self.large |= symbol == LARGE_DELTA;
        self.len += 1;
    }

    /// Whether one chunk can hold the symbol and those that wait: a vector of two bits, of one bit, or a run.
    fn can_add(&self, symbol: u8) -> bool {
        let large = self.large || symbol == LARGE_DELTA;
        let run = !self.mixed && symbol == self.symbols[0] && self.len < MAX_RUN;
        self.len < 7 || self.len < 14 && !large || run
    }

    /// Writes the chunk that takes the most of them, and keeps the others. Only the last chunk of all may be a vector
    /// that is not full.
    fn write_one(&mut self, last: bool, out: &mut Vec<u8>) {
        let (word, written) = if !self.mixed {
            (u16::from(self.symbols[0]) << 13 | self.len, self.len)
        } else if !self.large && (last || self.len == 14) {
            (0x8000 | self.pack(14, 1), self.len)
        } else {
            (0xc000 | self.pack(7, 2), self.len.min(7))
        };
        out.extend_from_slice(&word.to_be_bytes());
        let waiting = std::mem::take(self);
        for index in written..waiting.len {
            let symbol = waiting.symbols[usize::from(index)];
            self.symbols[usize::from(index - written)] = symbol;
            self.mixed |= symbol != self.symbols[0];
            self.large |= symbol == LARGE_DELTA;
            self.len += 1;
        }
    }

    /// The first `count` symbols in `bits` each; those that are not there are 0.
    fn pack(&self, count: u16, bits: u16) -> u16 {
        let places = self.symbols.iter().zip(0..count);
        places.fold(0, |word, (&symbol, index)| {
            let symbol = if index < self.len { u16::from(symbol) } else { 0 };
            word | symbol << (bits * (count - 1 - index))
        })
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        while self.len > 0 {
            self.write_one(true, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::rtcp::{Packet, TransportFeedback, parse};
    use crate::rtp::mutation::hex;

    fn feedbacks(bytes: &[u8]) -> Vec<TransportFeedback<'_>> {
        let only_feedback = |packet| match packet {
            Ok(Packet::TransportFeedback(feedback)) => feedback,
            other => panic!("{other:?}"),
        };
        parse(bytes).map(only_feedback).collect()
    }

    /// The arrivals, with times put together from reference and deltas.
    fn read(bytes: &[u8]) -> Vec<(u16, i64)> {
        let mut arrivals = vec![];
        for feedback in feedbacks(bytes) {
            let mut time = i64::from(feedback.reference_time) * TICKS_PER_REFERENCE;
            for (seq, delta) in feedback.statuses() {
                if let Some(delta) = delta {
                    time += i64::from(delta);
                    arrivals.push((seq, time));
                }
            }
        }
        arrivals
    }

    fn write(arrivals: &[(u16, i64)]) -> Vec<u8> {
        let mut out = vec![];
        let base_seq = arrivals.first().map_or(0, |(seq, _)| *seq);
        TransportFeedbackBuilder::new(Ssrc(1), Ssrc(2)).write(base_seq, arrivals, &mut out);
        out
    }

    #[test]
    fn the_shortest_chunks_are_chosen() {
        let steady: Vec<_> = (0..100).map(|n| (n, 512 + 4 * i64::from(n))).collect();
        let run = write(&steady);
        assert_eq!(run[..22], hex("8fcd 001e 00000001 00000002 0000 0064 000002 00 2064"));
        let every_second: Vec<_> = (0..7).map(|n| (2 * n, 512)).collect();
        let bits = write(&every_second);
        assert_eq!(bits[..22], hex("8fcd 0007 00000001 00000002 0000 000d 000002 00 aaaa"));
        let with_jump = write(&[(0, 512), (1, 1000), (3, 990), (4, 990)]);
        assert_eq!(
            with_jump,
            hex("8fcd 0006 00000001 00000002 0000 0005 000002 00 d890 00 01e8 fff6 00"),
            "two bits each"
        );
    }

    #[test]
    fn long_feedback_and_jumps_of_time_are_split_and_counted() {
        let many: Vec<_> = (0..5_000u16).map(|n| (n.wrapping_mul(3), i64::from(n) * 300)).collect();
        let bytes = write(&many);
        assert_eq!(read(&bytes), many);
        let all = feedbacks(&bytes);
        assert!(all.len() > 5);
        assert!(all.iter().zip(0..).all(|(feedback, count)| feedback.feedback_count == count));

        let pause = [(1, 0), (2, 40_000), (3, 40_001), (4, -5)];
        assert_eq!(read(&write(&pause)), pause);
        assert_eq!(feedbacks(&write(&pause)).len(), 3);
        let gap = [(1, 0), (9_000, 1), (9_001, 2)];
        assert_eq!(read(&write(&gap)), gap);
        assert_eq!(feedbacks(&write(&gap)).len(), 2);
        assert!(write(&[]).is_empty());
    }

    #[test]
    fn losses_before_the_first_arrival_and_between_packets_are_reported() {
        let mut bytes = vec![];
        let mut builder = TransportFeedbackBuilder::new(Ssrc(1), Ssrc(2));
        builder.write(65_534, &[(1, 512), (5, 512 + 40_000)], &mut bytes);
        let all = feedbacks(&bytes);
        let statuses: Vec<_> = all.iter().flat_map(|feedback| feedback.statuses()).collect();
        let seqs: Vec<_> = statuses.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, [65_534, 65_535, 0, 1, 2, 3, 4, 5]);
        let arrived: Vec<_> =
            statuses.iter().filter(|(_, delta)| delta.is_some()).map(|(seq, _)| *seq).collect();
        assert_eq!((all.len(), arrived), (2, vec![1, 5]));
        assert_eq!(read(&bytes), [(1, 512), (5, 40_512)]);
    }

    fn random_arrivals(rng: &mut StdRng) -> Vec<(u16, i64)> {
        let (mut seq, mut time) = (rng.random::<u16>(), rng.random_range(-1_000_000..1_000_000));
        let (loss, jump) = (rng.random_range(0.0..0.9), rng.random_range(0.0..0.5));
        (0..rng.random_range(1..1_500))
            .map(|_| {
                seq = seq.wrapping_add(if rng.random_bool(loss) { rng.random_range(1..30) } else { 1 });
                time += if rng.random_bool(jump) {
                    rng.random_range(-2_000..40_000)
                } else {
                    rng.random_range(0..9)
                };
                (seq, time)
            })
            .collect()
    }

    #[test]
    fn random_feedback_goes_to_another_implementation_and_back() {
        let mut rng = StdRng::seed_from_u64(24);
        for _ in 0..300 {
            let arrivals = random_arrivals(&mut rng);
            let bytes = write(&arrivals);
            assert_eq!(read(&bytes), arrivals);
            let mut rest = &bytes[..];
            for ours in feedbacks(&bytes) {
                let len = 4 + 4 * usize::from(u16::from_be_bytes([rest[2], rest[3]]));
                assert!(len <= MAX_LEN);
                let theirs = TransportLayerCc::unmarshal(&mut &rest[..len]).unwrap();
                assert_eq!(theirs.base_sequence_number, ours.base_seq);
                assert_eq!(theirs.packet_status_count, ours.status_count);
                assert_eq!(theirs.reference_time, ours.reference_time as u32 & 0xff_ffff);
                let deltas: Vec<_> = ours.statuses().filter_map(|(_, delta)| delta).map(i64::from).collect();
                assert_eq!(theirs.recv_deltas.iter().map(|d| d.delta / 250).collect::<Vec<_>>(), deltas);
                let back = theirs.marshal().unwrap();
                assert_eq!(
                    feedbacks(&back)[0].statuses().collect::<Vec<_>>(),
                    ours.statuses().collect::<Vec<_>>()
                );
                rest = &rest[len..];
            }
            assert!(rest.is_empty());
        }
    }
}
