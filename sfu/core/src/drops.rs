//! Why packets are dropped. A packet from the network never returns an error upward: it is dropped and counted here.

use std::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $name),+ }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name),+];

            /// The name in metrics and in the API.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$name => $text),+ }
            }
        }
    };
}

drop_reasons! {
    /// Not STUN, DTLS, RTP or RTCP by its first byte (RFC 7983), or empty.
    UnknownProtocol = "unknown_protocol",
    /// From an address that no transport knows.
    UnknownAddress = "unknown_address",
    /// STUN that does not parse.
    StunMalformed = "stun_malformed",
    /// STUN that is not a binding request.
    StunUnsupported = "stun_unsupported",
    /// A STUN user name that names no transport of this worker.
    StunUnknownUser = "stun_unknown_user",
    /// A STUN message integrity that is missing or wrong.
    StunUnauthenticated = "stun_unauthenticated",
    /// DTLS for a transport that has no session to take it, or that has failed.
    DtlsUnexpected = "dtls_unexpected",
    /// The peer's certificate does not have the fingerprint of its description.
    DtlsFingerprint = "dtls_fingerprint",
    /// Media before the DTLS handshake has finished.
    SrtpNotReady = "srtp_not_ready",
    /// RTP or RTCP that is too short, or whose lengths contradict themselves.
    RtpMalformed = "rtp_malformed",
    /// RTCP that does not parse.
    RtcpMalformed = "rtcp_malformed",
    /// SRTP or SRTCP whose authentication tag is wrong.
    SrtpUnauthenticated = "srtp_unauthenticated",
    /// SRTP or SRTCP that was seen before.
    SrtpReplayed = "srtp_replayed",
    /// SRTP or SRTCP older than the replay window.
    SrtpTooOld = "srtp_too_old",
    /// A key has protected as many packets as it may (RFC 3711 section 9.2).
    SrtpKeyExhausted = "srtp_key_exhausted",
    /// An SSRC that no negotiated stream claims.
    UnknownSsrc = "unknown_ssrc",
    /// A payload type that was not negotiated.
    UnknownPayloadType = "unknown_payload_type",
    /// A rid that was not negotiated.
    UnknownRid = "unknown_rid",
    /// More streams than a transport may have.
    TooManyStreams = "too_many_streams",
    /// A media packet that was received before (not a replay of SRTP: repaired twice, or repaired and late).
    Duplicate = "duplicate",
    /// A media packet older than the history that could repair with it.
    TooOld = "too_old",
    /// A repair for a packet that nobody misses any more, or that is empty.
    RtxUseless = "rtx_useless",
    /// A track of a section that is not active.
    InactiveTrack = "inactive_track",
    /// For a slot that waits for a key frame to switch.
    AwaitingKeyFrame = "awaiting_key_frame",
    /// Of a sub-layer that the subscriber does not get now.
    NotSelected = "not_selected",
    /// From before the switch of a slot to another source.
    BeforeSwitch = "before_switch",
    /// The subscriber negotiated no payload type for the codec.
    NoCommonCodec = "no_common_codec",
    /// The subscriber's transport is not connected.
    NotConnected = "not_connected",
    /// The subscriber's send buffer is full.
    SendBufferFull = "send_buffer_full",
    /// A packet of a handshake, while more of them wait than can be taken soon.
    HandshakeLimit = "handshake_limit",
    /// A NACK for a packet that the history no longer has, or that was never sent.
    HistoryMiss = "history_miss",
    /// A NACK of somebody who asks for more repairs than a stream could need.
    RepairLimit = "repair_limit",
    /// A NACK for a packet that was repaired a moment ago.
    RepairedRecently = "repaired_recently",
    /// Transport-wide feedback about many more packets than were sent.
    FeedbackLimit = "feedback_limit",
    /// A request for a key frame of somebody who asks for one after the other.
    KeyFrameLimit = "key_frame_limit",
    /// SCTP or DCEP that does not parse, or for a channel that is not open.
    DataMalformed = "data_malformed",
    /// A data message to somebody who is not here or has not opened the channel.
    DataNoReceiver = "data_no_receiver",
    /// A data message to somebody who receives more slowly than others send.
    DataReceiverSlow = "data_receiver_slow",
    /// A data message, or a channel, beyond the limits.
    DataLimit = "data_limit",
    /// A data message of somebody who may not send any.
    DataForbidden = "data_forbidden",
    /// For another worker, which takes packets, or news, more slowly than they come.
    BridgeFull = "bridge_full",
    /// From another worker, for a track or a stream that is not there any more.
    BridgeStale = "bridge_stale",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many packets were dropped for each reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl Default for DropCounts {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounts {
    /// Counts one packet.
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// How many for this reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.get(r))).filter(|&(_, n)| n > 0)
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &DropCounts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}
