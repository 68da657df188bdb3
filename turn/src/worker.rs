//! One worker: a share of the server, its sockets, and the loop between them.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use veche_sfu::Traffic;
use veche_sfu::datagrams::{Datagrams, Flush, ReceiveBuffer};
use veche_sfu::hold::Hold;
use veche_turn_core::{Destination, FiveTuple, Link, Outbox, RelayId, Server};

use crate::connections::Connections;
use crate::desk::{Closing, Desk};
use crate::errors::IcmpError;
use crate::handle::Shared;
use crate::hatches::Hatches;
use crate::mailbox::{Command, Receiver};
use crate::poller::{Fixed, Poller, Ready, Token};
use crate::relays::{Relays, datagrams};
use crate::tcp_relays::TcpRelays;

/// How often the worker tells its numbers and looks for what has ended.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// When so many bytes wait they are sent, although the turn is not over: they should still be in the processor's cache.
const FLUSH_AT: usize = 256 << 10;

/// What is asked of the system for each direction of a listening socket, at which all clients of a worker come.
const SOCKET_BUFFER: usize = 4 << 20;

/// How many commands are done in one turn. Those of connections that are handed over have work in them for clients that may be anybody.
const COMMANDS_PER_TURN: usize = 16;

/// Everything of one worker.
pub(crate) struct Worker {
    pub(crate) poller: Poller,
    pub(crate) mailbox: Receiver,
    pub(crate) udp: Vec<Datagrams>,
    pub(crate) connections: Connections,
    pub(crate) relays: Relays,
    pub(crate) tcp: TcpRelays,
    pub(crate) hatches: Hatches,
    /// Whether media has sent more than the last turn took.
    pub(crate) handed_left: bool,
    pub(crate) server: Server,
    pub(crate) shared: Arc<Shared>,
    pub(crate) out: Outbox,
    pub(crate) traffic: Traffic,
    pub(crate) buffer: ReceiveBuffer,
    /// When this turn began; all that happens in it happens now.
    pub(crate) now: Instant,
    pub(crate) next_housekeeping: Instant,
    /// Waits for more when there is much to do.
    pub(crate) hold: Hold,
    /// Whether a batch was full, so that more is there than was received.
    pub(crate) flooded: bool,
    pub(crate) closing: Closing,
}

impl Worker {
    /// Has the poller wait for all that can wake the worker.
    pub(crate) fn register(&self) -> io::Result<()> {
        self.poller.add(&self.mailbox, Token::Fixed(Fixed::Mailbox))?;
        for (socket, index) in self.udp.iter().zip(0..) {
            self.poller.add(socket.socket(), Token::Fixed(Fixed::Udp(index)))?;
        }
        self.connections.register(&self.poller)
    }

