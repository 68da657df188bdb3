//! The WebSocket door, from the upgrade to the close.

mod entrance;
mod language;
mod line;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};
use utoipa::IntoParams;
use veche_access::{Credential, Identity};
use veche_doors::answers::TooOften;
use veche_doors::extract::Query;
use veche_doors::rate::{TokenBucket, Verdict};
use veche_doors::websocket::{Agreed, CLOSE_WAIT, MAX_CLOSE_REASON, Upgrade};
use veche_doors::{Error, ErrorAnswer, ErrorKind};
use veche_hub::{Disconnect, Door, Item, Outbox};
use yawc::close::CloseCode;
use yawc::{Frame, OpCode, WebSocket};

use crate::Shared;
use crate::http::Api;
use crate::protocol::ServerMessage;
use crate::protocol::message::encode_item;
use crate::session::{Session, Standing, Turn};
use entrance::{Entrance, MAX_STRANGER_BYTES};
use language::{Language, frame, sub_protocol};
use line::Line;

/// About how many bytes are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// How long a client may take to read what is written at once, and a second more for so many bytes. Who does not read at
/// all is cut after that; who only reads more slowly than others send, when their outbox is full.
const WRITE_WAIT: Duration = Duration::from_secs(20);
const WRITE_BYTES_PER_SECOND: usize = 64 * 1024;

type Sink<S = Line> = futures_util::stream::SplitSink<WebSocket<S>, Frame>;
type Stream<S = Line> = futures_util::stream::SplitStream<WebSocket<S>>;

/// Who connects, and how they want binary messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConnectQuery {
    /// The client's name for people.
    name: Option<String>,
    /// `1`: binary messages come as binary frames, not as base64 in JSON.
    binary: Option<String>,
    /// A token, for browsers, which cannot send headers with a WebSocket.
    #[expect(dead_code, reason = "read with the headers")]
    token: Option<String>,
    /// An API key, likewise.
    #[expect(dead_code, reason = "read with the headers")]
    api_key: Option<String>,
}

/// What is known of a client when its WebSocket opens.
struct Handshake {
    credential: Result<Option<Credential>, Error>,
    name: Option<String>,
    binary: bool,
}

