//! Sending as a camera by a WebSocket: each binary message is a picture.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use futures_util::SinkExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use utoipa::IntoParams;
use veche_doors::answers::TooOften;
use veche_doors::extract::{Path, Query};
use veche_doors::websocket::{CLOSE_WAIT, Upgrade};
use veche_doors::{Error, ErrorAnswer, ErrorKind};
use yawc::{Frame, OpCode, WebSocket, WebSocketError};

use super::pipe::Pipe;
use super::take::{Intake, is_final};
use super::watch::{agree, caller, close, error_text, open};
use super::{Api, Place};
use crate::Shared;

/// How long a client may take to read what it is told.
const WRITE_WAIT: Duration = Duration::from_secs(20);

/// Of errors of one kind in a row, a client is told one in so long.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Who sends.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SendQuery {
    /// A token, for browsers, which cannot send headers with a WebSocket.
    #[expect(dead_code, reason = "describes the parameter; where credentials stand is known elsewhere")]
    token: Option<String>,
    /// An API key, likewise.
    #[expect(dead_code, reason = "describes the parameter; where credentials stand is known elsewhere")]
    api_key: Option<String>,
}

/// The first message: what a camera may send.
#[derive(Serialize)]
struct Ready<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    camera: &'a str,
    max_frame_bytes: usize,
    max_pixels: u32,
    max_fps: u32,
    heartbeat_interval: u32,
}

/// A camera's frames over a WebSocket: each binary message is a JPEG picture.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}/send",
    operation_id = "connectCamera",
    tag = "cameras",
    params(Place, SendQuery),
    responses(
        (status = 101, description = "The WebSocket is open. Whoever may not send is told there"),
        TooOften,
        (status = 400, description = "Not a WebSocket request", body = ErrorAnswer),
        (status = 503, description = "As many bring frames as may", body = ErrorAnswer),
    )
)]
pub(crate) async fn connect(
    State(api): State<Api>,
    Path(place): Path<Place>,
    query: Result<Query<SendQuery>, Error>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<Upgrade, StatusCode>,
) -> Result<Response, Error> {
    let shared = api.shared;
    let permit = shared.sender_permit()?;
    let (response, agreed) = agree(upgrade)?;
    tokio::spawn(async move {
        let _permit = permit;
        let visitor = async {
            query?;
            let caller = caller(&shared, &headers, &uri).await?;
            shared.sender(caller, &place)
        };
        let visitor = visitor.await;
        let Some((_, mut socket)) = open(agreed, shared.settings.max_frame_bytes + 1).await else { return };
        let end = match visitor {
            Ok(visitor) => {
                let name = place.name.clone();
                let intake = Intake::new(&shared, visitor, place);
                take(&shared, intake, &mut socket, &name).await
            }
            Err(error) => Some(error),
        };
        if let Some(error) = end {
            close(&mut socket, error).await;
        }
    });
    Ok(response)
}

/// Takes frames until one side ends it; the error that the client is to be told.
async fn take(
    shared: &Arc<Shared>,
    mut intake: Intake<'_>,
    socket: &mut WebSocket<Pipe>,
    name: &str,
) -> Option<Error> {
    let settings = &shared.settings;
    let ready = Ready {
        kind: "ready",
        camera: name,
        max_frame_bytes: settings.max_frame_bytes,
        max_pixels: settings.max_pixels,
        max_fps: settings.max_fps,
        heartbeat_interval: settings.heartbeat_seconds,
    };
    let ready = serde_json::to_string(&ready).expect("texts and numbers are JSON");
    timeout(WRITE_WAIT, socket.send(Frame::text(ready))).await.ok()?.ok()?;
    let heartbeat = Duration::from_secs(u64::from(settings.heartbeat_seconds));
    let mut pinged = false;
    let mut told: Option<(ErrorKind, Instant)> = None;
    loop {
        let frame = match timeout(heartbeat, socket.next_frame()).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(WebSocketError::FrameTooLarge)) => {
                return Some(crate::registry::too_large(settings.max_frame_bytes));
            }
            Ok(Err(_)) => return None,
            Err(_) if pinged => {
                let message = "nothing came, not even a pong";
                return Some(Error::new(ErrorKind::Idle, message));
            }
            Err(_) => {
                if let Err(error) = intake.check().await {
                    return Some(error);
                }
                pinged = true;
                timeout(WRITE_WAIT, socket.send(Frame::ping(""))).await.ok()?.ok()?;
                continue;
            }
        };
        pinged = false;
        let result = match frame.opcode() {
            OpCode::Binary => intake.take(frame.payload()).await,
            OpCode::Text => {
                let message = "frames are binary messages; text is not taken here";
                Err(Error::new(ErrorKind::BadPicture, message))
            }
            OpCode::Close => {
                let _ = timeout(CLOSE_WAIT, socket.flush()).await;
                return None;
            }
            _ => intake.check().await,
        };
        if let Err(error) = result {
            if is_final(error.kind) {
                return Some(error);
            }
            let now = Instant::now();
            let again = told.is_some_and(|(kind, at)| kind == error.kind && now < at + TELL_AGAIN);
            if !again {
                told = Some((error.kind, now));
                let text = Frame::text(error_text(error));
                timeout(WRITE_WAIT, socket.send(text)).await.ok()?.ok()?;
            }
        }
        // The answer to a ping waits in the WebSocket.
        if !matches!(frame.opcode(), OpCode::Binary) {
            timeout(WRITE_WAIT, socket.flush()).await.ok()?.ok()?;
        }
    }
}
