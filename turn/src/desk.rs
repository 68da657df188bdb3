//! What handling a packet of a client may touch of a worker: all but the socket or connection that it came by.

use std::time::Instant;

use veche_turn_core::{Action, ConnectionId, FiveTuple, Outbox, RelayId, Server, Transport};

use crate::poller::Poller;
use crate::relays::Relays;
use crate::tcp_relays::{Event, TcpRelays};

/// All of a worker but its connections and its listening sockets.
pub(crate) struct Desk<'a> {
    pub(crate) now: Instant,
    pub(crate) poller: &'a Poller,
    pub(crate) server: &'a mut Server,
    pub(crate) out: &'a mut Outbox,
    pub(crate) relays: &'a mut Relays,
    pub(crate) tcp: &'a mut TcpRelays,
    pub(crate) closing: &'a mut Closing,
    /// What the connection becomes whose packet was handled last, if not what it was.
    pub(crate) turn: Option<Turn>,
}

/// What is to be closed or handed over when all that waits is sent.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    pub(crate) relays: Vec<RelayId>,
    /// Connections of clients that were bound to one with a peer.
    pub(crate) streams: Vec<u64>,
    pub(crate) moves: Vec<Move>,
}

/// A connection of a client that goes to another worker.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) id: u64,
    pub(crate) worker: u16,
    /// What was read of it that is to be handled there.
    pub(crate) early: Vec<u8>,
}

/// What a connection of a client becomes.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Bound to one with a peer.
    Bound(ConnectionId),
    /// Another worker's, which gets this packet too.
    Moved { worker: u16, packet: Vec<u8> },
}

impl Desk<'_> {
    /// Hands the server what a client sent and does at once what it wants done: the next packet may end what this one began.
    pub(crate) fn handle_client(&mut self, from: FiveTuple, packet: &[u8]) {
        self.server.handle_client(self.now, from, packet, self.out);
        self.act();
        if let Some(Turn::Moved { packet: kept, .. }) = &mut self.turn {
            packet.clone_into(kept);
        }
    }

    /// A connection has ended.
    pub(crate) fn handle_disconnect(&mut self, client: FiveTuple) {
        self.server.handle_disconnect(client, self.out);
        self.act();
    }

    /// Something is to be seen at a connection with a peer. Returns the client's that it is bound to, which sees to it.
    pub(crate) fn handle_peer_ready(&mut self, id: ConnectionId) -> Option<u64> {
        match self.tcp.on_ready(id, self.poller)? {
            Event::Bound(client) => Some(client),
            Event::Called { is_connected } => {
                self.server.handle_connected(self.now, id, is_connected, self.out);
                None
            }
        }
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
                    Action::Open { allocation, transport, v4, v6, ports, reservation } => {
                        let families = (v4, v6);
                        let opened = match transport {
                            Transport::Udp => {
                                self.relays.open(allocation, families, (ports, reservation), self.poller)
                            }
                            Transport::Tcp => self.tcp.open(allocation, families, self.poller, self.relays),
                        };
                        self.server.handle_opened(self.now, allocation, opened, self.out);
                    }
                    Action::Close(relay) => self.closing.relays.push(relay),
                    Action::Connect { connection, relay, peer } => {
                        if let Err(error) = self.tcp.connect(connection, relay, peer, self.poller) {
                            tracing::debug!(%error, %peer, "a peer cannot be called");
                            self.server.handle_connected(self.now, connection, false, self.out);
                        }
                    }
                    Action::Bind(connection) => self.turn = Some(Turn::Bound(connection)),
                    Action::Move { worker } => self.turn = Some(Turn::Moved { worker, packet: Vec::new() }),
                    Action::Disconnect(connection) => {
                        self.closing.streams.extend(self.tcp.remove(connection));
                    }
                }
            }
        }
    }
}
