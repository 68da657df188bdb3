//! One client's WebSocket, from the upgrade to the close.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{MissedTickBehavior, interval, timeout};
use veche_access::Identity;
use veche_doors::websocket::{CLOSE_WAIT, MAX_CLOSE_REASON};
use veche_messaging::Session;
use yawc::close::CloseCode;
use yawc::{Frame, HttpStream, OpCode, UpgradeFut, WebSocket};

use crate::channels::{self, Channels, is_for_channels};
use crate::error::{Error, ErrorKind};
use crate::inbound;
use crate::link::{Close, Outbox, Outgoing, encode};
use crate::protocol::ServerMessage;
use crate::rate::{TokenBucket, Verdict};
use crate::rooms::{JoinRequest, Rooms, Seat};
use crate::settings::Settings;

type Sink = futures_util::stream::SplitSink<WebSocket<HttpStream>, Frame>;
type Stream = futures_util::stream::SplitStream<WebSocket<HttpStream>>;

/// Runs one connection; `request` is an error where the client cannot join, which it is told.
pub(crate) async fn run(
    rooms: Arc<Rooms>,
    upgrade: UpgradeFut,
    request: Result<JoinRequest, Error>,
    _permit: OwnedSemaphorePermit,
) {
    let Ok(websocket) = upgrade.await else { return };
    let (mut sink, mut stream) = websocket.split();
    let joined = match request {
        Ok(request) => rooms.join(&request).await,
        Err(error) => Err(error),
    };
    match joined {
        Ok((seat, mut outbox)) => {
            // What the credential grants is checked when joining; of channels, those of the room are enough.
            let (session, channels) = channels::open(&rooms, &seat, Identity::anonymous(false));
            let read = read(&rooms, &seat, &mut stream, session);
            let close = converse(&rooms, &seat, read, &mut sink, &mut outbox, channels).await;
            tracing::debug!(room = &*seat.room.room_id, peer = &*seat.peer_id, ?close, "connection ends");
            rooms.disconnect(seat);
            match close {
                Some(close) => finish(&mut sink, &mut stream, Some(&mut outbox), close).await,
                // The answer to the client's close still waits in the sink.
                None => drop(timeout(CLOSE_WAIT, sink.flush()).await),
            }
        }
        Err(error) => finish(&mut sink, &mut stream, None, Close::Because(error)).await,
    }
}

/// Carries messages both ways until one side ends it; `None` when there is nobody to say goodbye to.
async fn converse(
    rooms: &Rooms,
    seat: &Seat,
    read: impl Future<Output = Option<Close>>,
    sink: &mut Sink,
    outbox: &mut Outbox,
    channels: Channels,
) -> Option<Close> {
    let overflow = outbox.overflow();
    tokio::select! {
        close = read => close,
        close = write(&rooms.settings, sink, outbox, channels) => close,
        () = overflow => {
            tracing::info!(room = &*seat.room.room_id, peer = &*seat.peer_id, "reads too slowly: cut");
            None
        }
    }
}

