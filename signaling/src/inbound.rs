//! What one client's message asks for, and doing it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde_json::value::RawValue;
use veche_access::{Action, Actions};
use veche_sfu_core::control::{Command, PublishedLabel, SectionLabels, Show, SlotWish, Subscription};
use veche_sfu_core::ids::{Mid, TrackId};

use crate::error::{Error, ErrorKind};
use crate::protocol::{
    ClientMessage, ClientOffer, Moderate, ServerMessage, Subscribe, SubscribeMode, WantedSlot,
};
use crate::room::media_events::{source, track_id};
use crate::rooms::{Moderator, Rooms, Seat};

/// The longest `signal_type` between peers, in bytes.
const MAX_SIGNAL_TYPE_BYTES: usize = 64;

/// The largest message between peers, in bytes: an offer of one peer to another has a few KB.
const MAX_RELAYED_BYTES: usize = 64 * 1024;

/// Entries of a message's lists. A session has hardly more sections, and a page shows fewer people.
const MAX_LABELS: usize = 256;
const MAX_PINNED: usize = 128;

/// An object whose values are as they were sent.
pub(crate) type Envelope<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

/// Does what a client's message asks for. An error is for the client and carries the `id` of its message.
pub async fn handle_text(rooms: &Rooms, seat: &Seat, text: &str) -> Result<(), (Error, Option<u64>)> {
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
                let message = relayed(envelope, &signal_type, &seat.peer_id)?;
                needs(seat, Action::Send)?;
                seat.lock().map_or(Ok(()), |room| room.relay(&target, message))
            }
            None => handle_message(rooms, seat, parse(text, &signal_type)?).await,
        }
    };
    result.await.map_err(|error| (error, id))
}

/// The bytes of a message for a peer: unchanged but for `from_peer_id`, which only the server can set. It is always
/// there, empty where nobody in the room sent the message: by it a client tells messages of peers from the server's.
pub(crate) fn relayed(mut envelope: Envelope<'_>, signal_type: &str, from: &str) -> Result<Bytes, Error> {
    if signal_type.is_empty() || signal_type.len() > MAX_SIGNAL_TYPE_BYTES {
        return Err(bad(format!("signal_type: 1 to {MAX_SIGNAL_TYPE_BYTES} bytes, for example \"offer\"")));
    }
    let from = serde_json::value::to_raw_value(from).expect("a string is JSON");
    envelope.insert("from_peer_id".into(), Cow::Owned(from));
    let message = serde_json::to_vec(&envelope).expect("an object of JSON values is JSON");
    if message.len() > MAX_RELAYED_BYTES {
        let message = format!("a message for a peer may have {MAX_RELAYED_BYTES} bytes; send less");
        return Err(Error::new(ErrorKind::MessageTooLarge, message));
    }
    Ok(message.into())
}

async fn handle_message(rooms: &Rooms, seat: &Seat, message: ClientMessage) -> Result<(), Error> {
    match message {
        ClientMessage::Offer(offer) => handle_offer(rooms, seat, offer).await,
        // The server's candidates are in its answer, and it learns the client's from the client's checks.
        ClientMessage::IceCandidate { .. } => Ok(()),
        ClientMessage::Mute { track_id, muted } => handle_mute(rooms, seat, &track_id, muted).await,
        ClientMessage::Subscribe(subscribe) => {
            needs(seat, Action::Subscribe)?;
            let Some(subscription) = subscription(seat, &subscribe)? else { return Ok(()) };
            command(rooms, seat, Command::Subscribe { participant: seat.participant, subscription }).await
        }
        ClientMessage::Update { name, metadata } => handle_update(rooms, seat, name.as_deref(), metadata),
        ClientMessage::Moderate(moderate) => handle_moderate(rooms, seat, moderate).await,
        ClientMessage::Record { on, id } => {
            // A recording is the room's: who has left it, or was sent out, has no say any more.
            let Some(held) = actions(seat) else { return Ok(()) };
            is_granted(held, Action::Record)?;
            rooms.record(&seat.room, on).await?;
            if let Some(room) = seat.lock() {
                room.tell(seat.participant, &ServerMessage::Done { id });
            }
            Ok(())
        }
        ClientMessage::Leave => {
            rooms.leave(seat);
            Ok(())
        }
        ClientMessage::Ping { id } => {
            if let Some(room) = seat.lock() {
                room.tell(seat.participant, &ServerMessage::Pong { id });
            }
            Ok(())
        }
    }
}

async fn handle_offer(rooms: &Rooms, seat: &Seat, offer: ClientOffer) -> Result<(), Error> {
    let labels = section_labels(&offer)?;
    let request = rooms.next_request();
    match seat.lock().as_mut().and_then(|room| room.members.get_mut(&seat.participant)) {
        Some(member) => member.open_offer(request, offer.id)?,
        None => return Ok(()),
    }
    let participant = seat.participant;
    command(rooms, seat, Command::Offer { participant, request, sdp: offer.sdp, labels }).await
}