/// The WebSocket of messages; PROTOCOL.md describes them.
#[utoipa::path(
    get,
    path = "/realtime/ws",
    operation_id = "connectWebSocket",
    tag = "messaging",
    params(ConnectQuery),
    responses(
        (status = 101, description = "The WebSocket is open. Whoever may not stay is told there"),
        TooOften,
        (status = 400, description = "Not a WebSocket request", body = ErrorAnswer),
        (status = 503, description = "As many connections as there may be, or switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn connect(
    State(api): State<Api>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<ConnectQuery>, Error>,
    upgrade: Result<Upgrade, StatusCode>,
) -> Result<Response, Error> {
    let shared = api.shared;
    if !shared.settings.websocket_enabled {
        let message = "WebSockets are switched off by WEBSOCKET_ENABLED";
        return Err(Error::new(ErrorKind::DoorDisabled, message));
    }
    let not_a_websocket =
        || Error::new(ErrorKind::BadRequest, "this address is for WebSockets: connect to ws://…");
    let upgrade = upgrade.map_err(|_| not_a_websocket())?;
    let protocol = sub_protocol(&headers);
    let permit = shared.websockets.clone().try_acquire_owned().map_err(|_| {
        shared.counters.refused_connections.add(1);
        let message = "the server has as many WebSockets as it may have; try again later";
        Error::new(ErrorKind::TooManyConnections, message)
    })?;
    let (mut response, agreed) = upgrade.agree(shared.deflate.clone()).map_err(|_| not_a_websocket())?;
    // Browsers hide the answer to a failed handshake from the page, so refusals are told over the open WebSocket.
    let handshake = if shared.doorkeeper.allows_origin(&headers, &uri) {
        query.map(|Query(query)| Handshake {
            credential: shared.credential(&headers, uri.query()),
            name: query.name,
            binary: query.binary.is_some_and(|binary| binary != "0" && binary != "false"),
        })
    } else {
        let message = "pages of this origin may not connect; add it to messaging.allowed_origins";
        Err(Error::new(ErrorKind::ForbiddenOrigin, message))
    };
    let language = Language::of(protocol);
    tokio::spawn(run(shared, agreed, handshake, language, permit));
    if let Some(protocol) = protocol {
        let protocol = HeaderValue::from_static(protocol);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}

/// Runs one connection.
async fn run(
    shared: Arc<Shared>,
    agreed: Agreed,
    handshake: Result<Handshake, Error>,
    language: Language,
    _permit: OwnedSemaphorePermit,
) {
    let Ok((stream, extensions)) = agreed.stream().await else { return };
    let mut line = Line::new(stream);
    // What a connection needs at its beginning and end is in boxes, so that it does not cost every idle one.
    let entered = match handshake {
        Ok(handshake) => {
            let Handshake { credential, name, binary } = handshake;
            if binary {
                language.want_binary();
            }
            let entrance =
                Entrance { shared: &shared, extensions: &extensions, line: &mut line, language: &language };
            Box::pin(entrance.enter(credential)).await.map(|identity| (identity, name))
        }
        Err(error) => Err(Close::Because(error)),
    };
    match entered {
        Ok((identity, name)) => {
            let limit = shared.settings.max_text_bytes() + 1;
            let Ok(websocket) = extensions.open(line, limit, shared.deflate.clone()) else { return };
            drop(extensions);
            converse(&shared, websocket, identity, name.as_deref(), &language).await;
        }
        Err(close) => {
            let opened = extensions.open(&mut line, MAX_STRANGER_BYTES, shared.deflate.clone());
            let Ok(websocket) = opened else { return };
            let (mut sink, mut stream) = websocket.split();
            let goes_on_sending =
                matches!(&close, Close::Because(error) if error.kind == ErrorKind::MessageTooLarge);
            Box::pin(finish(&mut sink, &mut stream, close, &language)).await;
            drop((sink, stream));
            if goes_on_sending {
                line.hang_up().await;
            }
        }
    }
}

/// Carries messages both ways until one side ends it.
async fn converse(
    shared: &Arc<Shared>,
    websocket: WebSocket<Line>,
    identity: Identity,
    name: Option<&str>,
    language: &Language,
) {
    let (mut sink, mut stream) = websocket.split();
    // One for the whole connection: who becomes somebody else has not sent less.
    let mut bucket = shared.doorkeeper.messages(std::time::Instant::now());
    let mut next = Ok(identity);
    let close = loop {
        let identity = match next {
            Ok(identity) => identity,
            Err(close) => break close,
        };
        let (mut session, mut outbox) = match Session::start(shared.clone(), Door::WebSocket, identity, name)
        {
            Ok(started) => started,
            Err(error) => break Close::Because(error),
        };
        session.speak(language.encoding());
        session.welcome();
        let end = tokio::select! {
            end = read(&mut session, &mut stream, &mut bucket, language) => end,
            end = write(shared, &mut sink, &mut outbox, language) => End::Close(end),
        };
        next = match end {
            End::Identify(identity) => {
                // What the client asked before still has its answers.
                let _ = timeout(WRITE_WAIT, write_rest(shared, &mut sink, &mut outbox, language)).await;
                Ok(identity)
            }
            End::Close(Close::Because(error)) => {
                // What was said before still waits, and comes first.
                let _ = timeout(CLOSE_WAIT, write_rest(shared, &mut sink, &mut outbox, language)).await;
                Err(Close::Because(error))
            }
            End::Close(close) => Err(close),
        };
    };
    Box::pin(finish(&mut sink, &mut stream, close, language)).await;
}

/// Why reading ends.
enum End {
    /// The client is somebody else from now on.
    Identify(Identity),
    Close(Close),
}

/// How a connection ends.
enum Close {
    /// There is nobody to say goodbye to, but perhaps an answer to the client's close to be written.
    Gone,
    /// With an error, which the client is told.
    Because(Error),
    /// With what the hub says, which the client has been told.
    Told(Disconnect),
}

/// Takes what the client sends.
async fn read(
    session: &mut Session,
    stream: &mut Stream,
    bucket: &mut TokenBucket,
    language: &Language,
) -> End {
    let mut heard_at = Instant::now();
    loop {
        // Whose client does not read still ends with their credential.
        let _ = timeout(session.until_standing(), session.connection.room()).await;
        if let Some(end) = end_of_credential(session).await {
            return End::Close(end);
        }
        let frame = match next_frame(session, stream, &mut heard_at).await {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(end) => return End::Close(end),
        };
        match take(session, bucket, &frame) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => return End::Close(Close::Because(error)),
        }
        let turn = if language.protobuf {
            let request = (frame.opcode() == OpCode::Binary).then(|| frame.payload().clone());
            Box::pin(handle_protobuf(session, request)).await
        } else if frame.opcode() == OpCode::Binary {
            language.want_binary();
            Box::pin(session.handle_frame(frame.payload())).await
        } else if let Ok(text) = std::str::from_utf8(frame.payload()) {
            Box::pin(session.handle_text(text)).await
        } else {
            session.refuse(Error::new(ErrorKind::BadMessage, "not UTF-8"), None);
            Turn::Continue
        };
        if let Turn::Identify(identity) = turn {
            return End::Identify(identity);
        }
    }
}

/// Takes the payload of a binary frame; `None`: there was a text frame instead.
async fn handle_protobuf(session: &mut Session, request: Option<Bytes>) -> Turn {
    let Some(request) = request else {
        let message = "this connection speaks veche.protobuf.v1: send binary frames, or connect without it";
        session.refuse(Error::new(ErrorKind::BadMessage, message), None);
        return Turn::Continue;
    };
    session.handle_protobuf(request).await
}

/// How the connection ends because of its credential; `None`: it goes on.
async fn end_of_credential(session: &mut Session) -> Option<Close> {
    match session.standing().await {
        Standing::Good => None,
        Standing::Expired => {
            session.expire();
            // The writer says so, and ends the connection, if the client reads.
            sleep(CLOSE_WAIT).await;
            Some(Close::Told(Disconnect::Expired))
        }
        Standing::Revoked => {
            Some(Close::Because(Error::new(ErrorKind::InvalidApiKey, "the API key was revoked")))
        }
    }
}

/// The next frame. `None`: it is time to look whether the credential has ended.
async fn next_frame(
    session: &mut Session,
    stream: &mut Stream,
    heard_at: &mut Instant,
) -> Result<Option<Frame>, Close> {
    let heartbeat = session.shared.settings.websocket_heartbeat_seconds;
    let silence = Duration::from_secs(u64::from(heartbeat) * 2 + 15);
    let wait = silence.saturating_sub(heard_at.elapsed()).min(session.until_standing());
    let next = timeout(wait, stream.next()).await;
    if let Some(end) = end_of_credential(session).await {
        return Err(end);
    }
    match next {
        Ok(Some(frame)) if frame.opcode() != OpCode::Close => {
            *heard_at = Instant::now();
            Ok(Some(frame))
        }
        Ok(_) => Err(Close::Gone),
        Err(_) if heard_at.elapsed() < silence => Ok(None),
        Err(_) => {
            let message = format!("nothing came for {} s, not even a pong", silence.as_secs());
            Err(Close::Because(Error::new(ErrorKind::Idle, message)))
        }
    }
}

/// Whether a frame is a message, and one that the client may send now; an error ends the connection.
fn take(session: &Session, bucket: &mut TokenBucket, frame: &Frame) -> Result<bool, Error> {
    let shared = &session.shared;
    shared.counters.messages_in.add(1);
    shared.counters.bytes_in.add(frame.payload().len() as u64);
    let (per_second, burst) = shared.doorkeeper.message_rate();
    bucket.set_rate(per_second, burst);
    match bucket.handle_message(std::time::Instant::now()) {
        Verdict::Take => {}
        Verdict::Drop { tell } => {
            shared.counters.rate_limited.add(1);
            if tell {
                session.refuse(too_many(per_second), None);
            }
            return Ok(false);
        }
        Verdict::Close => return Err(too_many(per_second)),
    }
    let limit = shared.settings.websocket_binary_max_bytes;
    match frame.opcode() {
        OpCode::Binary if frame.payload().len() > limit => {
            let message = format!("a binary message may have {limit} bytes; upload larger ones in pieces");
            Err(Error::new(ErrorKind::MessageTooLarge, message))
        }
        opcode => Ok(matches!(opcode, OpCode::Text | OpCode::Binary)),
    }
}

/// Writes what waits for the client, many items at once, and pings it.
async fn write(shared: &Shared, sink: &mut Sink, outbox: &mut Outbox, language: &Language) -> Close {
    let period = Duration::from_secs(u64::from(shared.settings.websocket_heartbeat_seconds));
    let mut heartbeat = pin!(sleep(period));
    loop {
        let mut items = Vec::new();
        tokio::select! {
            more = outbox.drain(&mut items, WRITE_BYTES) => if !more {
                return Close::Gone;
            },
            () = &mut heartbeat => {
                heartbeat.as_mut().reset(Instant::now() + period);
                match timeout(WRITE_WAIT, sink.send(Frame::ping(""))).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) => return Close::Gone,
                    Err(_) => return Close::Told(Disconnect::SlowConsumer),
                }
            }
        }
        let largest = items.iter().map(size).sum::<usize>();
        let wait = WRITE_WAIT + Duration::from_secs((largest / WRITE_BYTES_PER_SECOND) as u64);
        let written = async {
            let end = feed(shared, sink, items, language).await?;
            sink.flush().await?;
            Ok::<_, yawc::WebSocketError>(end)
        };
        match timeout(wait, written).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(why))) => return Close::Told(why),
            Ok(Err(_)) => return Close::Gone,
            Err(_) => return Close::Told(Disconnect::SlowConsumer),
        }
    }
}

