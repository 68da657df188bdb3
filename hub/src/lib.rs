//! The hub decides about messages: channels, subscriptions, history, presence and what waits for each connection.
//!
//! It has no sockets, no clock and no runtime: time comes in as a [`Timestamp`], clients' requests come in through a
//! [`Connection`], and what they are sent is taken from its [`Outbox`]. What is to outlive the process goes through the
//! [`Keeper`] to storage, and is delivered when it is there.
//!
//! ```
//! use veche_hub::{Body, ChannelName, Door, Hub, HubSettings, Item, Publication, Subscribe, Timestamp, Who};
//!
//! let hub = Hub::new(HubSettings::default(), 1);
//! let now = Timestamp(1_000);
//! let who = Who { user_id: None, name: "Vera".into(), attributes: None, door: Door::WebSocket };
//! let (connection, mut outbox) = hub.connect(who, now)?;
//! let channel = ChannelName::new("chat:lobby")?;
//! connection.subscribe(Subscribe::to(channel.clone()), None, now)?;
//! hub.publish(Publication::new(channel, Body::Data(serde_json::from_str("[1, 2]")?)), now)?;
//! assert!(matches!(outbox.try_next(), Some(Item::Subscribed(_))));
//! assert!(matches!(outbox.try_next(), Some(Item::Message(message)) if message.position().unwrap().offset == 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod channel;
mod connection;
mod core;
mod error;
mod filters;
mod hub;
mod keeper;
mod member;
mod message;
mod name;
mod outbox;
mod pattern;
mod publishing;
mod settings;
mod sharded;
mod shelf;
mod snapshot;
mod stored;
mod timers;
mod window;

pub use answer::{Once, Receipt};
pub use connection::{Connection, Subscribe};
pub use error::{ConnectError, PublishError, SendError, SubscribeError};
pub use filters::{BadFilters, Filters};
pub use hub::{
    ChannelInfo, ConnectionInfo, History, HistoryQuery, Hub, Letter, PresenceList, Publication, Published,
    Recipient, Sent, Stats,
};
pub use keeper::{Keep, Keeper, Load, Task};
pub use member::{Door, Who};
pub use message::{
    Binary, Body, File, Form, Json, Message, Notification, Presence, PresenceEntry, Sender, Signal, To,
};
pub use name::{
    BadChannelName, BadId, ChannelName, ConnectionId, Epoch, MAX_CHANNEL_NAME, MessageId, Position, Timestamp,
};
pub use outbox::{Disconnect, Item, Outbox, Subscribed, Tag};
pub use pattern::{BadPattern, Pattern};
pub use settings::{ChannelRule, HubSettings};
pub use snapshot::ChannelSnapshot;
pub use stored::BadStored;
