//! Starting the media plane: everything that can fail fails here, before the first thread runs.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use veche_sfu_core::control::Event;
use veche_sfu_core::dtls::Certificate;
use veche_sfu_core::engine::EngineConfig;
use veche_sfu_core::ids::WorkerId;

use crate::bridge::{Bridges, bridges};
use crate::certificate::load_or_make;
use crate::handle::{Handle, Sfu, SfuConfig, StartError, WorkerFailure, WorkerHandle};
use crate::interfaces::{Announcer, announced_addresses};
use crate::mailbox::{self, Ringer, mailbox};
use crate::metrics::Shared;
use crate::poller::Poller;
use crate::ports::{bind_port, usable_addresses};
use crate::studio::{Desk, Studio};
use crate::tcp::{MAX_CONNECTIONS, TcpPort};
use crate::udp::UdpPort;
use crate::worker::{Parts, Worker};

/// How many events of all workers may wait for the control plane.
const EVENT_CAPACITY: usize = 4096;

/// The NTP epoch is 70 years, 17 of them leap years, before the Unix epoch (RFC 5905 section 6).
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// Starts the workers.
///
/// Returns when all sockets are bound: from then on clients are answered. An error names the setting to change.
pub fn start(config: SfuConfig) -> Result<Sfu, StartError> {
    let count = worker_count(&config);
    check_port_range(config.first_port, count)?;
    let spread_from = config.spread_from;
    let (event_sender, events) = flume::bounded(EVENT_CAPACITY);
    let preparation = Preparation::new(config, event_sender)?;
    let mut prepared = Vec::with_capacity(count);
    let mut workers = Vec::with_capacity(count);
    let mut tenants = Vec::new();
    let mailboxes = (0..count).map(|_| mailbox()).collect::<io::Result<Vec<_>>>().map_err(no_resources)?;
    let (studio, desk) = Studio::prepare(count as u16, preparation.epoch).map_err(no_resources)?;
    let ringers = mailboxes.iter().map(|(sender, _)| sender.ringer()).chain([studio.ringer()]);
    let mut bridges = bridges(&ringers.collect::<Vec<Ringer>>());
    let desk = bridges.pop().map(|bridges| Desk::new(desk, bridges, preparation.events.clone()));
    for ((index, mailbox), bridges) in mailboxes.into_iter().enumerate().zip(bridges) {
        let (parts, worker, of_worker) = preparation.prepare(index, mailbox, bridges)?;
        tenants.extend(of_worker);
        prepared.push(parts);
        workers.push(worker);
    }

    let (failure_sender, failures) = flume::bounded(count + 1);
    let (done_sender, done) = flume::bounded(0);
    let handle = Handle::new(workers, spread_from, preparation.announcer, studio, done);
    let cores = allowed_cores().filter(|cores| cores.len() == count);
    for (index, parts) in prepared.into_iter().enumerate() {
        let core = cores.as_ref().map(|cores| cores[index]);
        spawn(index, parts, core, failure_sender.clone(), done_sender.clone()).map_err(no_resources)?;
    }
    if let Some(desk) = desk {
        spawn_studio(count, desk, failure_sender, done_sender).map_err(no_resources)?;
    }
    Ok(Sfu { handle, events, failures, tenants })
}

/// The addresses that clients will be told, best first, by this configuration.
pub fn announced(config: &SfuConfig) -> Result<Vec<IpAddr>, StartError> {
    announced_addresses(config, &usable_addresses(&config.bind)?)
}

