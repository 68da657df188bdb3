//! Who somebody is, and what they may do.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::action::{Action, Actions};
use crate::error::{AccessError, AccessErrorKind};
use crate::grants::{Grants, GrantsClaim, Resource};

/// Who somebody is, and what they may do. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Whose credential it was; absent for who is anonymous, and for services that act for nobody.
    pub user_id: Option<Arc<str>>,
    /// Their name for people.
    pub name: Option<Arc<str>>,
    /// Data about them that others see: an object of up to 4 KiB.
    pub attributes: Option<Arc<Value>>,
    /// When the credential expires: what it opened ends then.
    pub expires_at: Option<SystemTime>,
    /// The id of the API key that it was.
    pub key_id: Option<Arc<str>>,
    /// What they may do.
    pub grants: Arc<Grants>,
    /// By which the API key is found again.
    pub(crate) key_hash: Option<Arc<str>>,
    pub(crate) authenticated: bool,
}

impl Identity {
    /// Somebody who showed no credential. `open`: nobody needs one here, so they may do everything; else nothing.
    pub fn anonymous(open: bool) -> Self {
        let grants = if open { Grants::everything() } else { Grants::default() };
        Self { grants: Arc::new(grants), ..Self::default() }
    }

    /// Somebody who showed no credential where others do: takes part, but rules nobody, and reads the channel of no user.
    pub(crate) fn guest() -> Self {
        Self { grants: Arc::new(Grants::new(&GrantsClaim::usual(), None)), ..Self::default() }
    }

    /// Whether they showed a credential.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether the credential has expired.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether they may do this; the error says what would have to be granted, and where.
    pub fn allows(&self, action: Action, resource: Resource<'_>) -> Result<(), AccessError> {
        if self.grants.allow(action, resource) {
            return Ok(());
        }
        let message =
            format!("`{}` is not granted for {resource}; {}", action.name(), advice(action, resource));
        Err(AccessError::new(AccessErrorKind::Forbidden, message))
    }

    /// Whether they may do something anywhere at all; for refusing early what will be looked at again.
    pub fn allows_somewhere(&self, action: Action) -> bool {
        self.grants.allow_somewhere(action)
    }

    /// All that they may do in a room.
    pub fn room_actions(&self, room_id: &str) -> Actions {
        self.grants.room_actions(room_id)
    }
}

fn advice(action: Action, resource: Resource<'_>) -> String {
    let action = action.name();
    match resource {
        Resource::Room(_) => format!("use a token whose `veche.rooms` grants \"{action}\" there"),
        Resource::Channel(_) => format!("use a token whose `veche.channels` grants \"{action}\" there"),
        Resource::User(_) => format!("use a token whose `veche.channels` grants \"{action}\" for \"user:*\""),
        Resource::Server => format!("use a token whose `veche.server` has \"{action}\""),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_open_server_lets_everybody_do_everything_and_a_closed_one_nothing() {
        let (open, closed) = (Identity::anonymous(true), Identity::anonymous(false));
        for action in Action::ALL {
            for resource in [Resource::Room("tea"), Resource::Channel("user_anna"), Resource::Server] {
                assert_eq!(open.allows(action, resource), Ok(()));
                assert_eq!(closed.allows(action, resource).unwrap_err().kind, AccessErrorKind::Forbidden);
            }
        }
        assert!(!open.is_authenticated());
        let guest = Identity::guest();
        assert_eq!(guest.allows(Action::Join, Resource::Room("tea")), Ok(()));
        assert!(guest.allows(Action::Subscribe, Resource::Channel("user_anna")).is_err());
        let error = guest.allows(Action::Moderate, Resource::Room("tea")).unwrap_err();
        assert_eq!(
            error.message,
            "`moderate` is not granted for the room `tea`; use a token whose `veche.rooms` grants \"moderate\" there"
        );
    }

    #[test]
    fn what_expires_does_so_at_its_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let identity = Identity { expires_at: Some(now), ..Identity::default() };
        assert!(identity.is_expired(now));
        assert!(!identity.is_expired(now - Duration::from_secs(1)));
        assert!(!Identity::default().is_expired(now));
    }
}
