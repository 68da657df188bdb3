//! A thread with many clients: one epoll loop over their sockets, one heap of their timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::mpsc::UnboundedSender;

use crate::measure::{Counters, SubscriberSummary};
use crate::peer::{Peer, PeerSetup, ReceiveBuffer};
use crate::subscriber::Subscriber;

/// Which client, of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub usize);

/// What a generator is told.
pub enum Command {
    /// A client has negotiated.
    Add(PeerId, Box<PeerSetup>),
    /// Layers of a client's section are worth sending, or not.
    Layers(PeerId, String, Vec<(Option<String>, bool)>),
    /// Measure from one time to another.
    Measure(Instant, Instant),
    /// End all connections, and the thread.
    Stop,
}

/// What a generator tells.
#[derive(Debug)]
pub enum Event {
    /// The client's media connection is there.
    Connected(PeerId, Instant),
    /// The client has its first whole frame.
    FirstFrame(PeerId, Instant),
    /// There will be no media connection, or no longer.
    Failed(PeerId, String),
    /// What this generator's clients have seen in the second with this number of the measured time.
    Second(usize, Box<Counters>),
    /// All streams that the client receives have had a whole frame.
    AllFrames(PeerId, Instant),
    /// The measured time is over: what each client got that receives something.
    Measured(Vec<SubscriberSummary>),
}

/// A running thread.
pub struct Generator {
    commands: mpsc::Sender<Command>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Generator {
    /// Starts a thread, on one core where that is named.
    pub fn start(core: Option<usize>, hold: Duration, events: UnboundedSender<Event>) -> Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let state = State {
            epoll,
            wake: Arc::clone(&wake),
            commands: receiver,
            events,
            places: Vec::new(),
            timers: BinaryHeap::new(),
            buffer: ReceiveBuffer::default(),
            counters: Counters::default(),
            window: None,
            hold,
            looked_at: Instant::now(),
        };
        let thread = std::thread::Builder::new().name("generator".to_owned()).spawn(move || {
            if let Some(core) = core {
                pin(core)?;
            }
            state.run()
        })?;
        Ok(Self { commands, wake, thread: Some(thread) })
    }

    /// Tells it something.
    pub fn tell(&self, command: Command) {
        // A generator that has ended has told why.
        if self.commands.send(command).is_ok() {
            let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// Ends it, and says how it went.
    pub fn stop(mut self) -> Result<()> {
        self.tell(Command::Stop);
        let thread = self.thread.take().context("it was started")?;
        thread.join().map_err(|_| anyhow::anyhow!("a generator's thread panicked"))?
    }
}

/// Runs the calling thread on one core only.
pub fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("core {core} cannot be used"))
}

/// The token of the wake-up; those of clients are their places.
const WAKE: u64 = u64::MAX;
/// How many sockets one wait reports.
const MAX_READY: usize = 256;
/// Nothing is waited for longer.
const MAX_WAIT: Duration = Duration::from_secs(1);

struct State {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    commands: mpsc::Receiver<Command>,
    events: UnboundedSender<Event>,
    places: Vec<Place>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    buffer: ReceiveBuffer,
    /// Of this second.
    counters: Counters,
    window: Option<Window>,
    /// Sockets are looked at so seldom at most, and were then.
    hold: Duration,
    looked_at: Instant,
}

/// A client, and what was told of it.
struct Place {
    id: PeerId,
    peer: Peer,
    /// The entry in `timers` that counts; others are of before.
    timer_at: Instant,
    connected: bool,
    first_frame: bool,
    all_frames: bool,
    failed: bool,
}

/// The measured time.
struct Window {
    end: Instant,
    started: bool,
    /// When the current second began or begins.
    second_at: Instant,
    seconds: usize,
}

impl State {
    fn run(mut self) -> Result<()> {
        let mut ready = Vec::with_capacity(MAX_READY);
        loop {
            self.wait(&mut ready)?;
            for event in ready.drain(..) {
                let event: epoll::Event = event;
                match event.data.u64() {
                    WAKE => self.drain_wake(),
                    place => self.receive(place as usize),
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, Command::Stop) {
                    self.close();
                    return Ok(());
                }
                self.handle_command(command);
            }
            let now = Instant::now();
            self.handle_window(now);
            self.handle_timers(now);
        }
    }

    fn wait(&mut self, ready: &mut Vec<epoll::Event>) -> Result<()> {
        let now = Instant::now();
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let window = self.window.as_ref().map(Window::next_at);
        let next = timer.into_iter().chain(window).min();
        if let Some(held) =
            (self.looked_at + self.hold).checked_duration_since(now).filter(|held| !held.is_zero())
        {
            let timer = next.map_or(held, |at| at.saturating_duration_since(now));
            std::thread::sleep(timer.min(held));
            if timer < held {
                return Ok(());
            }
        }
        let now = Instant::now();
        self.looked_at = now;
        let timeout = next.map_or(MAX_WAIT, |at| at.saturating_duration_since(now)).min(MAX_WAIT);
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match epoll::wait(&self.epoll, spare_capacity(ready), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("waiting for sockets failed"),
        }
    }

