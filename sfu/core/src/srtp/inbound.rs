//! Authenticates and decrypts what comes from one client.

use rustc_hash::FxHashMap;

use super::cipher::{Cipher, rtcp_ssrc};
use super::replay::{ReplayWindow, estimate_index};
use super::{MIN_RTP_HEADER_LEN, MasterKey, SrtpProfile};
use crate::drops::DropReason;
use crate::ids::Ssrc;

/// How many streams one client may send.
pub const MAX_STREAMS: usize = 256;
/// How many senders of RTCP are remembered; a browser has one for each stream that it sends or receives.
const MAX_RTCP_SENDERS: usize = 256;

/// A window of 1024 packets: a second of a fast video stream may be late.
type RtpWindow = ReplayWindow<16>;
/// A window of 128 packets.
type RtcpWindow = ReplayWindow<2>;

/// The receiving direction of a transport.
#[derive(Debug)]
pub struct InboundSrtp {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    /// Only streams that were accepted, so that their number and their keys are in our hand.
    window_by_ssrc: FxHashMap<Ssrc, RtpWindow>,
    /// Only senders with an authentic packet.
    rtcp_sender_by_ssrc: FxHashMap<Ssrc, RtcpSender>,
    rtcp_packets: u64,
}

#[derive(Debug)]
struct RtcpSender {
    window: RtcpWindow,
    /// The number of the last packet, counted over all senders.
    last_packet: u64,
}

/// An RTP packet that was authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unprotected {
    /// The length of header and payload, now in the clear.
    pub len: usize,
    /// The stream is not accepted yet: nothing about it is remembered before [`InboundSrtp::accept`].
    pub new: bool,
}

impl InboundSrtp {
    /// A direction that has received nothing yet under this key.
    pub fn new(key: &MasterKey) -> Self {
        Self {
            profile: key.profile(),
            rtp: Cipher::for_rtp(key),
            rtcp: Cipher::for_rtcp(key),
            window_by_ssrc: FxHashMap::default(),
            rtcp_sender_by_ssrc: FxHashMap::default(),
            rtcp_packets: 0,
        }
    }

    /// Authenticates and decrypts one RTP packet in place; `ssrc`, `seq` and `header_len` (with CSRCs and
    /// extensions) are those of its header. After an error its payload is of no use. A stream that is not accepted
    /// yet is taken to be in its first 2^16 packets, which is all that a receiver can know of it.
    #[inline]
    pub fn unprotect_rtp(
        &mut self,
        ssrc: Ssrc,
        seq: u16,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<Unprotected, DropReason> {
        let len = packet.len().checked_sub(self.profile.rtp_overhead());
        let len = len.filter(|&len| header_len >= MIN_RTP_HEADER_LEN && len >= header_len);
        let len = len.ok_or(DropReason::RtpMalformed)?;
        let Some(window) = self.window_by_ssrc.get_mut(&ssrc) else {
            self.rtp.open_rtp(ssrc.0, seq.into(), header_len, packet)?;
            return Ok(Unprotected { len, new: true });
        };
        let index = estimate_index(window.highest(), seq).ok_or(DropReason::SrtpKeyExhausted)?;
        window.check(index)?;
        self.rtp.open_rtp(ssrc.0, index, header_len, packet)?;
        window.insert(index);
        Ok(Unprotected { len, new: false })
    }

    /// Remembers a stream from now on, beginning with the packet that [`InboundSrtp::unprotect_rtp`] just called
    /// new. Accepting it again changes nothing. Fails when there are [`MAX_STREAMS`].
    pub fn accept(&mut self, ssrc: Ssrc, seq: u16) -> Result<(), DropReason> {
        if self.window_by_ssrc.len() >= MAX_STREAMS && !self.window_by_ssrc.contains_key(&ssrc) {
            return Err(DropReason::TooManyStreams);
        }
        self.window_by_ssrc.entry(ssrc).or_insert_with(|| RtpWindow::new(seq.into()));
        Ok(())
    }

    /// Forgets a stream that is over. One that might go on must be kept: its roll-over counter is lost here, and
    /// without it a stream of more than 2^16 packets cannot be authenticated any more.
    pub fn forget(&mut self, ssrc: Ssrc) {
        self.window_by_ssrc.remove(&ssrc);
    }

    /// Authenticates and decrypts one (compound) RTCP packet in place and returns its plain length. After an error
    /// its content is of no use.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, DropReason> {
        let layout = self.rtcp.rtcp_layout(packet).ok_or(DropReason::RtcpMalformed)?;
        let ssrc = rtcp_ssrc(packet).ok_or(DropReason::RtcpMalformed)?;
        let index = u64::from(layout.index());
        let sender = self.rtcp_sender_by_ssrc.get_mut(&Ssrc(ssrc));
        if let Some(sender) = &sender {
            sender.window.check(index)?;
        }
        self.rtcp.open_rtcp(ssrc, layout, packet)?;
        self.rtcp_packets += 1;
        if let Some(sender) = sender {
            sender.window.insert(index);
            sender.last_packet = self.rtcp_packets;
        } else {
            self.remember_rtcp_sender(Ssrc(ssrc), index);
        }
        Ok(layout.plain_len)
    }

