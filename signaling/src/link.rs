//! The way from a room to one connected client: a queue bounded in bytes. A client that reads too slowly is cut off
//! (and may resume); it never slows the room down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::error::Error;
use crate::protocol::ServerMessage;

/// What a queued message costs beyond its bytes.
const MESSAGE_OVERHEAD: usize = 64;

/// What a client is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// A JSON message.
    Message(Bytes),
    /// The end.
    Close(Close),
}

/// How a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client left.
    Left,
    /// Told by an error message before.
    Because(Error),
}

/// The room's end of the queue.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    sender: mpsc::UnboundedSender<(Outgoing, usize)>,
    shared: Arc<Shared>,
}

/// The connection's end of the queue.
#[derive(Debug)]
pub struct Outbox {
    receiver: mpsc::UnboundedReceiver<(Outgoing, usize)>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queued: AtomicUsize,
    limit: usize,
    overflow: Notify,
}

/// A queue that holds about `limit` bytes.
pub(crate) fn link(limit: usize) -> (Link, Outbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { queued: AtomicUsize::new(0), limit, overflow: Notify::new() });
    (Link { sender, shared: shared.clone() }, Outbox { receiver, shared })
}

/// The bytes of a message, to be shared by everybody who gets it.
pub(crate) fn encode(message: &ServerMessage) -> Bytes {
    serde_json::to_vec(message).expect("messages have string keys only").into()
}

impl Link {
    /// Queues a message. Beyond the limit it is dropped and the connection is cut: the client learns what it missed
    /// when it resumes.
    pub(crate) fn send(&self, message: Bytes) {
        let cost = message.len() + MESSAGE_OVERHEAD;
        if self.shared.queued.fetch_add(cost, Ordering::Relaxed) + cost > self.shared.limit {
            // The cost stays on the account, so that nothing fits from now on.
            self.shared.overflow.notify_one();
            return;
        }
        // A connection that has just ended drops what is still sent to it.
        let _ = self.sender.send((Outgoing::Message(message), cost));
    }

    /// Queues a message of another client, which may take only half of the queue, so that no client can cut another
    /// off. `false`: there is no room for it now. The room's lock keeps others from sending meanwhile.
    pub(crate) fn send_relayed(&self, message: Bytes) -> bool {
        let cost = message.len() + MESSAGE_OVERHEAD;
        let fits = self.shared.queued.load(Ordering::Relaxed) + cost <= self.shared.limit / 2;
        if fits {
            self.send(message);
        }
        fits
    }

    /// Queues the first message, which tells the whole state of the room. It is not counted: a large room must not
    /// cut whoever comes.
    pub(crate) fn send_first(&self, message: Bytes) {
        let _ = self.sender.send((Outgoing::Message(message), 0));
    }

    /// Ends the connection after what is queued.
    pub(crate) fn close(&self, close: Close) {
        let _ = self.sender.send((Outgoing::Close(close), 0));
    }
}

impl Outbox {
    /// What to send next; `None` when the room has let go of the connection.
    pub async fn next(&mut self) -> Option<Outgoing> {
        let next = self.receiver.recv().await;
        self.taken(next)
    }

    /// The same without waiting.
    pub fn try_next(&mut self) -> Option<Outgoing> {
        let next = self.receiver.try_recv().ok();
        self.taken(next)
    }

    /// Waits until the client has been too slow.
    pub(crate) fn overflow(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move { shared.overflow.notified().await }
    }

    fn taken(&self, next: Option<(Outgoing, usize)>) -> Option<Outgoing> {
        let (outgoing, cost) = next?;
        self.shared.queued.fetch_sub(cost, Ordering::Relaxed);
        Some(outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_of_other_clients_take_half_of_the_queue_and_cut_nobody() {
        let (link, mut outbox) = link(4 * (10 + MESSAGE_OVERHEAD));
        let message = Bytes::from_static(b"0123456789");
        assert!(link.send_relayed(message.clone()));
        assert!(link.send_relayed(message.clone()));
        assert!(!link.send_relayed(message.clone()));
        link.send(message.clone());
        link.send(message.clone());
        for _ in 0..4 {
            assert_eq!(outbox.try_next(), Some(Outgoing::Message(message.clone())));
        }
        assert!(link.send_relayed(message));
    }

    #[tokio::test]
    async fn a_reader_gets_everything_in_order_and_a_slow_one_is_cut() {
        let (link, mut outbox) = link(2 * (10 + MESSAGE_OVERHEAD));
        let message = Bytes::from_static(b"0123456789");
        for _ in 0..100 {
            link.send(message.clone());
            link.send(message.clone());
            assert_eq!(outbox.next().await, Some(Outgoing::Message(message.clone())));
            assert_eq!(outbox.next().await, Some(Outgoing::Message(message.clone())));
        }
        for _ in 0..3 {
            link.send(message.clone());
        }
        outbox.overflow().await;
        link.close(Close::Left);
        assert_eq!(outbox.try_next(), Some(Outgoing::Message(message.clone())));
        assert_eq!(outbox.try_next(), Some(Outgoing::Message(message)));
        assert_eq!(outbox.try_next(), Some(Outgoing::Close(Close::Left)));
    }
}
