//! One run: rooms fill, everybody is measured for a while, rooms empty.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout_at};
use veche_sfu_core::dtls::Certificate;
use veche_testkit::client::certificate;
use veche_testkit::network::LinkConfig;

use crate::arrivals::Arrivals;
use crate::clock::Clock;
use crate::generator::{Command, Event, Generator, PeerId};
use crate::measure::{Counters, SubscriberSummary};
use crate::negotiation::{Feedback, Negotiation, Slots};
use crate::peer::PeerSetup;
use crate::report::{ProcessReport, Report, SecondReport};
use crate::scenario::{Person, Scenario};
use crate::send_times::SendTimes;
use crate::target::{Member, Target, Told};
use veche_load::process::Usage;

/// How to run a scenario.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host of the server, whose address is preferred among its candidates.
    pub host: String,
    /// What the names of rooms begin with.
    pub room: String,
    /// What is measured.
    pub duration: Duration,
    /// From when everybody sees everything to the measured time.
    pub warmup: Duration,
    /// Joins in a second.
    pub join_rate: f64,
    /// Threads that generate load.
    pub threads: usize,
    /// The cores that they run on.
    pub cores: Vec<usize>,
    /// Sockets are looked at so seldom at most.
    pub hold: Duration,
    /// One of so many packets is decrypted.
    pub sample: u32,
    /// What clients tell the server.
    pub feedback: Feedback,
    /// The network of those who publish.
    pub publisher_network: Option<LinkConfig>,
    /// The network of those who only watch.
    pub subscriber_network: Option<LinkConfig>,
    /// The server's process.
    pub pid: Option<u32>,
    /// Of all that chance decides.
    pub seed: u64,
    /// A line for each second.
    pub per_second: bool,
}

/// Joins, with their DTLS handshakes, may take so long after the last has begun.
const PATIENCE: Duration = Duration::from_secs(30);
/// And until everybody sees everything. A server that chooses what it sends may never send all.
const FRAME_PATIENCE: Duration = Duration::from_secs(10);
/// Measuring begins this much later than it is told, so that all threads begin together.
const LEAD: Duration = Duration::from_millis(50);

/// Runs a scenario against a target.
pub async fn run<T: Target>(target: T, scenario: &Scenario, options: &Options) -> Result<Report> {
    let (events, from_generators) = unbounded_channel();
    let (members, from_members) = unbounded_channel();
    let (leave, leaving) = watch::channel(false);
    let generators: Result<Vec<Generator>> = (0..options.threads.max(1))
        .map(|n| Generator::start(core_of(options, n), options.hold, events.clone()))
        .collect();
    let visits = visits::<T>(scenario);
    let mut run = Run {
        target: Arc::new(target),
        scenario,
        options,
        generators: generators?.into(),
        from_generators,
        members,
        from_members,
        leaving,
        tasks: JoinSet::new(),
        arrivals: Arrivals::new(visits.len()),
        visits,
        rng: StdRng::seed_from_u64(options.seed),
        certificate: Arc::new(certificate()),
        times: Arc::new(SendTimes::default()),
        clock: Clock::new(),
        preferred: resolve(&options.host),
        stopped: false,
    };
    let mut report = Report { scenario: scenario.describe(options.duration), ..Report::default() };
    let outcome = run.measure(&mut report).await;
    let _ = leave.send(true);
    run.empty_rooms().await;
    outcome?;
    run.arrivals.fill(&mut report, &run.visits.iter().map(|visit| visit.watches).collect::<Vec<_>>());
    Ok(report)
}

/// One connection: somebody who publishes and watches has two where the target wants it so.
#[derive(Clone, Debug)]
struct Visit {
    person: Person,
    publishes: bool,
    watches: bool,
}

/// What members tell.
enum News {
    Started(PeerId, Instant),
    Failed(PeerId, String),
    Remark(PeerId, String),
    Layers(PeerId, String, Vec<(Option<String>, bool)>),
    Negotiated(PeerId, Box<PeerSetup>),
}

struct Run<'a, T: Target> {
    target: Arc<T>,
    scenario: &'a Scenario,
    options: &'a Options,
    generators: Box<[Generator]>,
    from_generators: UnboundedReceiver<Event>,
    members: UnboundedSender<News>,
    from_members: UnboundedReceiver<News>,
    leaving: watch::Receiver<bool>,
    tasks: JoinSet<()>,
    visits: Vec<Visit>,
    arrivals: Arrivals,
    rng: StdRng,
    certificate: Arc<Certificate>,
    times: Arc<SendTimes>,
    clock: Clock,
    preferred: Option<IpAddr>,
    /// Somebody pressed Ctrl-C.
    stopped: bool,
}

