//! What the tests of the hub share.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;

use serde_json::value::RawValue;
use veche_hub::{
    Body, ChannelName, ChannelRule, Connection, Door, Hub, HubSettings, Item, Message, Outbox, Presence,
    Publication, Published, Subscribe, Subscribed, Timestamp, Who,
};

pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub fn later(milliseconds: u64) -> Timestamp {
    Timestamp(NOW.0 + milliseconds)
}

pub fn name(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

pub fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

pub fn data(text: &str) -> Body {
    Body::Data(json(text))
}

pub fn text_of(message: &Message) -> &str {
    match &message.body {
        Body::Data(data) | Body::Verbatim(data) => data.get(),
        other => panic!("not data: {other:?}"),
    }
}

pub fn rule(pattern: &str) -> ChannelRule {
    ChannelRule { pattern: pattern.into(), ..ChannelRule::default() }
}

pub fn small() -> HubSettings {
    HubSettings { outbox_bytes: 2_000, history_messages: 10, ..HubSettings::default() }
}

/// A client that reads when it is told to.
pub struct Client {
    pub connection: Connection,
    pub outbox: Outbox,
}

pub fn connect(hub: &Hub, user: &str, now: Timestamp) -> Client {
    let user_id = (!user.is_empty()).then(|| Arc::from(user));
    let who =
        Who { user_id, name: format!("name of {user}").into(), attributes: None, door: Door::WebSocket };
    let (connection, outbox) = hub.connect(who, now).unwrap();
    Client { connection, outbox }
}

impl Client {
    pub fn subscribe(&mut self, channel: &str, now: Timestamp) -> Subscribed {
        self.subscribe_with(Subscribe::to(name(channel)), now)
    }

    pub fn subscribe_with(&mut self, wish: Subscribe, now: Timestamp) -> Subscribed {
        self.connection.subscribe(wish, None, now).unwrap();
        match self.outbox.try_next() {
            Some(Item::Subscribed(subscribed)) => *subscribed,
            other => panic!("not subscribed: {other:?}"),
        }
    }

    pub fn items(&mut self) -> Vec<Item> {
        std::iter::from_fn(|| self.outbox.try_next()).collect()
    }

    /// The messages that wait; there is nothing else.
    pub fn messages(&mut self) -> Vec<Arc<Message>> {
        let message = |item| match item {
            Item::Message(message) => message,
            other => panic!("no message: {other:?}"),
        };
        self.items().into_iter().map(message).collect()
    }

    pub fn texts(&mut self) -> Vec<String> {
        self.messages().iter().map(|message| text_of(message).to_owned()).collect()
    }

    /// The only thing that waits, which tells who came and left.
    pub fn presence(&mut self) -> Presence {
        match &self.messages()[..] {
            [message] => match &message.body {
                Body::Presence(presence) => presence.clone(),
                other => panic!("no presence: {other:?}"),
            },
            other => panic!("not one message: {other:?}"),
        }
    }
}

pub fn publish(hub: &Hub, channel: &str, text: &str, now: Timestamp) -> Published {
    let mut receipt = hub.publish(Publication::new(name(channel), data(text)), now).unwrap();
    receipt.try_now().expect("it does not wait").unwrap()
}
