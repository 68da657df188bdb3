//! Starting the server: everything that can fail fails here, before the first thread runs.

use std::convert::Infallible;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::{Mutex, RwLock};
use rand::RngExt;
use veche_sfu::Traffic;
use veche_sfu::datagrams::ReceiveBuffer;
use veche_sfu::hold::Hold;
use veche_turn_core::{Accounts, IssuedNames, NonceKey, Outbox, Server, ServerConfig};

use crate::config::{StartError, TurnConfig};
use crate::connections::Connections;
use crate::desk::Closing;
use crate::handle::{Handle, Inner, Shared, WorkerFailure, WorkerHandle, credentials};
use crate::hatches::Hatches;
use crate::listeners;
use crate::mailbox::{self, Courier, mailbox};
use crate::poller::Poller;
use crate::relays::{Places, RelayAddresses, Relays};
use crate::tcp_relays::TcpRelays;
use crate::worker::{Worker, listening, unix_time};

/// A connection with a peer has its worker's number in its own, which leaves that 12 bits.
const MAX_WORKERS: usize = 1 << 12;

/// A server that runs.
#[derive(Clone, Debug)]
pub struct Turn {
    /// To speak to it.
    pub handle: Handle,
    /// Workers that have failed. Their clients have to come again, and some of others too: the system deals clients out afresh.
    pub failures: flume::Receiver<WorkerFailure>,
}

/// Starts the workers.
///
/// Returns when all sockets are bound: from then on clients are answered, and connections that others have accepted can be handed
/// over. An error names the setting to change.
pub fn start(config: TurnConfig) -> Result<Turn, StartError> {
    check(&config)?;
    let count = match config.workers {
        0 => thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS),
        workers => workers,
    };
    let (listeners, addresses) = listeners::bind(&config.listen, count)?;
    let now = Instant::now();
    let accounts = Arc::new(Accounts::new(config.quotas, now));
    let random_secret: String = (0..32).map(|_| char::from(rand::rng().random_range(b'a'..=b'z'))).collect();
    let issued = Arc::new(IssuedNames::new(&config.realm));
    let (secret, credentials) =
        credentials(&config.secrets, &config.users, &random_secret, &config.realm, &issued);
    let credentials = Arc::new(credentials);
    let server_config = server_config(&config, count, now);
    let relay_addresses = RelayAddresses { v4: config.relay_v4, v6: config.relay_v6 };
    let relay_addresses = Arc::new(RwLock::new(relay_addresses));
    let places = Arc::new(Places {
        addresses: relay_addresses.clone(),
        ports: config.relay_ports.clone(),
        reserved: Mutex::default(),
    });
    let mut workers = Vec::new();
    let mut handles = Vec::new();
    let mailboxes: io::Result<Vec<_>> = (0..count).map(|_| mailbox()).collect();
    let mailboxes = mailboxes.map_err(|error| no_resources(&error))?;
    let couriers: Arc<[Courier]> = mailboxes.iter().map(|(sender, _)| sender.courier()).collect();
    for (index, (listeners, (sender, receiver))) in listeners.into_iter().zip(mailboxes).enumerate() {
        let shared = Arc::new(Shared::new(index));
        let server_config = ServerConfig { worker: index as u16, ..server_config.clone() };
        let hash = server_config.hash.clone();
        let server = Server::new(server_config, credentials.clone(), accounts.clone(), now, unix_time());
        let relays = Relays::new(places.clone());
        let tcp = TcpRelays::new(places.clone());
        let connections = connections(&config, listeners.tcp, &couriers, hash);
        let mailbox = (receiver, shared.clone());
        let worker = prepare(mailbox, listeners.udp, connections, (server, relays, tcp))
            .map_err(|error| no_resources(&error))?;
        workers.push(worker);
        handles.push(WorkerHandle { mailbox: sender, shared });
    }
    let (failure_sender, failures) = flume::bounded(count);
    let (done_sender, done) = flume::bounded(0);
    for (index, worker) in workers.into_iter().enumerate() {
        spawn(index, worker, failure_sender.clone(), done_sender.clone())
            .map_err(|error| no_resources(&error))?;
    }
    let handle = Handle::new(Inner {
        workers: handles,
        accounts,
        addresses,
        realm: config.realm,
        secret: RwLock::new(secret),
        random_secret,
        issued,
        relay_addresses,
        done,
        next: AtomicUsize::new(0),
    });
    Ok(Turn { handle, failures })
}

