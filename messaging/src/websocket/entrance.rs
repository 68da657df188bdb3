//! Finding out who comes through a WebSocket. Until that is known little is taken from them: a WebSocket with limits of
//! its own reads their first message, and what they have sent behind it is read again by the one that follows.

use std::time::Duration;

use futures_util::SinkExt;
use tokio::time::timeout;
use veche_access::{Credential, Identity};
use veche_doors::websocket::{CLOSE_WAIT, Extensions};
use veche_doors::{Error, ErrorKind};
use yawc::{Frame, OpCode, WebSocketError};

use super::Close;
use super::language::Language;
use super::line::Line;
use crate::Shared;
use crate::protocol::{ClientMessage, Request};

/// What a client may send, and what that may unfold to, before it has said who it is, in bytes. Tokens are far smaller.
pub(super) const MAX_STRANGER_BYTES: usize = 64 * 1024;

/// How long a client may take to say who it is.
const AUTHENTICATION_WAIT: Duration = Duration::from_secs(10);

/// Somebody at the door.
pub(super) struct Entrance<'a> {
    pub(super) shared: &'a Shared,
    pub(super) extensions: &'a Extensions,
    pub(super) line: &'a mut Line,
    pub(super) language: &'a Language,
}

impl Entrance<'_> {
    /// Finds out who the client is: by what it showed at the handshake, or by its first message where the server wants to
    /// know. The texts are those of the contract.
    pub(super) async fn enter(
        mut self,
        credential: Result<Option<Credential>, Error>,
    ) -> Result<Identity, Close> {
        let door = veche_access::Door::WebSocket;
        let mut credential = credential.map_err(Close::Because)?;
        if credential.is_none() && self.shared.authority.is_required(door) {
            let first = timeout(AUTHENTICATION_WAIT, self.first_message()).await;
            credential = first.unwrap_or_else(|_| {
                Err(self.refused(Error::new(ErrorKind::AuthenticationTimeout, "Таймаут аутентификации")))
            })?;
            if credential.is_none() {
                let error = Error::new(ErrorKind::AuthenticationRequired, "Токен не предоставлен");
                return Err(self.refused(error));
            }
        }
        self.shared.identify(door, credential.as_ref()).await.map_err(Close::Because)
    }

    /// The credential of the first message; `None`: it has none.
    async fn first_message(&mut self) -> Result<Option<Credential>, Close> {
        self.line.remember(MAX_STRANGER_BYTES);
        let frame = self.first_frame().await;
        self.line.rewind(frame.is_ok());
        let frame = frame?;
        let settings = &self.shared.settings;
        let request = match (frame.opcode(), self.language.protobuf) {
            (OpCode::Binary, true) => Request::from_protobuf(frame.payload().clone(), settings).ok(),
            (OpCode::Text, false) => {
                let text = std::str::from_utf8(frame.payload()).unwrap_or_default();
                Request::from_json(text, settings).ok()
            }
            _ => None,
        };
        match request {
            Some(Request { message: ClientMessage::Authenticate(credential), .. }) => Ok(credential),
            _ => Ok(None),
        }
    }

    /// The first frame that is a message. Pings before it are answered.
    async fn first_frame(&mut self) -> Result<Frame, Close> {
        let pool = self.shared.deflate.clone();
        let opened = self.extensions.open(&mut *self.line, MAX_STRANGER_BYTES, pool);
        let mut websocket = opened.map_err(|_| Close::Gone)?;
        loop {
            let frame = match websocket.next_frame().await {
                Ok(frame) => frame,
                Err(error) => {
                    drop(websocket);
                    return Err(self.broken(&error));
                }
            };
            match frame.opcode() {
                OpCode::Text | OpCode::Binary => return Ok(frame),
                OpCode::Close => {
                    // The answer to it waits in the WebSocket.
                    let _ = timeout(CLOSE_WAIT, websocket.flush()).await;
                    return Err(Close::Gone);
                }
                // As does the answer to a ping.
                _ => websocket.flush().await.map_err(|_| Close::Gone)?,
            }
        }
    }

    fn broken(&self, error: &WebSocketError) -> Close {
        if !matches!(error, WebSocketError::FrameTooLarge) && !self.line.is_full() {
            return Close::Gone;
        }
        let message = format!(
            "before it has said who it is a client may send {MAX_STRANGER_BYTES} bytes; send the token first"
        );
        self.refused(Error::new(ErrorKind::MessageTooLarge, message))
    }

    fn refused(&self, error: Error) -> Close {
        self.shared.counters.authentication_failures.add(1);
        Close::Because(error)
    }
}