    /// When there are too many, the one that was silent for longest is forgotten: then its reports could be
    /// replayed, which costs little, while refusing new ones would leave their streams without feedback.
    fn remember_rtcp_sender(&mut self, ssrc: Ssrc, index: u64) {
        if self.rtcp_sender_by_ssrc.len() >= MAX_RTCP_SENDERS {
            let oldest = self.rtcp_sender_by_ssrc.iter().min_by_key(|(_, sender)| sender.last_packet);
            if let Some((&oldest, _)) = oldest {
                self.rtcp_sender_by_ssrc.remove(&oldest);
            }
        }
        let sender = RtcpSender { window: RtcpWindow::new(index), last_packet: self.rtcp_packets };
        self.rtcp_sender_by_ssrc.insert(ssrc, sender);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::{Sender, keys, rtcp};

    fn pair(profile: SrtpProfile) -> (Sender, InboundSrtp) {
        (Sender::new(profile), InboundSrtp::new(&keys(profile).outbound))
    }

    /// Unprotects a copy and accepts the stream, as the transport does.
    fn receive(srtp: &mut InboundSrtp, packet: &[u8]) -> Result<bool, DropReason> {
        let seq = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = Ssrc(u32::from_be_bytes(packet[8..12].try_into().unwrap()));
        let unprotected = srtp.unprotect_rtp(ssrc, seq, 12, &mut packet.to_vec())?;
        if unprotected.new {
            srtp.accept(ssrc, seq)?;
        }
        Ok(unprotected.new)
    }

    #[test]
    fn each_packet_is_taken_once_and_not_when_too_old() {
        for profile in SrtpProfile::ALL {
            let (mut sender, mut srtp) = pair(profile);
            let packets: Vec<_> = (0..1100).map(|seq| sender.rtp(7, seq)).collect();
            assert_eq!(receive(&mut srtp, &packets[3]), Ok(true));
            assert_eq!(receive(&mut srtp, &packets[3]), Err(DropReason::SrtpReplayed));
            assert_eq!(receive(&mut srtp, &packets[1]), Ok(false));
            assert_eq!(receive(&mut srtp, &packets[1]), Err(DropReason::SrtpReplayed));
            assert_eq!(receive(&mut srtp, &packets[1099]), Ok(false));
            assert_eq!(receive(&mut srtp, &packets[75]), Err(DropReason::SrtpTooOld));
            assert_eq!(receive(&mut srtp, &packets[76]), Ok(false));
        }
    }

    #[test]
    fn a_stream_rolls_over_with_losses_and_reordering() {
        for profile in SrtpProfile::ALL {
            let (mut sender, mut srtp) = pair(profile);
            let sent = [65_000_u32, 65_535, 65_536, 65_566, 90_000, 120_000, 131_071, 131_072, 131_073];
            let packets = sent.map(|seq| sender.rtp(7, seq as u16));
            for i in [0, 2, 1, 3, 4, 5, 8, 6, 7] {
                assert_eq!(receive(&mut srtp, &packets[i]), Ok(i == 0));
                assert_eq!(receive(&mut srtp, &packets[i]), Err(DropReason::SrtpReplayed));
            }
            assert_eq!(srtp.window_by_ssrc[&Ssrc(7)].highest(), 131_073);
        }
    }

    #[test]
    fn forged_packets_leave_no_trace() {
        for profile in SrtpProfile::ALL {
            let (mut sender, mut srtp) = pair(profile);
            let good = sender.rtp(7, 10);
            for at in [1, 9, 13, good.len() - 1] {
                let mut forged = good.clone();
                forged[at] ^= 1;
                assert_eq!(receive(&mut srtp, &forged), Err(DropReason::SrtpUnauthenticated));
            }
            let mut report = sender.rtcp(7);
            *report.last_mut().unwrap() ^= 1;
            assert_eq!(srtp.unprotect_rtcp(&mut report), Err(DropReason::SrtpUnauthenticated));
            assert!(srtp.window_by_ssrc.is_empty() && srtp.rtcp_sender_by_ssrc.is_empty());

            receive(&mut srtp, &good).unwrap();
            let mut ahead = sender.rtp(7, 20_000);
            let last = ahead.len() - 1;
            ahead[last] ^= 1;
            assert_eq!(receive(&mut srtp, &ahead), Err(DropReason::SrtpUnauthenticated));
            ahead[last] ^= 1;
            assert_eq!(srtp.window_by_ssrc[&Ssrc(7)].highest(), 10);
            assert_eq!(receive(&mut srtp, &ahead), Ok(false));
        }
    }

    #[test]
    fn a_stream_is_remembered_only_when_it_is_accepted_and_only_so_many() {
        let (mut sender, mut srtp) = pair(SrtpProfile::AeadAes128Gcm);
        let packet = sender.rtp(1, 5);
        for _ in 0..2 {
            let result = srtp.unprotect_rtp(Ssrc(1), 5, 12, &mut packet.clone());
            assert_eq!(result, Ok(Unprotected { len: packet.len() - 16, new: true }));
        }
        for ssrc in 1..=MAX_STREAMS as u32 {
            assert_eq!(receive(&mut srtp, &sender.rtp(ssrc, 6)), Ok(true));
        }
        assert_eq!(receive(&mut srtp, &sender.rtp(999, 6)), Err(DropReason::TooManyStreams));
        assert_eq!(srtp.accept(Ssrc(1), 6), Ok(()));
        srtp.forget(Ssrc(2));
        assert_eq!(receive(&mut srtp, &sender.rtp(999, 7)), Ok(true));
    }

    #[test]
    fn reports_are_taken_once_for_each_of_a_bounded_number_of_senders() {
        for profile in SrtpProfile::ALL {
            let (mut sender, mut srtp) = pair(profile);
            let first = sender.rtcp(1);
            let second = sender.rtcp(1);
            let len = first.len() - profile.rtcp_overhead();
            assert_eq!(srtp.unprotect_rtcp(&mut second.clone()), Ok(len));
            assert_eq!(srtp.unprotect_rtcp(&mut first.clone()), Ok(len));
            assert_eq!(srtp.unprotect_rtcp(&mut first.clone()), Err(DropReason::SrtpReplayed));
            for ssrc in 2..1000 {
                srtp.unprotect_rtcp(&mut sender.rtcp(ssrc)).unwrap();
                srtp.unprotect_rtcp(&mut sender.rtcp(1)).unwrap();
            }
            assert_eq!(srtp.rtcp_sender_by_ssrc.len(), MAX_RTCP_SENDERS);
            assert_eq!(srtp.unprotect_rtcp(&mut first.clone()), Err(DropReason::SrtpTooOld));
        }
    }

    #[test]
    fn what_is_too_short_is_refused() {
        for profile in SrtpProfile::ALL {
            let (mut sender, mut srtp) = pair(profile);
            let packet = sender.rtp(1, 1);
            let report = sender.rtcp(1);
            for len in 0..packet.len() {
                let result = srtp.unprotect_rtp(Ssrc(1), 1, 12, &mut packet[..len].to_vec());
                let short = len < 12 + profile.rtp_overhead();
                let expected = if short { DropReason::RtpMalformed } else { DropReason::SrtpUnauthenticated };
                assert_eq!(result, Err(expected));
            }
            for len in 0..report.len() {
                let result = srtp.unprotect_rtcp(&mut report[..len].to_vec());
                let short = len < 8 + profile.rtcp_overhead();
                let expected =
                    if short { DropReason::RtcpMalformed } else { DropReason::SrtpUnauthenticated };
                assert_eq!(result, Err(expected));
            }
            let mut header_only = packet[..12 + profile.rtp_overhead()].to_vec();
            let result = srtp.unprotect_rtp(Ssrc(1), 1, usize::MAX, &mut header_only);
            assert_eq!(result, Err(DropReason::RtpMalformed));
            assert_eq!(srtp.unprotect_rtcp(&mut rtcp(1, 0)), Err(DropReason::RtcpMalformed));
        }
    }
}
