//! A packet as all subscribers with the same header extensions get it, written once. Each gets a copy in which only what is
//! their own is written anew: so little that a copy costs hardly more than its bytes.

use super::OutgoingRtp;
use super::packet::write_packet;
use crate::forward::forwarder::ForwardOutput;
use crate::forward::picture::{PictureFields, PictureIds};
use crate::forward::red;
use crate::ids::{PayloadType, Ssrc};
use crate::media::{Extension, ExtensionIds};
use crate::rtp::RtpHeader;
use crate::rtp::extension::ONE_BYTE_PROFILE;

/// A written packet among others, and where in it there is something that differs.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    start: u32,
    end: u32,
    header_len: u16,
    /// Where the dependency descriptor is, from `start` on.
    descriptor: Option<u16>,
    /// It has no payload, but padding.
    padding: bool,
}

/// What is a subscriber's own in a packet.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Number, timestamp and marker.
    pub output: &'a ForwardOutput,
    /// The payload type of the packet.
    pub payload_type: PayloadType,
    /// The slot's SSRC.
    pub ssrc: Ssrc,
    /// What of the payload is theirs.
    pub rewrite: Rewrite<'a>,
}

/// What is changed of a payload.
#[derive(Clone, Copy, Debug)]
pub enum Rewrite<'a> {
    /// The picture counters that were found there continue those of the slot.
    Picture(&'a PictureFields),
    /// The blocks of RED have this payload type.
    Red(PayloadType),
}

impl Template {
    /// Writes a packet behind the others in `bytes`. What is the subscribers' own is left open.
    pub fn write(bytes: &mut Vec<u8>, ids: &ExtensionIds, packet: &OutgoingRtp<'_>) -> Self {
        let start = bytes.len();
        let header_len = write_packet(bytes, ids, packet, |_| {});
        let written = bytes.get(start..).unwrap_or_default();
        let descriptor = ids.id(Extension::DependencyDescriptor).and_then(|id| place_of(written, id));
        Self {
            start: start as u32,
            end: bytes.len() as u32,
            header_len: header_len as u16,
            descriptor,
            padding: packet.payload.is_empty(),
        }
    }

    /// The length of its payload, in bytes; padding is none.
    pub fn payload_len(&self) -> usize {
        if self.padding { 0 } else { (self.end - self.start) as usize - usize::from(self.header_len) }
    }

    /// Appends a subscriber's copy to `out`, out of the `bytes` that it was written to. Returns the length of its header.
    pub(super) fn copy(&self, bytes: &[u8], out: &mut Vec<u8>, own: &Own<'_>) -> usize {
        let start = out.len();
        out.extend_from_slice(bytes.get(self.start as usize..self.end as usize).unwrap_or_default());
        let Some(copy) = out.get_mut(start..) else { return 0 };
        let output = own.output;
        if let Some(fixed) = copy.first_chunk_mut::<12>() {
            fixed[1] = u8::from(output.marker) << 7 | own.payload_type.0 & 0x7f;
            fixed[2..4].copy_from_slice(&(output.seq as u16).to_be_bytes());
            fixed[4..8].copy_from_slice(&output.timestamp.to_be_bytes());
            fixed[8..].copy_from_slice(&own.ssrc.0.to_be_bytes());
        }
        match own.rewrite {
            // As it came: the slot never showed anything else.
            Rewrite::Picture(_) if output.offsets == PictureIds::default() => {}
            rewrite => self.rewrite(copy, output.offsets, rewrite),
        }
        usize::from(self.header_len)
    }

    fn rewrite(&self, copy: &mut [u8], offsets: PictureIds, rewrite: Rewrite<'_>) {
        let Some((header, payload)) = copy.split_at_mut_checked(usize::from(self.header_len)) else { return };
        let payload = if self.padding { &mut [] } else { payload };
        match rewrite {
            Rewrite::Picture(fields) => {
                offsets.apply(fields, payload);
                let descriptor = self.descriptor.and_then(|at| header.get_mut(usize::from(at)..));
                offsets.apply_to_descriptor(fields, descriptor.unwrap_or_default());
            }
            Rewrite::Red(payload_type) => red::set_payload_type(payload, payload_type),
        }
    }
}

