//! The send buffer of one transport: packets one behind the other, ready to leave as GSO trains.
//!
//! RTP waits here in the clear. Only when all packets of a receive batch are there can they be padded to one size
//! ([`super::padding`]), which is before they are sealed; and only then are they numbered, in the order in which they leave:
//! sound first.

use super::padding::{self, Size};
use crate::bandwidth::ProbeId;
use crate::drops::DropReason;

/// Which packets leave first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Sound: it must not wait behind a frame on a slow line.
    Sound,
    /// All others.
    Rest,
}

/// What is needed to seal an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// How long its header is.
    pub header_len: u16,
    /// SRTP's roll-over counter for it.
    pub roll_over: u32,
    /// The probe that it belongs to.
    pub probe: Option<ProbeId>,
}

/// Packets that wait for the end of the receive batch.
#[derive(Debug, Default)]
pub struct SendBuffer {
    sound: Run,
    rest: Run,
}

/// Packets in one contiguous run of bytes.
#[derive(Debug, Default)]
struct Run {
    bytes: Vec<u8>,
    sizes: Vec<Size>,
    /// How to seal each; `None`: it is sealed.
    plain: Vec<Option<Plain>>,
    /// Where each ends that is sealed.
    ends: Vec<u32>,
}

impl SendBuffer {
    /// What one transport may have waiting within one receive batch, in bytes. More can only come from a burst that
    /// the subscriber's network would not carry either.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// What is kept allocated between batches, in bytes. Most packets leave in a buffer that all share: here lie reports, and
    /// pictures that waited for room in the network.
    const KEPT_BYTES: usize = 4 * 1024;

    /// Appends an RTP packet in the clear. `write` appends it to the buffer and tells how to seal it; `overhead` is what
    /// that will add. Returns how long it will be.
    #[inline]
    pub fn write_plain(
        &mut self,
        lane: Lane,
        overhead: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Plain,
    ) -> Result<usize, DropReason> {
        self.write(lane, |out| {
            let plain = write(out);
            out.resize(out.len() + overhead, 0);
            Ok(Some(plain))
        })
    }

    /// Appends a packet that leaves as it is. `write` gets the buffer and the place where the packet starts, and appends to
    /// it; when it fails, nothing has been appended.
    pub fn write_sealed(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>, usize) -> Result<(), DropReason>,
    ) -> Result<usize, DropReason> {
        self.write(Lane::Rest, |out| {
            let start = out.len();
            write(out, start).map(|()| None)
        })
    }

    /// Pads where it is worth it (`pad`), and seals what waits in the clear, with `overhead` bytes each, in the order in which it
    /// leaves. Returns how many bytes of padding that took. A packet that `seal` refuses is lost, and all behind it. What was
    /// sealed before is left alone.
    pub fn seal(
        &mut self,
        pad: bool,
        overhead: usize,
        mut seal: impl FnMut(&Plain, &mut [u8]) -> Result<(), DropReason>,
    ) -> Result<usize, DropReason> {
        let sound = self.sound.seal(pad, overhead, &mut seal)?;
        Ok(sound + self.rest.seal(pad, overhead, &mut seal)?)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.sound.sizes.is_empty() && self.rest.sizes.is_empty()
    }

    /// The sealed packets, run by run, and where each ends.
    pub fn runs(&self) -> impl Iterator<Item = (&[u8], &[u32])> {
        let runs = [&self.sound, &self.rest].into_iter();
        runs.filter(|run| !run.ends.is_empty()).map(|run| (&run.bytes[..], &run.ends[..]))
    }

    /// Forgets the packets: they are sent.
    pub fn clear(&mut self) {
        self.sound.clear();
        self.rest.clear();
    }

    /// Gives back memory that a burst took. Not to be called for every batch.
    pub fn trim(&mut self) {
        for run in [&mut self.sound, &mut self.rest] {
            if run.bytes.capacity() > 4 * Self::KEPT_BYTES {
                run.bytes.shrink_to(Self::KEPT_BYTES);
            }
        }
    }

    #[inline]
    fn write(
        &mut self,
        lane: Lane,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Option<Plain>, DropReason>,
    ) -> Result<usize, DropReason> {
        let run = match lane {
            Lane::Sound => &mut self.sound,
            Lane::Rest => &mut self.rest,
        };
        let start = run.bytes.len();
        if start >= Self::MAX_BYTES {
            return Err(DropReason::SendBufferFull);
        }
        let plain = match write(&mut run.bytes) {
            Ok(plain) => plain,
            Err(reason) => {
                run.bytes.truncate(start);
                return Err(reason);
            }
        };
        let len = run.bytes.len() - start;
        let Ok(size) = u16::try_from(len) else {
            // Longer than any UDP payload.
            run.bytes.truncate(start);
            return Err(DropReason::SendBufferFull);
        };
        if run.sizes.capacity() == 0 {
            run.reserve();
        }
        // Whoever has the P bit set is padded already.
        let paddable = plain.is_some() && run.bytes.get(start).is_some_and(|first| first & PADDED == 0);
        run.sizes.push(Size { len: size, padding: 0, paddable });
        run.plain.push(plain);
        Ok(len)
    }
}

