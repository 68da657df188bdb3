//! Looking at a camera by a WebSocket: each binary message is a picture.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use futures_util::SinkExt;
use tokio::time::timeout;
use veche_access::{Credential, Door};
use veche_doors::answers::TooOften;
use veche_doors::extract::{Path, Query};
use veche_doors::websocket::{Agreed, CLOSE_WAIT, MAX_CLOSE_REASON, Upgrade, deflate_pool};
use veche_doors::{Error, ErrorAnswer, ErrorKind};
use yawc::close::CloseCode;
use yawc::{Frame, OpCode, WebSocket};

use super::pipe::Pipe;
use super::{Api, Place, ViewQuery};
use crate::Shared;
use crate::counters::ViewerKind;
use crate::viewing::{Next, Viewing};
use crate::visitor::Caller;

/// How long a viewer may take to read one frame.
const WRITE_WAIT: Duration = Duration::from_mins(1);

/// What a viewer may send, in bytes: they have nothing to say.
const MAX_MESSAGE: usize = 4096;

/// A camera's frames over a WebSocket: each binary message is a JPEG picture.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}/watch",
    operation_id = "watchFrames",
    tag = "cameras",
    params(Place, ViewQuery),
    responses(
        (status = 101, description = "The WebSocket is open. Whoever may not look is told there"),
        TooOften,
        (status = 400, description = "Not a WebSocket request", body = ErrorAnswer),
    )
)]
pub(crate) async fn connect(
    State(api): State<Api>,
    Path(place): Path<Place>,
    query: Result<Query<ViewQuery>, Error>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<Upgrade, StatusCode>,
) -> Result<Response, Error> {
    let (response, agreed) = agree(upgrade)?;
    let shared = api.shared;
    tokio::spawn(async move {
        let viewing = async {
            let Query(query) = query?;
            let caller = caller(&shared, &headers, &uri).await?;
            shared.viewing(caller, &place, query.fps, ViewerKind::WebSocket)
        };
        let viewing = viewing.await;
        let Some((pipe, mut socket)) = open(agreed, MAX_MESSAGE).await else { return };
        let end = match viewing {
            Ok(mut viewing) => show(&mut viewing, &mut socket, pipe).await,
            Err(error) => Some(error),
        };
        if let Some(error) = end {
            close(&mut socket, error).await;
        }
    });
    Ok(response)
}

/// Sends frames until one side ends it; the error that the client is to be told.
async fn show(viewing: &mut Viewing, socket: &mut WebSocket<Pipe>, mut pipe: Pipe) -> Option<Error> {
    loop {
        let next = tokio::select! {
            next = viewing.next() => next,
            frame = socket.next_frame() => match frame {
                Ok(frame) if frame.opcode() != OpCode::Close => {
                    // The answer to a ping waits in the WebSocket.
                    timeout(WRITE_WAIT, socket.flush()).await.ok()?.ok()?;
                    continue;
                }
                _ => {
                    let _ = timeout(CLOSE_WAIT, socket.flush()).await;
                    return None;
                }
            },
        };
        match next {
            Next::Frame(frame) => {
                let write = async {
                    socket.flush().await.ok()?;
                    pipe.send(&frame.jpeg).await.ok()
                };
                timeout(WRITE_WAIT, write).await.ok()??;
                viewing.written(frame.jpeg.len());
            }
            Next::Heartbeat => timeout(WRITE_WAIT, socket.send(Frame::ping(""))).await.ok()?.ok()?,
            Next::End(error) => return Some(error),
        }
    }
}

/// Agrees to a WebSocket.
pub(super) fn agree(upgrade: Result<Upgrade, StatusCode>) -> Result<(Response, Agreed), Error> {
    let not_a_websocket =
        || Error::new(ErrorKind::BadRequest, "this address is for WebSockets: connect to ws://…");
    upgrade.map_err(|_| not_a_websocket())?.agree_plain().map_err(|_| not_a_websocket())
}

/// Who comes. Browsers hide the answer to a failed handshake from the page, so refusals are told over the open WebSocket.
pub(super) async fn caller(shared: &Arc<Shared>, headers: &HeaderMap, uri: &Uri) -> Result<Caller, Error> {
    if !shared.doorkeeper.allows_origin(headers, uri) {
        let message = "pages of this origin may not connect; add it to cameras.allowed_origins";
        return Err(Error::new(ErrorKind::ForbiddenOrigin, message));
    }
    let credential = Credential::from_request(headers, uri.query())?;
    Ok(Caller(shared.authority.identify(Door::WebSocket, credential.as_ref()).await?))
}

/// Waits until the client has the answer: the stream, and the WebSocket on it.
pub(super) async fn open(agreed: Agreed, max_message: usize) -> Option<(Pipe, WebSocket<Pipe>)> {
    let (stream, extensions) = agreed.stream().await.ok()?;
    let pipe = Pipe::new(stream);
    let socket = extensions.open(pipe.clone(), max_message, deflate_pool()).ok()?;
    Some((pipe, socket))
}

/// Says why it ends, closes, and waits a little for the client's close, so that what was said arrives.
pub(super) async fn close(socket: &mut WebSocket<Pipe>, error: Error) {
    let goodbye = async {
        let (kind, code) = (error.kind, error.kind.code());
        socket.feed(Frame::text(error_text(error))).await.ok()?;
        let reason = &code[..code.len().min(MAX_CLOSE_REASON)];
        socket.send(Frame::close(CloseCode::from(kind.close_code()), reason)).await.ok()?;
        while socket.next_frame().await.is_ok_and(|frame| frame.opcode() != OpCode::Close) {}
        Some(())
    };
    let _ = timeout(CLOSE_WAIT, goodbye).await;
}

/// What a client is told of an error.
pub(super) fn error_text(error: Error) -> String {
    serde_json::json!({ "type": "error", "error": error.into_body() }).to_string()
}
