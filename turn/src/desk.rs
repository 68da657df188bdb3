//! What handling a packet of a client may touch of a worker: all but the socket or connection that it came by.

use std::time::Instant;

use veche_turn_core::{Action, FiveTuple, Outbox, RelayId, Server};

use crate::poller::Poller;
use crate::relays::Relays;

/// All of a worker but its connections and its listening sockets.
pub(crate) struct Desk<'a> {
    pub(crate) now: Instant,
    pub(crate) poller: &'a Poller,
    pub(crate) server: &'a mut Server,
    pub(crate) out: &'a mut Outbox,
    pub(crate) relays: &'a mut Relays,
    pub(crate) closing: &'a mut Vec<RelayId>,
}

impl Desk<'_> {
    /// Hands the server what a client sent and does at once what it wants done: the next packet may end what this one began.
    pub(crate) fn handle_client(&mut self, from: FiveTuple, packet: &[u8]) {
        self.server.handle_client(self.now, from, packet, self.out);
        self.act();
    }

    /// A connection has ended.
    pub(crate) fn handle_disconnect(&mut self, client: FiveTuple) {
        self.server.handle_disconnect(client, self.out);
        self.act();
    }

    /// Does what the server wants done, until it wants nothing more.
    pub(crate) fn act(&mut self) {
        loop {
            let actions = self.out.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Open { allocation, v4, v6, ports, reservation } => {
                        let relays = (v4, v6);
                        let opened = self.relays.open(allocation, relays, (ports, reservation), self.poller);
                        self.server.handle_opened(self.now, allocation, opened, self.out);
                    }
                    Action::Close(relay) => self.closing.push(relay),
                }
            }
        }
    }
}