impl<T: Target> Run<'_, T> {
    async fn measure(&mut self, report: &mut Report) -> Result<()> {
        for room in 0..self.scenario.rooms {
            let name = self.room(room);
            self.target.open_room(&name).await.with_context(|| format!("room {name} cannot be made"))?;
        }
        let publishing = self.visits.iter().take_while(|visit| visit.publishes).count();
        let bar = progress(self.visits.len() as u64, "{bar:40} {pos}/{len} joined");
        let started = Instant::now();
        self.join(0..publishing, &bar).await;
        self.join(publishing..self.visits.len(), &bar).await;
        let elapsed = started.elapsed().as_secs_f64();
        report.joins_per_second = self.arrivals.connected() as f64 / elapsed;
        self.await_frames().await;
        bar.finish_and_clear();
        self.pause(self.options.warmup).await;
        if !self.stopped {
            self.measure_now(report).await?;
        }
        Ok(())
    }

    /// Lets these join at the chosen pace, and waits until all of them are connected or have failed.
    async fn join(&mut self, range: std::ops::Range<usize>, bar: &ProgressBar) {
        let start = Instant::now();
        for index in range.clone() {
            let at = start + Duration::from_secs_f64((index - range.start) as f64 / self.options.join_rate);
            while !self.stopped && self.handle_until(at).await {}
            if self.stopped {
                return;
            }
            self.spawn_member(index);
            bar.set_position(self.arrivals.settled() as u64);
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.stopped && !self.arrivals.all_settled(range.clone()) && self.handle_until(deadline).await
        {
            bar.set_position(self.arrivals.settled() as u64);
        }
        self.arrivals.give_up(range);
    }

    async fn await_frames(&mut self) {
        let deadline = Instant::now() + FRAME_PATIENCE;
        loop {
            let watching = self.visits.iter().enumerate().filter(|(_, visit)| visit.watches);
            let all =
                watching.map(|(index, _)| index).all(|index| self.arrivals.has_all_frames_or_failed(index));
            if all || self.stopped || !self.handle_until(deadline).await {
                return;
            }
        }
    }

    async fn pause(&mut self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.stopped && self.handle_until(until).await {}
    }

    async fn measure_now(&mut self, report: &mut Report) -> Result<()> {
        let start = Instant::now() + LEAD;
        let end = start + self.options.duration;
        for generator in &self.generators {
            generator.tell(Command::Measure(start, end));
        }
        self.pause(LEAD).await;
        let usage = || self.options.pid.map(Usage::of).transpose();
        let (server_before, own_before) = (usage()?, Usage::own());
        let bar = progress(self.options.duration.as_secs(), "{bar:40} {pos}/{len} s");
        let mut measurement = Measurement::new(self.generators.len());
        let mut server_last = server_before;
        while !self.stopped && measurement.measured < self.generators.len() {
            let Some(second) = self.next_second(&mut measurement, end).await else { continue };
            let server = usage()?;
            let mut second = SecondReport::new(second.0, &second.1);
            if let Some((now, last)) = server.zip(server_last) {
                second.server_cores = Some(now.cpu.saturating_sub(last.cpu).as_secs_f64());
                second.server_memory = Some(now.memory);
            }
            server_last = server;
            bar.inc(1);
            if self.options.per_second {
                bar.suspend(|| eprintln!("{}", second.line()));
            }
            report.per_second.push(second);
        }
        bar.finish_and_clear();
        // Of a run that was stopped, the whole seconds count.
        let told = Duration::from_secs(report.per_second.len() as u64);
        let seconds = if self.stopped { told } else { self.options.duration }.as_secs_f64().max(1e-3);
        let total = &measurement.total;
        report.take_counters(total, seconds);
        let expected = self.scenario.fan_out().map(|fan_out| total.sent_packets as f64 * fan_out);
        let expected = expected.filter(|expected| *expected > 0.0);
        report.delivered = expected.map(|expected| (total.packets + total.repaired) as f64 / expected);
        report.server = server_before
            .zip(server_last)
            .map(|(before, after)| ProcessReport::between(before, after, seconds, total.packets));
        report.generator = ProcessReport::between(own_before, Usage::own(), seconds, total.packets);
        report.packets_per_second_per_subscriber = measurement.spread(seconds);
        report.streams = measurement.subscribers.iter().map(|subscriber| subscriber.streams).sum();
        report.playing = measurement.subscribers.iter().map(|subscriber| subscriber.playing).sum();
        Ok(())
    }

    /// Waits for something of a generator. A second that all of them have told is given out.
    async fn next_second(
        &mut self,
        measurement: &mut Measurement,
        end: Instant,
    ) -> Option<(usize, Counters)> {
        tokio::select! {
            event = self.from_generators.recv() => match event? {
                Event::Second(index, counters) => measurement.add_second(index, &counters),
                Event::Measured(subscribers) => {
                    measurement.finish(subscribers);
                    None
                }
                event => {
                    self.handle_event(event);
                    None
                }
            },
            news = self.from_members.recv() => {
                self.handle_news(news?);
                None
            }
            _ = tokio::signal::ctrl_c() => {
                self.stopped = true;
                None
            }
            // A generator that was killed or starved tells nothing: better a report of what there is than none.
            () = sleep_until((end + PATIENCE).into()) => {
                self.stopped = true;
                None
            }
        }
    }

    /// Handles the next event; false when there was none until then.
    async fn handle_until(&mut self, until: Instant) -> bool {
        let handled = timeout_at(until.into(), async {
            tokio::select! {
                Some(event) = self.from_generators.recv() => self.handle_event(event),
                Some(news) = self.from_members.recv() => self.handle_news(news),
                _ = tokio::signal::ctrl_c() => self.stopped = true,
            }
        });
        handled.await.is_ok()
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected(id, at) => self.arrivals.on_connected(id, at),
            Event::FirstFrame(id, at) => self.arrivals.on_first_frame(id, at),
            Event::AllFrames(id, at) => self.arrivals.on_all_frames(id, at),
            Event::Failed(id, why) => self.on_failed(id, &why),
            Event::Second(..) | Event::Measured(..) => {}
        }
    }

    fn handle_news(&mut self, news: News) {
        match news {
            News::Started(id, at) => self.arrivals.on_started(id, at),
            News::Failed(id, why) => self.on_failed(id, &why),
            News::Remark(id, text) => eprintln!("{}: {text}", self.name(id.0)),
            News::Layers(id, mid, wanted) => {
                self.generator_of(id).tell(Command::Layers(id, mid, wanted));
            }
            News::Negotiated(id, setup) => self.generator_of(id).tell(Command::Add(id, setup)),
        }
    }

    /// The first failures are told one by one; after that, the report counts them.
    fn on_failed(&mut self, id: PeerId, why: &str) {
        const TOLD: usize = 10;
        if self.arrivals.on_failed(id) && self.arrivals.failed() <= TOLD {
            eprintln!("{} in room {}: {why}", self.name(id.0), self.room(self.visits[id.0].person.room));
        }
    }

    fn spawn_member(&mut self, index: usize) {
        let visit = &self.visits[index];
        let tracks = if visit.publishes { self.scenario.tracks(&mut self.rng) } else { Vec::new() };
        let media =
            if visit.publishes { self.scenario.media(&visit.person, &mut self.rng) } else { Vec::new() };
        let slots = if visit.watches { self.scenario.slots(&visit.person) } else { Slots::default() };
        let negotiation = Negotiation::new(
            self.certificate.fingerprint(),
            tracks.clone(),
            slots,
            self.options.feedback,
            self.preferred,
            &mut self.rng,
        );
        let (publisher, subscriber) = (self.options.publisher_network, self.options.subscriber_network);
        let network = if visit.publishes { publisher } else { subscriber };
        let (certificate, times) = (Arc::clone(&self.certificate), Arc::clone(&self.times));
        let (sample, clock, seed) = (self.options.sample, self.clock, self.rng.random());
        let make = move |negotiation: &Negotiation| {
            let agreement = negotiation.agreement().context("the server has not answered")?.clone();
            let ice = negotiation.ice().clone();
            Ok(PeerSetup { ice, agreement, certificate, tracks, media, sample, network, times, clock, seed })
        };
        let (room, name) = (self.room(visit.person.room), self.name(index));
        let (target, news, leaving) = (Arc::clone(&self.target), self.members.clone(), self.leaving.clone());
        self.tasks.spawn(async move {
            let id = PeerId(index);
            let visit = attend(&*target, id, &room, &name, negotiation, make, &news, leaving);
            if let Err(error) = visit.await {
                let _ = news.send(News::Failed(id, format!("{error:#}")));
            }
        });
    }

    fn generator_of(&self, id: PeerId) -> &Generator {
        &self.generators[id.0 % self.generators.len()]
    }

    fn room(&self, number: usize) -> String {
        format!("{}-{number}", self.options.room)
    }

    fn name(&self, index: usize) -> String {
        format!("load-{}", self.visits[index].person.number)
    }

    async fn empty_rooms(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(Some(_)) = timeout_at(deadline.into(), self.tasks.join_next()).await {}
        for generator in std::mem::take(&mut self.generators) {
            if let Err(error) = generator.stop() {
                eprintln!("a generator failed: {error:#}");
            }
        }
        for room in 0..self.scenario.rooms {
            let name = self.room(room);
            if let Err(error) = self.target.close_room(&name).await {
                eprintln!("room {name} cannot be removed: {error:#}");
            }
        }
    }
}

