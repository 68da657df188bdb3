//! Names of cameras and of their rooms.

use veche_doors::name::is_address;
use veche_doors::{Error, ErrorKind};

/// The longest name of a room, in bytes.
const MAX_ROOM_BYTES: usize = 128;

/// The longest name of a camera, in bytes.
const MAX_CAMERA_BYTES: usize = 64;

/// An error where one of them is no name.
pub(crate) fn check(room_id: &str, name: &str) -> Result<(), Error> {
    let names =
        [("room_id", room_id, MAX_ROOM_BYTES, "meeting_123"), ("name", name, MAX_CAMERA_BYTES, "door")];
    for (field, value, max, example) in names {
        if !is_address(value, max) {
            let message = format!(
                "{field}: 1 to {max} bytes of letters, digits, `_`, `-` and `.`, for example `{example}`"
            );
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
    }
    Ok(())
}

/// The room and the camera that a channel is for: `room:<room>:camera:<name>`.
pub(crate) fn of_channel(channel: &str) -> Option<(&str, &str)> {
    let (room_id, rest) = channel.strip_prefix("room:")?.split_once(':')?;
    let name = rest.strip_prefix("camera:")?;
    check(room_id, name).is_ok().then_some((room_id, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_names_a_room_and_a_camera_or_neither() {
        assert_eq!(of_channel("room:tea:camera:door"), Some(("tea", "door")));
        assert_eq!(of_channel("room:чай:camera:дверь"), Some(("чай", "дверь")));
        for other in ["room:tea", "room:tea:camera:", "room:tea:chat", "camera:door", "room:tea:camera:a:b"] {
            assert_eq!(of_channel(other), None, "{other}");
        }
        assert_eq!(check("tea", "../door").unwrap_err().kind, ErrorKind::BadRequest);
    }
}
