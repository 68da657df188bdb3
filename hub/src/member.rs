//! Members: what the hub knows of a connection.

use std::future::poll_fn;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::channel::Channel;
use crate::message::{Body, PresenceEntry, Sender};
use crate::name::{ChannelName, ConnectionId, Timestamp};
use crate::outbox::Queue;

/// Who connects.
#[derive(Clone, Debug)]
pub struct Who {
    /// The user; anonymous connections have none.
    pub user_id: Option<Arc<str>>,
    /// What they are called.
    pub name: Arc<str>,
    /// What others are shown of them in the presence of channels.
    pub attributes: Option<Arc<RawValue>>,
    /// Where they come in.
    pub door: Door,
}

/// Where a connection comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A WebSocket.
    WebSocket,
    /// A stream of server-sent events.
    Sse,
    /// A gRPC stream.
    Grpc,
}

impl Door {
    pub(crate) const COUNT: usize = 3;

    /// What the door is called in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Grpc => "grpc",
        }
    }
}

/// A connection, as channels and registries hold it. The queue comes first, since it is what each delivery touches.
#[derive(Debug)]
pub(crate) struct Member {
    pub queue: Mutex<Queue>,
    pub id: ConnectionId,
    pub door: Door,
    pub since: Timestamp,
    /// Changes when the client chooses another name.
    sender: Mutex<Arc<Sender>>,
    pub attributes: Option<Arc<RawValue>>,
    /// Locked before any channel.
    pub subscriptions: Mutex<SmallVec<[Subscription; 2]>>,
}

/// Where a member stands in a channel.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub channel: Arc<Channel>,
    /// Its place among the channel's subscribers.
    pub key: u32,
}

impl Member {
    pub fn new(id: ConnectionId, who: Who, since: Timestamp) -> Self {
        let sender = Sender { user_id: who.user_id, name: who.name, connection_id: Some(id) };
        Self {
            queue: Queue::new(),
            id,
            door: who.door,
            since,
            sender: Mutex::new(Arc::new(sender)),
            attributes: who.attributes,
            subscriptions: Mutex::default(),
        }
    }

    pub fn sender(&self) -> Arc<Sender> {
        Arc::clone(&self.sender.lock())
    }

    pub fn rename(&self, name: &str) {
        let mut sender = self.sender.lock();
        *sender = Arc::new(Sender { name: name.into(), ..Sender::clone(&sender) });
    }

    /// What others are shown of it in a channel.
    pub fn entry(&self, since: Timestamp) -> PresenceEntry {
        let sender = self.sender.lock();
        PresenceEntry {
            user_id: sender.user_id.clone(),
            name: Arc::clone(&sender.name),
            connection_id: self.id,
            since,
            attributes: self.attributes.clone(),
        }
    }

    pub fn find(subscriptions: &[Subscription], channel: &ChannelName) -> Option<usize> {
        subscriptions.iter().position(|subscription| subscription.channel.name == *channel)
    }

    /// Whether it takes what the channel says: it is not subscribed there, or its filters let it through.
    pub fn takes(self: &Arc<Self>, channel: &ChannelName, body: &Body) -> bool {
        let subscriptions = self.subscriptions.lock();
        let Some(index) = Self::find(&subscriptions, channel) else { return true };
        let Subscription { channel, key } = &subscriptions[index];
        let state = channel.state.lock();
        // A subscription that is just ending may have lost its place to somebody else's.
        !state.holds(*key, self) || state.subscribers[*key as usize].takes(body)
    }

    /// Waits until no more than `enough` bytes wait, or the connection is being closed.
    pub async fn room(&self, enough: usize) {
        poll_fn(|cx| self.queue.lock().poll_room(enough, cx)).await;
    }
}