fn size(item: &Item) -> usize {
    if let Item::Message(message) = item { message.size() } else { 0 }
}

/// Writes what waits now.
async fn write_rest(shared: &Shared, sink: &mut Sink, outbox: &mut Outbox, language: &Language) {
    let mut items = Vec::new();
    while let Some(item) = outbox.try_next() {
        items.push(item);
    }
    let _ = feed(shared, sink, items, language).await;
}

/// Puts items in the sink; says why the connection ends where one of them says so.
async fn feed(
    shared: &Shared,
    sink: &mut Sink,
    items: Vec<Item>,
    language: &Language,
) -> Result<Option<Disconnect>, yawc::WebSocketError> {
    let encoding = language.encoding();
    let (mut count, mut bytes) = (0, 0);
    let mut end = None;
    for item in items {
        if let Item::Disconnect(why) = &item {
            end = Some(Disconnect::clone(why));
            if let Some(error) = told_before(why) {
                sink.feed(language.frame(&ServerMessage::error(error, None))).await?;
            }
        }
        let Some(frame) = encode_item(item, encoding).map(frame) else { continue };
        count += 1;
        bytes += frame.payload().len() as u64;
        sink.feed(frame).await?;
    }
    shared.counters.messages_out.add(count);
    shared.counters.bytes_out.add(bytes);
    Ok(end)
}

