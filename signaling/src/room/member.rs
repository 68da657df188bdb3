//! One participant of a room, connected or away.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use serde_json::Value;
use veche_access::{Action, Actions, Identity};
use veche_hub::ConnectionId;
use veche_sfu::studio::Guest;
use veche_sfu_core::ids::{Mid, ParticipantId, RequestId, TrackId};
use veche_sfu_core::rights::Rights;

use crate::error::{Error, ErrorKind};
use crate::link::Link;
use crate::protocol::{ConnectionQuality, MediaState, Participant, Slot, Track, TrackLayers};
use crate::room::Entrance;
use crate::token::TokenDigest;

/// Offers of one participant that may wait for their answer at once.
const MAX_OPEN_OFFERS: usize = 8;

/// An offer that waits for its answer.
#[derive(Debug)]
pub(crate) struct OpenOffer {
    request: RequestId,
    /// What the client called it; the answer carries the same.
    pub(crate) id: Option<u64>,
}

/// One participant of a room.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: ParticipantId,
    pub(crate) peer_id: Arc<str>,
    pub(crate) name: String,
    pub(crate) metadata: Option<Value>,
    pub(crate) identity: Identity,
    /// What their identity lets them do in the room.
    pub(crate) own_actions: Actions,
    /// What a moderator said instead.
    pub(crate) granted: Option<Actions>,
    /// The token that resumes.
    pub(crate) token: TokenDigest,
    /// The token before, good until the client shows by a message that it has the new one.
    pub(crate) previous_token: Option<TokenDigest>,
    /// The number of the latest connection.
    pub(crate) connection: u64,
    /// The same connection in the hub, where it uses the room's channels.
    pub(crate) channels: Option<ConnectionId>,
    /// The way to the client; `None` while they are away.
    pub(crate) link: Option<Link>,
    /// How good the media connection is, as the media plane says.
    pub(crate) media_quality: ConnectionQuality,
    pub(crate) media_state: Option<MediaState>,
    pub(crate) tracks: BTreeMap<TrackId, Track>,
    /// What the slots show that show something.
    pub(crate) slots: BTreeMap<Mid, Slot>,
    /// Which layers of their tracks are wanted, as they were told last.
    pub(crate) layers: BTreeMap<Mid, TrackLayers>,
    /// Who they are in the media plane, where they have no browser.
    pub(crate) guest: Option<Weak<Guest>>,
    open_offers: Vec<OpenOffer>,
}

impl Member {
    /// Somebody who has just connected.
    pub(crate) fn new(
        id: ParticipantId,
        peer_id: Arc<str>,
        name: String,
        token: TokenDigest,
        entrance: &Entrance<'_>,
    ) -> Self {
        Self {
            id,
            peer_id,
            name,
            metadata: None,
            identity: entrance.identity.clone(),
            own_actions: entrance.actions,
            granted: None,
            token,
            previous_token: None,
            connection: entrance.connection,
            channels: None,
            link: Some(entrance.link.clone()),
            media_quality: ConnectionQuality::Excellent,
            media_state: None,
            tracks: BTreeMap::new(),
            slots: BTreeMap::new(),
            layers: BTreeMap::new(),
            guest: None,
            open_offers: Vec::new(),
        }
    }

    /// Moves to another connection. Answers to offers of the old one would confuse the new one.
    pub(crate) fn reconnect(&mut self, connection: u64, link: Link) -> Option<Link> {
        self.connection = connection;
        self.channels = None;
        self.open_offers.clear();
        self.link.replace(link)
    }

    /// What they may do in the room.
    pub(crate) fn actions(&self) -> Actions {
        self.granted.unwrap_or(self.own_actions)
    }

    /// The same, as far as the media plane sees to it.
    pub(crate) fn rights(&self) -> Rights {
        let actions = self.actions();
        Rights {
            audio: actions.contains(Action::PublishAudio),
            video: actions.contains(Action::PublishVideo),
            screen: actions.contains(Action::PublishScreen),
            data: actions.contains(Action::PublishData),
            watch: actions.contains(Action::Subscribe),
        }
    }

    /// As others see them.
    pub(crate) fn participant(&self) -> Participant {
        Participant {
            peer_id: self.peer_id.to_string(),
            name: self.name.clone(),
            metadata: self.metadata.clone(),
            user_id: self.identity.user_id.as_deref().map(str::to_owned),
            attributes: self.identity.attributes.as_deref().cloned(),
            connected: self.link.is_some(),
            quality: self.quality(),
            tracks: self.tracks.values().cloned().collect(),
        }
    }

    /// How good their connection is: lost while signaling is.
    pub(crate) fn quality(&self) -> ConnectionQuality {
        if self.link.is_some() { self.media_quality } else { ConnectionQuality::Lost }
    }

    /// Notes an offer, and the `id` that its answer shall carry.
    pub(crate) fn open_offer(&mut self, request: RequestId, id: Option<u64>) -> Result<(), Error> {
        if self.open_offers.len() == MAX_OPEN_OFFERS {
            return Err(Error::new(
                ErrorKind::RateLimited,
                format!("{MAX_OPEN_OFFERS} offers wait for their answers; wait for one of them"),
            ));
        }
        self.open_offers.push(OpenOffer { request, id });
        Ok(())
    }

    /// The offer that is answered; `None` when this connection did not make it.
    pub(crate) fn close_offer(&mut self, request: RequestId) -> Option<OpenOffer> {
        let index = self.open_offers.iter().position(|open| open.request == request)?;
        Some(self.open_offers.swap_remove(index))
    }
}
