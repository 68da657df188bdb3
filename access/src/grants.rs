//! What a token or key grants, and whether that allows an action.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Action, Actions};
use crate::pattern::Pattern;

/// Patterns in one list of a claim.
const MAX_PATTERNS: usize = 256;

/// The largest `attributes`, in bytes of JSON.
const MAX_ATTRIBUTES_BYTES: usize = 4096;

/// What stands in the claim `veche` of a token, in the grants of an API key, and in `access.default_grants`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantsClaim {
    /// May do everything everywhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// What may be done with the server as a whole: `broadcast`, `administer`, and `send` to anonymous connections.
    #[serde(skip_serializing_if = "is_empty")]
    pub server: Actions,
    /// What may be done in rooms of these patterns, and in their channels.
    pub rooms: BTreeMap<String, Actions>,
    /// What may be done in channels of these patterns.
    pub channels: BTreeMap<String, Actions>,
    /// Data about the user that others see: an object of up to 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Value>,
}

/// What somebody may do, ready to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    everything: bool,
    server: Actions,
    rooms: Vec<Grant>,
    channels: Vec<Grant>,
    user_id: Option<Box<str>>,
}

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The room of this id.
    Room(&'a str),
    /// The channel of this name.
    Channel(&'a str),
    /// The user of this id, on all their connections: the same as their channel `user:<id>`.
    User(&'a str),
    /// Everything and everybody.
    Server,
}

impl<'a> Resource<'a> {
    /// The room that it belongs to.
    pub(crate) fn room(self) -> Option<&'a str> {
        match self {
            Self::Room(room_id) => Some(room_id),
            Self::Channel(name) => match Owner::of(name) {
                Owner::Room(room_id) => Some(room_id),
                Owner::Server | Owner::User(_) | Owner::Nobody => None,
            },
            Self::User(_) | Self::Server => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    pattern: Pattern,
    actions: Actions,
}

/// Whom a channel belongs to, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner<'a> {
    Server,
    Room(&'a str),
    User(&'a str),
    Nobody,
}

impl GrantsClaim {
    /// What everybody may do who is known, unless their token says otherwise: all but moderating, recording and
    /// administering.
    pub fn usual() -> Self {
        let channels = Actions::of(&[Action::Subscribe, Action::Send, Action::Upload]);
        let users = Actions::of(&[Action::Send]);
        Self {
            server: Actions::of(&[Action::Send, Action::Broadcast]),
            rooms: BTreeMap::from([("*".to_owned(), Actions::PARTICIPATE)]),
            channels: [("*", channels), ("user:*", users), ("user_*", users)]
                .map(|(pattern, actions)| (pattern.to_owned(), actions))
                .into(),
            ..Self::default()
        }
    }

    /// What of it is taking part, and not ruling: no more than the usual grants, of whatever rooms and channels. Who
    /// rules everything takes part everywhere.
    pub(crate) fn without_rule(&self) -> Self {
        let usual = Self::usual();
        if self.admin {
            return usual;
        }
        let cut = |patterns: &BTreeMap<String, Actions>, most: Actions| {
            patterns.iter().map(|(pattern, actions)| (pattern.clone(), actions.intersection(most))).collect()
        };
        Self {
            server: self.server.intersection(usual.server),
            rooms: cut(&self.rooms, usual.rooms["*"]),
            channels: cut(&self.channels, usual.channels["*"]),
            ..Self::default()
        }
    }

    /// What is wrong with it, where something is.
    pub fn check(&self) -> Result<(), String> {
        for (list, patterns) in [("rooms", &self.rooms), ("channels", &self.channels)] {
            if patterns.len() > MAX_PATTERNS {
                return Err(format!("{list}: {} patterns are more than {MAX_PATTERNS}", patterns.len()));
            }
            if let Some(long) = patterns.keys().find(|pattern| pattern.len() > Pattern::MAX_BYTES) {
                let shown: String = long.chars().take(40).collect();
                return Err(format!(
                    "{list}: the pattern `{shown}…` is longer than {} bytes",
                    Pattern::MAX_BYTES
                ));
            }
        }
        match &self.attributes {
            Some(attributes) if !attributes.is_object() => {
                Err("attributes: not an object, for example {\"role\": \"teacher\"}".to_owned())
            }
            Some(attributes) if attributes.to_string().len() > MAX_ATTRIBUTES_BYTES => {
                Err(format!("attributes: larger than {MAX_ATTRIBUTES_BYTES} bytes of JSON"))
            }
            _ => Ok(()),
        }
    }
}

impl Grants {
    /// Everything.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// What a claim grants to a user. Patterns that ask for the id of a user grant nothing without one.
    pub fn new(claim: &GrantsClaim, user_id: Option<&str>) -> Self {
        let grants = |patterns: &BTreeMap<String, Actions>| {
            let grant = |(pattern, actions): (&String, &Actions)| {
                Some(Grant { pattern: Pattern::new(pattern, user_id)?, actions: *actions })
            };
            patterns.iter().filter_map(grant).collect()
        };
        Self {
            everything: claim.admin,
            server: claim.server,
            rooms: grants(&claim.rooms),
            channels: grants(&claim.channels),
            user_id: user_id.map(Into::into),
        }
    }

    /// Whether an action is granted.
    ///
    /// `*` does not reach into what belongs to a room or a user: such channels need the room's grant, or a pattern that
    /// begins with `room:`, `user:` or `user_`. The channel of a user is read by that user alone, whatever is granted.
    pub fn allow(&self, action: Action, resource: Resource<'_>) -> bool {
        match resource {
            Resource::Server => self.everything || self.server.contains(action),
            Resource::Room(room_id) => self.room_actions(room_id).contains(action),
            Resource::User(user_id) => self.allow_user(action, user_id),
            Resource::Channel(name) => match Owner::of(name) {
                // Only the server itself sends there.
                Owner::Server => {
                    matches!(action, Action::Subscribe | Action::Administer)
                        && (self.everything || self.server.contains(Action::Administer))
                }
                Owner::Room(room_id) => {
                    self.room_actions(room_id).contains(action)
                        || self.channel_actions("room:", name).contains(action)
                }
                Owner::User(user_id) => self.allow_user(action, user_id),
                Owner::Nobody => self.everything || self.channel_actions("", name).contains(action),
            },
        }
    }

    /// Whether an action is granted anywhere at all.
    pub fn allow_somewhere(&self, action: Action) -> bool {
        let grants = self.rooms.iter().chain(&self.channels);
        self.everything
            || self.server.contains(action)
            || grants.fold(Actions::NONE, |all, grant| all.union(grant.actions)).contains(action)
    }

    /// All that is granted in a room.
    pub fn room_actions(&self, room_id: &str) -> Actions {
        if self.everything { Actions::ALL } else { union(self.rooms.iter(), room_id) }
    }

    fn allow_user(&self, action: Action, user_id: &str) -> bool {
        if self.everything {
            return true;
        }
        if action == Action::Subscribe {
            return self.user_id.as_deref() == Some(user_id);
        }
        ["user:", "user_"]
            .iter()
            .any(|prefix| self.channel_actions(prefix, &format!("{prefix}{user_id}")).contains(action))
    }

    fn channel_actions(&self, prefix: &str, name: &str) -> Actions {
        union(self.channels.iter().filter(|grant| grant.pattern.prefix().starts_with(prefix)), name)
    }
}

impl<'a> Owner<'a> {
    fn of(channel: &'a str) -> Self {
        if channel.starts_with('$') {
            Self::Server
        } else if let Some(rest) = channel.strip_prefix("room:") {
            Self::Room(rest.split(':').next().unwrap_or_default())
        } else if let Some(user_id) = channel.strip_prefix("user:").or_else(|| channel.strip_prefix("user_"))
        {
            Self::User(user_id)
        } else {
            Self::Nobody
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |name: &str| name.chars().take(128).collect::<String>();
        match self {
            Self::Room(room_id) => write!(f, "the room `{}`", short(room_id)),
            Self::Channel(name) => write!(f, "the channel `{}`", short(name)),
            Self::User(user_id) => write!(f, "the user `{}`", short(user_id)),
            Self::Server => f.write_str("the server"),
        }
    }
}

fn union<'a>(grants: impl Iterator<Item = &'a Grant>, name: &str) -> Actions {
    grants
        .filter(|grant| grant.pattern.matches(name))
        .fold(Actions::NONE, |all, grant| all.union(grant.actions))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_empty(actions: &Actions) -> bool {
    actions.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn grants(claim: Value, user_id: Option<&str>) -> Grants {
        let claim: GrantsClaim = serde_json::from_value(claim).unwrap();
        claim.check().unwrap();
        Grants::new(&claim, user_id)
    }

    fn channel(grants: &Grants, action: Action, name: &str) -> bool {
        grants.allow(action, Resource::Channel(name))
    }

    #[test]
    fn a_rooms_grant_is_for_the_room_and_its_channels_only() {
        let grants = grants(json!({ "rooms": { "tea*": ["join", "send"] } }), None);
        assert!(grants.allow(Action::Join, Resource::Room("tea")));
        assert!(grants.allow(Action::Join, Resource::Room("tea-2")));
        assert!(!grants.allow(Action::Join, Resource::Room("coffee")));
        assert!(!grants.allow(Action::Moderate, Resource::Room("tea")));
        assert!(channel(&grants, Action::Send, "room:tea"));
        assert!(channel(&grants, Action::Send, "room:tea:chat"));
        for name in ["room:coffee", "room:coffee:tea", "tea", "room:", "xroom:tea"] {
            assert!(!channel(&grants, Action::Send, name), "{name}");
        }
        assert!(!channel(&grants, Action::Subscribe, "room:tea"));
        assert!(!grants.allow(Action::Send, Resource::Server));
        assert!(grants.allow_somewhere(Action::Send) && !grants.allow_somewhere(Action::Upload));
    }

    #[test]
    fn a_star_does_not_reach_into_rooms_users_and_the_server() {
        let all = grants(json!({ "channels": { "*": ["*"] } }), Some("anna"));
        assert!(channel(&all, Action::Send, "news"));
        assert!(channel(&all, Action::Subscribe, "roomy"));
        for name in ["room:tea", "user:boris", "user_boris", "$status"] {
            assert!(!channel(&all, Action::Send, name), "{name}");
            assert!(!channel(&all, Action::Subscribe, name), "{name}");
        }
        let named = grants(json!({ "channels": { "room:tea:*": ["subscribe"], "user:*": ["*"] } }), None);
        assert!(channel(&named, Action::Subscribe, "room:tea:chat"));
        assert!(!channel(&named, Action::Subscribe, "room:tea"));
        assert!(channel(&named, Action::Send, "user:boris"));
        assert!(channel(&named, Action::Send, "user_boris"));
        assert!(named.allow(Action::Send, Resource::User("boris")));
        assert!(!channel(&named, Action::Subscribe, "user:boris"));
    }

    #[test]
    fn users_read_their_own_channels_and_placeholders_are_filled_in() {
        let claim = json!({ "channels": { "notes:{user_id}": ["subscribe"] } });
        let anna = grants(claim.clone(), Some("anna"));
        for name in ["user:anna", "user_anna", "notes:anna"] {
            assert!(channel(&anna, Action::Subscribe, name), "{name}");
        }
        for name in ["user:anna:x", "user_annab", "user:", "notes:boris", "notes:{user_id}"] {
            assert!(!channel(&anna, Action::Subscribe, name), "{name}");
        }
        let nobody = grants(claim, None);
        assert!(!channel(&nobody, Action::Subscribe, "notes:"));
        assert!(!channel(&nobody, Action::Subscribe, "user:"));
    }

    #[test]
    fn an_admin_may_do_everything_but_speak_for_the_server() {
        let admin = grants(json!({ "admin": true }), None);
        assert!(admin.allow(Action::Broadcast, Resource::Server));
        assert!(channel(&admin, Action::Subscribe, "user:boris"));
        assert!(channel(&admin, Action::Subscribe, "$status"));
        assert!(!channel(&admin, Action::Send, "$status"));
        assert_eq!(admin.room_actions("tea"), Actions::ALL);
    }

    #[test]
    fn the_usual_grants_take_part_everywhere_and_rule_nowhere() {
        let usual = Grants::new(&GrantsClaim::usual(), Some("anna"));
        assert!(usual.allow(Action::Broadcast, Resource::Server));
        assert!(usual.allow(Action::PublishScreen, Resource::Room("tea")));
        assert!(channel(&usual, Action::Upload, "room:tea:files"));
        assert!(usual.allow(Action::Send, Resource::User("boris")));
        for action in [Action::Moderate, Action::Record, Action::Administer] {
            for resource in [Resource::Room("tea"), Resource::Channel("news"), Resource::Server] {
                assert!(!usual.allow(action, resource), "{action:?} {resource}");
            }
        }
    }

    #[test]
    fn what_is_wrong_in_a_claim_is_named() {
        let error = serde_json::from_value::<GrantsClaim>(json!({ "room": {} })).unwrap_err().to_string();
        assert!(error.contains("unknown field `room`"), "{error}");
        let wrong = |claim: Value| serde_json::from_value::<GrantsClaim>(claim).unwrap().check().unwrap_err();
        assert!(wrong(json!({ "rooms": { "x".repeat(300): [] } })).starts_with("rooms: the pattern `xxx"));
        assert!(wrong(json!({ "attributes": [1] })).starts_with("attributes: not an object"));
        assert!(wrong(json!({ "attributes": { "a": "x".repeat(5000) } })).contains("larger than 4096"));
        let many: BTreeMap<String, [&str; 1]> = (0..300).map(|n| (n.to_string(), ["send"])).collect();
        assert!(wrong(json!({ "channels": many })).contains("300 patterns"));
    }
}
