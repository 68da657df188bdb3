//! What others hold of a running server.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use parking_lot::RwLock;
use veche_sfu::Traffic;
use veche_sfu::hatch::{Handed, Hatch};
use veche_turn_core::{
    Accounts, Credentials, IssuedNames, PeerPolicy, Refusals, Totals, Usage, UserUsage, issue,
};

use crate::config::{RelayAddress, User};
use crate::hatches::Hatches;
use crate::mailbox::{Adoption, Command, Sender};
use crate::relays::RelayAddresses;
use crate::worker::unix_time;

/// Speaks to the workers. Cheap to clone; when the last one is dropped they stop.
#[derive(Clone, Debug)]
pub struct Handle {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) realm: String,
    /// The secret that signs now.
    pub(crate) secret: RwLock<String>,
    /// Signs while no secret is configured. What it has signed is good until the end, so that nobody loses a relay when there is
    /// one.
    pub(crate) random_secret: String,
    /// The names that were made here.
    pub(crate) issued: Arc<IssuedNames>,
    /// Where relays are opened.
    pub(crate) relay_addresses: Arc<RwLock<RelayAddresses>>,
    /// When the last worker has ended this is disconnected.
    pub(crate) done: flume::Receiver<std::convert::Infallible>,
    pub(crate) next: AtomicUsize,
}

/// Secrets stay out of logs.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} workers at {:?}", self.workers.len(), self.addresses)
    }
}

#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) mailbox: Sender,
    pub(crate) shared: Arc<Shared>,
}

/// A name and a password for one client, for some time.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredential {
    /// When it expires and whose it is.
    pub username: String,
    /// The password.
    pub credential: String,
    /// For how many seconds it is good.
    pub ttl_seconds: u64,
}

/// Passwords stay out of logs.
impl fmt::Debug for IceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IceCredential({})", self.username)
    }
}

/// A worker that ended although nobody told it to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TURN worker {worker} has failed: {reason}")]
pub struct WorkerFailure {
    /// Which.
    pub worker: usize,
    /// Why.
    pub reason: String,
}

/// Counters of one worker since its start, and what it has now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerMetrics {
    /// Which worker.
    pub worker: usize,
    /// Whether it runs.
    pub running: bool,
    /// TCP and TLS connections now.
    pub connections: usize,
    /// Connections that were refused, for there were too many.
    pub connections_refused: u64,
    /// Relays now.
    pub relays: usize,
    /// TCP connections between relays and peers now.
    pub peer_connections: usize,
    /// What was done.
    pub totals: Totals,
    /// What was refused, by reason.
    pub refusals: Refusals,
    /// All that came and went, of clients and of peers.
    pub traffic: Traffic,
    /// What went to media of this process and came from there, without a socket.
    pub handed: Handed,
}

/// What a worker tells, once a second.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    metrics: Mutex<WorkerMetrics>,
    gone: AtomicBool,
}

impl Shared {
    pub(crate) fn new(worker: usize) -> Self {
        Self { metrics: Mutex::new(WorkerMetrics { worker, ..WorkerMetrics::default() }), ..Self::default() }
    }

    /// Takes the worker's numbers. Tells nothing while somebody reads, so that a reader never holds it up.
    pub(crate) fn publish(&self, metrics: impl FnOnce(&mut WorkerMetrics)) {
        if let Ok(mut shared) = self.metrics.try_lock() {
            metrics(&mut shared);
        }
    }

    pub(crate) fn on_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    fn metrics(&self) -> WorkerMetrics {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        WorkerMetrics { running: !self.gone.load(Ordering::Acquire), ..metrics }
    }
}

