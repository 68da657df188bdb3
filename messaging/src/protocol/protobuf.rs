//! The messages of the protocol in Protobuf: reading what clients ask for, and writing what they get.

mod read;
mod write;

pub(crate) use read::{binary, broadcast, history, notify, send, signal, subscribe};
pub(crate) use write::{answer, message};

use bytes::Bytes;
use prost::Message as _;

use crate::proto;

/// The bytes of what the server says.
fn encode(message: &proto::ServerMessage) -> Bytes {
    message.encode_to_vec().into()
}
