//! The data channel establishment protocol (RFC 8832): the two messages that open a channel.

use std::time::Duration;

/// The longest label of a channel, in bytes.
pub const MAX_LABEL: usize = 128;
/// The longest name of a channel's protocol, in bytes.
pub const MAX_PROTOCOL: usize = 64;

/// RFC 8832 section 8.2.1.
const ACK: u8 = 0x02;
const OPEN: u8 = 0x03;
/// The part of an OPEN before label and protocol (RFC 8832 section 5.1).
const OPEN_HEADER: usize = 12;

/// How hard a channel tries to deliver a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliability {
    /// Until it is there.
    Reliable,
    /// A message is sent again at most so often.
    Retransmissions(u16),
    /// A message is given up when it is so old.
    Lifetime(Duration),
}

/// What a client asks for a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Whether messages arrive in the order in which they were sent.
    pub ordered: bool,
    /// How hard delivery is tried.
    pub reliability: Reliability,
    /// The SCTP priority of RFC 8831 section 6.4.
    pub priority: u16,
    /// The name of the channel, at most [`MAX_LABEL`] bytes.
    pub label: String,
    /// The name of the protocol spoken in it, at most [`MAX_PROTOCOL`] bytes.
    pub protocol: String,
}

/// A message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DcepMessage {
    /// DATA_CHANNEL_OPEN (RFC 8832 section 5.1).
    Open(Open),
    /// DATA_CHANNEL_ACK (RFC 8832 section 5.2).
    Ack,
}

/// Why a message of the protocol is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DcepError {
    /// It does not parse.
    Malformed,
    /// Label or protocol are too long. Holds the label as far as it may be long.
    TooLong(String),
}

impl DcepMessage {
    /// Reads a message.
    pub fn parse(bytes: &[u8]) -> Result<Self, DcepError> {
        match *bytes {
            [ACK] => Ok(Self::Ack),
            [OPEN, ..] => parse_open(bytes).map(Self::Open),
            _ => Err(DcepError::Malformed),
        }
    }

    /// Writes a message. Label and protocol must keep their limits.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Self::Ack => vec![ACK],
            Self::Open(open) => write_open(open),
        }
    }
}

fn parse_open(bytes: &[u8]) -> Result<Open, DcepError> {
    let (header, text) = bytes.split_first_chunk::<OPEN_HEADER>().ok_or(DcepError::Malformed)?;
    let [_, kind, p0, p1, r0, r1, r2, r3, l0, l1, q0, q1] = *header;
    let label_len = usize::from(u16::from_be_bytes([l0, l1]));
    let protocol_len = usize::from(u16::from_be_bytes([q0, q1]));
    let (label, protocol) = text.split_at_checked(label_len).ok_or(DcepError::Malformed)?;
    if protocol.len() != protocol_len {
        return Err(DcepError::Malformed);
    }
    let label = std::str::from_utf8(label).map_err(|_| DcepError::Malformed)?;
    let protocol = std::str::from_utf8(protocol).map_err(|_| DcepError::Malformed)?;
    if label.len() > MAX_LABEL || protocol.len() > MAX_PROTOCOL {
        return Err(DcepError::TooLong(label[..label.floor_char_boundary(MAX_LABEL)].into()));
    }
    Ok(Open {
        ordered: kind & UNORDERED == 0,
        reliability: parse_reliability(kind & !UNORDERED, u32::from_be_bytes([r0, r1, r2, r3]))?,
        priority: u16::from_be_bytes([p0, p1]),
        label: label.into(),
        protocol: protocol.into(),
    })
}

/// The channel types of RFC 8832 section 8.2.2 are one of three kinds, with this bit for unordered delivery.
const UNORDERED: u8 = 0x80;
const RELIABLE: u8 = 0x00;
const RETRANSMISSIONS: u8 = 0x01;
const LIFETIME: u8 = 0x02;

fn parse_reliability(kind: u8, parameter: u32) -> Result<Reliability, DcepError> {
    match kind {
        RELIABLE => Ok(Reliability::Reliable),
        RETRANSMISSIONS => Ok(Reliability::Retransmissions(u16::try_from(parameter).unwrap_or(u16::MAX))),
        LIFETIME => Ok(Reliability::Lifetime(Duration::from_millis(parameter.into()))),
        _ => Err(DcepError::Malformed),
    }
}

