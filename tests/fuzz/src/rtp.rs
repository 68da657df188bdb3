//! RTP: the header, its extensions, and what a codec's descriptor tells; packet by packet, since dependency
//! descriptors and parameter sets are remembered.

use veche_sfu_core::forward::red::{self, Older, RedPayloads};
use veche_sfu_core::ids::PayloadType;
use veche_sfu_core::media::{Codec, Extension, ExtensionIds};
use veche_sfu_core::rtp::extension::{Extensions, elements};
use veche_sfu_core::rtp::frame::{FrameInfo, FrameState};
use veche_sfu_core::rtp::header::RtpHeader;
use veche_sfu_core::rtp::writer::HeaderWriter;
use veche_sfu_core::rtp::{h264, h265};

use crate::records::records;

const CODECS: [Codec; 6] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265, Codec::Av1];

/// Records are packets; their kind is the codec.
pub(crate) fn run(input: &[u8]) {
    let mut ids = ExtensionIds::default();
    for (extension, id) in Extension::ALL.into_iter().zip(1..) {
        ids.set(extension, id);
    }
    let mut states: [FrameState; CODECS.len()] = Default::default();
    for (kind, packet) in records(input) {
        let index = usize::from(kind) % CODECS.len();
        read(CODECS[index], packet, &ids, &mut states[index]);
    }
}

fn read(codec: Codec, packet: &[u8], ids: &ExtensionIds, state: &mut FrameState) {
    let Ok(header) = RtpHeader::parse(packet) else { return };
    assert!((12..=packet.len()).contains(&header.header_len));
    let extensions = Extensions::read(&header, packet, ids);
    let Ok(range) = header.payload_range(packet) else { return };
    let payload = &packet[range];
    let info = FrameInfo::read(codec, &header, payload, extensions.dependency_descriptor, state);
    assert!(info.size.is_none_or(|(width, height)| width > 0 && height > 0), "a size is never 0");
    if codec == Codec::H264 {
        h264::nal_units(payload).count();
        h264::sequence_size(payload);
    }
    if codec == Codec::H265 {
        h265::nal_units(payload).count();
        h265::sequence_size(payload);
    }
    if codec == Codec::Opus {
        redundant(payload);
    }
    write_again(&header, packet);
}

/// Any payload may claim to be RED (RFC 2198): its newest block is its end, whatever the payload type of its blocks; and
/// what it is carried along in is RED again.
fn redundant(payload: &[u8]) {
    let newest = red::primary(payload);
    assert!(payload.ends_with(newest));
    let mut copy = payload.to_vec();
    red::set_payload_type(&mut copy, PayloadType(96));
    assert_eq!(red::primary(&copy), newest);
    assert_eq!(red::older_blocks(&copy), red::older_blocks(payload));
    let mut payloads = RedPayloads::default();
    let older = Older { timestamp: 0, payload: newest };
    if let Some(carrier) = payloads.get(2, 960, payload, |_| Some(older)) {
        assert_eq!(red::primary(carrier), payload);
        assert!((1..=2).contains(&red::older_blocks(carrier)) && carrier.len() <= 1_200);
    }
}

/// A header that is written from what was read has the same elements.
fn write_again(header: &RtpHeader, packet: &[u8]) {
    let before: Vec<(u8, &[u8])> = elements(header, packet).collect();
    let writer = HeaderWriter {
        marker: header.marker,
        payload_type: header.payload_type,
        seq: header.seq,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let mut out = Vec::new();
    let len = writer.write(&before, &mut out);
    let again = RtpHeader::parse(&out).expect("what is written parses");
    assert_eq!((again.header_len, again.seq, again.ssrc), (len, header.seq, header.ssrc));
    let after: Vec<(u8, &[u8])> = elements(&again, &out).collect();
    assert_eq!(after, before, "the elements survive");
}
