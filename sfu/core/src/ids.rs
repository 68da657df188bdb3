//! Identifiers and small units, each its own type so that they cannot be mixed up.

use std::fmt;

use smallvec::SmallVec;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A room, unique in the process; the control plane chooses it.
    RoomId(u64)
);
number_id!(
    /// A participant, unique in the process; the control plane chooses it and keeps it over a resume.
    ParticipantId(u64)
);
number_id!(
    /// A published track, unique in the process; the engine chooses it and never reuses it.
    TrackId(u64)
);
number_id!(
    /// A worker of the process, counted from 0.
    WorkerId(u16)
);
number_id!(
    /// A question of the control plane; its answer carries the same number.
    RequestId(u64)
);
number_id!(
    /// An RTP synchronisation source (RFC 3550 section 3).
    Ssrc(u32)
);
number_id!(
    /// An RTP payload type, 0..=127 (RFC 3550 section 5.1).
    PayloadType(u8)
);

/// The numbers of an engine's tracks: other engines give others.
#[derive(Debug)]
pub struct TrackNumbers {
    last: u64,
    step: u64,
}

impl Default for TrackNumbers {
    fn default() -> Self {
        Self::new(WorkerId(0), 1)
    }
}

impl TrackNumbers {
    /// Those of one of so many workers.
    pub fn new(worker: WorkerId, workers: u16) -> Self {
        Self { last: u64::from(worker.0), step: u64::from(workers.max(1)) }
    }

    /// Takes the next one.
    pub fn take(&mut self) -> TrackId {
        self.last += self.step;
        TrackId(self.last)
    }
}

macro_rules! token_id {
    ($(#[$doc:meta])* $name:ident, $inline:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(SmallVec<[u8; $inline]>);

        impl $name {
            /// The longest text that is accepted, in bytes.
            pub const MAX_LEN: usize = $max;

            /// Takes an SDP token (RFC 8866); `None` when it is empty, too long or has other characters.
            pub fn new(text: &str) -> Option<Self> {
                Self::from_bytes(text.as_bytes())
            }

            /// The same from bytes, as they stand in an RTP header extension.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                let valid = !bytes.is_empty()
                    && bytes.len() <= Self::MAX_LEN
                    && bytes.iter().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(b));
                valid.then(|| Self(SmallVec::from_slice(bytes)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).expect("only ASCII was accepted")
            }

            /// The text as bytes, as it stands in an RTP header extension.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

token_id!(
    /// The identification of a media section (RFC 5888, RFC 9143). Browsers send it in an RTP header extension.
    Mid, 8, 32
);
token_id!(
    /// The identification of a simulcast layer within a section (RFC 8851, RFC 8852).
    Rid, 8, 32
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_their_text_and_refuse_what_sdp_could_not_carry() {
        assert_eq!(Mid::new("audio0").unwrap().as_str(), "audio0");
        assert!(Mid::new("").is_none());
        assert!(Rid::new("a b").is_none());
        assert!(Rid::new("a;b").is_none());
        assert!(Mid::new(&"x".repeat(33)).is_none());
    }
}