async fn handle_mute(rooms: &Rooms, seat: &Seat, name: &str, muted: bool) -> Result<(), Error> {
    let Some(track) = own_track(seat, name)? else { return Ok(()) };
    if !muted
        && let Some(room) = seat.lock()
        && let Some(error) = room.forbidden_track(seat.participant, track)
    {
        return Err(error);
    }
    command(rooms, seat, Command::SetMuted { participant: seat.participant, track, muted }).await
}

async fn handle_moderate(rooms: &Rooms, seat: &Seat, moderate: Moderate) -> Result<(), Error> {
    let known = seat.lock().and_then(|room| {
        let member = room.members.get(&seat.participant)?;
        Some((member.actions(), member.identity.user_id.clone()))
    });
    let Some((actions, user_id)) = known else { return Ok(()) };
    let by = Moderator { peer_id: Some(&seat.peer_id), user_id: user_id.as_deref(), actions };
    rooms.moderate(&seat.room, by, moderate.what).await?;
    if let Some(room) = seat.lock() {
        room.tell(seat.participant, &ServerMessage::Done { id: moderate.id });
    }
    Ok(())
}

/// What the client may do; `None` when the connection has lost its place.
fn actions(seat: &Seat) -> Option<Actions> {
    seat.lock()?.members.get(&seat.participant).map(crate::room::Member::actions)
}

/// An error where the client may not do this. Of a connection that has lost its place nothing comes of what follows.
fn needs(seat: &Seat, action: Action) -> Result<(), Error> {
    actions(seat).map_or(Ok(()), |held| is_granted(held, action))
}

fn is_granted(held: Actions, action: Action) -> Result<(), Error> {
    held.contains(action).then_some(()).ok_or_else(|| {
        let message =
            format!("`{}` is not granted to you in this room; ask a moderator for it", action.name());
        Error::new(ErrorKind::Forbidden, message)
    })
}

/// `None` when the connection has lost its place.
fn own_track(seat: &Seat, name: &str) -> Result<Option<TrackId>, Error> {
    let Some(room) = seat.lock() else { return Ok(None) };
    let member = room.members.get(&seat.participant);
    let is_own = |track: &_| member.is_some_and(|member| member.tracks.contains_key(track));
    track_id(name).filter(is_own).map(Some).ok_or_else(|| {
        let message = "track_id: not one of your own tracks; take it from a `track` message";
        Error::new(ErrorKind::TrackNotFound, message)
    })
}

fn handle_update(
    rooms: &Rooms,
    seat: &Seat,
    name: Option<&str>,
    metadata: Option<serde_json::Value>,
) -> Result<(), Error> {
    let name = match name {
        Some(name) => {
            Some(rooms.check_name(name)?.ok_or_else(|| bad("name: empty; send at least one character"))?)
        }
        None => None,
    };
    let max = rooms.settings.max_metadata_bytes;
    if metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > max) {
        let message = format!("metadata: larger than {max} bytes of JSON; send less");
        return Err(Error::new(ErrorKind::MessageTooLarge, message));
    }
    if let Some(mut room) = seat.lock() {
        room.update(seat.participant, name, metadata);
    }
    Ok(())
}

async fn command(rooms: &Rooms, seat: &Seat, command: Command) -> Result<(), Error> {
    rooms.media.command(seat.room.media_id, command).await
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
    at_most(MAX_LABELS, offer.tracks.len(), "tracks")?;
    at_most(MAX_LABELS, offer.pairs.len(), "pairs")?;
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

/// Pinned participants who have left meanwhile are passed over: the client cannot know yet. `None` when the connection
/// has lost its place.
fn subscription(seat: &Seat, subscribe: &Subscribe) -> Result<Option<Subscription>, Error> {
    at_most(MAX_LABELS, subscribe.slots.len(), "slots")?;
    at_most(MAX_PINNED, subscribe.pinned.len(), "pinned")?;
    let auto = subscribe.mode == SubscribeMode::Auto;
    let mut wished = HashSet::new();
    let slots = subscribe.slots.iter().filter(|slot| wished.insert(slot.mid.as_str()));
    let wishes = slots.map(|slot| slot_wish(slot, auto)).collect::<Result<_, _>>()?;
    let Some(room) = seat.lock() else { return Ok(None) };
    let mut seen = HashSet::new();
    let pinned = subscribe.pinned.iter().filter_map(|peer_id| room.find_peer(peer_id));
    let pinned = pinned.filter(|participant| seen.insert(*participant)).collect();
    Ok(Some(Subscription { auto, pinned, wishes }))
}

fn at_most(max: usize, count: usize, field: &str) -> Result<(), Error> {
    let fits = count <= max;
    fits.then_some(()).ok_or_else(|| bad(format!("{field}: {count} are too many; send at most {max}")))
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