fn check(config: &TurnConfig) -> Result<(), StartError> {
    let error = |setting, reason: &str| Err(StartError { setting, reason: reason.to_owned() });
    if config.workers > MAX_WORKERS {
        return error("turn.workers", "is more than 4096; 0 stands for as many as cores");
    }
    if config.relay_ports.is_empty() || *config.relay_ports.start() == 0 {
        return error("turn.relay_ports", "is no range of ports; for example \"49152-65535\"");
    }
    if config.relay_v4.is_none() && config.relay_v6.is_none() {
        return error(
            "turn.external_addresses",
            "there is no address for relays; set it to the addresses at which clients reach this machine, for example \
             [\"203.0.113.7\"]",
        );
    }
    Ok(())
}

fn server_config(config: &TurnConfig, workers: usize, now: Instant) -> ServerConfig {
    let mut random = rand::rng();
    ServerConfig {
        // Each worker gets its own number.
        worker: 0,
        workers: workers as u16,
        realm: config.realm.clone(),
        nonce_key: NonceKey::new(&random.random()),
        hash: RandomState::with_seeds(random.random(), random.random(), random.random(), random.random()),
        epoch: now,
        nonce_lifetime: Duration::from_hours(1),
        default_lifetime: Duration::from_mins(10),
        max_lifetime: Duration::from_hours(1),
        peers: config.peers.clone(),
        tcp_relays: config.tcp_relays,
        v4: config.relay_v4.is_some(),
        v6: config.relay_v6.is_some(),
        // Whoever forges addresses has as many workers as ports. 0 stays 0, for any number.
        unproven_bytes_per_second: config.unproven_bytes_per_second.div_ceil(workers as u32),
        alternates: config.alternates.clone(),
    }
}

/// The connections of one worker: its part of all that there may be.
fn connections(
    config: &TurnConfig,
    listeners: Vec<TcpListener>,
    couriers: &Arc<[Courier]>,
    hash: RandomState,
) -> Connections {
    let most = config.max_connections.div_ceil(couriers.len());
    Connections::new(listeners, most, config.tls.clone(), hash, couriers.clone())
}

fn prepare(
    (mailbox, shared): (mailbox::Receiver, Arc<Shared>),
    udp: Vec<UdpSocket>,
    connections: Connections,
    (server, relays, tcp): (Server, Relays, TcpRelays),
) -> io::Result<Worker> {
    let udp = udp.into_iter().map(listening).collect::<io::Result<Vec<_>>>()?;
    let now = Instant::now();
    let worker = Worker {
        poller: Poller::new()?,
        mailbox,
        udp,
        connections,
        relays,
        tcp,
        hatches: Hatches::default(),
        handed_left: false,
        server,
        shared,
        out: Outbox::new(),
        traffic: Traffic::default(),
        buffer: ReceiveBuffer::default(),
        now,
        next_housekeeping: now,
        hold: Hold::new(now, true),
        flooded: false,
        closing: Closing::default(),
    };
    worker.register()?;
    Ok(worker)
}

/// Starts a worker's thread. Whichever way it ends, its sockets are closed before `done` is dropped.
fn spawn(
    index: usize,
    mut worker: Worker,
    failures: flume::Sender<WorkerFailure>,
    done: flume::Sender<Infallible>,
) -> io::Result<()> {
    thread::Builder::new().name(format!("turn-{index}")).spawn(move || {
        let shared = worker.shared.clone();
        let ended = catch_unwind(AssertUnwindSafe(move || worker.run()));
        shared.on_gone();
        let reason = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("waiting failed: {error}")),
            Err(_) => Some("it panicked".to_owned()),
        };
        if let Some(reason) = reason {
            tracing::error!(worker = index, reason, "a TURN worker has failed");
            // There is room for one failure of each worker.
            let _ = failures.try_send(WorkerFailure { worker: index, reason });
        }
        drop(done);
    })?;
    Ok(())
}

fn no_resources(error: &io::Error) -> StartError {
    StartError {
        setting: "turn.workers",
        reason: format!(
            "the system has no resources for a worker ({error}); set it (VECHE_TURN_WORKERS) lower, for example to 1, or \
             raise the limits of open files and threads"
        ),
    }
}
