//! Whoever sends as a camera or looks at one: who they are, and whether they still may.

use std::time::{Duration, SystemTime};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::time::Instant;
use veche_access::{Action, Authority, Credential, Door, Identity, Resource};
use veche_doors::{Error, ErrorKind};

use crate::http::Api;

/// How often it is looked whether somebody still may do what they do, and whether their API key was revoked.
const LOOK: Duration = Duration::from_secs(1);
const KEY_LOOK: Duration = Duration::from_mins(1);

/// Who makes a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Identity);

/// Somebody who does one thing in a room for a while.
#[derive(Debug)]
pub(crate) struct Visitor {
    identity: Identity,
    authority: Authority,
    room_id: Box<str>,
    action: Action,
    looked_at: Instant,
    key_looked_at: Instant,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Error> {
        let credential = Credential::from_request(&parts.headers, parts.uri.query())?;
        Ok(Self(api.shared.authority.identify(Door::Http, credential.as_ref()).await?))
    }
}

impl Caller {
    /// An error where they may not do this in a room.
    pub(crate) fn needs(&self, action: Action, room_id: &str) -> Result<(), Error> {
        Ok(self.0.allows(action, Resource::Room(room_id))?)
    }
}

impl Visitor {
    /// An error where they may not do this in the room.
    pub(crate) fn new(
        caller: Caller,
        authority: Authority,
        room_id: &str,
        action: Action,
    ) -> Result<Self, Error> {
        caller.needs(action, room_id)?;
        let now = Instant::now();
        let room_id = room_id.into();
        Ok(Self { identity: caller.0, authority, room_id, action, looked_at: now, key_looked_at: now })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// An error where they may not go on: their credential has ended, or a moderator has taken it from them. Cheap to ask often.
    pub(crate) async fn check(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now < self.looked_at + LOOK {
            return Ok(());
        }
        self.looked_at = now;
        if self.identity.is_expired(SystemTime::now()) {
            let message = "the token has expired; connect again with a new one";
            return Err(Error::new(ErrorKind::TokenExpired, message));
        }
        self.identity.allows(self.action, Resource::Room(&self.room_id))?;
        if self.identity.key_id.is_some() && now >= self.key_looked_at + KEY_LOOK {
            self.key_looked_at = now;
            if self.authority.is_revoked(&self.identity).await {
                return Err(Error::new(ErrorKind::InvalidApiKey, "the API key was revoked"));
            }
        }
        Ok(())
    }
}