/// The P bit in the first byte of the RTP header (RFC 3550 section 5.1).
const PADDED: u8 = 0x20;

/// As much as there is room for from the first packet on: a batch that is larger allocates more, and keeps it.
const FIRST_BYTES: usize = 2048;
const FIRST_PACKETS: usize = 16;

impl Run {
    fn reserve(&mut self) {
        self.bytes.reserve(FIRST_BYTES);
        self.sizes.reserve(FIRST_PACKETS);
        self.plain.reserve(FIRST_PACKETS);
        self.ends.reserve(FIRST_PACKETS);
    }

    fn seal(
        &mut self,
        pad: bool,
        overhead: usize,
        mut seal: impl FnMut(&Plain, &mut [u8]) -> Result<(), DropReason>,
    ) -> Result<usize, DropReason> {
        // What was sealed before stays as it is: sealing it again would undo that.
        let sealed = self.ends.len();
        let fresh = self.sizes.get_mut(sealed..).unwrap_or_default();
        let padding = if pad && fresh.len() > 1 { padding::join(fresh) } else { 0 };
        if padding > 0 {
            self.spread(padding, overhead);
        }
        let mut start = self.ends.last().map_or(0, |end| *end as usize);
        for (size, plain) in self.sizes.iter().zip(&self.plain).skip(sealed) {
            let end = start + usize::from(size.padded());
            if let Some(plain) = plain
                && let Err(reason) = seal(plain, &mut self.bytes[start..end])
            {
                let sealed = self.ends.len();
                self.bytes.truncate(start);
                self.sizes.truncate(sealed);
                self.plain.truncate(sealed);
                return Err(reason);
            }
            self.ends.push(end as u32);
            start = end;
        }
        Ok(padding)
    }

