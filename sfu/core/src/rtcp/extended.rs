//! Extended reports (RFC 3611), as far as they measure the round trip from the receiving side.

use super::{EXTENDED_REPORT, put_u32, split_u32, write_packet};
use crate::ids::Ssrc;

/// A receiver's reference time (RFC 3611 section 4.4).
const RECEIVER_REFERENCE_TIME: u8 = 4;
/// The delay since the last of them (RFC 3611 section 4.5).
const DELAY_SINCE_REFERENCE: u8 = 5;

/// The blocks of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedReport<'a> {
    /// Who reports.
    pub ssrc: Ssrc,
    blocks: &'a [u8],
}

/// The answer to a reference time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelaySinceReference {
    /// Whose reference time it was.
    pub ssrc: Ssrc,
    /// The middle 32 bits of it.
    pub last_reference: u32,
    /// The time since it arrived, in 1/65536 seconds.
    pub delay: u32,
}

impl<'a> ExtendedReport<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (ssrc, blocks) = split_u32(body)?;
        Some(Self { ssrc: Ssrc(ssrc), blocks })
    }

    /// The sender's clock when it sent this, as an NTP timestamp in 32.32 fixed-point.
    pub fn reference_time(&self) -> Option<u64> {
        let (_, bytes) = self.blocks().find(|&(kind, _)| kind == RECEIVER_REFERENCE_TIME)?;
        Some(u64::from_be_bytes(*bytes.first_chunk()?))
    }

    /// Answers to reference times.
    pub fn delays(self) -> impl Iterator<Item = DelaySinceReference> + 'a {
        let blocks = self.blocks().filter(|&(kind, _)| kind == DELAY_SINCE_REFERENCE);
        blocks.flat_map(|(_, bytes)| bytes.as_chunks::<12>().0).filter_map(|bytes| {
            let (ssrc, rest) = split_u32(bytes)?;
            let (last_reference, rest) = split_u32(rest)?;
            let (delay, _) = split_u32(rest)?;
            Some(DelaySinceReference { ssrc: Ssrc(ssrc), last_reference, delay })
        })
    }

    /// All blocks with their types; one that overruns the packet ends them.
    fn blocks(self) -> impl Iterator<Item = (u8, &'a [u8])> + 'a {
        let mut rest = self.blocks;
        std::iter::from_fn(move || {
            let (&[kind, _, len0, len1], after) = std::mem::take(&mut rest).split_first_chunk()?;
            let (block, after) = after.split_at_checked(4 * usize::from(u16::from_be_bytes([len0, len1])))?;
            rest = after;
            Some((kind, block))
        })
    }
}

/// Appends a reference time: an NTP timestamp in 32.32 fixed-point.
pub fn write_reference_time(out: &mut Vec<u8>, ssrc: Ssrc, ntp: u64) {
    write_packet(out, 0, EXTENDED_REPORT, |out| {
        put_u32(out, ssrc.0);
        out.extend_from_slice(&[RECEIVER_REFERENCE_TIME, 0, 0, 2]);
        out.extend_from_slice(&ntp.to_be_bytes());
    });
}

/// Appends the answers to reference times.
pub fn write_delays(out: &mut Vec<u8>, ssrc: Ssrc, delays: &[DelaySinceReference]) {
    write_packet(out, 0, EXTENDED_REPORT, |out| {
        put_u32(out, ssrc.0);
        let [len0, len1] = (3 * delays.len() as u16).to_be_bytes();
        out.extend_from_slice(&[DELAY_SINCE_REFERENCE, 0, len0, len1]);
        for answer in delays {
            put_u32(out, answer.ssrc.0);
            put_u32(out, answer.last_reference);
            put_u32(out, answer.delay);
        }
    });
}

#[cfg(test)]
mod tests {
    use rtc_rtcp::extended_report::{
        DLRRReport, DLRRReportBlock, ExtendedReport as Theirs, ReceiverReferenceTimeReportBlock,
    };
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::rtcp::{Packet, parse};

    fn read(bytes: &[u8]) -> ExtendedReport<'_> {
        match parse(bytes).next() {
            Some(Ok(Packet::ExtendedReport(report))) => report,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn blocks_of_another_implementation_are_read() {
        let theirs = Theirs {
            sender_ssrc: 1,
            reports: vec![
                Box::new(ReceiverReferenceTimeReportBlock { ntp_timestamp: 0x0102_0304_0506_0708 }),
                Box::new(DLRRReportBlock {
                    reports: vec![
                        DLRRReport { ssrc: 2, last_rr: 3, dlrr: 4 },
                        DLRRReport { ssrc: 5, last_rr: 6, dlrr: 7 },
                    ],
                }),
            ],
        };
        let bytes = theirs.marshal().unwrap();
        let report = read(&bytes);
        assert_eq!((report.ssrc, report.reference_time()), (Ssrc(1), Some(0x0102_0304_0506_0708)));
        let delays: Vec<_> = report.delays().map(|d| (d.ssrc.0, d.last_reference, d.delay)).collect();
        assert_eq!(delays, [(2, 3, 4), (5, 6, 7)]);
    }

    #[test]
    fn what_is_written_is_read_by_us_and_by_another_implementation() {
        let mut time = vec![];
        write_reference_time(&mut time, Ssrc(1), 77);
        assert_eq!((read(&time).reference_time(), read(&time).delays().count()), (Some(77), 0));
        assert_eq!(Theirs::unmarshal(&mut &time[..]).unwrap().reports.len(), 1);
        let delays = [DelaySinceReference { ssrc: Ssrc(2), last_reference: 3, delay: 4 }; 2];
        let mut answer = vec![];
        write_delays(&mut answer, Ssrc(1), &delays);
        assert_eq!(read(&answer).delays().collect::<Vec<_>>(), delays);
        assert_eq!(read(&answer).reference_time(), None);
        assert_eq!(Theirs::unmarshal(&mut &answer[..]).unwrap().reports.len(), 1);
    }
}
