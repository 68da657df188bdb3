//! Protects what is sent to one client.

use super::cipher::{Cipher, rtcp_ssrc};
use super::{MIN_RTP_HEADER_LEN, MasterKey, SrtpProfile};
use crate::drops::DropReason;

/// How many RTP packets a master key may protect (RFC 3711 section 9.2).
const MAX_RTP_PACKETS: u64 = 1 << 48;
/// How many RTCP packets a master key may protect (RFC 3711 section 9.2), and the first index that does not exist.
const MAX_RTCP_PACKETS: u32 = 1 << 31;

/// The sending direction of a transport.
///
/// What each packet touches comes first, so that it is found in few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct OutboundSrtp {
    profile: SrtpProfile,
    rtp_packets: u64,
    rtp: Cipher,
    rtcp: Cipher,
    /// One index for all senders' reports: it rises for each of them, which is all that receivers want.
    rtcp_index: u32,
}

impl OutboundSrtp {
    /// A direction that has sent nothing yet under this key.
    pub fn new(key: &MasterKey) -> Self {
        Self {
            profile: key.profile(),
            rtp: Cipher::for_rtp(key),
            rtcp: Cipher::for_rtcp(key),
            rtp_packets: 0,
            rtcp_index: 0,
        }
    }

    /// The profile; it tells how much room protection takes.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Protects one RTP packet in place. `packet` is the header (`header_len` bytes, with CSRCs and extensions),
    /// the payload with its padding, and [`SrtpProfile::rtp_overhead`] bytes to be overwritten. `roc` comes from the
    /// stream's [`OutboundStream`]. The same SSRC, `roc` and sequence number must not be used for another content.
    #[inline]
    pub fn protect_rtp(&mut self, roc: u32, header_len: usize, packet: &mut [u8]) -> Result<(), DropReason> {
        if header_len < MIN_RTP_HEADER_LEN || packet.len() < header_len + self.profile.rtp_overhead() {
            return Err(DropReason::RtpMalformed);
        }
        if self.rtp_packets >= MAX_RTP_PACKETS {
            return Err(DropReason::SrtpKeyExhausted);
        }
        self.rtp_packets += 1;
        let seq = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let index = u64::from(roc) << 16 | u64::from(seq);
        self.rtp.seal_rtp(ssrc, index, header_len, packet);
        Ok(())
    }

    /// Protects the (compound) RTCP packet that begins at `start` in `buffer` and ends with it. The buffer grows by
    /// [`SrtpProfile::rtcp_overhead`].
    pub fn protect_rtcp(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), DropReason> {
        let packet = buffer.get(start..).unwrap_or_default();
        let ssrc = rtcp_ssrc(packet).ok_or(DropReason::RtcpMalformed)?;
        if self.rtcp_index >= MAX_RTCP_PACKETS {
            return Err(DropReason::SrtpKeyExhausted);
        }
        let index = self.rtcp_index;
        self.rtcp_index += 1;
        buffer.resize(buffer.len() + self.profile.rtcp_overhead(), 0);
        self.rtcp.seal_rtcp(ssrc, index, &mut buffer[start..]);
        Ok(())
    }
}

/// Counts the roll-overs of one sent stream (RFC 3711 section 3.3.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct OutboundStream {
    /// The highest index so far; `None` before the first packet.
    highest: Option<u64>,
}

impl OutboundStream {
    /// The roll-over counter for a packet: the highest sequence number so far went on, or this is one from up to
    /// 2^15 before it. The key is exhausted when the counter has no next value.
    #[inline]
    pub fn roc_for(&mut self, seq: u16) -> Result<u32, DropReason> {
        let Some(highest) = self.highest else {
            self.highest = Some(seq.into());
            return Ok(0);
        };
        let step = i64::from(seq.wrapping_sub(highest as u16) as i16);
        // From before the first packet there is nothing to send again: it must be a jump ahead.
        let index = highest.checked_add_signed(step).unwrap_or(seq.into());
        let roc = u32::try_from(index >> 16).map_err(|_| DropReason::SrtpKeyExhausted)?;
        self.highest = Some(highest.max(index));
        Ok(roc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::{keys, rtcp, rtp};

    #[test]
    fn roll_overs_are_counted_and_old_packets_keep_theirs() {
        let mut stream = OutboundStream::default();
        let mut roc = |seq| stream.roc_for(seq).unwrap();
        assert_eq!([roc(65000), roc(65535), roc(0), roc(65534), roc(1)], [0, 0, 1, 0, 1]);
        assert_eq!([roc(30000), roc(60000), roc(2), roc(59999)], [1, 1, 2, 1]);
        let mut young = OutboundStream::default();
        assert_eq!(young.roc_for(3), Ok(0));
        assert_eq!(young.roc_for(65530), Ok(0));
        assert_eq!(young.roc_for(4), Ok(1));
    }

    #[test]
    fn a_key_ends_with_its_last_index() {
        let mut stream = OutboundStream { highest: Some((1 << 48) - 1) };
        assert_eq!(stream.roc_for(65535), Ok(u32::MAX));
        assert_eq!(stream.roc_for(0), Err(DropReason::SrtpKeyExhausted));
        assert_eq!(stream.roc_for(65534), Ok(u32::MAX));

        let mut srtp = OutboundSrtp::new(&keys(SrtpProfile::AeadAes128Gcm).outbound);
        srtp.rtp_packets = MAX_RTP_PACKETS - 1;
        srtp.rtcp_index = MAX_RTCP_PACKETS - 1;
        let (mut packet, mut report) = (rtp(1, 1, 12, 50), rtcp(1, 50));
        packet.resize(packet.len() + 16, 0);
        assert_eq!(srtp.protect_rtp(0, 12, &mut packet), Ok(()));
        assert_eq!(srtp.protect_rtp(0, 12, &mut packet), Err(DropReason::SrtpKeyExhausted));
        assert_eq!(srtp.protect_rtcp(&mut report, 0), Ok(()));
        assert_eq!(report[report.len() - 4..], [0xff; 4]);
        assert_eq!(srtp.protect_rtcp(&mut report, 0), Err(DropReason::SrtpKeyExhausted));
    }

    #[test]
    fn what_has_no_room_is_refused() {
        for profile in SrtpProfile::ALL {
            let mut srtp = OutboundSrtp::new(&keys(profile).outbound);
            let mut packet = vec![0; 12 + profile.rtp_overhead()];
            assert_eq!(srtp.protect_rtp(0, 12, &mut packet), Ok(()));
            assert_eq!(srtp.protect_rtp(0, 13, &mut packet), Err(DropReason::RtpMalformed));
            assert_eq!(srtp.protect_rtp(0, 11, &mut packet), Err(DropReason::RtpMalformed));
            assert_eq!(srtp.protect_rtp(0, 12, &mut packet[1..]), Err(DropReason::RtpMalformed));
            let mut buffer = vec![0; 20];
            assert_eq!(srtp.protect_rtcp(&mut buffer, 13), Err(DropReason::RtcpMalformed));
            assert_eq!(srtp.protect_rtcp(&mut buffer, 21), Err(DropReason::RtcpMalformed));
            assert_eq!(srtp.protect_rtcp(&mut buffer, 12), Ok(()));
            assert_eq!(buffer.len(), 20 + profile.rtcp_overhead());
            assert_eq!(buffer[..12], [0; 12]);
        }
    }
}
