//! How an RTP packet to a subscriber is written: header, extensions, payload; and what it gets only when it leaves.

use smallvec::SmallVec;

use super::OutgoingRtp;
use crate::context::Now;
use crate::media::{Extension, ExtensionIds};
use crate::rtp::HeaderWriter;

/// What a packet gets when it leaves: the transport-wide number, and the time (24 bits, 6.18 fixed-point seconds).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamp {
    transport_seq: [u8; 2],
    send_time: [u8; 3],
}

impl Stamp {
    pub(super) fn new(now: &Now, transport_seq: u16) -> Self {
        Self { transport_seq: transport_seq.to_be_bytes(), send_time: now.abs_send_time() }
    }

    /// Writes itself into a packet of [`write_packet`], which leaves room for the two elements before all others.
    pub(super) fn write(self, ids: &ExtensionIds, packet: &mut [u8]) {
        const ONE_BYTE_FORM: [u8; 2] = [0xbe, 0xde];
        let element_header = if packet.get(12..14) == Some(&ONE_BYTE_FORM) { 1 } else { 2 };
        let mut at = 16;
        let mut write = |value: &[u8]| {
            at += element_header;
            if let Some(place) = packet.get_mut(at..at + value.len()) {
                place.copy_from_slice(value);
            }
            at += value.len();
        };
        if ids.id(Extension::TransportCc).is_some() {
            write(&self.transport_seq);
        }
        if ids.id(Extension::AbsSendTime).is_some() {
            write(&self.send_time);
        }
    }
}

/// Appends a whole packet without its tag and its [`Stamp`]. Returns the length of its header.
pub(super) fn write_packet(
    out: &mut Vec<u8>,
    ids: &ExtensionIds,
    packet: &OutgoingRtp<'_>,
    rewrite: impl FnOnce(&mut [u8]),
) -> usize {
    let start = out.len();
    let header_len = write_header(out, ids, packet);
    out.extend_from_slice(packet.prefix);
    let payload_start = out.len();
    if packet.payload.is_empty() && packet.prefix.is_empty() {
        // Padding that took a sequence number is passed on too: the number must be taken (RFC 3550 section 5.1).
        let padding = packet.padding.max(1);
        out[start] |= 0x20;
        out.resize(out.len() + usize::from(padding) - 1, 0);
        out.push(padding);
    } else {
        out.extend_from_slice(packet.payload);
        rewrite(&mut out[payload_start..]);
    }
    header_len
}

/// Writes the RTP header with the extensions that the subscriber negotiated. Returns its length.
fn write_header(out: &mut Vec<u8>, ids: &ExtensionIds, packet: &OutgoingRtp<'_>) -> usize {
    let passed = &packet.extensions;
    let stamp = Stamp::default();
    let mut elements: SmallVec<[(u8, &[u8]); 6]> = SmallVec::new();
    let mut add = |extension, value| {
        if let (Some(id), Some(value)) = (ids.id(extension), value) {
            elements.push((id, value));
        }
    };
    add(Extension::TransportCc, Some(&stamp.transport_seq));
    add(Extension::AbsSendTime, Some(&stamp.send_time));
    add(Extension::AudioLevel, passed.audio_level.as_ref().map(|v| &v[..]));
    add(Extension::VideoOrientation, passed.video_orientation.as_ref().map(|v| &v[..]));
    add(Extension::PlayoutDelay, passed.playout_delay.as_ref().map(|v| &v[..]));
    add(Extension::DependencyDescriptor, passed.dependency_descriptor);
    let writer = HeaderWriter {
        marker: packet.marker,
        payload_type: packet.payload_type,
        seq: packet.seq as u16,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
    };
    writer.write(&elements, out)
}
