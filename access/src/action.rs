//! What somebody may do, and sets of it.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ts_rs::TS;
use utoipa::ToSchema;

/// Something that a grant can permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, TS, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Being in a room.
    Join,
    /// Sending a voice.
    PublishAudio,
    /// Sending the picture of a camera.
    PublishVideo,
    /// Sharing a screen or window, and its sound.
    PublishScreen,
    /// Sending over data channels.
    PublishData,
    /// Seeing and hearing others in a room; the messages, history and presence of a channel.
    Subscribe,
    /// Sending messages into a channel, or to a user.
    Send,
    /// Sending files.
    Upload,
    /// Muting, removing, banning and admitting others, changing their grants, locking the room, changing it.
    Moderate,
    /// Starting and stopping recordings.
    Record,
    /// Looking into the server: connections, channels, what the server itself says.
    Administer,
    /// Sending to everybody who is connected.
    Broadcast,
}

/// A set of actions. In JSON a list of their names, in which `publish` stands for the four `publish_…`, and `*` for all.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Actions(u16);

impl Action {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Join,
        Self::PublishAudio,
        Self::PublishVideo,
        Self::PublishScreen,
        Self::PublishData,
        Self::Subscribe,
        Self::Send,
        Self::Upload,
        Self::Moderate,
        Self::Record,
        Self::Administer,
        Self::Broadcast,
    ];

    /// Its name in tokens and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::PublishAudio => "publish_audio",
            Self::PublishVideo => "publish_video",
            Self::PublishScreen => "publish_screen",
            Self::PublishData => "publish_data",
            Self::Subscribe => "subscribe",
            Self::Send => "send",
            Self::Upload => "upload",
            Self::Moderate => "moderate",
            Self::Record => "record",
            Self::Administer => "administer",
            Self::Broadcast => "broadcast",
        }
    }
}

impl Actions {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Everything.
    pub const ALL: Self = Self((1 << Action::ALL.len()) - 1);

    /// Sending media and data of every kind.
    pub const PUBLISH: Self =
        Self::of(&[Action::PublishAudio, Action::PublishVideo, Action::PublishScreen, Action::PublishData]);

    /// What takes part in a room without ruling it.
    pub const PARTICIPATE: Self =
        Self(Self::PUBLISH.0 | Self::of(&[Action::Join, Action::Subscribe, Action::Send, Action::Upload]).0);

    /// These.
    pub const fn of(actions: &[Action]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < actions.len() {
            bits |= 1 << actions[index] as u16;
            index += 1;
        }
        Self(bits)
    }

    /// Whether this one is among them.
    pub fn contains(self, action: Action) -> bool {
        self.0 & 1 << action as u16 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and those.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These without those.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contains(*action))
    }

    /// What a name of tokens stands for.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "*" => Some(Self::ALL),
            "publish" => Some(Self::PUBLISH),
            _ => {
                Action::ALL.into_iter().find(|action| action.name() == name).map(|action| Self::of(&[action]))
            }
        }
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<T: IntoIterator<Item = Action>>(actions: T) -> Self {
        actions.into_iter().fold(Self::NONE, |all, action| all.union(Self::of(&[action])))
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Action::name)).finish()
    }
}

impl Serialize for Actions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for action in self.iter() {
            list.serialize_element(action.name())?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Actions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of actions, for example [\"join\", \"subscribe\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Actions, A::Error> {
                let mut actions = Actions::NONE;
                while let Some(name) = names.next_element::<String>()? {
                    let named = Actions::named(&name).ok_or_else(|| {
                        let known = Action::ALL.map(Action::name).join(", ");
                        let name: String = name.chars().take(64).collect();
                        serde::de::Error::custom(format!(
                            "`{name}` is no action; there are {known}, publish (all publish_…) and *"
                        ))
                    })?;
                    actions = actions.union(named);
                }
                Ok(actions)
            }
        }
        deserializer.deserialize_seq(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_read_and_written_by_its_name() {
        for (index, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, index);
            assert_eq!(serde_json::to_value(action).unwrap(), action.name());
            let list = serde_json::json!([action.name()]);
            let actions: Actions = serde_json::from_value(list.clone()).unwrap();
            assert_eq!(actions, Actions::of(&[action]));
            assert_eq!(serde_json::to_value(actions).unwrap(), list);
        }
        assert_eq!(Actions::ALL.iter().count(), Action::ALL.len());
    }

    #[test]
    fn shorthands_stand_for_many_and_what_is_no_action_is_named() {
        let actions: Actions = serde_json::from_str(r#"["join","publish"]"#).unwrap();
        assert_eq!(actions, Actions::PUBLISH.union(Actions::of(&[Action::Join])));
        assert_eq!(serde_json::from_str::<Actions>(r#"["*"]"#).unwrap(), Actions::ALL);
        let error = serde_json::from_str::<Actions>(r#"["jion"]"#).unwrap_err().to_string();
        assert!(error.contains("`jion` is no action; there are join, publish_audio"), "{error}");
        assert!(serde_json::from_str::<Actions>(r#""join""#).is_err());
    }

    #[test]
    fn sets_are_combined() {
        let two = Actions::of(&[Action::Join, Action::Send]);
        assert_eq!(two.difference(Actions::of(&[Action::Send])), Actions::of(&[Action::Join]));
        assert_eq!(two.intersection(Actions::PARTICIPATE), two);
        assert!(two.intersection(Actions::PUBLISH).is_empty());
        assert_eq!([Action::Send, Action::Join].into_iter().collect::<Actions>(), two);
    }
}