    /// Moves the packets apart, the last first, and writes `padding` bytes of padding between them and the room for their tags.
    fn spread(&mut self, mut padding: usize, overhead: usize) {
        let mut end = self.bytes.len();
        self.bytes.resize(end + padding, 0);
        for size in self.sizes.iter().rev() {
            if padding == 0 {
                // All before stay where they are.
                break;
            }
            let start = end - usize::from(size.len);
            let new_end = end + padding;
            padding -= usize::from(size.padding);
            let new_start = start + padding;
            self.bytes.copy_within(start..end, new_start);
            if size.padding > 0 {
                let padding_end = new_end - overhead;
                let padding_start = padding_end - usize::from(size.padding);
                self.bytes[padding_start..padding_end].fill(0);
                self.bytes[padding_end - 1] = size.padding;
                self.bytes[new_start] |= PADDED;
            }
            end = start;
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.sizes.clear();
        self.plain.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: usize = 4;

    /// An RTP packet of `len` bytes with its tag.
    fn plain(buffer: &mut SendBuffer, lane: Lane, len: usize, name: u8) {
        let write = |out: &mut Vec<u8>| {
            out.push(0x80);
            out.resize(out.len() + len - TAG - 1, name);
            Plain { header_len: 12, roll_over: name.into(), probe: None }
        };
        assert_eq!(buffer.write_plain(lane, TAG, write), Ok(len));
    }

    fn sealed(buffer: &mut SendBuffer, len: usize) {
        let write = |out: &mut Vec<u8>, start: usize| {
            out.resize(start + len, 200);
            Ok(())
        };
        assert_eq!(buffer.write_sealed(write), Ok(len));
    }

    /// Seals with a tag that is the number of the packet in the order of leaving.
    fn seal(buffer: &mut SendBuffer, pad: bool) -> usize {
        let mut number = 0;
        let padding = buffer.seal(pad, TAG, |plain, packet| {
            let (body, tag) = packet.split_at_mut(packet.len() - TAG);
            tag.fill(number);
            let padding = if body[0] & PADDED != 0 { *body.last().unwrap() } else { 0 };
            let payload = &body[1..body.len() - usize::from(padding)];
            assert!(payload.iter().all(|byte| u32::from(*byte) == plain.roll_over), "{body:?}");
            let zeros = &body[body.len() - usize::from(padding)..];
            assert!(zeros.iter().rev().skip(1).all(|byte| *byte == 0), "{body:?}");
            number += 1;
            Ok(())
        });
        padding.unwrap()
    }

    fn packets(buffer: &SendBuffer) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for (bytes, ends) in buffer.runs() {
            let mut start = 0;
            for end in ends {
                packets.push(bytes[start..*end as usize].to_vec());
                start = *end as usize;
            }
            assert_eq!(start, bytes.len());
        }
        packets
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let mut buffer = SendBuffer::default();
        sealed(&mut buffer, 3);
        let failed = buffer.write_sealed(|out, _| {
            out.extend_from_slice(b"half");
            Err(DropReason::SrtpKeyExhausted)
        });
        assert_eq!(failed, Err(DropReason::SrtpKeyExhausted));
        seal(&mut buffer, true);
        assert_eq!(packets(&buffer), [vec![200; 3]]);
    }

    #[test]
    fn sound_leaves_first_and_is_numbered_first() {
        let mut buffer = SendBuffer::default();
        plain(&mut buffer, Lane::Rest, 900, 1);
        sealed(&mut buffer, 80);
        plain(&mut buffer, Lane::Sound, 90, 2);
        plain(&mut buffer, Lane::Sound, 90, 3);
        assert_eq!(seal(&mut buffer, true), 0);
        let left: Vec<(usize, u8)> = packets(&buffer).iter().map(|p| (p.len(), p[p.len() - 1])).collect();
        assert_eq!(left, [(90, 0), (90, 1), (900, 2), (80, 200)]);
        buffer.clear();
        assert!(buffer.is_empty() && packets(&buffer).is_empty());
    }

    #[test]
    fn padding_stands_before_the_tag_and_counts_itself() {
        let mut buffer = SendBuffer::default();
        for (name, len) in [110, 130, 125, 90].into_iter().enumerate() {
            plain(&mut buffer, Lane::Sound, len, name as u8);
        }
        plain(&mut buffer, Lane::Rest, 1000, 9);
        sealed(&mut buffer, 300);
        assert_eq!(seal(&mut buffer, true), 25);
        let packets = packets(&buffer);
        assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [130, 130, 130, 90, 1000, 300]);
        let count = |packet: &[u8]| (packet[0], packet[packet.len() - TAG - 1]);
        assert_eq!(count(&packets[0]), (0xa0, 20));
        assert_eq!(count(&packets[1]), (0x80, 1));
        assert_eq!(count(&packets[2]), (0xa0, 5));
        assert_eq!(packets[5], vec![200; 300]);
    }

