//! How a client of a WebSocket speaks: in JSON, with binary frames beside it where it wants them, or in Protobuf.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, header};
use yawc::Frame;

use crate::protocol::ServerMessage;
use crate::protocol::message::{Encoded, Encoding};

/// The sub-protocols: JSON, which is also spoken without any, and Protobuf.
const JSON_PROTOCOL: &str = "veche.json.v1";
const PROTOBUF_PROTOCOL: &str = "veche.protobuf.v1";

/// How a client speaks.
pub(super) struct Language {
    /// In Protobuf, else in JSON.
    pub(super) protobuf: bool,
    /// Whether binary messages go to it as binary frames, where it speaks JSON.
    binary: AtomicBool,
}

impl Language {
    /// That of a sub-protocol, or of none.
    pub(super) fn of(protocol: Option<&str>) -> Self {
        Self { protobuf: protocol == Some(PROTOBUF_PROTOCOL), binary: AtomicBool::new(false) }
    }

    /// Binary messages go out as binary frames from now on.
    pub(super) fn want_binary(&self) {
        self.binary.store(true, Ordering::Relaxed);
    }

    /// What goes to the client is encoded so.
    pub(super) fn encoding(&self) -> Encoding {
        if self.protobuf {
            Encoding::Protobuf
        } else if self.binary.load(Ordering::Relaxed) {
            Encoding::JsonBinary
        } else {
            Encoding::Json
        }
    }

    /// The frame of an answer.
    pub(super) fn frame(&self, answer: &ServerMessage) -> Frame {
        frame(self.encoding().answer(answer))
    }
}

/// A client that offers sub-protocols wants one of them back: the first that there is.
pub(super) fn sub_protocol(headers: &HeaderMap) -> Option<&'static str> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = offers.filter_map(|offer| offer.to_str().ok()).flat_map(|offer| offer.split(','));
    names.find_map(|name| [JSON_PROTOCOL, PROTOBUF_PROTOCOL].into_iter().find(|known| *known == name.trim()))
}

/// The frame of what is encoded.
pub(super) fn frame(encoded: Encoded) -> Frame {
    match encoded {
        Encoded::Text(text) => Frame::text(text),
        Encoded::Binary(payload) => Frame::binary(payload),
    }
}