fn write_open(open: &Open) -> Vec<u8> {
    let (kind, parameter) = match open.reliability {
        Reliability::Reliable => (RELIABLE, 0),
        Reliability::Retransmissions(times) => (RETRANSMISSIONS, times.into()),
        Reliability::Lifetime(time) => (LIFETIME, u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
    };
    let kind = if open.ordered { kind } else { kind | UNORDERED };
    let mut bytes = Vec::with_capacity(OPEN_HEADER + open.label.len() + open.protocol.len());
    bytes.extend([OPEN, kind]);
    bytes.extend(open.priority.to_be_bytes());
    bytes.extend(parameter.to_be_bytes());
    bytes.extend((open.label.len() as u16).to_be_bytes());
    bytes.extend((open.protocol.len() as u16).to_be_bytes());
    bytes.extend(open.label.as_bytes());
    bytes.extend(open.protocol.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn an_open_is_read_as_browsers_write_it() {
        // RFC 8832 section 5.1: unordered, two retransmissions, priority 256, label "ab", protocol "c".
        let bytes = [3, 0x81, 1, 0, 0, 0, 0, 2, 0, 2, 0, 1, b'a', b'b', b'c'];
        let open = Open {
            ordered: false,
            reliability: Reliability::Retransmissions(2),
            priority: 256,
            label: "ab".into(),
            protocol: "c".into(),
        };
        assert_eq!(DcepMessage::parse(&bytes), Ok(DcepMessage::Open(open.clone())));
        assert_eq!(DcepMessage::Open(open).write(), bytes);
        assert_eq!(DcepMessage::parse(&[2]), Ok(DcepMessage::Ack));
        assert_eq!(DcepMessage::Ack.write(), [2]);
    }

    #[test]
    fn all_kinds_survive_writing_and_reading() {
        let reliabilities = [
            Reliability::Reliable,
            Reliability::Retransmissions(0),
            Reliability::Lifetime(Duration::from_secs(3)),
        ];
        for reliability in reliabilities {
            for ordered in [false, true] {
                let open = DcepMessage::Open(Open {
                    ordered,
                    reliability,
                    priority: 7,
                    label: "é".repeat(64),
                    protocol: "p".repeat(64),
                });
                assert_eq!(DcepMessage::parse(&open.write()), Ok(open));
            }
        }
    }

    #[test]
    fn limits_and_nonsense_are_refused() {
        let open = |label: &str, protocol: &str| {
            let (label, protocol) = (label.into(), protocol.into());
            let open =
                Open { ordered: true, reliability: Reliability::Reliable, priority: 0, label, protocol };
            DcepMessage::parse(&DcepMessage::Open(open).write())
        };
        assert_eq!(open(&"x".repeat(129), ""), Err(DcepError::TooLong("x".repeat(128))));
        assert_eq!(open(&("x".repeat(127) + "é"), ""), Err(DcepError::TooLong("x".repeat(127))));
        assert_eq!(open("a", &"x".repeat(65)), Err(DcepError::TooLong("a".into())));
        let valid = [3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, b'a'];
        assert!(DcepMessage::parse(&valid).is_ok());
        for (at, value) in [(0, 4), (1, 3), (9, 2), (9, 0), (11, 1), (12, 0xFF)] {
            let mut bytes = valid;
            bytes[at] = value;
            assert_eq!(DcepMessage::parse(&bytes), Err(DcepError::Malformed), "{at}");
        }
        for len in 0..valid.len() {
            assert_eq!(DcepMessage::parse(&valid[..len]), Err(DcepError::Malformed));
        }
    }

    #[test]
    fn random_input_never_panics_and_what_parses_is_written_alike() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut parsed = 0;
        for _ in 0..20_000 {
            let mut bytes = vec![3, 0x82, 0, 0, 0, 0, 0, 9, 0, 3, 0, 2, b'a', b'b', b'c', b'd', b'e'];
            for _ in 0..rng.random_range(0..3) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes.truncate(rng.random_range(0..40));
            if let Ok(message) = DcepMessage::parse(&bytes) {
                parsed += 1;
                assert_eq!(DcepMessage::parse(&message.write()), Ok(message));
            }
        }
        assert!(parsed > 100);
    }
}
