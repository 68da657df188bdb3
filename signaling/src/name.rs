//! Names in messages, of rooms and of peers.

use crate::error::{Error, ErrorKind};

/// The longest room id, in bytes.
pub(crate) const MAX_ROOM_ID_BYTES: usize = 128;
/// The longest peer id, in characters (the media plane keeps 64 bytes for it).
const MAX_PEER_ID_CHARS: usize = 64;

/// A room id: letters and digits of any script, `_`, `-` and `.`.
pub(crate) fn check_room_id(room_id: String) -> Result<String, Error> {
    let valid = veche_doors::name::is_address(&room_id, MAX_ROOM_ID_BYTES);
    valid.then_some(room_id).ok_or_else(|| {
        let message = format!(
            "room_id: 1 to {MAX_ROOM_ID_BYTES} bytes of letters, digits, `_`, `-` and `.`, for example `meeting_123`"
        );
        Error::new(ErrorKind::BadRequest, message)
    })
}

/// A peer id: ASCII letters and digits, `_`, `-` and `.`.
pub(crate) fn check_peer_id(peer_id: &str) -> Result<&str, Error> {
    let valid = (1..=MAX_PEER_ID_CHARS).contains(&peer_id.len())
        && peer_id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    valid.then_some(peer_id).ok_or_else(|| {
        let message = format!(
            "peer_id: 1 to {MAX_PEER_ID_CHARS} characters of `A-Z a-z 0-9 _ - .`, for example `peer_456`"
        );
        Error::new(ErrorKind::BadRequest, message)
    })
}
