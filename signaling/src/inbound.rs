//! What one client's message asks for, and doing it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use veche_sfu_core::control::{Command, PublishedLabel, SectionLabels, Show, SlotWish, Subscription};
use veche_sfu_core::ids::Mid;

use crate::error::{Error, ErrorKind};
use crate::hub::{Hub, Seat};
use crate::protocol::{ClientMessage, ClientOffer, ServerMessage, Subscribe, SubscribeMode, WantedSlot};
use crate::room::media_events::{source, track_id};

/// The longest `signal_type` between peers, in bytes.
const MAX_SIGNAL_TYPE_BYTES: usize = 64;

/// An object whose values are as they were sent.
pub(crate) type Envelope<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

/// Does what a client's message asks for. An error is for the client and carries the `id` of its message.
pub async fn handle_text(hub: &Hub, seat: &Seat, text: &str) -> Result<(), (Error, Option<u64>)> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
        let message = format!("not a JSON object: {error}; send one like {{\"signal_type\": \"ping\"}}");
        (Error::new(ErrorKind::BadMessage, message), None)
    })?;
    let id = envelope.get("id").and_then(|id| serde_json::from_str(id.get()).ok());
    let result = async {
        let signal_type = string(&envelope, "signal_type")?
            .ok_or_else(|| bad("signal_type: missing; every message has one, for example \"ping\""))?;
        check_room(&envelope, &seat.room.room_id)?;
        match string(&envelope, "target_peer_id")? {
            Some(target) => {
                let message = relayed(envelope, &signal_type, Some(&seat.peer_id))?;
                seat.room.lock().relay(&target, message)
            }
            None => handle_message(hub, seat, parse(text, &signal_type)?).await,
        }
    };
    result.await.map_err(|error| (error, id))
}

/// The bytes of a message for a peer: unchanged but for `from_peer_id`, which only the server can set.
pub(crate) fn relayed(
    mut envelope: Envelope<'_>,
    signal_type: &str,
    from: Option<&str>,
) -> Result<Bytes, Error> {
    if signal_type.is_empty() || signal_type.len() > MAX_SIGNAL_TYPE_BYTES {
        return Err(bad(format!("signal_type: 1 to {MAX_SIGNAL_TYPE_BYTES} bytes, for example \"offer\"")));
    }
    envelope.remove("from_peer_id");
    if let Some(from) = from {
        let from = serde_json::value::to_raw_value(from).expect("a string is JSON");
        envelope.insert("from_peer_id".into(), Cow::Owned(from));
    }
    Ok(serde_json::to_vec(&envelope).expect("an object of JSON values is JSON").into())
}

async fn handle_message(hub: &Hub, seat: &Seat, message: ClientMessage) -> Result<(), Error> {
    match message {
        ClientMessage::Offer(offer) => handle_offer(hub, seat, offer).await,
        // The server's candidates are in its answer, and it learns the client's from the client's checks.
        ClientMessage::IceCandidate { .. } => Ok(()),
        ClientMessage::Mute { track_id, muted } => handle_mute(hub, seat, &track_id, muted).await,
        ClientMessage::Subscribe(subscribe) => {
            let subscription = subscription(seat, subscribe)?;
            command(hub, seat, Command::Subscribe { participant: seat.participant, subscription }).await
        }
        ClientMessage::Update { name, metadata } => handle_update(hub, seat, name.as_deref(), metadata),
        ClientMessage::Leave => {
            hub.leave(seat);
            Ok(())
        }
        ClientMessage::Ping { id } => {
            seat.room.lock().tell(seat.participant, &ServerMessage::Pong { id });
            Ok(())
        }
    }
}

async fn handle_offer(hub: &Hub, seat: &Seat, offer: ClientOffer) -> Result<(), Error> {
    let labels = section_labels(&offer)?;
    let request = hub.next_request();
    match seat.room.lock().members.get_mut(&seat.participant) {
        Some(member) => member.open_offer(request, offer.id)?,
        None => return Ok(()),
    }
    let participant = seat.participant;
    command(hub, seat, Command::Offer { participant, request, sdp: offer.sdp, labels }).await
}

async fn handle_mute(hub: &Hub, seat: &Seat, name: &str, muted: bool) -> Result<(), Error> {
    let is_own = |track: &_| {
        seat.room
            .lock()
            .members
            .get(&seat.participant)
            .is_some_and(|member| member.tracks.contains_key(track))
    };
    let track = track_id(name).filter(is_own).ok_or_else(|| {
        let message = "track_id: not one of your own tracks; take it from a `track` message";
        Error::new(ErrorKind::TrackNotFound, message)
    })?;
    command(hub, seat, Command::SetMuted { participant: seat.participant, track, muted }).await
}

