//! Who somebody is, and what they may do.

use std::sync::{Arc, OnceLock};
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
    /// What rooms say, where they are asked.
    pub(crate) rooms: RoomLimits,
}

/// What the room of this id leaves to somebody, at most: its moderators have closed it, banned them, or taken something
/// from them. `None`: all that is granted.
pub type RoomLimit = Box<dyn Fn(&str, &Identity) -> Option<Actions> + Send + Sync>;

/// Who is asked for that, once there is somebody.
#[derive(Clone, Default)]
pub(crate) struct RoomLimits(pub(crate) Arc<OnceLock<RoomLimit>>);

impl Identity {
    /// Somebody who showed no credential. `open`: nobody needs one here, so they may do everything; else nothing.
    pub fn anonymous(open: bool) -> Self {
        let grants = if open { Grants::everything() } else { Grants::default() };
        Self { grants: Arc::new(grants), ..Self::default() }
    }

    /// Somebody who showed no credential where others do: takes part as far as `access.default_grants` let anybody, but
    /// rules nobody, and reads the channel of no user.
    pub(crate) fn guest(default_grants: &GrantsClaim) -> Self {
        Self { grants: Arc::new(Grants::new(&default_grants.without_rule(), None)), ..Self::default() }
    }

    /// Whether they showed a credential.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Whether the credential has expired.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether they may do this now: it is granted, and the room that it is about, if any, leaves it to them.
    pub fn allows(&self, action: Action, resource: Resource<'_>) -> Result<(), AccessError> {
        self.is_granted(action, resource)?;
        match resource.room() {
            Some(room_id) if !self.left_in(room_id).contains(action) => {
                let message = format!(
                    "`{}` is not left to you in the room `{room_id}`: it is closed, or a moderator has taken it from you",
                    action.name()
                );
                Err(AccessError::new(AccessErrorKind::Forbidden, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether their credential grants this, whatever rooms say; the error says what would have to be granted, and where.
    pub fn is_granted(&self, action: Action, resource: Resource<'_>) -> Result<(), AccessError> {
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

    /// All that their credential grants in a room.
    pub fn room_actions(&self, room_id: &str) -> Actions {
        self.grants.room_actions(room_id)
    }

    /// All that they may do in a room now.
    pub fn actions_now(&self, room_id: &str) -> Actions {
        self.room_actions(room_id).intersection(self.left_in(room_id))
    }

    /// Who rules the server is bound by no room.
    fn left_in(&self, room_id: &str) -> Actions {
        if self.grants.allow(Action::Administer, Resource::Server) {
            return Actions::ALL;
        }
        self.rooms.0.get().and_then(|limit| limit(room_id, self)).unwrap_or(Actions::ALL)
    }
}

impl std::fmt::Debug for RoomLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RoomLimits").field(&self.0.get().is_some()).finish()
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
        let guest = Identity::guest(&GrantsClaim::usual());
        assert_eq!(guest.allows(Action::Join, Resource::Room("tea")), Ok(()));
        assert!(guest.allows(Action::Subscribe, Resource::Channel("user_anna")).is_err());
        let error = guest.allows(Action::Moderate, Resource::Room("tea")).unwrap_err();
        assert_eq!(
            error.message,
            "`moderate` is not granted for the room `tea`; use a token whose `veche.rooms` grants \"moderate\" there"
        );
    }

    #[test]
    fn guests_may_do_what_the_default_grants_let_anybody_and_never_rule() {
        let claim = |text: &str| serde_json::from_str::<GrantsClaim>(text).unwrap();
        let guest = Identity::guest(&claim(r#"{ "rooms": { "lobby": ["join", "moderate"] } }"#));
        assert_eq!(guest.room_actions("lobby"), Actions::of(&[Action::Join]));
        assert!(guest.allows(Action::Join, Resource::Room("tea")).is_err());
        assert!(guest.allows(Action::Send, Resource::Channel("news")).is_err());
        assert!(guest.allows(Action::Broadcast, Resource::Server).is_err());
        let nobody = Identity::guest(&GrantsClaim::default());
        assert!(nobody.allows(Action::Join, Resource::Room("lobby")).is_err());
        let all = Identity::guest(&claim(r#"{ "admin": true, "server": ["administer"] }"#));
        assert_eq!(all.grants, Identity::guest(&GrantsClaim::usual()).grants);
    }

    #[test]
    fn what_expires_does_so_at_its_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let identity = Identity { expires_at: Some(now), ..Identity::default() };
        assert!(identity.is_expired(now));
        assert!(!identity.is_expired(now - Duration::from_secs(1)));
        assert!(!Identity::default().is_expired(now));
    }

    #[test]
    fn rooms_limit_what_is_granted_in_them_and_in_their_channels_but_not_who_rules_the_server() {
        let rooms = RoomLimits::default();
        let bound = |grants: Grants| Identity {
            rooms: rooms.clone(),
            grants: Arc::new(grants),
            ..Identity::default()
        };
        let guest = bound(Grants::new(&GrantsClaim::usual(), None));
        let resources =
            [Resource::Room("tea"), Resource::Channel("room:tea"), Resource::Channel("room:tea:chat")];
        assert!(resources.iter().all(|resource| guest.allows(Action::Send, *resource).is_ok()));
        let limit: RoomLimit =
            Box::new(|room_id, _| (room_id == "tea").then_some(Actions::of(&[Action::Subscribe])));
        assert!(rooms.0.set(limit).is_ok());
        for resource in resources {
            let error = guest.allows(Action::Send, resource).unwrap_err();
            assert!(error.message.contains("`send` is not left to you in the room `tea`"), "{error}");
            assert_eq!(guest.allows(Action::Subscribe, resource), Ok(()));
            assert_eq!(guest.is_granted(Action::Send, resource), Ok(()));
        }
        assert_eq!(guest.actions_now("tea"), Actions::of(&[Action::Subscribe]));
        assert_eq!(guest.actions_now("coffee"), Actions::PARTICIPATE);
        for resource in [Resource::Room("coffee"), Resource::Channel("tea"), Resource::Channel("room:teas")] {
            assert_eq!(guest.allows(Action::Send, resource), Ok(()));
        }
        assert_eq!(bound(Grants::everything()).allows(Action::Send, Resource::Room("tea")), Ok(()));
    }
}
