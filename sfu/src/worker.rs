//! One worker: an engine, its port, and the loop between them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::engine::{Engine, EngineConfig};
use veche_sfu_core::ids::WorkerId;
use veche_sfu_core::path::Path;

use crate::bridge::{Bridges, Taken};
use crate::hatch::{Handed, Hatch};
use crate::hold::Hold;
use crate::mailbox;
use crate::metrics::{Shared, Traffic};
use crate::poller::{Interest, Poller, Ready, Token};
use crate::tcp::{TcpInput, TcpPort};
use crate::udp::UdpPort;

/// How many commands are taken in one turn, so that a burst of them does not hold up media; of offers fewer, as the engine
/// says.
const COMMANDS_PER_TURN: usize = 32;

/// How often the worker tells its numbers and looks for what is overdue.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How soon to try again to hand out events that found the queue full.
const EVENTS_RETRY: Duration = Duration::from_millis(10);

/// How soon to try again to tell another worker what found the way full: it is about to read.
const NEWS_RETRY: Duration = Duration::from_millis(1);

/// Everything of one media thread. It shares nothing with other workers but queues.
pub(crate) struct Worker {
    poller: Poller,
    udp: UdpPort,
    tcp: TcpPort,
    mailbox: mailbox::Receiver,
    bridges: Bridges,
    hatches: Vec<Hatch>,
    engine: Engine,
    events: flume::Sender<Event>,
    /// An event that found the queue full. Those after it stay in the engine.
    held: Option<Event>,
    shared: Arc<Shared>,
    traffic: Traffic,
    hold: Hold,
    /// When this turn began; all that happens in it happens now.
    now: Instant,
    /// Whether the mailbox holds more than the last turn took.
    commands_left: bool,
    /// Whether another worker has sent more than the last turn took.
    records_left: bool,
    /// Whether relays have sent more than the last turn took.
    handed_left: bool,
    /// Whether news wait for room on their way to another worker.
    news_wait: bool,
    next_housekeeping: Instant,
    /// Packets in and out at the last housekeeping.
    packets_before: u64,
}

/// What a worker is made of; it comes to life on its thread.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) poller: Poller,
    pub(crate) udp: UdpPort,
    pub(crate) tcp: TcpPort,
    pub(crate) mailbox: mailbox::Receiver,
    pub(crate) worker: WorkerId,
    pub(crate) bridges: Bridges,
    pub(crate) engine: EngineConfig,
    /// Whether it waits for more when it is loaded.
    pub(crate) hold: bool,
    pub(crate) events: flume::Sender<Event>,
    pub(crate) shared: Arc<Shared>,
}

impl Parts {
    /// Has the poller wait for all that can wake the worker.
    pub(crate) fn register(&self) -> io::Result<()> {
        self.poller.add(&self.mailbox, Token::Mailbox, Interest::Read)?;
        self.udp.register(&self.poller)?;
        self.tcp.register(&self.poller)
    }
}

