//! Connections: what one client asks of the hub.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use crate::answer::Asker;
use crate::channel::Start;
use crate::core::{Core, TooManyChannels};
use crate::error::{PublishError, SendError, SubscribeError};
use crate::filters::Filters;
use crate::hub::{Hub, Letter, Publication, Sent};
use crate::member::{Member, Subscription};
use crate::message::Sender;
use crate::name::{ChannelName, ConnectionId, Position, Timestamp};
use crate::outbox::{Disconnect, Item, Tag};

/// One client at a door. Its outbox is the other half. Dropping it ends all of its subscriptions.
#[derive(Debug)]
pub struct Connection {
    hub: Hub,
    member: Arc<Member>,
}

/// What a client wants of a channel.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The channel.
    pub channel: ChannelName,
    /// Which messages; `None` is all.
    pub filters: Option<Filters>,
    /// The last message that the client has: everything after it is wanted.
    pub recover: Option<Position>,
    /// Whether it wants to know who is there, now and later.
    pub presence: bool,
    /// Whether it wants the kept messages first, if nothing is recovered.
    pub kept: bool,
}

impl Subscribe {
    /// All messages of a channel, the kept ones first.
    pub fn to(channel: ChannelName) -> Self {
        Self { channel, filters: None, recover: None, presence: false, kept: true }
    }
}

impl Connection {
    pub(crate) fn new(hub: Hub, member: Arc<Member>) -> Self {
        Self { hub, member }
    }

    fn core(&self) -> &Arc<Core> {
        &self.hub.core
    }

    /// What it is called by programs.
    pub fn id(&self) -> ConnectionId {
        self.member.id
    }

    /// Who it is, as others see it.
    pub fn sender(&self) -> Arc<Sender> {
        self.member.sender()
    }

    /// Gives it another name, which those who watch its channels are told.
    pub fn rename(&self, name: &str, now: Timestamp) {
        self.member.rename(name);
        for subscription in self.member.subscriptions.lock().iter() {
            subscription.channel.renamed(self.core(), subscription.key, &self.member, now);
        }
    }

    /// Subscribes. The answer comes through the outbox, and after it, without a gap, what the channel has for it. Who is
    /// subscribed already gets other filters and is answered again.
    pub fn subscribe(&self, wish: Subscribe, tag: Tag, now: Timestamp) -> Result<(), SubscribeError> {
        if let Some(filters) = &wish.filters {
            filters.check()?;
        }
        let core = self.core();
        if core.is_draining() {
            return Err(SubscribeError::Draining);
        }
        if self.member.queue.lock().is_closed() {
            return Err(SubscribeError::Closed);
        }
        let Subscribe { channel: name, filters, recover, presence, kept } = wish;
        let start = Start { tag, recover, kept, presence };
        let mut subscriptions = self.member.subscriptions.lock();
        if let Some(index) = Member::find(&subscriptions, &name) {
            let Subscription { channel, key } = subscriptions[index].clone();
            let mut state = channel.state.lock();
            if state.holds(key, &self.member) {
                return channel.subscribe_again(&mut state, core, key, filters, start, now);
            }
            // Storage has failed it, which is about to be told.
            subscriptions.swap_remove(index);
        }
        let limit = core.settings.max_subscriptions;
        if subscriptions.len() >= limit {
            return Err(SubscribeError::TooManySubscriptions { limit });
        }
        let entered = core.enter(&name, now, |channel, state| {
            let key = channel.subscribe(state, core, &self.member, filters, start, now)?;
            Ok::<_, SubscribeError>(Subscription { channel: Arc::clone(channel), key })
        });
        let limit = core.settings.max_channels;
        let subscription = entered.map_err(|TooManyChannels| SubscribeError::TooManyChannels { limit })??;
        subscriptions.push(subscription);
        Ok(())
    }

    /// Ends a subscription; `false` if there was none. Afterwards nothing more of the channel is put in the outbox.
    pub fn unsubscribe(&self, channel: &ChannelName, now: Timestamp) -> bool {
        self.hub.unsubscribe(&self.member, channel, now)
    }

    /// Whether it is subscribed to a channel.
    pub fn is_subscribed(&self, channel: &ChannelName) -> bool {
        Member::find(&self.member.subscriptions.lock(), channel).is_some()
    }

    /// The channels that it is subscribed to.
    pub fn subscriptions(&self) -> Vec<ChannelName> {
        self.member
            .subscriptions
            .lock()
            .iter()
            .map(|subscription| subscription.channel.name.clone())
            .collect()
    }

    /// Publishes in this connection's name, like [`Hub::publish`]; but what becomes of it comes through the outbox.
    pub fn publish(
        &self,
        mut publication: Publication,
        tag: Tag,
        now: Timestamp,
    ) -> Result<(), PublishError> {
        publication.sender = Some(self.member.sender());
        let limit = self.core().settings.outbox_bytes;
        self.hub.publish_for(Asker::Member(Arc::clone(&self.member), tag, limit), publication, now)
    }

    /// Sends in this connection's name, like [`Hub::send`].
    pub fn send(&self, mut letter: Letter, now: Timestamp) -> Result<Sent, SendError> {
        letter.sender = Some(self.member.sender());
        self.hub.send(letter, now)
    }

    /// Puts an answer of the door itself in the outbox, encoded. Too many of them make a slow consumer, as messages do.
    pub fn answer(&self, bytes: Bytes) {
        let put = self.member.put(Item::Answer(Box::new(bytes)), self.core().settings.outbox_bytes);
        self.core().counters.count(put, 0);
    }

    /// Whether less than half of what may wait in the outbox waits.
    pub fn has_room(&self) -> bool {
        self.member.queue.lock().bytes() <= self.enough()
    }

    /// Waits until less than half of what may wait in the outbox waits. Doors wait for it before they read another request:
    /// so a client that asks without reading is held back instead of being cut off. One at a time may wait.
    pub async fn room(&self) {
        self.member.room(self.enough()).await;
    }

    fn enough(&self) -> usize {
        self.core().settings.outbox_bytes / 2
    }

    /// Ends the connection after what already waits.
    pub fn close(&self, reason: Disconnect) {
        self.member.disconnect(reason);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let core = Arc::clone(self.core());
        let now = core.now();
        core.unregister(&self.member);
        let subscriptions = mem::take(&mut *self.member.subscriptions.lock());
        for Subscription { channel, key } in subscriptions {
            channel.leave(&core, key, &self.member, now);
        }
        self.member.end();
    }
}
