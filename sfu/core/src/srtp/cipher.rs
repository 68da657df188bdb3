//! One direction's cipher for RTP or for RTCP, whichever the profile says.

use super::SrtpProfile;
use super::aead::Aead;
use super::aes_cm::AesCm;
use super::key_derivation::{Label, MasterKey};
use crate::drops::DropReason;

/// What stays in the clear of RTCP: the first header, up to the sender's SSRC (RFC 3711 section 3.4).
pub(super) const RTCP_HEADER_LEN: usize = 8;
/// The bit next to the SRTCP index that says that the packet is encrypted (RFC 3711 section 3.4).
pub(super) const ENCRYPTED: u32 = 1 << 31;

/// Where the plain packet ends in a protected RTCP packet, and the word with the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct RtcpLayout {
    pub(super) plain_len: usize,
    pub(super) trailer: u32,
}

impl RtcpLayout {
    pub(super) fn index(self) -> u32 {
        self.trailer & !ENCRYPTED
    }

    pub(super) fn is_encrypted(self) -> bool {
        self.trailer & ENCRYPTED != 0
    }
}

/// The caller has checked that each packet is long enough for header and overhead.
#[derive(Debug)]
pub(super) enum Cipher {
    Aead(Aead),
    /// Large, and only for old clients: it shall not make all transports large.
    AesCm(Box<AesCm>),
}

impl Cipher {
    pub(super) fn for_rtp(master: &MasterKey) -> Self {
        match master.profile() {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => {
                Self::Aead(Aead::new(master, Label::RtpEncryption, Label::RtpSalt))
            }
            SrtpProfile::Aes128CmHmacSha1_80 => Self::AesCm(Box::new(AesCm::new(
                master,
                Label::RtpEncryption,
                Label::RtpAuthentication,
                Label::RtpSalt,
            ))),
        }
    }

    pub(super) fn for_rtcp(master: &MasterKey) -> Self {
        match master.profile() {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => {
                Self::Aead(Aead::new(master, Label::RtcpEncryption, Label::RtcpSalt))
            }
            SrtpProfile::Aes128CmHmacSha1_80 => Self::AesCm(Box::new(AesCm::new(
                master,
                Label::RtcpEncryption,
                Label::RtcpAuthentication,
                Label::RtcpSalt,
            ))),
        }
    }

    #[inline]
    pub(super) fn seal_rtp(&self, ssrc: u32, index: u64, header_len: usize, packet: &mut [u8]) {
        match self {
            Self::Aead(cipher) => cipher.seal_rtp(ssrc, index, header_len, packet),
            Self::AesCm(cipher) => cipher.seal_rtp(ssrc, index, header_len, packet),
        }
    }

    #[inline]
    pub(super) fn open_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        match self {
            Self::Aead(cipher) => cipher.open_rtp(ssrc, index, header_len, packet),
            Self::AesCm(cipher) => cipher.open_rtp(ssrc, index, header_len, packet),
        }
    }

    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) {
        match self {
            Self::Aead(cipher) => cipher.seal_rtcp(ssrc, index, packet),
            Self::AesCm(cipher) => cipher.seal_rtcp(ssrc, index, packet),
        }
    }

    pub(super) fn rtcp_layout(&self, packet: &[u8]) -> Option<RtcpLayout> {
        match self {
            Self::Aead(_) => Aead::rtcp_layout(packet),
            Self::AesCm(_) => AesCm::rtcp_layout(packet),
        }
    }

    pub(super) fn open_rtcp(
        &self,
        ssrc: u32,
        layout: RtcpLayout,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        match self {
            Self::Aead(cipher) => cipher.open_rtcp(ssrc, layout, packet),
            Self::AesCm(cipher) => cipher.open_rtcp(ssrc, layout, packet),
        }
    }
}

/// The SSRC of an RTCP packet's sender, in its first header; `None` when it is too short to have one.
pub(super) fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    packet.get(4..RTCP_HEADER_LEN)?.try_into().ok().map(u32::from_be_bytes)
}
