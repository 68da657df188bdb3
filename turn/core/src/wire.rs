//! The numbers and frames of TURN (RFC 8656 sections 12.4, 17 and 18, RFC 6062 section 6).

/// The methods.
pub(crate) mod method {
    pub(crate) const BINDING: u16 = 0x001;
    pub(crate) const ALLOCATE: u16 = 0x003;
    pub(crate) const REFRESH: u16 = 0x004;
    pub(crate) const SEND: u16 = 0x006;
    pub(crate) const DATA: u16 = 0x007;
    pub(crate) const CREATE_PERMISSION: u16 = 0x008;
    pub(crate) const CHANNEL_BIND: u16 = 0x009;
    /// Those of RFC 6062.
    pub(crate) const CONNECT: u16 = 0x00a;
    pub(crate) const CONNECTION_BIND: u16 = 0x00b;
    pub(crate) const CONNECTION_ATTEMPT: u16 = 0x00c;
}

/// The attributes that only TURN has.
pub(crate) mod attribute {
    pub(crate) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(crate) const LIFETIME: u16 = 0x000d;
    pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(crate) const DATA: u16 = 0x0013;
    pub(crate) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(crate) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub(crate) const EVEN_PORT: u16 = 0x0018;
    pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(crate) const DONT_FRAGMENT: u16 = 0x001a;
    pub(crate) const RESERVATION_TOKEN: u16 = 0x0022;
    pub(crate) const CONNECTION_ID: u16 = 0x002a;
    pub(crate) const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    /// The same as coturn's client has it, by a draft; the number is nobody else's.
    pub(crate) const DRAFT_ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8032;
    pub(crate) const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub(crate) const ICMP: u16 = 0x8004;
}

/// The protocol numbers that relays may be asked for with.
pub(crate) const UDP: u8 = 17;
pub(crate) const TCP: u8 = 6;

/// Number and length in front of the data of a channel.
pub(crate) const CHANNEL_HEADER_LEN: usize = 4;

/// Whether the first byte of a packet is one of TURN's: STUN, or data of a channel (RFC 7983, RFC 8656 section 12). On a
/// socket that others use too, STUN needs a closer look: ICE uses it as well.
pub fn is_turn(packet: &[u8]) -> bool {
    packet.first().is_some_and(|&byte| byte < 4 || is_channel(byte))
}

/// The numbers that channels may have. RFC 8656 section 12 leaves clients those to 0x4fff; those of RFC 5766, coturn's among
/// them, take any to 0x7ffe, and nothing else begins with such a byte.
pub(crate) const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7ffe;

/// Whether a first byte is that of a channel's number.
pub(crate) fn is_channel(byte: u8) -> bool {
    byte & 0xc0 == 0x40
}

/// The length of the data in ChannelData, by its header.
pub(crate) fn channel_data_len(header: [u8; CHANNEL_HEADER_LEN]) -> usize {
    usize::from(u16::from_be_bytes([header[2], header[3]]))
}

/// How long the frame is that begins with these four bytes in a stream, padding included; `None` when it is neither STUN nor
/// ChannelData, and the stream cannot be understood any more.
pub(crate) fn stream_frame_len(header: [u8; CHANNEL_HEADER_LEN]) -> Option<usize> {
    let len = channel_data_len(header);
    match header[0] {
        // RFC 8489 section 5: the length of attributes, which are all padded.
        0..4 if len.is_multiple_of(4) => Some(veche_stun::HEADER_LEN + len),
        byte if is_channel(byte) => Some(CHANNEL_HEADER_LEN + len.next_multiple_of(4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_stream_tell_their_length() {
        assert_eq!(stream_frame_len([0x00, 0x01, 0x00, 0x08]), Some(28));
        assert_eq!(stream_frame_len([0x00, 0x01, 0x00, 0x07]), None);
        assert_eq!(stream_frame_len([0x40, 0x00, 0x00, 0x05]), Some(12));
        assert_eq!(stream_frame_len([0x4f, 0xff, 0xff, 0xff]), Some(4 + 65_536));
        assert_eq!(stream_frame_len(*b"GET "), Some(4 + 0x5420));
        assert_eq!(stream_frame_len([0x80, 0, 0, 0]), None);
        assert_eq!(stream_frame_len([0x16, 3, 1, 0]), None);
        assert!(is_turn(&[0]) && is_turn(&[0x40]) && !is_turn(&[0x80]) && !is_turn(&[20]) && !is_turn(&[]));
    }
}