    #[test]
    fn what_must_not_be_padded_is_not() {
        let mut buffer = SendBuffer::default();
        for (name, len) in [110, 130].into_iter().enumerate() {
            plain(&mut buffer, Lane::Sound, len, name as u8);
        }
        assert_eq!(seal(&mut buffer, false), 0);
        buffer.clear();
        // Padding of a probe, and RTCP.
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(&[0xa0, 0, 0, 3]);
            Plain { header_len: 1, roll_over: 0, probe: None }
        };
        buffer.write_plain(Lane::Rest, 0, write).unwrap();
        sealed(&mut buffer, 8);
        sealed(&mut buffer, 9);
        let padding = buffer.seal(true, 0, |_, _| Ok(()));
        assert_eq!(padding, Ok(0));
        assert_eq!(packets(&buffer).iter().map(Vec::len).collect::<Vec<_>>(), [4, 8, 9]);
    }

    #[test]
    fn what_cannot_be_sealed_does_not_leave() {
        let mut buffer = SendBuffer::default();
        (1..=3).for_each(|name| plain(&mut buffer, Lane::Rest, 50, name));
        let refuse = |plain: &Plain, _: &mut [u8]| match plain.roll_over {
            1 => Ok(()),
            _ => Err(DropReason::SrtpKeyExhausted),
        };
        assert_eq!(buffer.seal(true, TAG, refuse), Err(DropReason::SrtpKeyExhausted));
        assert_eq!(packets(&buffer).len(), 1);
        plain(&mut buffer, Lane::Rest, 50, 1);
        assert_eq!(buffer.seal(true, TAG, refuse), Ok(0));
        assert_eq!(packets(&buffer).len(), 2);
    }

    #[test]
    fn nothing_is_sealed_twice() {
        let mut buffer = SendBuffer::default();
        let mut seals: Vec<u32> = Vec::new();
        let mut seal = |buffer: &mut SendBuffer| {
            buffer.seal(true, TAG, |plain, packet| {
                seals.push(plain.roll_over);
                // Like the key stream of a cipher, it would undo itself.
                for byte in packet {
                    *byte ^= 0x5a;
                }
                Ok(())
            })
        };
        (1..=2).for_each(|name| plain(&mut buffer, Lane::Rest, 98 + usize::from(name), name));
        plain(&mut buffer, Lane::Sound, 60, 3);
        assert_eq!(seal(&mut buffer), Ok(1));
        let before = packets(&buffer);
        assert_eq!(seal(&mut buffer), Ok(0));
        assert_eq!(packets(&buffer), before);
        for name in [4, 5] {
            plain(&mut buffer, Lane::Rest, 105 + usize::from(name), name);
        }
        sealed(&mut buffer, 30);
        assert_eq!(seal(&mut buffer), Ok(1));
        let after = packets(&buffer);
        assert_eq!(after[..3], before);
        assert_eq!(after.iter().map(Vec::len).collect::<Vec<_>>(), [60, 100, 100, 110, 110, 30]);
        assert_eq!(seals, [3, 1, 2, 4, 5]);
    }

    #[test]
    fn a_full_buffer_refuses_and_shrinks_when_it_is_sent() {
        let mut buffer = SendBuffer::default();
        let mut taken = 0;
        while buffer
            .write_sealed(|out, _| {
                out.extend_from_slice(&[0; 1200]);
                Ok(())
            })
            .is_ok()
        {
            taken += 1;
        }
        assert!(taken * 1200 < SendBuffer::MAX_BYTES + 1200);
        buffer.clear();
        buffer.trim();
        assert!(buffer.is_empty());
        assert!(buffer.rest.bytes.capacity() <= 4 * SendBuffer::KEPT_BYTES);
    }
}
