//! What things are called: channels, connections, messages, epochs, positions; and time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970 UTC, as the caller counts them. They must not go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// So many milliseconds later.
    #[must_use]
    pub fn after(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// The longest name of a channel, in bytes.
pub const MAX_CHANNEL_NAME: usize = 255;

/// The checked name of a channel: 1 to 255 bytes of letters and digits of any script and `_ - . : / @`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ChannelName(Arc<str>);

/// Why a text is no name of a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChannelName {
    /// Nothing, or more than 255 bytes.
    #[error("a channel name has 1 to 255 bytes, this one has {0}")]
    Length(usize),
    /// A character that names do not have.
    #[error(
        "the character {0:?} cannot be in a channel name: use letters, digits and _ - . : / @, as in chat:lobby"
    )]
    Character(char),
    /// Names that begin so are the server's own.
    #[error("channel names beginning with $ belong to the server: choose another beginning")]
    Reserved,
}

impl ChannelName {
    /// Checks what a client or an operator calls a channel.
    pub fn new(name: &str) -> Result<Self, BadChannelName> {
        if name.starts_with('$') {
            return Err(BadChannelName::Reserved);
        }
        Self::internal(name)
    }

    /// Like [`ChannelName::new`], for the server itself: the name may begin with `$`.
    pub fn internal(name: &str) -> Result<Self, BadChannelName> {
        let rest = name.strip_prefix('$').unwrap_or(name);
        if rest.is_empty() || name.len() > MAX_CHANNEL_NAME {
            return Err(BadChannelName::Length(name.len()));
        }
        match rest.chars().find(|c| !c.is_alphanumeric() && !"_-.:/@".contains(*c)) {
            Some(character) => Err(BadChannelName::Character(character)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ChannelName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ChannelName {
    type Err = BadChannelName;

    fn from_str(name: &str) -> Result<Self, BadChannelName> {
        Self::new(name)
    }
}

impl<'de> Deserialize<'de> for ChannelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::internal(&name).map_err(serde::de::Error::custom)
    }
}

/// Why a text is no id, epoch or position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not {0}")]
pub struct BadId(&'static str);

/// A number that is written as text: with a beginning of its own and a fixed count of hexadecimal digits.
macro_rules! id {
    ($(#[$meta:meta])* $name:ident($number:ty), $prefix:literal, $digits:literal, $what:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:0", $digits, "x}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let digits = text.strip_prefix($prefix).ok_or(BadId($what))?;
                let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                if digits.len() != size_of::<$number>() * 2 || !is_hex {
                    return Err(BadId($what));
                }
                <$number>::from_str_radix(digits, 16).map(Self).map_err(|_| BadId($what))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// One client at a door: `conn_` and 16 hexadecimal digits.
    ConnectionId(u64), "conn_", "16", "a connection id: conn_ and 16 hexadecimal digits"
}

id! {
    /// One message, unique: `msg_` and 16 hexadecimal digits.
    MessageId(u64), "msg_", "16", "a message id: msg_ and 16 hexadecimal digits"
}

id! {
    /// The life of a channel in which its offsets count on: 8 hexadecimal digits.
    Epoch(u32), "", "8", "an epoch: 8 hexadecimal digits"
}

/// A place in a channel: everything up to `offset` in this epoch is behind it. Written `epoch:offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The channel's life.
    pub epoch: Epoch,
    /// The number of a message in it, from 1; 0 is before the first.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        const WHAT: BadId = BadId("a position: an epoch, a colon and an offset, as in 1f2e3d4c:17");
        let (epoch, offset) = text.split_once(':').ok_or(WHAT)?;
        if !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WHAT);
        }
        Ok(Self { epoch: epoch.parse().map_err(|_| WHAT)?, offset: offset.parse().map_err(|_| WHAT)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_any_script_but_not_of_any_character() {
        for good in ["a", "чат:комната-1", "room:x/y@z.w_v", "部屋"] {
            assert_eq!(ChannelName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(ChannelName::new(""), Err(BadChannelName::Length(0)));
        assert_eq!(ChannelName::new(&"ж".repeat(128)), Err(BadChannelName::Length(256)));
        assert_eq!(ChannelName::new("a b"), Err(BadChannelName::Character(' ')));
        assert_eq!(ChannelName::new("a*"), Err(BadChannelName::Character('*')));
        assert_eq!(ChannelName::new("$own"), Err(BadChannelName::Reserved));
        assert_eq!(ChannelName::internal("$own").unwrap().as_str(), "$own");
        assert_eq!(ChannelName::internal("$"), Err(BadChannelName::Length(1)));
    }

    #[test]
    fn ids_and_positions_are_read_as_they_are_written_and_no_other_way() {
        let position = Position { epoch: Epoch(0x0012_abcd), offset: 42 };
        assert_eq!(position.to_string(), "0012abcd:42");
        assert_eq!("0012abcd:42".parse(), Ok(position));
        assert_eq!("conn_00000000000000ff".parse(), Ok(ConnectionId(255)));
        for bad in ["", ":", "0012abcd:", "0012abcd:-1", "0012abcd:+1", "12abcd:1", "0012ABCD:1"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
        for bad in ["conn_", "conn_+0000000000000ff", "00000000000000ff", "conn_00000000000000ff0"] {
            assert!(bad.parse::<ConnectionId>().is_err(), "{bad}");
        }
    }
}