    fn drain_wake(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.wake, &mut count);
    }

    fn handle_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Add(id, setup) => {
                if let Err(error) = self.add(id, *setup, now) {
                    self.tell(Event::Failed(id, format!("no socket: {error}")));
                }
            }
            Command::Layers(id, mid, layers) => {
                if let Some(index) = self.places.iter().position(|place| place.id == id) {
                    self.places[index].peer.set_wanted(now, &mid, &layers);
                    self.schedule(index);
                }
            }
            Command::Measure(start, end) => {
                self.window = Some(Window { end, started: false, second_at: start, seconds: 0 });
            }
            Command::Stop => {}
        }
    }

    fn add(&mut self, id: PeerId, setup: PeerSetup, now: Instant) -> io::Result<()> {
        let peer = Peer::new(setup, now)?;
        let index = self.places.len();
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, peer.socket(), data, epoll::EventFlags::IN)?;
        let (connected, first_frame, all_frames, failed) = (false, false, false, false);
        self.places.push(Place { id, peer, timer_at: now, connected, first_frame, all_frames, failed });
        self.timers.push(Reverse((now, index)));
        Ok(())
    }

    fn receive(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        place.peer.receive(&mut self.buffer, &mut self.counters);
        self.after(index);
    }

    fn handle_timers(&mut self, now: Instant) {
        while let Some(&Reverse((at, index))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            let Some(place) = self.places.get_mut(index).filter(|place| place.timer_at == at) else {
                continue;
            };
            // The clock goes on while many clients have something to do.
            let now = Instant::now();
            place.peer.handle_timeout(now, &mut self.counters);
            let next = place.peer.poll_timeout();
            place.timer_at = next;
            self.timers.push(Reverse((next, index)));
            self.tell_news(index);
        }
    }

    fn after(&mut self, index: usize) {
        self.schedule(index);
        self.tell_news(index);
    }

    /// A timer that is later than it was is found out when it fires.
    fn schedule(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        let next = place.peer.poll_timeout();
        if next < place.timer_at {
            place.timer_at = next;
            self.timers.push(Reverse((next, index)));
        }
    }

    fn tell_news(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        if place.connected && place.all_frames && place.peer.transport().failure().is_none() {
            return;
        }
        let id = place.id;
        let mut news = Vec::new();
        if !place.connected && place.peer.transport().connected() {
            place.connected = true;
            news.push(Event::Connected(id, Instant::now()));
        }
        let subscriber = place.peer.subscriber();
        if let Some(at) = subscriber.first_frame_at().filter(|_| !place.first_frame) {
            place.first_frame = true;
            news.push(Event::FirstFrame(id, at));
        }
        if let Some(at) = subscriber.all_frames_at().filter(|_| !place.all_frames) {
            place.all_frames = true;
            news.push(Event::AllFrames(id, at));
        }
        if !place.failed
            && let Some(why) = place.peer.transport().failure()
        {
            place.failed = true;
            news.push(Event::Failed(id, why.to_owned()));
        }
        for event in news {
            self.tell(event);
        }
    }

    fn handle_window(&mut self, now: Instant) {
        let Some(window) = &mut self.window else { return };
        while window.next_at() <= now {
            if !window.started {
                window.started = true;
                self.counters.clear();
                for place in &mut self.places {
                    place.peer.subscriber().take_summary();
                }
                continue;
            }
            let second = Event::Second(window.seconds, Box::new(self.counters.clone()));
            let _ = self.events.send(second);
            self.counters.clear();
            window.second_at = window.next_at();
            window.seconds += 1;
            if window.second_at >= window.end {
                return self.finish_window();
            }
        }
    }

    fn finish_window(&mut self) {
        self.window = None;
        let subscribers = self.places.iter_mut().map(|place| place.peer.subscriber());
        let receiving = subscribers.filter(|subscriber| !subscriber.is_empty());
        let summaries = receiving.map(Subscriber::take_summary).collect();
        self.tell(Event::Measured(summaries));
    }

    fn close(&mut self) {
        let now = Instant::now();
        for place in &mut self.places {
            place.peer.close(now);
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when the tool is about to end.
        let _ = self.events.send(event);
    }
}

impl Window {
    /// When it begins, or the current second ends.
    fn next_at(&self) -> Instant {
        if self.started { (self.second_at + Duration::from_secs(1)).min(self.end) } else { self.second_at }
    }
}
