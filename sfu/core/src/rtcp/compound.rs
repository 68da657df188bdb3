//! Puts RTCP packets together into datagrams.

use super::HEADER_LEN;

/// The longest datagram, before encryption, which adds up to 18 bytes.
pub const MAX_DATAGRAM_LEN: usize = 1200;

/// Datagrams that are being filled. To be kept and cleared, so that nothing is allocated in the long run.
#[derive(Clone, Debug, Default)]
pub struct CompoundWriter {
    bytes: Vec<u8>,
    /// Where each datagram but the last ends.
    ends: Vec<usize>,
}

impl CompoundWriter {
    /// Adds the packets that `write` appends. A datagram ends before the packet that would make it longer than
    /// [`MAX_DATAGRAM_LEN`].
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut at = self.bytes.len();
        write(&mut self.bytes);
        while let Some(&[_, _, len0, len1]) = self.bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            let end = at + HEADER_LEN + 4 * usize::from(u16::from_be_bytes([len0, len1]));
            let start = self.ends.last().copied().unwrap_or(0);
            if at > start && end - start > MAX_DATAGRAM_LEN {
                self.ends.push(at);
            }
            at = end;
        }
    }

    /// The datagrams.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ends = self.ends.iter().copied().chain([self.bytes.len()]);
        starts
            .zip(ends)
            .filter_map(|(start, end)| self.bytes.get(start..end))
            .filter(|bytes| !bytes.is_empty())
    }

    /// Starts anew.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ssrc;
    use crate::rtcp::feedback::{write_nack, write_pli};
    use crate::rtcp::parse;
    use crate::rtcp::report::{ReportBlock, write_receiver_report};

    #[test]
    fn packets_share_datagrams_up_to_the_limit_and_are_never_cut() {
        let mut writer = CompoundWriter::default();
        assert!(writer.datagrams().next().is_none());
        writer.add(|out| write_receiver_report(out, Ssrc(1), &[ReportBlock::default(); 20]));
        for _ in 0..100 {
            writer.add(|out| write_pli(out, Ssrc(1), Ssrc(2)));
        }
        let seqs: Vec<u16> = (0..900).map(|n| n * 20).collect();
        writer.add(|out| write_nack(out, Ssrc(1), Ssrc(2), &seqs));
        writer.add(|out| write_pli(out, Ssrc(1), Ssrc(2)));

        let datagrams: Vec<_> = writer.datagrams().collect();
        assert!(datagrams.iter().all(|d| d.len() <= MAX_DATAGRAM_LEN));
        assert_eq!(datagrams.len(), 6);
        let packets: usize = datagrams.iter().map(|d| parse(d).map(Result::unwrap).count()).sum();
        assert_eq!(packets, 1 + 100 + 4 + 1);
        writer.clear();
        assert!(writer.datagrams().next().is_none());
    }
}
