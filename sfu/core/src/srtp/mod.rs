//! SRTP and SRTCP (RFC 3711, RFC 7714): protection of media in place, without allocation.

mod aead;
mod aes_cm;
mod cipher;
mod inbound;
mod key_derivation;
mod outbound;
mod profile;
mod replay;

pub use inbound::{InboundSrtp, MAX_STREAMS, Unprotected};
pub use key_derivation::{MasterKey, SrtpKeys};
pub use outbound::{OutboundSrtp, OutboundStream};
pub use profile::SrtpProfile;

/// RFC 3550 section 5.1.
const MIN_RTP_HEADER_LEN: usize = 12;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rtc_crypto::RTCCryptoProvider;
    use rtc_crypto::providers::AwsLcRsProvider;
    use rtc_srtp::context::Context;
    use rtc_srtp::protection_profile::ProtectionProfile;

    use super::*;
    use crate::ids::Ssrc;

    pub(super) fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn material(profile: SrtpProfile) -> Vec<u8> {
        let mut material = vec![0; profile.keying_material_len()];
        StdRng::seed_from_u64(5764).fill(&mut material[..]);
        material
    }

    pub(super) fn keys(profile: SrtpProfile) -> SrtpKeys {
        SrtpKeys::from_dtls(profile, &material(profile), false).unwrap()
    }

    /// An RTP packet whose header is plain; `header_len` is 12 and 4 for each CSRC.
    pub(super) fn rtp(ssrc: u32, seq: u16, header_len: usize, payload_len: usize) -> Vec<u8> {
        let mut packet = vec![0x80 | ((header_len - 12) / 4) as u8, 96];
        packet.extend(seq.to_be_bytes());
        packet.extend([1, 2, 3, 4]);
        packet.extend(ssrc.to_be_bytes());
        packet.resize(header_len, 9);
        packet.extend((0..payload_len).map(|i| i as u8));
        packet
    }

    /// A receiver report as far as its header goes; `len` more bytes, a multiple of 4.
    pub(super) fn rtcp(ssrc: u32, len: usize) -> Vec<u8> {
        let mut packet = vec![0x80, 201];
        packet.extend((1 + len as u16 / 4).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.extend((0..len).map(|i| i as u8));
        packet
    }

    /// Sends with the keys that [`keys`] has for the server.
    pub(super) struct Sender {
        srtp: OutboundSrtp,
        streams: HashMap<u32, OutboundStream>,
    }

    impl Sender {
        pub(super) fn new(profile: SrtpProfile) -> Self {
            Self { srtp: OutboundSrtp::new(&keys(profile).outbound), streams: HashMap::new() }
        }

        pub(super) fn rtp(&mut self, ssrc: u32, seq: u16) -> Vec<u8> {
            self.protect(12, rtp(ssrc, seq, 12, 100))
        }

        fn protect(&mut self, header_len: usize, mut packet: Vec<u8>) -> Vec<u8> {
            let seq = u16::from_be_bytes([packet[2], packet[3]]);
            let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
            let roc = self.streams.entry(ssrc).or_default().roc_for(seq).unwrap();
            packet.resize(packet.len() + self.srtp.profile().rtp_overhead(), 0xee);
            self.srtp.protect_rtp(roc, header_len, &mut packet).unwrap();
            packet
        }

        pub(super) fn rtcp(&mut self, ssrc: u32) -> Vec<u8> {
            let mut packet = rtcp(ssrc, 40);
            self.srtp.protect_rtcp(&mut packet, 0).unwrap();
            packet
        }
    }

    /// The other implementation, with the server's (`outbound`) keys.
    fn reference(profile: SrtpProfile) -> Context {
        let theirs = match profile {
            SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let material = material(profile);
        let (key, salt) = (&material[key..2 * key], &material[2 * key + salt..]);
        Context::new(key, salt, theirs, None, None, AwsLcRsProvider::new().crypto()).unwrap()
    }

    /// Packets with all kinds of headers: the length of the header, and the packet.
    fn sample(random: &mut StdRng, ssrc: u32, seq: u16) -> (usize, Vec<u8>) {
        let header_len = 12 + 4 * random.random_range(0..4);
        let mut packet = rtp(ssrc, seq, header_len, 0);
        if random.random_bool(0.5) {
            packet[0] |= 0x10;
            let extensions: [&[u8]; 3] = [
                &[0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0],
                &[0xbe, 0xde, 0, 2, 0x32, 1, 2, 3, 0x11, 7, 8, 0],
                &[0x10, 0x00, 0, 2, 1, 3, 5, 6, 7, 2, 0, 0],
            ];
            packet.extend(extensions[random.random_range(0..3)]);
        }
        let header_len = packet.len();
        packet.resize(header_len + random.random_range(1..1200), 0);
        random.fill(&mut packet[header_len..]);
        (header_len, packet)
    }

    #[test]
    fn rtp_agrees_with_another_implementation() {
        let mut random = StdRng::seed_from_u64(1);
        for profile in SrtpProfile::ALL {
            let mut sender = Sender::new(profile);
            let mut receiver = InboundSrtp::new(&keys(profile).outbound);
            let (mut seal, mut open) = (reference(profile), reference(profile));
            for i in 0..400_u32 {
                let ssrc = 1 + i % 3;
                let seq = (65_400 + i) as u16;
                let (header_len, plain) = sample(&mut random, ssrc, seq);
                let ours = sender.protect(header_len, plain.clone());
                assert_eq!(ours[..], seal.encrypt_rtp(&plain).unwrap()[..], "{profile:?}");
                assert_eq!(open.decrypt_rtp(&ours).unwrap()[..], plain[..]);
                let mut packet = ours;
                let result = receiver.unprotect_rtp(Ssrc(ssrc), seq, header_len, &mut packet);
                assert_eq!(result, Ok(Unprotected { len: plain.len(), new: i < 3 }));
                assert_eq!(packet[..plain.len()], plain);
                receiver.accept(Ssrc(ssrc), seq).unwrap();
            }
        }
    }

    #[test]
    fn rtcp_agrees_with_another_implementation() {
        for profile in SrtpProfile::ALL {
            let mut sender = Sender::new(profile);
            let mut receiver = InboundSrtp::new(&keys(profile).outbound);
            let (mut seal, mut open) = (reference(profile), reference(profile));
            // The other begins to count at 1.
            sender.rtcp(5);
            for len in (0..200).step_by(4) {
                let plain = rtcp(5, len);
                let mut ours = b"before".to_vec();
                ours.extend(&plain);
                sender.srtp.protect_rtcp(&mut ours, 6).unwrap();
                assert_eq!(ours[..6], *b"before");
                let mut ours = ours.split_off(6);
                assert_eq!(ours[..], seal.encrypt_rtcp(&plain).unwrap()[..], "{profile:?}");
                assert_eq!(open.decrypt_rtcp(&ours).unwrap()[..], plain[..]);
                assert_eq!(receiver.unprotect_rtcp(&mut ours), Ok(plain.len()));
                assert_eq!(ours[..plain.len()], plain);
            }
        }
    }

    #[test]
    fn random_and_mutated_packets_neither_panic_nor_pass() {
        let mut random = StdRng::seed_from_u64(2);
        for profile in SrtpProfile::ALL {
            let mut sender = Sender::new(profile);
            let mut receiver = InboundSrtp::new(&keys(profile).outbound);
            receiver.accept(Ssrc(1), 0).unwrap();
            for seq in 1..3000 {
                let (header_len, plain) = sample(&mut random, 1, seq);
                let good = sender.protect(header_len, plain);
                let mut bad = good.clone();
                let at = random.random_range(0..bad.len());
                bad[at] ^= random.random_range(1..=255);
                bad.truncate(random.random_range(bad.len() / 2..=bad.len()));
                let seq = u16::from_be_bytes([bad[2], bad[3]]);
                let ssrc = u32::from_be_bytes(bad[8..12].try_into().unwrap());
                assert!(receiver.unprotect_rtp(Ssrc(ssrc), seq, header_len, &mut bad).is_err());

                let mut report = sender.rtcp(1);
                let at = random.random_range(0..report.len());
                report[at] ^= random.random_range(1..=255);
                report.truncate(random.random_range(0..=report.len()));
                assert!(receiver.unprotect_rtcp(&mut report).is_err());

                let mut noise = vec![0; random.random_range(0..100)];
                random.fill(&mut noise[..]);
                let header_len = random.random_range(0..120);
                assert!(receiver.unprotect_rtp(Ssrc(1), seq, header_len, &mut noise).is_err());
                assert!(receiver.unprotect_rtcp(&mut noise).is_err());
            }
            assert!(receiver.unprotect_rtcp(&mut sender.rtcp(1)).is_ok());
        }
    }
}
