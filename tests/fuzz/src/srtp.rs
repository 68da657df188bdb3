//! SRTP under fixed keys: datagrams as they come, and packets that are protected first and must come out as they were.

use veche_sfu_core::rtp::header::RtpHeader;
use veche_sfu_core::srtp::{InboundSrtp, OutboundSrtp, OutboundStream, SrtpKeys, SrtpProfile};

use crate::records::records;

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::AeadAes128Gcm, SrtpProfile::AeadAes256Gcm, SrtpProfile::Aes128CmHmacSha1_80];

/// Both ends of one direction, and a receiver of what anybody could send.
struct Ends {
    outbound: OutboundSrtp,
    protected: InboundSrtp,
    raw: InboundSrtp,
}

/// The kind of a record: the profile in its lowest bits, then what is done with its bytes.
pub(crate) fn run(input: &[u8]) {
    let mut all = PROFILES.map(|profile| {
        let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| i as u8).collect();
        let keys = SrtpKeys::from_dtls(profile, &material, false).expect("there is enough material");
        let inbound = || InboundSrtp::new(&keys.inbound);
        Ends { outbound: OutboundSrtp::new(&keys.inbound), protected: inbound(), raw: inbound() }
    });
    for (kind, bytes) in records(input) {
        let ends = &mut all[usize::from(kind & 3) % PROFILES.len()];
        match kind >> 2 & 3 {
            0 => receive_rtp(&mut ends.raw, &mut bytes.to_vec()),
            1 => {
                let _ = ends.raw.unprotect_rtcp(&mut bytes.to_vec());
            }
            2 => round_trip_rtp(ends, bytes),
            _ => round_trip_rtcp(ends, bytes),
        }
    }
}

fn receive_rtp(inbound: &mut InboundSrtp, packet: &mut [u8]) {
    let Ok(header) = RtpHeader::parse(packet) else { return };
    if let Ok(unprotected) = inbound.unprotect_rtp(header.ssrc, header.seq, header.header_len, packet) {
        assert!((header.header_len..=packet.len()).contains(&unprotected.len));
        let _ = inbound.accept(header.ssrc, header.seq);
    }
}

fn round_trip_rtp(Ends { outbound, protected: inbound, .. }: &mut Ends, plain: &[u8]) {
    let Ok(header) = RtpHeader::parse(plain) else { return };
    let mut packet = plain.to_vec();
    packet.resize(plain.len() + outbound.profile().rtp_overhead(), 0);
    let roc = OutboundStream::default().roc_for(header.seq).expect("the first packet has an index");
    outbound.protect_rtp(roc, header.header_len, &mut packet).expect("there is room for the tag");
    // As if its stream had not been heard of before, so that no window stands in the way.
    inbound.forget(header.ssrc);
    let unprotected = inbound
        .unprotect_rtp(header.ssrc, header.seq, header.header_len, &mut packet.clone())
        .expect("what was protected is authentic");
    assert!(unprotected.new);
    inbound.accept(header.ssrc, header.seq).expect("there are few streams");
    let again = inbound.unprotect_rtp(header.ssrc, header.seq, header.header_len, &mut packet.clone());
    assert!(again.is_err(), "a packet is taken once");
    inbound.forget(header.ssrc);
    let last = packet.len() - 1;
    packet[last] ^= 1;
    let forged = inbound.unprotect_rtp(header.ssrc, header.seq, header.header_len, &mut packet.clone());
    assert!(forged.is_err(), "a changed packet is not authentic");
    packet[last] ^= 1;
    let unprotected = inbound.unprotect_rtp(header.ssrc, header.seq, header.header_len, &mut packet);
    assert_eq!(&packet[..unprotected.expect("it is as it was").len], plain);
}

fn round_trip_rtcp(Ends { outbound, protected: inbound, .. }: &mut Ends, plain: &[u8]) {
    let mut packet = plain.to_vec();
    if outbound.protect_rtcp(&mut packet, 0).is_err() {
        return;
    }
    let mut replayed = packet.clone();
    let len = inbound.unprotect_rtcp(&mut packet).expect("what was protected is authentic");
    assert_eq!(&packet[..len], plain);
    assert!(inbound.unprotect_rtcp(&mut replayed).is_err(), "a packet is taken once");
}