async fn read(
    rooms: &Rooms,
    seat: &Seat,
    stream: &mut Stream,
    mut session: Option<Session>,
) -> Option<Close> {
    let settings = &rooms.settings;
    let idle = Duration::from_secs(u64::from(settings.idle_seconds));
    let mut bucket = TokenBucket::new(settings.messages_per_second, settings.message_burst, Instant::now());
    let mut confirmed = false;
    loop {
        let Ok(frame) = timeout(idle, stream.next()).await else {
            let message = format!("nothing came for {} s, not even a pong", settings.idle_seconds);
            return Some(because(ErrorKind::Idle, message));
        };
        let frame = frame?;
        match bucket.handle_message(Instant::now()) {
            Verdict::Take => {}
            Verdict::Drop { tell } => {
                if tell {
                    reject(seat, too_many(settings), None);
                }
                continue;
            }
            Verdict::Close => return Some(Close::Because(too_many(settings))),
        }
        match frame.opcode() {
            OpCode::Text => {}
            OpCode::Close => return None,
            OpCode::Binary => {
                reject(seat, Error::new(ErrorKind::BadMessage, "binary; send JSON as text"), None);
                continue;
            }
            _ => continue,
        }
        if frame.payload().len() > settings.max_message_bytes as usize {
            let message = format!("a message may have {} bytes", settings.max_message_bytes);
            return Some(because(ErrorKind::MessageTooLarge, message));
        }
        if !confirmed && let Some(mut room) = seat.lock() {
            room.confirm(seat.participant);
            confirmed = true;
        }
        let Ok(text) = std::str::from_utf8(frame.payload()) else {
            reject(seat, Error::new(ErrorKind::BadMessage, "not UTF-8"), None);
            continue;
        };
        if let Some(session) = &mut session
            && is_for_channels(text)
        {
            session.connection().room().await;
            Box::pin(session.handle_text(text)).await;
            continue;
        }
        if let Err((error, id)) = inbound::handle_text(rooms, seat, text).await {
            reject(seat, error, id);
        }
    }
}

async fn write(
    settings: &Settings,
    sink: &mut Sink,
    outbox: &mut Outbox,
    mut channels: Channels,
) -> Option<Close> {
    let mut heartbeat = interval(Duration::from_secs(u64::from(settings.heartbeat_seconds)));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    loop {
        let first = tokio::select! {
            outgoing = outbox.next() => outgoing?,
            frames = channels.next() => {
                for frame in frames? {
                    sink.feed(frame).await.ok()?;
                }
                sink.flush().await.ok()?;
                continue;
            }
            _ = heartbeat.tick() => {
                sink.send(Frame::ping("")).await.ok()?;
                continue;
            }
        };
        // What has gathered goes in one write.
        let mut next = Some(first);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Message(message) => sink.feed(Frame::text(message)).await.ok()?,
                Outgoing::Close(close) => return Some(close),
            }
            next = outbox.try_next();
        }
        sink.flush().await.ok()?;
    }
}

/// Says what is left to say and why it ends, closes, and waits a little for the client's close, so that what was said
/// arrives.
async fn finish(sink: &mut Sink, stream: &mut Stream, outbox: Option<&mut Outbox>, close: Close) {
    let (code, error) = match close {
        Close::Left => (1000, None),
        Close::Because(error) => (error.kind.close_code(), Some(error)),
    };
    let goodbye = async {
        if let Some(outbox) = outbox {
            while let Some(Outgoing::Message(message)) = outbox.try_next() {
                sink.feed(Frame::text(message)).await.ok()?;
            }
        }
        let reason = error.as_ref().map_or("left", |error| error.kind.code());
        if let Some(error) = error.clone() {
            sink.feed(Frame::text(encode(&ServerMessage::error(error, None)))).await.ok()?;
        }
        debug_assert!(reason.len() <= MAX_CLOSE_REASON);
        sink.send(Frame::close(CloseCode::from(code), reason)).await.ok()?;
        // Reading on after the client's close would have yawc answer it with a second close, which browsers take for
        // a broken connection: they would never see our code.
        while stream.next().await.is_some_and(|frame| frame.opcode() != OpCode::Close) {}
        Some(())
    };
    let _ = timeout(CLOSE_WAIT, goodbye).await;
}

fn reject(seat: &Seat, error: Error, id: Option<u64>) {
    tracing::debug!(room = &*seat.room.room_id, peer = &*seat.peer_id, %error, "message rejected");
    if let Some(room) = seat.lock() {
        room.tell(seat.participant, &ServerMessage::error(error, id));
    }
}

fn too_many(settings: &Settings) -> Error {
    Error::new(
        ErrorKind::RateLimited,
        format!("more than {} messages a second; some were dropped", settings.messages_per_second),
    )
}

fn because(kind: ErrorKind, message: impl Into<String>) -> Close {
    Close::Because(Error::new(kind, message))
}