/// Joins, hands the connection to its generator, and stays until it is time to leave.
#[expect(clippy::too_many_arguments, reason = "a task takes all it needs along")]
async fn attend<T: Target>(
    target: &T,
    id: PeerId,
    room: &str,
    name: &str,
    mut negotiation: Negotiation,
    make: impl FnOnce(&Negotiation) -> Result<PeerSetup>,
    news: &UnboundedSender<News>,
    mut leaving: watch::Receiver<bool>,
) -> Result<()> {
    let _ = news.send(News::Started(id, Instant::now()));
    let mut member = target.join(room, name, &mut negotiation).await?;
    let _ = news.send(News::Negotiated(id, Box::new(make(&negotiation)?)));
    loop {
        let told = tokio::select! {
            told = member.next() => told?,
            _ = leaving.changed() => return member.leave().await,
        };
        let _ = news.send(match told {
            Told::Layers { mid, wanted } => News::Layers(id, mid, wanted),
            Told::Remark(text) => News::Remark(id, text),
        });
    }
}

/// What generators have told of the measured time.
struct Measurement {
    generators: usize,
    /// How many have told of each second that is not complete.
    seconds: Vec<(usize, Counters)>,
    measured: usize,
    total: Counters,
    subscribers: Vec<SubscriberSummary>,
}

