//! AES-128 in counter mode with HMAC-SHA1 around RTP and RTCP (RFC 3711 section 4).

use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use aws_lc_rs::{constant_time, hmac};

use super::cipher::{ENCRYPTED, RTCP_HEADER_LEN, RtcpLayout};
use super::key_derivation::{Label, MasterKey, counter_mode_key};
use crate::drops::DropReason;

/// 80 bits, for RTP and RTCP (RFC 5764 section 4.1.2).
const TAG_LEN: usize = 10;
/// RFC 3711 section 5.2.
const AUTHENTICATION_KEY_LEN: usize = 20;

/// The keys of one direction, for RTP or for RTCP.
#[derive(Debug)]
pub(super) struct AesCm {
    key: EncryptingKey,
    /// Followed by two zeros, where the block counter of each packet is.
    salt: [u8; 16],
    authentication: hmac::Key,
}

impl AesCm {
    pub(super) fn new(master: &MasterKey, encryption: Label, authentication: Label, salt: Label) -> Self {
        let mut key = [0; 16];
        master.derive(encryption, &mut key);
        let mut authentication_key = [0; AUTHENTICATION_KEY_LEN];
        master.derive(authentication, &mut authentication_key);
        let mut session_salt = [0; 14];
        master.derive(salt, &mut session_salt);
        Self::with_session_keys(&key, session_salt, &authentication_key)
    }

    fn with_session_keys(key: &[u8; 16], salt: [u8; 14], authentication: &[u8]) -> Self {
        let mut padded = [0; 16];
        padded[..14].copy_from_slice(&salt);
        Self {
            key: counter_mode_key(key),
            salt: padded,
            authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, authentication),
        }
    }

    /// RFC 3711 section 3.3. `packet` ends with room for the tag.
    #[inline]
    pub(super) fn seal_rtp(&self, ssrc: u32, index: u64, header_len: usize, packet: &mut [u8]) {
        let (packet, tag) = packet.split_at_mut(packet.len() - TAG_LEN);
        self.apply_key_stream(ssrc, index, &mut packet[header_len..]);
        tag.copy_from_slice(&self.rtp_tag(index, packet).as_ref()[..TAG_LEN]);
    }

    /// RFC 3711 section 3.3: authenticated first, so that a forged packet stays as it is.
    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let (packet, tag) = packet.split_at_mut(packet.len() - TAG_LEN);
        verify(&self.rtp_tag(index, packet), tag)?;
        self.apply_key_stream(ssrc, index, &mut packet[header_len..]);
        Ok(())
    }

    /// RFC 3711 section 3.4: header, encrypted reports, index, tag. `packet` ends with room for index and tag.
    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) {
        let (packet, tag) = packet.split_at_mut(packet.len() - TAG_LEN);
        let (reports, trailer) = packet.split_at_mut(packet.len() - 4);
        self.apply_key_stream(ssrc, index.into(), &mut reports[RTCP_HEADER_LEN..]);
        trailer.copy_from_slice(&(index | ENCRYPTED).to_be_bytes());
        tag.copy_from_slice(&hmac::sign(&self.authentication, packet).as_ref()[..TAG_LEN]);
    }

    /// Where the index is in a protected RTCP packet: before the tag. `None` when it is too short.
    pub(super) fn rtcp_layout(packet: &[u8]) -> Option<RtcpLayout> {
        let authenticated = packet.get(..packet.len().checked_sub(TAG_LEN)?)?;
        let (plain, trailer) = authenticated.split_last_chunk()?;
        let long_enough = plain.len() >= RTCP_HEADER_LEN;
        long_enough.then(|| RtcpLayout { plain_len: plain.len(), trailer: u32::from_be_bytes(*trailer) })
    }

    /// RFC 3711 section 3.4.
    pub(super) fn open_rtcp(
        &self,
        ssrc: u32,
        layout: RtcpLayout,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let (packet, tag) = packet.split_at_mut(packet.len() - TAG_LEN);
        verify(&hmac::sign(&self.authentication, packet), tag)?;
        if layout.is_encrypted() {
            let reports = &mut packet[RTCP_HEADER_LEN..layout.plain_len];
            self.apply_key_stream(ssrc, layout.index().into(), reports);
        }
        Ok(())
    }

    /// The tag covers the roll-over counter as if it stood behind the packet (RFC 3711 section 4.2).
    #[inline]
    fn rtp_tag(&self, index: u64, packet: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(packet);
        context.update(&((index >> 16) as u32).to_be_bytes());
        context.sign()
    }

    /// RFC 3711 section 4.1.1: the counter begins with the salt, masked with SSRC and index.
    #[inline]
    fn apply_key_stream(&self, ssrc: u32, index: u64, bytes: &mut [u8]) {
        let mask = u128::from(ssrc) << 64 | u128::from(index) << 16;
        let counter = (u128::from_be_bytes(self.salt) ^ mask).to_be_bytes();
        self.key
            .less_safe_encrypt(bytes, EncryptionContext::Iv128(counter.into()))
            .expect("counter mode takes any length and this kind of context");
    }
}

fn verify(right: &hmac::Tag, tag: &[u8]) -> Result<(), DropReason> {
    constant_time::verify_slices_are_equal(&right.as_ref()[..TAG_LEN], tag)
        .map_err(|_| DropReason::SrtpUnauthenticated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::hex;

    /// RFC 3711 appendix B.2.
    #[test]
    fn the_key_stream_is_that_of_rfc_3711() {
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let salt = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd").try_into().unwrap();
        let cipher = AesCm::with_session_keys(&key, salt, &[0; AUTHENTICATION_KEY_LEN]);
        let mut stream = vec![0; 0xff02 * 16];
        cipher.apply_key_stream(0, 0, &mut stream);
        let begin = "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0";
        let end = "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae6a2cc3787889374fbeb4c81b17ba6c44";
        assert_eq!(stream[..48], hex(begin));
        assert_eq!(stream[0xfeff * 16..], hex(end));
    }
}
