//! Who makes a request, and whether they may.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use veche_access::{Action, Actions, Credential, Door, Identity, Resource};

use super::Api;
use crate::error::Error;

/// Who makes a request.
pub(crate) struct Caller(pub(crate) Identity);

impl FromRequestParts<Api> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Error> {
        let credential = Credential::from_request(&parts.headers, parts.uri.query())?;
        Ok(Self(api.rooms.authority.identify(Door::Http, credential.as_ref()).await?))
    }
}

impl Caller {
    /// An error where they may not do this in a room.
    pub(crate) fn needs(&self, action: Action, room_id: &str) -> Result<(), Error> {
        Ok(self.0.allows(action, Resource::Room(room_id))?)
    }

    /// An error where they may not look into the server.
    pub(crate) fn needs_administration(&self) -> Result<(), Error> {
        Ok(self.0.allows(Action::Administer, Resource::Server)?)
    }

    /// Whether they may know of a room: they may come in, or moderate it.
    pub(crate) fn may_see(&self, room_id: &str) -> bool {
        let seeing = Actions::of(&[Action::Join, Action::Moderate]);
        !self.0.room_actions(room_id).intersection(seeing).is_empty()
    }

    /// An error where they may not know of a room.
    pub(crate) fn needs_sight(&self, room_id: &str) -> Result<(), Error> {
        if self.may_see(room_id) { Ok(()) } else { self.needs(Action::Join, room_id) }
    }
}