impl Measurement {
    fn new(generators: usize) -> Self {
        let (seconds, subscribers) = (Vec::new(), Vec::new());
        Self { generators, seconds, measured: 0, total: Counters::default(), subscribers }
    }

    /// The second with its number for people, when all have told of it.
    fn add_second(&mut self, index: usize, counters: &Counters) -> Option<(usize, Counters)> {
        if self.seconds.len() <= index {
            self.seconds.resize_with(index + 1, Default::default);
        }
        let (told, second) = &mut self.seconds[index];
        second.add(counters);
        self.total.add(counters);
        *told += 1;
        (*told == self.generators).then(|| (index + 1, std::mem::take(second)))
    }

    fn finish(&mut self, subscribers: Vec<SubscriberSummary>) {
        self.measured += 1;
        self.subscribers.extend(subscribers);
    }

    /// The least, the median and the most packets in a second.
    fn spread(&self, seconds: f64) -> [f64; 3] {
        let mut packets: Vec<u64> = self.subscribers.iter().map(|subscriber| subscriber.packets).collect();
        packets.sort_unstable();
        let rate = |index: usize| packets.get(index).map_or(0.0, |packets| *packets as f64 / seconds);
        [rate(0), rate(packets.len() / 2), rate(packets.len().saturating_sub(1))]
    }
}

fn visits<T: Target>(scenario: &Scenario) -> Vec<Visit> {
    let people = scenario.people();
    let split = |person: &Person| person.publishes && person.watches && !T::DUPLEX;
    let first = people.iter().map(|person| Visit {
        person: *person,
        publishes: person.publishes,
        watches: person.watches && !split(person),
    });
    let second = people.iter().filter(|person| split(person));
    let second = second.map(|person| Visit { person: *person, publishes: false, watches: true });
    let mut visits: Vec<Visit> = first.chain(second).collect();
    visits.sort_by_key(|visit| !visit.publishes);
    visits
}

fn core_of(options: &Options, thread: usize) -> Option<usize> {
    options.cores.get(thread % options.cores.len().max(1)).copied()
}

/// The first address of a host.
fn resolve(host: &str) -> Option<IpAddr> {
    (host, 0).to_socket_addrs().ok()?.next().map(|address| address.ip())
}

fn progress(len: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style)
}
