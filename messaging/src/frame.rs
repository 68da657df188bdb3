//! Binary WebSocket frames: a small header before the bytes, so that files need no base64. PROTOCOL.md describes them.
//!
//! | to the server | bytes | | to the client | bytes |
//! |---|---|---|---|---|
//! | `0x11` | 1 | | `0x12` | 1 |
//! | flags | 1 | | flags | 1 |
//! | id, with flag 1 | 4 | | offset | 8 |
//! | target | 1 + n | | epoch | 4 |
//! | content type | 1 + n | | time | 8 |
//! | file name | 1 + n | | message id, channel, content type, file name, | |
//! | idempotency key | 1 + n | | user id, name and connection id of the sender | 7 × (1 + n) |
//! | the bytes | rest | | the bytes | rest |

use bytes::{BufMut, Bytes, BytesMut};

/// The first byte of a frame to the server: version 1, publish.
pub const PUBLISH: u8 = 0x11;

/// The first byte of a frame to a client: version 1, delivery.
pub const DELIVERY: u8 = 0x12;

/// The flags of a frame to the server.
mod flag {
    /// An id of four bytes follows.
    pub(super) const ID: u8 = 0x01;
    /// Keep the message for new subscribers.
    pub(super) const PERSISTENT: u8 = 0x02;
    /// Two bits: what the target names.
    pub(super) const TARGET: u8 = 0x0c;
    pub(super) const USER: u8 = 0x04;
    pub(super) const CONNECTION: u8 = 0x08;
}

/// What a client publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Comes back in the answer.
    pub id: Option<u32>,
    /// Whether the message is kept for new subscribers.
    pub persistent: bool,
    /// Who gets it.
    pub target: Target,
    /// What the bytes are, such as `image/png`; empty: unknown.
    pub content_type: String,
    /// What the file is called; empty: it has no name.
    pub filename: String,
    /// Makes a repetition harmless; empty: none.
    pub idempotency_key: String,
    /// The bytes.
    pub payload: Bytes,
}

/// Who gets what a client publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Everybody else who is connected.
    #[default]
    Everybody,
    /// The subscribers of a channel.
    Channel(String),
    /// The connections of a user.
    User(String),
    /// One connection.
    Connection(String),
}

/// What a client gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Whether the message is kept for new subscribers.
    pub persistent: bool,
    /// The place in the channel; 0 without a channel.
    pub offset: u64,
    /// The epoch of the channel, whose eight hexadecimal digits this is the value of.
    pub epoch: u32,
    /// When it was published, in milliseconds since 1970.
    pub time: u64,
    /// The message's own name.
    pub message_id: &'a str,
    /// The channel; empty: none.
    pub channel: &'a str,
    /// What the bytes are.
    pub content_type: &'a str,
    /// What the file is called; empty: it has no name.
    pub filename: &'a str,
    /// Whose connection sent it; empty: nobody's known.
    pub user_id: &'a str,
    /// The name of the sender.
    pub name: &'a str,
    /// The connection that sent it; empty: none.
    pub connection_id: &'a str,
    /// The bytes.
    pub payload: &'a [u8],
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte is of no version that the server knows.
    #[error("a binary frame begins with the byte 0x11 (version 1, publish); this one does not")]
    Version,
    /// Flags that have no meaning.
    #[error("byte 1, the flags, has bits that mean nothing; version 1 knows 0x01, 0x02, 0x04 and 0x08")]
    Flags,
    /// It ends within the header.
    #[error("the frame ends within its header: each text has one byte for its length before it")]
    Short,
    /// A text is not UTF-8.
    #[error("a text of the header is not UTF-8")]
    Text,
}

/// Reads what a client publishes; the payload shares the frame's memory.
pub fn parse_publish(frame: &Bytes) -> Result<Publish, FrameError> {
    let mut rest = frame.clone();
    if take::<1>(&mut rest)? != [PUBLISH] {
        return Err(FrameError::Version);
    }
    let [flags] = take::<1>(&mut rest)?;
    if flags & !(flag::ID | flag::PERSISTENT | flag::TARGET) != 0 {
        return Err(FrameError::Flags);
    }
    let id = if flags & flag::ID == 0 { None } else { Some(u32::from_be_bytes(take(&mut rest)?)) };
    let target = text(&mut rest)?;
    let target = match flags & flag::TARGET {
        0 if target.is_empty() => Target::Everybody,
        0 => Target::Channel(target),
        flag::USER => Target::User(target),
        flag::CONNECTION => Target::Connection(target),
        _ => return Err(FrameError::Flags),
    };
    Ok(Publish {
        id,
        persistent: flags & flag::PERSISTENT != 0,
        target,
        content_type: text(&mut rest)?,
        filename: text(&mut rest)?,
        idempotency_key: text(&mut rest)?,
        payload: rest,
    })
}