    /// Works until it is told to stop. An error is one of waiting, after which nothing can go on.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut ready = Ready::new();
        while !self.mailbox.is_stopping() {
            // 1. Wait for work. The clock is read once for all that the wait brings.
            let now = Instant::now();
            self.hold.on_turn(self.now, now);
            let due = if self.handed_left { now } else { self.next_housekeeping };
            self.poller.wait(&mut ready, due.saturating_duration_since(now))?;
            self.let_more_come(&mut ready)?;
            self.now = Instant::now();
            self.flooded = false;
            // 2. One batch from each socket; connections come last, since those of strangers may take long.
            let begin = self.connections.begin_turn();
            let is_stream = |token: &Token| matches!(token, Token::Stream(_) | Token::Peer(_));
            for token in ready.tokens().filter(|token| !is_stream(token)) {
                self.handle_ready(token);
            }
            for token in ready.tokens_from(begin).filter(is_stream) {
                self.handle_ready(token);
            }
            // 3. What media of this process sends. After the mailbox, which silences the bell.
            self.take_handed();
            // 4. What is due.
            if self.next_housekeeping <= self.now {
                self.keep_house();
            }
            // 5. Everything that the above has made is sent, in trains.
            self.flush();
        }
        self.server.close(&mut self.out);
        self.act();
        self.tell_numbers();
        Ok(())
    }

    /// Waits a moment, when there is much to do, for what shall leave in the same trains, and looks again at who has something.
    /// What found no room in the last batch needs no company.
    fn let_more_come(&mut self, ready: &mut Ready) -> io::Result<()> {
        let is_relayed = |token| matches!(token, Token::Relay(_) | Token::Fixed(Fixed::Udp(_)));
        let has_come = || ready.tokens().any(is_relayed) || self.hatches.is_waiting();
        if !self.hold.is_on() || self.flooded || !has_come() {
            return Ok(());
        }
        let time = self.hold.time(Instant::now(), self.handed_left);
        if time.is_zero() {
            return Ok(());
        }
        std::thread::sleep(time);
        self.poller.wait(ready, Duration::ZERO)
    }

    fn handle_ready(&mut self, token: Token) {
        self.take(token);
        if self.out.len() >= FLUSH_AT {
            self.flush();
        }
    }

    fn take(&mut self, token: Token) {
        match token {
            Token::Fixed(Fixed::Mailbox) => self.take_commands(),
            Token::Fixed(Fixed::Udp(index)) => self.receive(index),
            Token::Fixed(Fixed::Listener(index)) => self.connections.accept(index, self.now, &self.poller),
            Token::Relay(id) => self.receive_of_peers(id),
            Token::Failed(id) => {
                let Self { relays, server, out, now, .. } = self;
                relays.take_errors(id, |IcmpError { peer, kind, data }| {
                    server.handle_icmp(*now, id, peer, kind, data, out);
                });
                self.receive_of_peers(id);
            }
            Token::Stream(id) => {
                let (connections, mut desk, traffic) = self.desk();
                connections.handle_ready(id, &mut desk, traffic);
            }
            Token::Peer(id) => {
                let (connections, mut desk, traffic) = self.desk();
                if let Some(client) = desk.handle_peer_ready(id) {
                    connections.carry(client, &mut desk, traffic);
                }
            }
        }
    }

    /// All of it but the sockets that clients come by.
    fn desk(&mut self) -> (&mut Connections, Desk<'_>, &mut Traffic) {
        let Self { connections, poller, traffic, server, out, relays, tcp, closing, now, .. } = self;
        (connections, Desk { now: *now, poller, server, out, relays, tcp, closing, turn: None }, traffic)
    }

    fn receive_of_peers(&mut self, relay: RelayId) {
        let Self { relays, buffer, traffic, server, out, tcp, poller, now, .. } = self;
        match relays.receive(relay, *now, buffer, traffic, server, out) {
            Some(is_full) => self.flooded |= is_full,
            None => tcp.accept(relay, *now, poller, server, out),
        }
    }

    fn receive(&mut self, index: u16) {
        let Some(socket) = self.udp.get(usize::from(index)) else { return };
        let Self { buffer, traffic, server, out, relays, tcp, poller, closing, now, .. } = self;
        let mut desk = Desk { now: *now, poller, server, out, relays, tcp, closing, turn: None };
        self.flooded |= socket.receive(buffer, traffic, |remote, local, packet| {
            desk.handle_client(FiveTuple { remote, link: Link::Udp { socket: index, local } }, packet);
        });
    }

    fn take_handed(&mut self) {
        self.handed_left = false;
        for index in 0..self.hatches.len() {
            self.handed_left |= self.hatches.receive(index, self.now, &mut self.server, &mut self.out);
            if self.out.len() >= FLUSH_AT {
                self.flush();
            }
        }
    }

    /// Does what the server wants done.
    fn act(&mut self) {
        self.desk().1.act();
    }

    fn take_commands(&mut self) {
        for command in self.mailbox.take(COMMANDS_PER_TURN) {
            match command {
                Command::SetCredentials(credentials) => {
                    self.server.set_credentials(credentials, &mut self.out);
                    self.act();
                }
                Command::SetPeers(peers) => self.server.set_peers(peers),
                Command::SetFamilies([v4, v6]) => self.server.set_families(v4, v6),
                Command::Adopt(adoption) => {
                    let (connections, mut desk, _) = self.desk();
                    connections.adopt(*adoption, &mut desk);
                }
                Command::Connect(hatches) => self.hatches = hatches,
                Command::Listen(sockets) => {
                    for socket in sockets {
                        if let Err(error) = self.listen(socket) {
                            tracing::error!(%error, "TURN takes no clients at a UDP port that it should share");
                        }
                    }
                }
            }
        }
    }

    /// Takes clients at one more socket.
    fn listen(&mut self, socket: UdpSocket) -> io::Result<()> {
        let socket = listening(socket)?;
        self.poller.add(socket.socket(), Token::Fixed(Fixed::Udp(self.udp.len() as u16)))?;
        self.udp.push(socket);
        Ok(())
    }

    fn keep_house(&mut self) {
        self.next_housekeeping = self.now + HOUSEKEEPING;
        self.server.set_unix_time(self.now, unix_time());
        self.server.handle_timeout(self.now, &mut self.out);
        let (connections, mut desk, traffic) = self.desk();
        desk.act();
        connections.handle_timeout(&mut desk, traffic);
        self.relays.handle_timeout(self.now);
        self.tcp.handle_timeout(&self.poller);
        for socket in &mut self.udp {
            socket.handle_timeout(self.now);
        }
        self.tell_numbers();
    }

    fn flush(&mut self) {
        let mut flush = Flush::begin(self.now);
        let Self { out, udp, connections, relays, hatches, server, poller, traffic, .. } = self;
        for run in out.runs() {
            let packets = (run.bytes, run.ends);
            match run.to {
                Destination::Client(FiveTuple { remote, link: Link::Udp { socket, local } }) => {
                    if let Some(socket) = udp.get_mut(usize::from(socket)) {
                        socket.send(remote, local, packets, &mut flush, traffic);
                    }
                }
                Destination::Client(FiveTuple { link: Link::Stream(id), .. }) => {
                    connections.send(id, packets, poller, traffic);
                }
                Destination::Peer { relay, peer, .. } if hatches.send(server, (relay, peer), packets) => {}
                Destination::Peer { relay, peer, dont_fragment } => {
                    relays.send(relay, peer, dont_fragment, packets, &mut flush, traffic);
                }
            }
        }
        hatches.ring();
        out.clear_packets();
        for relay in self.closing.relays.drain(..) {
            self.relays.close(relay);
            self.tcp.close(relay);
        }
        for stream in self.closing.streams.drain(..) {
            self.connections.close_unbound(stream);
        }
        for one in self.closing.moves.drain(..) {
            self.connections.move_away(one, &self.poller);
        }
    }

    fn tell_numbers(&self) {
        self.shared.publish(|metrics| {
            metrics.connections = self.connections.len();
            metrics.connections_refused = self.connections.refused;
            metrics.relays = self.relays.len() + self.tcp.len();
            metrics.peer_connections = self.tcp.peers();
            metrics.totals = self.server.totals();
            metrics.refusals.clone_from(self.server.refusals());
            metrics.traffic = self.traffic;
            metrics.handed = self.hatches.handed();
        });
    }
}

/// Puts a socket into use at which clients come.
pub(crate) fn listening(socket: UdpSocket) -> io::Result<Datagrams> {
    let socket = datagrams(socket)?;
    // The system grants what it likes; the media plane, which asks for as much, tells when that is little.
    let _ = socket.ask_for_buffers(SOCKET_BUFFER);
    Ok(socket)
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
