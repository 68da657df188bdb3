//! What goes over a bridge without allocating: media packets and sender reports, as records of bytes.

use crate::ids::{PayloadType, TrackId};

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A media packet.
    Packet(BridgePacket<'a>),
    /// A sender report.
    Report(BridgeReport),
}

/// A decrypted media packet of a layer that another worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgePacket<'a> {
    /// Where it belongs.
    pub stream: StreamId,
    /// It came as a repair.
    pub repaired: bool,
    /// When it came, in server time.
    pub arrived: i64,
    /// The packet: header, extensions, and payload without padding.
    pub packet: &'a [u8],
}

/// A sender report (RFC 3550 section 6.4.1) of such a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeReport {
    /// Where it belongs.
    pub stream: StreamId,
    /// When it came, in server time.
    pub arrived: i64,
    /// The publisher's NTP time.
    pub ntp: u64,
    /// The same moment on the stream's clock.
    pub rtp_timestamp: u32,
}

/// A layer at its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId {
    /// The track.
    pub track: TrackId,
    /// The layer.
    pub layer: u8,
    /// How often the layer began anew: what belongs to one before is stale.
    pub generation: u32,
}

/// The kinds of records: the first byte.
const PACKET: u8 = 0;
const REPAIR: u8 = 1;
const REPORT: u8 = 2;

/// Kind, layer, generation, track, arrival.
const HEADER_LEN: usize = 1 + 1 + 4 + 8 + 8;

/// The fixed part of an RTP header (RFC 3550 section 5.1).
const RTP_HEADER_LEN: usize = 12;

/// The P bit of an RTP header.
const PADDING_BIT: u8 = 0x20;

impl Record<'_> {
    /// Reads a record; `None` when it is none.
    pub fn parse(bytes: &[u8]) -> Option<Record<'_>> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let [kind, layer, numbers @ ..] = header;
        let (generation, numbers) = numbers.split_first_chunk::<4>()?;
        let (track, numbers) = numbers.split_first_chunk::<8>()?;
        let arrived = i64::from_le_bytes(*numbers.first_chunk()?);
        let track = TrackId(u64::from_le_bytes(*track));
        let stream = StreamId { track, layer: *layer, generation: u32::from_le_bytes(*generation) };
        match *kind {
            PACKET | REPAIR => {
                let repaired = *kind == REPAIR;
                Some(Record::Packet(BridgePacket { stream, repaired, arrived, packet: rest }))
            }
            REPORT => {
                let (ntp, rest) = rest.split_first_chunk()?;
                let (ntp, rtp_timestamp) =
                    (u64::from_le_bytes(*ntp), u32::from_le_bytes(*rest.first_chunk()?));
                Some(Record::Report(BridgeReport { stream, arrived, ntp, rtp_timestamp }))
            }
            _ => None,
        }
    }
}

impl BridgePacket<'_> {
    /// Writes the record behind `out`. The packet's header is written as that of the media, which it need not be: that
    /// of a repair has numbers of its own.
    pub fn write(&self, payload_type: PayloadType, seq: u16, out: &mut Vec<u8>) {
        write_header(if self.repaired { REPAIR } else { PACKET }, &self.stream, self.arrived, out);
        let start = out.len();
        out.extend_from_slice(self.packet);
        let header = out.get_mut(start..).and_then(|p| p.first_chunk_mut::<RTP_HEADER_LEN>());
        if let Some([first, marker, seq_high, seq_low, ..]) = header {
            *first &= !PADDING_BIT;
            *marker = *marker & 0x80 | payload_type.0 & 0x7f;
            [*seq_high, *seq_low] = seq.to_be_bytes();
        }
    }
}

impl BridgeReport {
    /// Writes the record behind `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_header(REPORT, &self.stream, self.arrived, out);
        out.extend_from_slice(&self.ntp.to_le_bytes());
        out.extend_from_slice(&self.rtp_timestamp.to_le_bytes());
    }
}

fn write_header(kind: u8, stream: &StreamId, arrived: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind, stream.layer]);
    out.extend_from_slice(&stream.generation.to_le_bytes());
    out.extend_from_slice(&stream.track.0.to_le_bytes());
    out.extend_from_slice(&arrived.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId { track: TrackId(77), layer: 2, generation: 9 };

    #[test]
    fn a_packet_arrives_with_the_header_of_its_media() {
        // As a repair has it: padding, marker, payload type 97, a number of its own.
        let repair = [0xa0, 0x80 | 97, 0, 1, 0, 0, 0, 5, 0, 0, 0, 6, 0xab];
        let sent = BridgePacket { stream: STREAM, repaired: true, arrived: -5, packet: &repair };
        let mut bytes = Vec::new();
        sent.write(PayloadType(96), 0x1234, &mut bytes);
        let Some(Record::Packet(got)) = Record::parse(&bytes) else { panic!() };
        assert_eq!((got.stream, got.repaired, got.arrived), (STREAM, true, -5));
        assert_eq!(got.packet, [0x80, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 5, 0, 0, 0, 6, 0xab]);
    }

    #[test]
    fn a_report_arrives_as_it_was() {
        let sent = BridgeReport { stream: STREAM, arrived: 1 << 40, ntp: u64::MAX - 1, rtp_timestamp: 3 };
        let mut bytes = Vec::new();
        sent.write(&mut bytes);
        assert_eq!(Record::parse(&bytes), Some(Record::Report(sent)));
        for short in 0..bytes.len() {
            assert_eq!(Record::parse(&bytes[..short]), None);
        }
        bytes[0] = 7;
        assert_eq!(Record::parse(&bytes), None);
    }
}