/// The error that a client is told before `disconnect`.
pub(crate) fn told_before(why: &Disconnect) -> Option<Error> {
    let message = match why {
        Disconnect::SlowConsumer => {
            "more waits for this connection than may; read faster, or subscribe to less"
        }
        Disconnect::Expired => "the token has expired; connect again with a new one",
        Disconnect::Stopping | Disconnect::Removed(_) => return None,
    };
    Some(Error::new(kind_of(why), message))
}

pub(crate) fn kind_of(why: &Disconnect) -> ErrorKind {
    match why {
        Disconnect::SlowConsumer => ErrorKind::SlowConsumer,
        Disconnect::Stopping => ErrorKind::ServerStopping,
        Disconnect::Expired => ErrorKind::TokenExpired,
        Disconnect::Removed(_) => ErrorKind::Removed,
    }
}

/// Says why it ends, closes, and waits a little for the client's close, so that what was said arrives.
async fn finish<S>(sink: &mut Sink<S>, stream: &mut Stream<S>, close: Close, language: &Language)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (kind, reason, error) = match close {
        Close::Gone => {
            // The answer to the client's close still waits in the sink.
            let _ = timeout(CLOSE_WAIT, sink.flush()).await;
            return;
        }
        Close::Because(error) => (error.kind, close_reason(&error), Some(error)),
        Close::Told(Disconnect::Removed(reason)) => (ErrorKind::Removed, reason.into(), None),
        Close::Told(why) => (kind_of(&why), why.code().to_owned(), None),
    };
    let goodbye = async {
        if let Some(error) = error {
            sink.feed(language.frame(&ServerMessage::error(error, None))).await.ok()?;
        }
        let reason = &reason[..reason.floor_char_boundary(MAX_CLOSE_REASON)];
        sink.send(Frame::close(CloseCode::from(kind.close_code()), reason)).await.ok()?;
        // Reading on after the client's close would have yawc answer it with a second close, which browsers take for
        // a broken connection: they would never see our code.
        while stream.next().await.is_some_and(|frame| frame.opcode() != OpCode::Close) {}
        Some(())
    };
    let _ = timeout(CLOSE_WAIT, goodbye).await;
}

/// The reason of a close: for credentials the words of the contract, else the error's code.
fn close_reason(error: &Error) -> String {
    match error.kind {
        ErrorKind::AuthenticationRequired => "Токен не предоставлен".into(),
        ErrorKind::InvalidToken | ErrorKind::TokenExpired | ErrorKind::InvalidApiKey => {
            "Неверный токен".into()
        }
        ErrorKind::AuthenticationTimeout => "Таймаут аутентификации".into(),
        kind => kind.code().into(),
    }
}

pub(crate) fn too_many(per_second: u32) -> Error {
    Error::new(
        ErrorKind::RateLimited,
        format!("more than {per_second} messages a second; some were dropped: send fewer, or in batches"),
    )
}