fn handle_update(
    hub: &Hub,
    seat: &Seat,
    name: Option<&str>,
    metadata: Option<serde_json::Value>,
) -> Result<(), Error> {
    let name = match name {
        Some(name) => {
            Some(hub.check_name(name)?.ok_or_else(|| bad("name: empty; send at least one character"))?)
        }
        None => None,
    };
    let max = hub.settings.max_metadata_bytes;
    if metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > max) {
        let message = format!("metadata: larger than {max} bytes of JSON; send less");
        return Err(Error::new(ErrorKind::MessageTooLarge, message));
    }
    seat.room.lock().update(seat.participant, name, metadata);
    Ok(())
}

async fn command(hub: &Hub, seat: &Seat, command: Command) -> Result<(), Error> {
    hub.media.command(seat.room.media_id, command).await
}

fn parse(text: &str, signal_type: &str) -> Result<ClientMessage, Error> {
    if !ClientMessage::SIGNAL_TYPES.contains(&signal_type) {
        let shown: String = signal_type.chars().take(MAX_SIGNAL_TYPE_BYTES).collect();
        let known = ClientMessage::SIGNAL_TYPES.join(", ");
        return Err(Error::new(
            ErrorKind::UnknownSignalType,
            format!(
                "`{shown}` is not a message for the server, which knows {known}; for a peer, add `target_peer_id`"
            ),
        ));
    }
    serde_json::from_str(text).map_err(|error| bad(format!("{signal_type}: {error}")))
}

fn section_labels(offer: &ClientOffer) -> Result<SectionLabels, Error> {
    let published = offer.tracks.iter().map(|track| {
        let mid = mid(&track.mid, "tracks")?;
        Ok(PublishedLabel { mid, source: source(track.source), muted: track.muted })
    });
    let pairs = offer.pairs.iter().map(|pair| Ok((mid(&pair.audio, "pairs")?, mid(&pair.video, "pairs")?)));
    Ok(SectionLabels {
        published: published.collect::<Result<_, Error>>()?,
        pairs: pairs.collect::<Result<_, Error>>()?,
    })
}

/// Pinned participants who have left meanwhile are passed over: the client cannot know yet.
fn subscription(seat: &Seat, subscribe: Subscribe) -> Result<Subscription, Error> {
    let auto = subscribe.mode == SubscribeMode::Auto;
    let pinned = {
        let room = seat.room.lock();
        subscribe.pinned.iter().filter_map(|peer_id| room.find_peer(peer_id)).collect()
    };
    let wishes = subscribe.slots.into_iter().map(|slot| slot_wish(&slot, auto)).collect::<Result<_, _>>()?;
    Ok(Subscription { auto, pinned, wishes })
}

fn slot_wish(slot: &WantedSlot, auto: bool) -> Result<SlotWish, Error> {
    let show = match slot.track_id.as_deref() {
        None if auto => Show::Auto,
        None | Some("") => Show::Nothing,
        Some(name) => Show::Track(track_id(name).ok_or_else(|| {
            Error::new(ErrorKind::TrackNotFound, "slots: a track_id is like `TR12`; take it from `track`")
        })?),
    };
    Ok(SlotWish { mid: mid(&slot.mid, "slots")?, show, width: slot.width, height: slot.height })
}

fn mid(text: &str, field: &str) -> Result<Mid, Error> {
    Mid::new(text).ok_or_else(|| bad(format!("{field}: a mid is 1 to 32 characters of an `a=mid` line")))
}

/// A message may name its room, as the peer-to-peer messages do; then it must be the connection's.
fn check_room(envelope: &Envelope<'_>, room_id: &str) -> Result<(), Error> {
    match string(envelope, "room_id")? {
        Some(named) if named != room_id => Err(Error::new(
            ErrorKind::WrongRoom,
            format!("room_id: this connection is in `{room_id}`; connect again for another room"),
        )),
        _ => Ok(()),
    }
}

/// A string field; `None` when it is absent or null.
pub(crate) fn string(envelope: &Envelope<'_>, field: &str) -> Result<Option<String>, Error> {
    match envelope.get(field) {
        None => Ok(None),
        Some(value) => serde_json::from_str(value.get()).map_err(|_| bad(format!("{field}: not a string"))),
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadMessage, message)
}
