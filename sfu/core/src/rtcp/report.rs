//! Sender and receiver reports (RFC 3550 section 6.4).

use super::{RECEIVER_REPORT, SENDER_REPORT, put_u32, split_u32, write_packet};
use crate::ids::Ssrc;

/// How many blocks one report can have.
pub const MAX_BLOCKS: usize = 31;

const SENDER_INFO_LEN: usize = 20;
const BLOCK_LEN: usize = 24;

/// What somebody says that they have sent of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// The stream.
    pub ssrc: Ssrc,
    /// When this was said, on the NTP clock in 32.32 fixed-point.
    pub ntp: u64,
    /// The same moment on the stream's clock.
    pub rtp_timestamp: u32,
    /// Packets sent, modulo 2^32.
    pub packets: u32,
    /// Bytes of payload sent, modulo 2^32.
    pub octets: u32,
}

/// What somebody has received of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: Ssrc,
    /// The share lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in all, 24 bits with a sign: duplicates count against losses.
    pub cumulative_lost: i32,
    /// The highest sequence number received, with the count of cycles above it.
    pub highest_seq: u32,
    /// The variation of transit times, in the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of `ntp` of the last sender report; 0 when there was none.
    pub last_sender_report: u32,
    /// The time since it arrived, in 1/65536 seconds.
    pub delay_since_last: u32,
}

/// A parsed sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport<'a> {
    /// What was sent.
    pub info: SenderInfo,
    blocks: &'a [u8],
}

/// A parsed receiver report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub ssrc: Ssrc,
    blocks: &'a [u8],
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let (ssrc, rest) = split_u32(body)?;
        let (ntp, _) = rest.split_first_chunk()?;
        let (fields, blocks) = rest.split_at_checked(SENDER_INFO_LEN)?;
        let info = SenderInfo {
            ssrc: Ssrc(ssrc),
            ntp: u64::from_be_bytes(*ntp),
            rtp_timestamp: word(fields, 2),
            packets: word(fields, 3),
            octets: word(fields, 4),
        };
        Some(Self { info, blocks: blocks.get(..BLOCK_LEN * usize::from(count))? })
    }

    /// What the sender has received of streams.
    pub fn blocks(self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.blocks.chunks_exact(BLOCK_LEN).map(ReportBlock::read)
    }
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let (ssrc, blocks) = split_u32(body)?;
        Some(Self { ssrc: Ssrc(ssrc), blocks: blocks.get(..BLOCK_LEN * usize::from(count))? })
    }

    /// What was received of streams.
    pub fn blocks(self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.blocks.chunks_exact(BLOCK_LEN).map(ReportBlock::read)
    }
}

