//! AES in Galois/counter mode around RTP and RTCP (RFC 7714).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::cipher::{ENCRYPTED, RTCP_HEADER_LEN, RtcpLayout};
use super::key_derivation::{Label, MasterKey};
use crate::drops::DropReason;

/// RFC 7714 section 13.2.
const TAG_LEN: usize = 16;

/// The key of one direction, for RTP or for RTCP.
#[derive(Debug)]
pub(super) struct Aead {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Aead {
    pub(super) fn new(master: &MasterKey, encryption: Label, salt: Label) -> Self {
        let mut key = [0; 32];
        let key = &mut key[..master.profile().key_len()];
        master.derive(encryption, key);
        let mut session_salt = [0; 12];
        master.derive(salt, &mut session_salt);
        Self::with_session_key(key, session_salt)
    }

    pub(super) fn with_session_key(key: &[u8], salt: [u8; 12]) -> Self {
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, key).expect("the profile gives keys of 16 or 32 bytes");
        Self { key: LessSafeKey::new(key), salt }
    }

    /// RFC 7714 section 8.2. `packet` ends with room for the tag.
    #[inline]
    pub(super) fn seal_rtp(&self, ssrc: u32, index: u64, header_len: usize, packet: &mut [u8]) {
        let (packet, tag) = packet.split_at_mut(packet.len() - TAG_LEN);
        let (header, payload) = packet.split_at_mut(header_len);
        self.seal(ssrc, index, header, payload, tag);
    }