impl Worker {
    pub(crate) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        let Parts { poller, udp, tcp, mailbox, worker, bridges, engine, hold, events, shared } = parts;
        // The last way leads to the studio.
        let workers = bridges.ways.len() as u16 - 1;
        Self {
            poller,
            udp,
            tcp,
            mailbox,
            bridges,
            hatches: Vec::new(),
            engine: Engine::new(engine, now).among_with_studio(worker, workers),
            events,
            held: None,
            shared,
            traffic: Traffic::default(),
            hold: Hold::new(now, hold),
            now,
            commands_left: false,
            records_left: false,
            handed_left: false,
            news_wait: false,
            next_housekeeping: now + HOUSEKEEPING,
            packets_before: 0,
        }
    }

    /// Works until it is told to stop. An error is one of waiting, after which nothing can go on.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut ready = Ready::new();
        while !self.mailbox.is_stopping() {
            // 1. Wait for work. The clock is read once for all that the wait brings.
            let patience = self.patience();
            self.poller.wait(&mut ready, patience)?;
            self.hold(&ready);
            self.now = Instant::now();
            // 2. and 3. One batch from each socket, so that a flood does not starve what follows.
            self.receive_udp(&ready);
            self.receive_tcp(&ready);
            // 4. Commands of the control plane.
            self.take_commands(&ready);
            // 5. What relays of this process and other workers send. After the commands, since those silence the bell.
            self.take_handed();
            self.cross_in();
            // 6. What is due.
            self.handle_timeouts();
            // 7. Everything that the above has made is sent, in trains, and handed to other workers.
            self.flush();
            self.cross_out();
            // 8. Events to the control plane.
            self.hand_out_events();
        }
        self.close();
        Ok(())
    }

    /// How long nothing is due. To be called when a turn is over.
    fn patience(&mut self) -> Duration {
        let now = Instant::now();
        self.hold.on_turn(self.now, now);
        if self.commands_left || self.records_left || self.handed_left {
            return Duration::ZERO;
        }
        let mut due = self.next_housekeeping;
        if let Some(timeout) = self.engine.poll_timeout() {
            due = due.min(timeout);
        }
        if self.held.is_some() {
            due = due.min(self.now + EVENTS_RETRY);
        }
        if self.news_wait {
            due = due.min(self.now + NEWS_RETRY);
        }
        due.saturating_duration_since(now)
    }

    /// Lets more packets come, when there is much to do. Those that found no room in the last batch need no company.
    fn hold(&self, ready: &Ready) {
        let received = ready.tokens().any(|token| matches!(token, Token::Udp(_)))
            || self.hatches.iter().any(Hatch::is_waiting);
        if received && self.hold.is_on() && !self.udp.is_flooded() {
            let left =
                self.commands_left || self.records_left || self.handed_left || self.engine.has_handshakes();
            let time = self.hold.time(Instant::now(), left);
            if !time.is_zero() {
                std::thread::sleep(time);
            }
        }
    }

    fn receive_udp(&mut self, ready: &Ready) {
        for token in ready.tokens() {
            if let Token::Udp(index) = token {
                self.udp.receive(index, &mut self.traffic, |path, datagram| {
                    self.engine.handle_datagram(self.now, path, datagram);
                });
            }
        }
    }

    fn receive_tcp(&mut self, ready: &Ready) {
        for token in ready.tokens() {
            match token {
                Token::Listener(index) => self.tcp.accept(index, self.now, &self.poller),
                Token::Connection(id) => {
                    self.tcp.handle_ready(id, self.now, &self.poller, &mut self.traffic, |input| {
                        handle_tcp(&mut self.engine, self.now, input)
                    });
                }
                Token::Mailbox | Token::Udp(_) => {}
            }
        }
    }

    fn take_commands(&mut self, ready: &Ready) {
        if self.commands_left || ready.tokens().any(|token| token == Token::Mailbox) {
            let Self { mailbox, engine, .. } = self;
            let renew = |engine: &mut Engine| {
                if let Some(candidates) = mailbox.take_candidates() {
                    engine.set_candidates(candidates);
                }
            };
            let taken_all = mailbox.take(COMMANDS_PER_TURN, |command| {
                // Who joins is told of what was announced before.
                renew(engine);
                let is_offer = matches!(command, Command::Offer { .. });
                engine.handle_command(self.now, command);
                !(is_offer && engine.is_spent())
            });
            renew(engine);
            self.commands_left = !taken_all;
            while let Some(adoption) = self.mailbox.take_adoption() {
                let Self { tcp, poller, engine, traffic, now, .. } = self;
                tcp.adopt(adoption, *now, poller, traffic, |input| handle_tcp(engine, *now, input));
            }
            if let Some(hatches) = self.mailbox.take_hatches() {
                self.hatches = hatches;
            }
        }
    }

    fn take_handed(&mut self) {
        self.handed_left = false;
        for (hatch, index) in self.hatches.iter_mut().zip(0..) {
            let taken_all = hatch.take(|passage, datagram| {
                let path = Path::Relayed { hatch: index, passage: *passage };
                self.engine.handle_datagram(self.now, path, datagram);
            });
            self.handed_left |= !taken_all;
        }
    }

    fn cross_in(&mut self) {
        self.records_left = false;
        for (index, way) in self.bridges.ways.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            let from = WorkerId(index as u16);
            match way.inn.take(|crossing| self.engine.handle_crossing(self.now, from, crossing)) {
                Taken::All => {}
                Taken::Some => self.records_left = true,
                Taken::Gone => self.engine.handle_worker_gone(self.now, from),
            }
        }
    }

    fn cross_out(&mut self) {
        self.news_wait = false;
        for (index, way) in self.bridges.ways.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            let to = WorkerId(index as u16);
            if self.engine.flush_bridge(self.now, to, &mut |crossing| way.out.carry(crossing)) {
                way.out.ring();
            }
            self.news_wait |= self.engine.has_news(to);
        }
    }

    fn handle_timeouts(&mut self) {
        if self.engine.poll_timeout().is_some_and(|due| due <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        if self.next_housekeeping <= self.now {
            self.udp.handle_timeout(self.now);
            self.tcp.look(self.now, |path| self.engine.is_known(path));
            self.tcp.handle_timeout(self.now, &self.poller, |input| {
                handle_tcp(&mut self.engine, self.now, input)
            });
            self.tell_numbers(self.now.duration_since(self.next_housekeeping) + HOUSEKEEPING);
            self.next_housekeeping = self.now + HOUSEKEEPING;
        }
    }

    fn flush(&mut self) {
        self.udp.begin_flush(self.now);
        self.engine.flush(&mut |transmit| match transmit.path {
            Path::Udp { .. } => self.udp.send(&transmit, &mut self.traffic),
            Path::Tcp { .. } => self.tcp.send(&transmit, &self.poller, &mut self.traffic),
            Path::Relayed { hatch, passage } => {
                if let Some(hatch) = self.hatches.get_mut(usize::from(hatch)) {
                    hatch.send(&passage, (transmit.bytes, transmit.ends));
                }
            }
        });
        self.hatches.iter_mut().for_each(Hatch::ring);
    }

    /// While the control plane does not read, events stay where they are, and media goes on.
    fn hand_out_events(&mut self) {
        while let Some(event) = self.held.take().or_else(|| self.engine.poll_event()) {
            if let Err(flume::TrySendError::Full(event)) = self.events.try_send(event) {
                self.held = Some(event);
                return;
            }
        }
    }

    /// Tells the clients that this is the end.
    fn close(&mut self) {
        self.now = Instant::now();
        self.engine.close(self.now);
        self.flush();
        self.hand_out_events();
        self.tell_numbers(HOUSEKEEPING);
    }

    fn tell_numbers(&mut self, elapsed: Duration) {
        let handed = Handed::sum(self.hatches.iter());
        let packets =
            self.traffic.packets_in + self.traffic.packets_out + handed.packets_in + handed.packets_out;
        let rate = (packets - self.packets_before) as f64 / elapsed.as_secs_f64();
        self.packets_before = packets;
        self.shared.publish(rate as u64, |metrics| {
            metrics.participants = self.engine.participants();
            metrics.connections = self.tcp.len();
            metrics.tcp_refusals = self.tcp.refusals;
            metrics.traffic = self.traffic;
            metrics.handed = handed;
            metrics.drops.clone_from(self.engine.drops());
        });
    }
}

/// Whether the path is somebody's who is here.
fn handle_tcp(engine: &mut Engine, now: Instant, input: TcpInput<'_>) -> bool {
    match input {
        TcpInput::Frame(path, frame) => {
            engine.handle_datagram(now, path, frame);
            engine.is_known(&path)
        }
        TcpInput::Gone(path) => {
            engine.handle_disconnect(now, path);
            false
        }
    }
}