impl Handle {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Where clients come, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.inner.addresses
    }

    /// A credential for a user, good for so long. Characters of `user` are taken as they are.
    pub fn issue(&self, user: &str, lifetime: Duration) -> IceCredential {
        let now = unix_time();
        let expires = now + lifetime.as_secs();
        let issued = issue(&self.inner.secret.read(), user, expires);
        self.inner.issued.note(&issued.username, expires, now);
        IceCredential {
            username: issued.username,
            credential: issued.password,
            ttl_seconds: lifetime.as_secs(),
        }
    }

    /// What each worker has and has done.
    pub fn metrics(&self) -> Vec<WorkerMetrics> {
        self.inner.workers.iter().map(|worker| worker.shared.metrics()).collect()
    }

    /// What all users together have and have relayed.
    pub fn total(&self) -> Usage {
        self.inner.accounts.total()
    }

    /// How many users have allocations now.
    pub fn user_count(&self) -> usize {
        self.inner.accounts.user_count()
    }

    /// The users who have allocations now.
    pub fn users(&self) -> Vec<UserUsage> {
        self.inner.accounts.users()
    }

    /// Takes other secrets and users. Allocations end that were made with what is nobody's password any more.
    pub fn set_credentials(&self, secrets: &[String], users: &[User]) {
        let (secret, credentials) =
            credentials(secrets, users, &self.inner.random_secret, &self.inner.realm, &self.inner.issued);
        *self.inner.secret.write() = secret;
        let credentials = Arc::new(credentials);
        for worker in &self.inner.workers {
            worker.mailbox.send(Command::SetCredentials(credentials.clone()));
        }
    }

    /// Takes another policy, for permissions and channels that are asked for from now on.
    pub fn set_peers(&self, peers: &PeerPolicy) {
        for worker in &self.inner.workers {
            worker.mailbox.send(Command::SetPeers(peers.clone()));
        }
    }

    /// Opens relays at other addresses from now on; those that are open stay where they are. `false` where there is none of either
    /// family: then relays are opened where they were.
    pub fn set_relays(&self, v4: Option<RelayAddress>, v6: Option<RelayAddress>) -> bool {
        if v4.is_none() && v6.is_none() {
            return false;
        }
        *self.inner.relay_addresses.write() = RelayAddresses { v4, v6 };
        for worker in &self.inner.workers {
            worker.mailbox.send(Command::SetFamilies([v4.is_some(), v6.is_some()]));
        }
        true
    }

    /// Takes over a connection that somebody else has accepted, with its TLS session if it has one, and what was read of it
    /// already (of the session's contents, then). `false` when no worker takes it; then it is closed.
    /// Waits until a worker has looked at it, some milliseconds at most.
    pub async fn adopt(
        &self,
        stream: TcpStream,
        tls: Option<rustls::ServerConnection>,
        early: Vec<u8>,
    ) -> bool {
        let next = self.inner.next.fetch_add(1, Ordering::Relaxed) % self.inner.workers.len();
        let (taken, is_taken) = flume::bounded(1);
        let adoption =
            Adoption { stream, tls, early, queue: VecDeque::new(), since: None, taken: Some(taken) };
        self.inner.workers[next].mailbox.send(Command::Adopt(Box::new(adoption)))
            && is_taken.recv_async().await.is_ok()
    }

    /// Takes clients over UDP at more sockets, which somebody else has bound, one behind the other: whoever gives datagrams to
    /// them has to give those of a client always to the same one. The workers share the sets among them.
    pub fn listen(&self, sets: Vec<Vec<UdpSocket>>) {
        let workers = &self.inner.workers;
        for (set, worker) in sets.into_iter().zip(workers.iter().cycle()) {
            worker.mailbox.send(Command::Listen(set));
        }
    }

    /// What wakes each worker when somebody writes to it (an eventfd): for [`Handle::connect`].
    pub fn bells(&self) -> io::Result<Vec<Arc<OwnedFd>>> {
        self.inner.workers.iter().map(|worker| Ok(Arc::new(worker.mailbox.bell()?))).collect()
    }

    /// Gives each worker hatches to the media workers of this process, by their ports. What relays send to
    /// [`PeerPolicy::own`] goes through them from now on, as if it came from the relay.
    pub fn connect(&self, hatches: Vec<Vec<(u16, Hatch)>>) {
        for (worker, hatches) in self.inner.workers.iter().zip(hatches) {
            worker.mailbox.send(Command::Connect(Hatches::new(hatches)));
        }
    }

    /// Stops the workers and waits until their sockets are closed.
    pub async fn stop(&self) {
        for worker in &self.inner.workers {
            worker.mailbox.stop();
        }
        // It only ever ends: nobody can send what cannot exist.
        let _ = self.inner.done.recv_async().await;
    }
}

/// The secret that signs, and who may use the server.
pub(crate) fn credentials(
    secrets: &[String],
    users: &[User],
    random: &str,
    realm: &str,
    issued: &Arc<IssuedNames>,
) -> (String, Credentials) {
    let is_secret = secrets.is_empty();
    let secrets: Vec<String> = secrets.iter().cloned().chain([random.to_owned()]).collect();
    let users: HashMap<String, String> =
        users.iter().map(|user| (user.name.clone(), user.password.clone())).collect();
    let secret = secrets[0].clone();
    let credentials = Credentials::new(realm, secrets, users);
    // A configured secret others may have too, and sign names with that nobody here knows.
    let credentials = if is_secret { credentials.with_issued(issued.clone()) } else { credentials };
    (secret, credentials)
}