    /// RFC 7714 section 8.3.
    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let (header, sealed) = packet.split_at_mut(header_len);
        self.open(ssrc, index, header, sealed)
    }

    /// RFC 7714 section 9.2: header, sealed reports, tag, index. `packet` ends with room for tag and index.
    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) {
        let trailer = (index | ENCRYPTED).to_be_bytes();
        let (packet, end) = packet.split_at_mut(packet.len() - TAG_LEN - trailer.len());
        let (tag, end) = end.split_at_mut(TAG_LEN);
        end.copy_from_slice(&trailer);
        let (header, reports) = packet.split_at_mut(RTCP_HEADER_LEN);
        self.seal(ssrc, index.into(), &rtcp_aad(header, trailer), reports, tag);
    }

    /// Where the index is in a sealed RTCP packet: behind the tag. `None` when it is too short.
    pub(super) fn rtcp_layout(packet: &[u8]) -> Option<RtcpLayout> {
        let (rest, trailer) = packet.split_last_chunk()?;
        let plain_len = rest.len().checked_sub(TAG_LEN).filter(|&len| len >= RTCP_HEADER_LEN)?;
        Some(RtcpLayout { plain_len, trailer: u32::from_be_bytes(*trailer) })
    }

    /// RFC 7714 section 9.3.
    pub(super) fn open_rtcp(
        &self,
        ssrc: u32,
        layout: RtcpLayout,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let trailer = layout.trailer.to_be_bytes();
        if layout.is_encrypted() {
            let sealed_end = packet.len() - trailer.len();
            let (header, sealed) = packet[..sealed_end].split_at_mut(RTCP_HEADER_LEN);
            self.open(ssrc, layout.index().into(), &rtcp_aad(header, trailer), sealed)
        } else {
            // All of the packet is associated data, together with the index behind the tag: bring them together.
            let (clear, rest) = packet.split_at_mut(layout.plain_len + trailer.len());
            let mut tag = [0; TAG_LEN];
            tag[..4].copy_from_slice(&clear[layout.plain_len..]);
            tag[4..].copy_from_slice(&rest[..TAG_LEN - 4]);
            clear[layout.plain_len..].copy_from_slice(&trailer);
            self.open(ssrc, layout.index().into(), clear, &mut tag)
        }
    }

    #[inline]
    fn seal(&self, ssrc: u32, index: u64, aad: &[u8], plain: &mut [u8], tag_out: &mut [u8]) {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(aad), plain)
            .expect("sealing fails only beyond 64 GB");
        tag_out.copy_from_slice(tag.as_ref());
    }

    fn open(&self, ssrc: u32, index: u64, aad: &[u8], sealed: &mut [u8]) -> Result<(), DropReason> {
        match self.key.open_in_place(self.nonce(ssrc, index), Aad::from(aad), sealed) {
            Ok(_) => Ok(()),
            Err(_) => Err(DropReason::SrtpUnauthenticated),
        }
    }

    /// RFC 7714 sections 8.1 and 9.1: two zeros, SSRC, index in 48 bits; masked with the salt.
    #[inline]
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let plain = (u128::from(ssrc) << 48 | u128::from(index)).to_be_bytes();
        let mut nonce = self.salt;
        for (byte, plain) in nonce.iter_mut().zip(&plain[4..]) {
            *byte ^= plain;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The associated data of encrypted RTCP (RFC 7714 section 9.2).
fn rtcp_aad(header: &[u8], trailer: [u8; 4]) -> [u8; RTCP_HEADER_LEN + 4] {
    let mut aad = [0; RTCP_HEADER_LEN + 4];
    aad[..RTCP_HEADER_LEN].copy_from_slice(header);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&trailer);
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::hex;

    const KEY_128: &str = "000102030405060708090a0b0c0d0e0f";
    const KEY_256: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const SALT: &[u8; 12] = b"Quid pro quo";

    /// RFC 7714 section 16.
    #[test]
    fn rtp_is_sealed_as_in_rfc_7714() {
        let plain = "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e6973206469766973\
            6120696e207061727465732074726573";
        let sealed_128 = "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f\
            42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce";
        let sealed_256 = "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3\
            b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13";
        for (key, sealed) in [(KEY_128, sealed_128), (KEY_256, sealed_256)] {
            let cipher = Aead::with_session_key(&hex(key), *SALT);
            let (plain, sealed) = (hex(plain), hex(sealed));
            let mut packet = plain.clone();
            packet.resize(plain.len() + TAG_LEN, 0);
            cipher.seal_rtp(0x5501_a0b2, 0xf17b, 12, &mut packet);
            assert_eq!(packet, sealed);
            cipher.open_rtp(0x5501_a0b2, 0xf17b, 12, &mut packet).unwrap();
            assert_eq!(packet[..plain.len()], plain);
        }
    }

    const RTCP: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
        deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";

    /// RFC 7714 sections 17.1 and 17.2.
    #[test]
    fn rtcp_is_sealed_as_in_rfc_7714() {
        let sealed_128 = "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda\
            4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4";
        let sealed_256 = "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be\
            8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4";
        for (key, sealed) in [(KEY_128, sealed_128), (KEY_256, sealed_256)] {
            let cipher = Aead::with_session_key(&hex(key), *SALT);
            let (plain, sealed) = (hex(RTCP), hex(sealed));
            let mut packet = plain.clone();
            packet.resize(plain.len() + TAG_LEN + 4, 0);
            cipher.seal_rtcp(0x4d61_7273, 0x5d4, &mut packet);
            assert_eq!(packet, sealed);
            let layout = Aead::rtcp_layout(&packet).unwrap();
            assert_eq!((layout.index(), layout.plain_len), (0x5d4, plain.len()));
            cipher.open_rtcp(0x4d61_7273, layout, &mut packet).unwrap();
            assert_eq!(packet[..plain.len()], plain);
        }
    }

    /// RFC 7714 section 17.3.
    #[test]
    fn rtcp_that_is_only_authenticated_is_opened_as_in_rfc_7714() {
        let cipher = Aead::with_session_key(&hex(KEY_128), *SALT);
        let mut packet = hex(RTCP);
        packet.extend(hex("841dd9683dd78ec92ae58790125f62b3000005d4"));
        let layout = Aead::rtcp_layout(&packet).unwrap();
        assert!(!layout.is_encrypted());
        let mut forged = packet.clone();
        forged[10] ^= 1;
        assert_eq!(cipher.open_rtcp(0x4d61_7273, layout, &mut forged), Err(DropReason::SrtpUnauthenticated));
        cipher.open_rtcp(0x4d61_7273, layout, &mut packet).unwrap();
        assert_eq!(packet[..layout.plain_len], hex(RTCP));
    }
}
