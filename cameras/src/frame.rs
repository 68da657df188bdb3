//! One picture of a camera, in the forms in which it goes out. Each form is made once, for the first who needs it, and shared.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

/// What divides the pictures of an MJPEG stream.
pub(crate) const BOUNDARY: &str = "veche-frame";

/// A picture.
#[derive(Debug)]
pub(crate) struct Frame {
    /// From 1 on, in a camera's life.
    pub(crate) number: u64,
    /// The camera's life.
    pub(crate) epoch: u32,
    /// When it came.
    pub(crate) came_at: SystemTime,
    /// In pixels.
    pub(crate) width: u16,
    /// In pixels.
    pub(crate) height: u16,
    /// As it came.
    pub(crate) jpeg: Bytes,
    event: OnceLock<Bytes>,
    part_head: OnceLock<Bytes>,
}

/// A frame in an event: what the contract says of binary messages, and what is known of the picture.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    content_type: &'static str,
    camera: &'a str,
    frame: u64,
    width: u16,
    height: u16,
    /// When it came, in milliseconds since 1970.
    timestamp_ms: u64,
    binary_data: String,
}

impl Frame {
    pub(crate) fn new(number: u64, epoch: u32, size: (u16, u16), jpeg: Bytes) -> Self {
        Self {
            number,
            epoch,
            came_at: SystemTime::now(),
            width: size.0,
            height: size.1,
            jpeg,
            event: OnceLock::new(),
            part_head: OnceLock::new(),
        }
    }

    /// Its name among all frames of a camera, over restarts too.
    pub(crate) fn tag(&self) -> String {
        format!("{:08x}-{}", self.epoch, self.number)
    }

    /// As an event of a stream, with its name, but for the empty line that ends it.
    pub(crate) fn event(&self, camera: &str) -> Bytes {
        let make = || {
            let event = Event {
                kind: "binary",
                content_type: "image/jpeg",
                camera,
                frame: self.number,
                width: self.width,
                height: self.height,
                timestamp_ms: self.came_at_ms(),
                binary_data: STANDARD.encode(&self.jpeg),
            };
            let json = serde_json::to_string(&event).expect("texts and numbers are JSON");
            format!("id: {}\nevent: binary_data\ndata: {json}\n", self.tag()).into()
        };
        self.event.get_or_init(make).clone()
    }

    /// What stands before it in an MJPEG stream. The boundary comes before that, at the end of the frame before: browsers show
    /// a frame when they see the boundary behind it.
    pub(crate) fn part_head(&self) -> Bytes {
        let make = || {
            let length = self.jpeg.len();
            let at = self.came_at_ms();
            let (seconds, micros) = (at / 1000, at % 1000 * 1000);
            format!(
                "Content-Type: image/jpeg\r\nContent-Length: {length}\r\nX-Timestamp: {seconds}.{micros:06}\r\n\r\n"
            )
            .into()
        };
        self.part_head.get_or_init(make).clone()
    }

    /// When it came, in milliseconds since 1970.
    pub(crate) fn came_at_ms(&self) -> u64 {
        self.came_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
    }
}

/// The name of a frame, as a client says it: with or without the quotes of an `ETag`.
pub(crate) fn tag_in(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("W/").unwrap_or(text).trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_made_once_and_shared() {
        let frame = Frame::new(7, 0xab, (2, 1), Bytes::from_static(&[0xff, 0xd8]));
        assert_eq!(frame.tag(), "000000ab-7");
        assert_eq!(tag_in("W/\"000000ab-7\""), frame.tag());
        let [first, second] = [frame.event("door"), frame.event("door")];
        assert_eq!(first.as_ptr(), second.as_ptr());
        let text = std::str::from_utf8(&first).unwrap();
        assert!(text.starts_with("id: 000000ab-7\nevent: binary_data\ndata: {\"type\":\"binary\""), "{text}");
        assert!(text.ends_with("\"binary_data\":\"/9g=\"}\n"), "{text}");
        assert_eq!(frame.part_head().as_ptr(), frame.part_head().as_ptr());
        assert!(frame.part_head().starts_with(b"Content-Type: image/jpeg\r\nContent-Length: 2\r\n"));
    }
}