/// Where the value of a header extension begins in a packet.
fn place_of(packet: &[u8], id: u8) -> Option<u16> {
    let header = RtpHeader::parse(packet).ok()?;
    let block = header.extension?;
    let one_byte = block.profile == ONE_BYTE_PROFILE;
    let mut at = block.start;
    while at < header.header_len {
        let first = *packet.get(at)?;
        let (found, value, len) = match first {
            0 => {
                at += 1;
                continue;
            }
            _ if one_byte => (first >> 4, at + 1, usize::from(first & 0x0f) + 1),
            _ => (first, at + 2, usize::from(*packet.get(at + 1)?)),
        };
        if found == id {
            return u16::try_from(value).ok();
        }
        at = value + len;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::red::set_payload_type;
    use crate::media::Codec;
    use crate::transport::PassedExtensions;

    const VP8: [u8; 8] = [0x90, 0xf0, 0x80, 0x07, 9, 0x21, 0x10, 0xaa];
    const DESCRIPTOR: [u8; 20] = [0x81; 20];

    fn output(offsets: PictureIds) -> ForwardOutput {
        let (seq, timestamp) = (0x1_2345, 0xa1b2_c3d4);
        let (marker, padding, ahead, switched) = (true, false, 5, false);
        ForwardOutput { seq, timestamp, marker, padding, offsets, ahead, switched }
    }

    /// The packet as it is written for one subscriber alone, and as a copy of what was written for all.
    fn both(ids: &ExtensionIds, packet: &OutgoingRtp<'_>, own: &Own<'_>) -> [(usize, Vec<u8>); 2] {
        let mut alone = b"before".to_vec();
        let header_len = write_packet(&mut alone, ids, packet, |payload| match own.rewrite {
            Rewrite::Picture(fields) => own.output.offsets.apply(fields, payload),
            Rewrite::Red(payload_type) => set_payload_type(payload, payload_type),
        });
        let mut bytes = b"others".to_vec();
        let blank = OutgoingRtp { marker: false, seq: 0, timestamp: 0, ..*packet };
        let blank = OutgoingRtp { payload_type: PayloadType(0), ssrc: Ssrc(0), ..blank };
        let template = Template::write(&mut bytes, ids, &blank);
        let mut copy = b"before".to_vec();
        let copied_len = template.copy(&bytes, &mut copy, own);
        [(header_len, alone), (copied_len, copy)]
    }

    fn packet(output: &ForwardOutput, payload: &'static [u8]) -> OutgoingRtp<'static> {
        OutgoingRtp {
            payload_type: PayloadType(96),
            marker: output.marker,
            seq: output.seq,
            timestamp: output.timestamp,
            ssrc: Ssrc(0x0102_0304),
            extensions: PassedExtensions::default(),
            prefix: &[],
            payload,
            padding: 0,
        }
    }

    #[test]
    fn a_copy_is_what_would_have_been_written() {
        let fields = PictureFields::read(Codec::Vp8, &VP8, None);
        let mut other = PictureIds::default();
        other.start(&PictureFields::read(Codec::Vp8, &[0x90, 0xf0, 0x81, 0x00, 3, 0x05], None));
        let moved = other.continued_by(&fields);
        for (ids, offsets, payload) in [
            (&[][..], moved, &VP8[..]),
            (&[(Extension::TransportCc, 3)], moved, &VP8),
            (&[(Extension::AbsSendTime, 2), (Extension::TransportCc, 14)], PictureIds::default(), &VP8),
            (&[(Extension::AudioLevel, 1), (Extension::TransportCc, 200)], PictureIds::default(), &[1, 2, 3]),
            (&[(Extension::AudioLevel, 1), (Extension::AbsSendTime, 7)], moved, &[]),
            (
                &[(Extension::DependencyDescriptor, 4), (Extension::TransportCc, 5)],
                PictureIds::default(),
                &VP8,
            ),
        ] {
            let mut agreed = ExtensionIds::default();
            for (extension, id) in ids {
                agreed.set(*extension, *id);
            }
            let output = output(offsets);
            let extensions = PassedExtensions {
                audio_level: Some([0x85]),
                video_orientation: Some([1]),
                playout_delay: None,
                dependency_descriptor: Some(&DESCRIPTOR),
            };
            let packet = OutgoingRtp { extensions, ..packet(&output, payload) };
            let (payload_type, ssrc) = (packet.payload_type, packet.ssrc);
            let own = Own { output: &output, payload_type, ssrc, rewrite: Rewrite::Picture(&fields) };
            let [alone, copy] = both(&agreed, &packet, &own);
            assert_eq!(alone, copy, "{ids:?}");
        }
    }

    #[test]
    fn the_frame_number_in_a_copy_is_continued() {
        let mut agreed = ExtensionIds::default();
        agreed.set(Extension::TransportCc, 1);
        agreed.set(Extension::DependencyDescriptor, 2);
        let descriptor = [0xc0, 0x00, 0x10, 0x55];
        let fields = PictureFields::read(Codec::Av1, &[], Some(&descriptor));
        let mut before = PictureIds::default();
        before.start(&PictureFields::read(Codec::Av1, &[], Some(&[0, 0x12, 0x34])));
        let output = output(before.continued_by(&fields));
        let with = |descriptor| {
            let extensions =
                PassedExtensions { dependency_descriptor: Some(descriptor), ..PassedExtensions::default() };
            OutgoingRtp { extensions, ..packet(&output, &[9; 30]) }
        };
        let own = |rewrite| Own {
            output: &output,
            payload_type: PayloadType(96),
            ssrc: Ssrc(0x0102_0304),
            rewrite,
        };
        let [_, copy] = both(&agreed, &with(&descriptor), &own(Rewrite::Picture(&fields)));
        let continued = [0xc0, 0x12, 0x35, 0x55];
        let [alone, _] = both(&agreed, &with(&continued), &own(Rewrite::Picture(&PictureFields::default())));
        assert_eq!(copy, alone);
    }

    #[test]
    fn the_payload_types_in_red_are_the_subscribers() {
        let output = output(PictureIds::default());
        let red = [0x80, 0x0f, 0, 3, 0, 7, 7, 7, 9];
        let packet = packet(&output, Box::leak(Box::new(red)));
        let rewrite = Rewrite::Red(PayloadType(111));
        let own = Own { output: &output, payload_type: packet.payload_type, ssrc: packet.ssrc, rewrite };
        let [alone, copy] = both(&ExtensionIds::default(), &packet, &own);
        assert_eq!(alone, copy);
        assert_eq!(copy.1[6 + 12 + 4], 111);
    }
}