/// Writes what a client gets. Texts beyond 255 bytes, which no door lets in, are cut at a character.
pub fn encode_delivery(delivery: &Delivery<'_>) -> Bytes {
    let Delivery { message_id, channel, content_type, filename, user_id, name, connection_id, .. } =
        *delivery;
    let texts = [message_id, channel, content_type, filename, user_id, name, connection_id];
    let size = 22 + texts.map(|text| text.len() + 1).iter().sum::<usize>() + delivery.payload.len();
    let mut frame = BytesMut::with_capacity(size);
    frame.put_u8(DELIVERY);
    frame.put_u8(if delivery.persistent { flag::PERSISTENT } else { 0 });
    frame.put_u64(delivery.offset);
    frame.put_u32(delivery.epoch);
    frame.put_u64(delivery.time);
    for text in texts {
        let text = &text[..text.floor_char_boundary(usize::from(u8::MAX))];
        frame.put_u8(text.len() as u8);
        frame.put_slice(text.as_bytes());
    }
    frame.put_slice(delivery.payload);
    frame.freeze()
}

fn take<const N: usize>(rest: &mut Bytes) -> Result<[u8; N], FrameError> {
    if rest.len() < N {
        return Err(FrameError::Short);
    }
    let taken = rest.split_to(N);
    Ok(taken[..].try_into().expect("as many bytes as were split off"))
}

fn text(rest: &mut Bytes) -> Result<String, FrameError> {
    let [length] = take::<1>(rest)?;
    if rest.len() < usize::from(length) {
        return Err(FrameError::Short);
    }
    let text = rest.split_to(usize::from(length));
    String::from_utf8(text.into()).map_err(|_| FrameError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(flags: u8, id: &[u8], texts: [&str; 4], payload: &[u8]) -> Bytes {
        let mut frame = vec![PUBLISH, flags];
        frame.extend(id);
        for text in texts {
            frame.push(text.len() as u8);
            frame.extend(text.as_bytes());
        }
        frame.extend(payload);
        frame.into()
    }

    #[test]
    fn a_frame_says_who_gets_what_and_shares_its_memory() {
        let frame = publish(0x03, &[0, 0, 1, 2], ["чат", "image/png", "a.png", "k1"], b"\x89PNG");
        let parsed = parse_publish(&frame).unwrap();
        assert_eq!(
            parsed,
            Publish {
                id: Some(258),
                persistent: true,
                target: Target::Channel("чат".into()),
                content_type: "image/png".into(),
                filename: "a.png".into(),
                idempotency_key: "k1".into(),
                payload: Bytes::from_static(b"\x89PNG"),
            }
        );
        assert_eq!(parsed.payload.as_ptr(), frame[frame.len() - 4..].as_ptr());
        let target =
            |flags, target| parse_publish(&publish(flags, &[], [target, "", "", ""], b"")).unwrap().target;
        assert_eq!(target(0, ""), Target::Everybody);
        assert_eq!(target(0x04, "anna"), Target::User("anna".into()));
        assert_eq!(target(0x08, "conn_1"), Target::Connection("conn_1".into()));
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_in_its_header_or_wrong_says_so() {
        let frame = publish(0x01, &[0, 0, 0, 1], ["c", "t", "f", ""], b"");
        for end in 0..frame.len() {
            assert_eq!(parse_publish(&frame.slice(..end)), Err(FrameError::Short), "cut at {end}");
        }
        assert_eq!(parse_publish(&Bytes::from_static(&[0x21, 0])), Err(FrameError::Version));
        assert_eq!(parse_publish(&publish(0x10, &[], [""; 4], b"")), Err(FrameError::Flags));
        assert_eq!(parse_publish(&publish(0x0c, &[], [""; 4], b"")), Err(FrameError::Flags));
        assert_eq!(parse_publish(&Bytes::from_static(&[PUBLISH, 0, 1, 0xff])), Err(FrameError::Text));
    }

    #[test]
    fn a_delivery_has_its_header_as_documented() {
        let frame = encode_delivery(&Delivery {
            persistent: true,
            offset: 7,
            epoch: 0x0a0b_0c0d,
            time: 1,
            message_id: "m",
            channel: "c",
            content_type: "t",
            filename: "f",
            user_id: "u",
            name: "n",
            connection_id: "x",
            payload: b"data",
        });
        let mut expected =
            vec![DELIVERY, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 0, 0, 0, 0, 1];
        for text in ["m", "c", "t", "f", "u", "n", "x"] {
            expected.extend([1, text.as_bytes()[0]]);
        }
        expected.extend(b"data");
        assert_eq!(frame[..], expected[..]);
        let long = "ж".repeat(200);
        let cut = encode_delivery(&Delivery { filename: &long, ..Delivery::default() });
        assert_eq!(cut.len(), 22 + 7 + 254);
    }
}