impl ReportBlock {
    fn read(bytes: &[u8]) -> Self {
        let loss = word(bytes, 1);
        Self {
            ssrc: Ssrc(word(bytes, 0)),
            fraction_lost: (loss >> 24) as u8,
            // Shifted up and down again, which spreads the sign.
            cumulative_lost: (loss << 8) as i32 >> 8,
            highest_seq: word(bytes, 2),
            jitter: word(bytes, 3),
            last_sender_report: word(bytes, 4),
            delay_since_last: word(bytes, 5),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        const MAX_LOST: i32 = (1 << 23) - 1;
        let lost = self.cumulative_lost.clamp(-MAX_LOST - 1, MAX_LOST) as u32 & 0x00ff_ffff;
        put_u32(out, self.ssrc.0);
        put_u32(out, u32::from(self.fraction_lost) << 24 | lost);
        put_u32(out, self.highest_seq);
        put_u32(out, self.jitter);
        put_u32(out, self.last_sender_report);
        put_u32(out, self.delay_since_last);
    }
}

/// Appends a sender report. Blocks beyond [`MAX_BLOCKS`] are left out.
pub fn write_sender_report(out: &mut Vec<u8>, info: &SenderInfo, blocks: &[ReportBlock]) {
    let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
    write_packet(out, blocks.len(), SENDER_REPORT, |out| {
        put_u32(out, info.ssrc.0);
        out.extend_from_slice(&info.ntp.to_be_bytes());
        put_u32(out, info.rtp_timestamp);
        put_u32(out, info.packets);
        put_u32(out, info.octets);
        for block in blocks {
            block.write(out);
        }
    });
}

/// Appends a receiver report. Blocks beyond [`MAX_BLOCKS`] are left out.
pub fn write_receiver_report(out: &mut Vec<u8>, ssrc: Ssrc, blocks: &[ReportBlock]) {
    let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
    write_packet(out, blocks.len(), RECEIVER_REPORT, |out| {
        put_u32(out, ssrc.0);
        for block in blocks {
            block.write(out);
        }
    });
}

/// The `index`th word; 0 beyond the end, where callers never look.
fn word(bytes: &[u8], index: usize) -> u32 {
    bytes.get(4 * index..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rtc_rtcp::receiver_report::ReceiverReport as TheirReceiverReport;
    use rtc_rtcp::reception_report::ReceptionReport as TheirBlock;
    use rtc_rtcp::sender_report::SenderReport as TheirSenderReport;
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::drops::DropReason;
    use crate::rtcp::{Packet, parse};

    fn random_blocks(rng: &mut StdRng) -> Vec<ReportBlock> {
        let count = rng.random_range(0..=MAX_BLOCKS);
        (0..count)
            .map(|_| ReportBlock {
                ssrc: Ssrc(rng.random()),
                fraction_lost: rng.random(),
                cumulative_lost: rng.random_range(0..1 << 23),
                highest_seq: rng.random(),
                jitter: rng.random(),
                last_sender_report: rng.random(),
                delay_since_last: rng.random(),
            })
            .collect()
    }

    fn theirs(block: &ReportBlock) -> TheirBlock {
        TheirBlock {
            ssrc: block.ssrc.0,
            fraction_lost: block.fraction_lost,
            total_lost: block.cumulative_lost as u32,
            last_sequence_number: block.highest_seq,
            last_sender_report: block.last_sender_report,
            delay: block.delay_since_last,
            jitter: block.jitter,
        }
    }

    #[test]
    fn reports_go_to_another_implementation_and_back() {
        let mut rng = StdRng::seed_from_u64(21);
        for _ in 0..500 {
            let blocks = random_blocks(&mut rng);
            let info = SenderInfo {
                ssrc: Ssrc(rng.random()),
                ntp: rng.random(),
                rtp_timestamp: rng.random(),
                packets: rng.random(),
                octets: rng.random(),
            };
            let mut bytes = vec![];
            write_sender_report(&mut bytes, &info, &blocks);
            let sender = TheirSenderReport::unmarshal(&mut &bytes[..]).unwrap();
            let expected = TheirSenderReport {
                ssrc: info.ssrc.0,
                ntp_time: info.ntp,
                rtp_time: info.rtp_timestamp,
                packet_count: info.packets,
                octet_count: info.octets,
                reports: blocks.iter().map(theirs).collect(),
                ..Default::default()
            };
            assert_eq!(sender, expected);
            let back = sender.marshal().unwrap();
            let Some(Ok(Packet::SenderReport(report))) = parse(&back).next() else { panic!("not parsed") };
            assert_eq!((report.info, report.blocks().collect::<Vec<_>>()), (info, blocks.clone()));

            let mut bytes = vec![];
            write_receiver_report(&mut bytes, info.ssrc, &blocks);
            let receiver = TheirReceiverReport::unmarshal(&mut &bytes[..]).unwrap();
            assert_eq!(receiver.reports, blocks.iter().map(theirs).collect::<Vec<_>>());
            let back = receiver.marshal().unwrap();
            let Some(Ok(Packet::ReceiverReport(report))) = parse(&back).next() else { panic!("not parsed") };
            assert_eq!((report.ssrc, report.blocks().collect::<Vec<_>>()), (info.ssrc, blocks));
        }
    }

    #[test]
    fn losses_keep_their_sign_and_are_clamped() {
        let read_back = |cumulative_lost| {
            let mut bytes = vec![];
            let block = ReportBlock { cumulative_lost, fraction_lost: 7, ..ReportBlock::default() };
            write_receiver_report(&mut bytes, Ssrc(1), &[block]);
            let Some(Ok(Packet::ReceiverReport(report))) = parse(&bytes).next() else { panic!("not parsed") };
            let block = report.blocks().next().unwrap();
            assert_eq!(block.fraction_lost, 7);
            block.cumulative_lost
        };
        assert_eq!(read_back(-5), -5);
        assert_eq!(read_back(i32::MAX), 0x7f_ffff);
        assert_eq!(read_back(i32::MIN), -0x80_0000);
    }

    #[test]
    fn more_blocks_than_there_is_room_for_are_malformed_when_read_and_left_out_when_written() {
        let mut bytes = vec![];
        write_receiver_report(&mut bytes, Ssrc(1), &[ReportBlock::default(); 40]);
        assert_eq!(bytes.len(), 8 + 24 * MAX_BLOCKS);
        let mut bytes = vec![];
        write_receiver_report(&mut bytes, Ssrc(1), &[]);
        bytes[0] |= 1;
        assert_eq!(parse(&bytes).next(), Some(Err(DropReason::RtcpMalformed)));
    }
}