fn worker_count(config: &SfuConfig) -> usize {
    match config.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

fn check_port_range(first: u16, count: usize) -> Result<(), StartError> {
    if first == 0 || usize::from(first) + count <= 1 << 16 {
        return Ok(());
    }
    Err(StartError {
        setting: "media.first_port",
        reason: format!(
            "{count} workers need as many ports from {first} on, and there are none above 65535; set it \
             (VECHE_MEDIA_FIRST_PORT) lower, for example to 40000"
        ),
    })
}

/// What all workers have in common.
struct Preparation {
    config: SfuConfig,
    /// The addresses to bind.
    bound: Vec<IpAddr>,
    /// Knows the addresses that clients are told.
    announcer: Announcer,
    certificate: Arc<Certificate>,
    epoch: Instant,
    epoch_ntp: u64,
    events: flume::Sender<Event>,
}

impl Preparation {
    fn new(config: SfuConfig, events: flume::Sender<Event>) -> Result<Self, StartError> {
        let bound = usable_addresses(&config.bind)?;
        let announcer = Announcer::new(config.clone(), bound.clone())?;
        tracing::info!(?bound, announced = ?announcer.addresses(), "the media plane starts");
        let certificate = Arc::new(load_or_make(config.certificate_file.as_deref(), SystemTime::now())?);
        let (epoch, epoch_ntp) = (Instant::now(), ntp_time(SystemTime::now()));
        Ok(Self { config, bound, announcer, certificate, epoch, epoch_ntp, events })
    }

    /// Binds a worker's port and readies all that it runs on. Tenants come to the first one's.
    fn prepare(
        &self,
        index: usize,
        (sender, receiver): (mailbox::Sender, mailbox::Receiver),
        bridges: Bridges,
    ) -> Result<(Parts, WorkerHandle, Vec<Vec<UdpSocket>>), StartError> {
        let first = self.config.first_port;
        let wanted = if first == 0 { 0 } else { first + index as u16 };
        let tenants = if index == 0 { self.config.tenants } else { 0 };
        let port = bind_port(&self.bound, wanted, self.config.takes_tcp(wanted), tenants)?;
        let engine = EngineConfig {
            candidates: self.announcer.candidates(port.number),
            certificate: self.certificate.clone(),
            seed: random_seed()?,
            epoch: self.epoch,
            epoch_ntp: self.epoch_ntp,
            dtls13: self.config.dtls13,
            reproducible: false,
            max_message_size: self.config.max_data_message,
        };
        let shared = Arc::new(Shared::new(index, port.number));
        let parts = Parts {
            poller: Poller::new().map_err(no_resources)?,
            udp: UdpPort::new(port.udp).map_err(no_resources)?,
            tcp: TcpPort::new(port.listeners, MAX_CONNECTIONS, self.config.tcp_per_address),
            mailbox: receiver,
            worker: WorkerId(index as u16),
            bridges,
            engine,
            hold: self.config.hold,
            events: self.events.clone(),
            shared: shared.clone(),
        };
        parts.register().map_err(no_resources)?;
        Ok((parts, WorkerHandle { mailbox: sender, shared }, port.tenants))
    }
}

/// Starts a worker's thread. Whichever way it ends, its sockets are closed before `done` is dropped.
fn spawn(
    index: usize,
    parts: Parts,
    core: Option<usize>,
    failures: flume::Sender<WorkerFailure>,
    done: flume::Sender<Infallible>,
) -> io::Result<()> {
    let shared = parts.shared.clone();
    thread::Builder::new().name(format!("media-{index}")).spawn(move || {
        if let Some(core) = core {
            pin(core);
        }
        supervise(index, WORKER_LOST, &shared, &failures, || Worker::new(parts).run());
        drop(done);
    })?;
    Ok(())
}

/// Starts the studio's thread, which counts as one more worker.
fn spawn_studio(
    index: usize,
    mut desk: Desk,
    failures: flume::Sender<WorkerFailure>,
    done: flume::Sender<Infallible>,
) -> io::Result<()> {
    thread::Builder::new().name("studio".to_owned()).spawn(move || {
        supervise(index, STUDIO_LOST, &Shared::new(index, 0), &failures, move || desk.run());
        drop(done);
    })?;
    Ok(())
}

/// What is said when a thread has failed.
const WORKER_LOST: &str = "a media worker has failed; its rooms are lost";
const STUDIO_LOST: &str =
    "the studio has failed; rooms go on, but nobody listens to them and their guests are gone";

/// Runs a worker to its end, and makes sure that nobody misses it: commands are refused from then on, no room is
/// created there, and an end that nobody asked for is logged, as `lost`, and reported.
fn supervise(
    index: usize,
    lost: &str,
    shared: &Shared,
    failures: &flume::Sender<WorkerFailure>,
    run: impl FnOnce() -> io::Result<()>,
) {
    let ended = catch_unwind(AssertUnwindSafe(run));
    shared.on_gone();
    let reason = match ended {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("waiting failed: {error}"),
        Err(panic) => format!("it panicked: {}", panic_message(panic.as_ref())),
    };
    tracing::error!(worker = index, reason, "{lost}");
    // There is room for one failure of each worker.
    let _ = failures.try_send(WorkerFailure { worker: index, reason });
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// The cores that this process may use.
fn allowed_cores() -> Option<Vec<usize>> {
    let allowed = sched_getaffinity(None).ok()?;
    Some((0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect())
}

/// Keeps the thread on its core, so that its caches stay warm. A worker is pinned only when there is one for each
/// core: with fewer the scheduler does better, and several servers on a machine would crowd the first cores.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::info!(core, %error, "a media worker is not pinned to its core");
    }
}

fn random_seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    match SystemRandom::new().fill(&mut seed) {
        Ok(()) => Ok(seed),
        Err(_) => Err(no_resources("the system gives no random numbers")),
    }
}

fn no_resources(error: impl std::fmt::Display) -> StartError {
    StartError {
        setting: "media.workers",
        reason: format!(
            "the system has no resources for a worker ({error}); set it (VECHE_MEDIA_WORKERS) lower, for example to \
             1, or raise the limits of open files and threads"
        ),
    }
}

/// A 64-bit NTP timestamp (RFC 5905 section 6).
fn ntp_time(time: SystemTime) -> u64 {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    // The seconds overflow in 2036 on purpose: that is the next era of NTP.
    (since_1970.as_secs() + NTP_UNIX_OFFSET) << 32 | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_counts_from_1900_in_fractions_of_32_bits() {
        assert_eq!(ntp_time(UNIX_EPOCH), NTP_UNIX_OFFSET << 32);
        let later = UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(ntp_time(later), (NTP_UNIX_OFFSET + 1) << 32 | 1 << 31);
        let era_1 = UNIX_EPOCH + Duration::from_secs((1 << 32) - NTP_UNIX_OFFSET);
        assert_eq!(ntp_time(era_1), 0);
    }

    #[test]
    fn ports_beyond_the_last_are_refused() {
        assert!(check_port_range(0, 100).is_ok());
        assert!(check_port_range(65_534, 2).is_ok());
        assert_eq!(check_port_range(65_534, 3).unwrap_err().setting, "media.first_port");
    }

    #[test]
    fn a_worker_that_panics_does_not_vanish_silently() {
        let (sender, failures) = flume::bounded(1);
        let shared = Shared::new(3, 7000);
        supervise(3, WORKER_LOST, &shared, &sender, || panic!("index {} out of range", 9));
        let failure = failures.try_recv().unwrap();
        assert_eq!((failure.worker, failure.reason.as_str()), (3, "it panicked: index 9 out of range"));
        assert_eq!(shared.load(), None);

        let shared = Shared::new(4, 7001);
        supervise(4, WORKER_LOST, &shared, &sender, || Ok(()));
        assert!(failures.is_empty() && shared.is_gone());
    }

    #[test]
    fn pinning_that_is_refused_does_no_harm() {
        pin(CpuSet::MAX_CPU - 1);
    }
}
