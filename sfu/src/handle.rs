//! What the control plane holds of the media plane.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::ids::{ParticipantId, RequestId, RoomId, WorkerId};
use veche_sfu_core::sdp::ufrag;
use veche_sfu_core::stun::BindingRequest;

use crate::frames::{MAX_EARLY, whole_frame};
use crate::hatch::{Hatch, hatch};
use crate::interfaces::Announcer;
use crate::mailbox::{self, Adoption};
use crate::metrics::{Shared, WorkerMetrics};
use crate::placement::{WorkerView, place};
use crate::studio::{Guest, Listener, Studio};

/// How to start the media plane.
#[derive(Clone, Debug)]
pub struct SfuConfig {
    /// The addresses to bind. Usually `0.0.0.0` and `::`.
    pub bind: Vec<IpAddr>,
    /// The first UDP (and ICE-TCP) port: worker `n` has port `first_port + n`. 0 lets the system choose each.
    pub first_port: u16,
    /// How many workers; 0 for as many as cores.
    pub workers: usize,
    /// A room whose participants on a worker are so many spreads: who comes next goes to the worker with the least to do.
    /// 0 for never.
    pub spread_from: usize,
    /// Addresses announced to clients instead of those of the network interfaces (for servers behind NAT).
    pub external_addresses: Vec<IpAddr>,
    /// Addresses at which others see this machine, announced beside those of the network interfaces. They count for nothing where
    /// there are `external_addresses`. Others can be told later: [`Handle::announce`].
    pub discovered_addresses: Vec<IpAddr>,
    /// Announce loopback addresses too: for tests and for calls within one machine.
    pub loopback: bool,
    /// Accept ICE over TCP on the same ports.
    pub tcp: bool,
    /// How many connections of ICE over TCP one client address may have at each worker, a quarter of them before a signed request has
    /// come; 0 for any number. An address of IPv6 is a network of 64 bits.
    pub tcp_per_address: usize,
    /// Where somebody else accepts ICE over TCP as well, and hands it over ([`Handle::adopt`]): one port of all workers. Clients
    /// are told of it.
    pub shared_tcp: Option<SocketAddr>,
    /// TCP ports that belong to who hands over: a worker of the same number has no TCP port of its own.
    pub foreign_tcp: Vec<u16>,
    /// How many sockets of others stand at the first worker's UDP port: [`Sfu::tenants`].
    pub tenants: usize,
    /// Where the DTLS certificate is kept, so that it survives restarts. `None`: made anew at each start.
    pub certificate_file: Option<PathBuf>,
    /// Offer DTLS 1.3 as well as 1.2.
    pub dtls13: bool,
    /// The largest data channel message, in bytes.
    pub max_data_message: usize,
    /// Whether a loaded worker waits a moment for more to come before it receives. Only benches go without, to show what it does
    /// (docs/speed.md, "Waiting for more").
    #[doc(hidden)]
    pub hold: bool,
}

impl SfuConfig {
    /// Whether the worker with this port takes TCP there itself.
    pub(crate) fn takes_tcp(&self, port: u16) -> bool {
        self.tcp && !self.foreign_tcp.contains(&port)
    }

    /// A media plane that only this machine reaches, over UDP on ports that the system chooses, with a certificate of its own:
    /// for tests and trials. Its rooms do not spread.
    pub fn on_loopback(workers: usize) -> Self {
        Self {
            bind: vec![Ipv4Addr::LOCALHOST.into()],
            first_port: 0,
            workers,
            spread_from: 0,
            external_addresses: Vec::new(),
            discovered_addresses: Vec::new(),
            loopback: true,
            tcp: false,
            tcp_per_address: 0,
            shared_tcp: None,
            foreign_tcp: Vec::new(),
            tenants: 0,
            certificate_file: None,
            dtls13: false,
            max_data_message: 65_536,
            hold: true,
        }
    }
}

/// A running media plane: the handle for commands, and where its events come out.
#[derive(Debug)]
pub struct Sfu {
    /// For commands. Cheap to clone. When the last is dropped the workers stop.
    pub handle: Handle,
    /// Events of all workers. Bounded: who does not read it holds the workers' events back, not their media.
    pub events: flume::Receiver<Event>,
    /// Workers that have failed, which is a bug or a broken system. Their rooms are lost and their commands are
    /// refused; other workers go on. The process should drain and end, so that its supervisor starts a new one.
    /// Disconnected when all workers have ended.
    pub failures: flume::Receiver<WorkerFailure>,
    /// As many as [`SfuConfig::tenants`]: the sockets, one for each bound address, to which what comes to the first worker's UDP
    /// port goes that is TURN's: [`is_tenants`](crate::is_tenants). They are bound already. What is sent to one that is dropped
    /// comes to another tenant; where there is none left, to the media worker, which drops it.
    pub tenants: Vec<Vec<UdpSocket>>,
}

/// A worker that has ended without being told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("media worker {worker} has failed: {reason}")]
pub struct WorkerFailure {
    /// Which worker; the one behind the last is the studio.
    pub worker: usize,
    /// The message of its panic, or what the system said.
    pub reason: String,
}

/// Commands to the media plane.
#[derive(Clone, Debug)]
pub struct Handle {
    plane: Arc<Plane>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The worker's queue is full.
    #[error("the media worker is overloaded")]
    Busy,
    /// The media plane has stopped.
    #[error("the media plane has stopped")]
    Stopped,
}

/// Why a connection was not taken over. It is closed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// It does not begin with a STUN request of ICE, or not with the whole of it.
    #[error("it does not begin with a request of ICE")]
    NotIce,
    /// It asks for somebody whom no worker can have.
    #[error("it asks for nobody who is here")]
    UnknownUser,
    /// The worker has stopped, or has more to do than it can.
    #[error("the media worker takes no more")]
    Busy,
    /// The client's household has as many connections as it may have.
    #[error("its address has too many connections already")]
    Crowded,
}

/// Why the media plane did not start; names the setting.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct StartError {
    /// The setting to change, such as `media.first_port`.
    pub setting: &'static str,
    /// What is wrong, with an example of what would be right.
    pub reason: String,
}

/// The control plane's side of one worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) mailbox: mailbox::Sender,
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
struct Plane {
    workers: Vec<WorkerHandle>,
    spread_from: usize,
    /// Who is in which room: they tell on how many workers it is.
    members_by_room: Mutex<HashMap<RoomId, HashSet<ParticipantId>>>,
    announcer: Mutex<Announcer>,
    next_room: AtomicU64,
    next_participant: AtomicU64,
    studio: Studio,
    /// Disconnected when the last worker has ended; nothing is ever sent.
    done: flume::Receiver<Infallible>,
}

impl Handle {
    pub(crate) fn new(
        workers: Vec<WorkerHandle>,
        spread_from: usize,
        announcer: Announcer,
        studio: Studio,
        done: flume::Receiver<Infallible>,
    ) -> Self {
        let plane = Plane {
            workers,
            spread_from,
            members_by_room: Mutex::default(),
            announcer: Mutex::new(announcer),
            next_room: AtomicU64::new(1),
            next_participant: AtomicU64::new(1),
            studio,
            done,
        };
        Self { plane: Arc::new(plane) }
    }

    /// A new room, whose first worker is the one with the least load. It lives from its first participant to its last.
    ///
    /// The number tells that worker: it is the remainder of a division by the number of workers.
    pub fn create_room(&self) -> RoomId {
        let workers = &self.plane.workers;
        let least = workers
            .iter()
            .enumerate()
            .filter_map(|(index, worker)| Some((worker.shared.load()?, index)))
            .min();
        // When all are gone the number still is one, and commands to it say so.
        let index = least.map_or(0, |(_, index)| index);
        workers[index].shared.on_placed();
        let serial = self.plane.next_room.fetch_add(1, Ordering::Relaxed);
        RoomId(serial * workers.len() as u64 + index as u64)
    }

    /// A new participant for a room: on its first worker or, when the room has outgrown that, on another.
    ///
    /// The number tells the worker, as that of a room does.
    pub fn create_participant(&self, room: RoomId) -> ParticipantId {
        let plane = &*self.plane;
        let members = plane.members_on(room);
        let views: Vec<WorkerView> = plane
            .workers
            .iter()
            .zip(members)
            .map(|(worker, members)| WorkerView { load: worker.shared.load(), members })
            .collect();
        let index = place(plane.worker_of(room.0), &views, plane.spread_from);
        plane.workers[index].shared.on_placed();
        let serial = plane.next_participant.fetch_add(1, Ordering::Relaxed);
        ParticipantId(serial * plane.workers.len() as u64 + index as u64)
    }

    /// Sends a command about a participant of the room to their worker, and one about the room to all that carry it;
    /// waits while a queue is full.
    pub async fn command(&self, room: RoomId, command: Command) -> Result<(), CommandError> {
        for (worker, command) in self.plane.route(room, command) {
            self.plane.workers[worker].mailbox.send(command).await?;
        }
        Ok(())
    }

    /// The same without waiting.
    pub fn try_command(&self, room: RoomId, command: Command) -> Result<(), CommandError> {
        for (worker, command) in self.plane.route(room, command) {
            self.plane.workers[worker].mailbox.try_send(command)?;
        }
        Ok(())
    }

    /// Listens to a room from now on, also to one that nobody is in yet. Packets of at most so many bytes together wait for who
    /// listens. Nobody in the room is told, and nobody counts it.
    pub fn listen(&self, room: RoomId, max_bytes: usize) -> Listener {
        self.plane.studio.listen(room, max_bytes)
    }

    /// A participant without transport, who publishes from within this process. They are in the room as far as media goes; that
    /// they are there the control plane has to say itself, before they publish.
    pub fn add_guest(&self, room: RoomId) -> Guest {
        let plane = &*self.plane;
        let serial = plane.next_participant.fetch_add(1, Ordering::Relaxed);
        let home = plane.worker_of(room.0) as u64;
        plane.studio.add_guest(room, ParticipantId(serial * plane.workers.len() as u64 + home))
    }

    /// Takes over a TCP connection that somebody else has accepted, and what was read of it already: the whole first frame
    /// (RFC 4571) at least, and no more than [`MAX_EARLY`]. Its STUN request tells which worker it is for.
    /// Waits until that worker has looked at it, some milliseconds at most.
    pub async fn adopt(&self, stream: TcpStream, early: Vec<u8>) -> Result<(), AdoptError> {
        let request = whole_frame(&early).filter(|_| early.len() <= MAX_EARLY).ok_or(AdoptError::NotIce)?;
        let request = BindingRequest::parse(request).map_err(|_| AdoptError::NotIce)?;
        let WorkerId(worker) = ufrag::worker(request.local_ufrag).ok_or(AdoptError::UnknownUser)?;
        let worker = self.plane.workers.get(usize::from(worker)).ok_or(AdoptError::UnknownUser)?;
        let (answer, answered) = flume::bounded(1);
        if !worker.mailbox.adopt(Adoption { stream, early, answer }) {
            return Err(AdoptError::Busy);
        }
        // A worker that ends gives no answer.
        answered.recv_async().await.unwrap_or(Err(AdoptError::Busy))
    }

    /// Looks at the network interfaces again, and tells those who join from now on of what is there and of these addresses, at which
    /// others see this machine. Returns what is announced, best first. On an error what was announced before still is.
    pub fn announce(&self, discovered: &[IpAddr]) -> Result<Vec<IpAddr>, StartError> {
        let mut announcer = self.plane.announcer.lock().unwrap_or_else(PoisonError::into_inner);
        if announcer.renew(discovered)? {
            for worker in &self.plane.workers {
                worker.mailbox.announce(announcer.candidates(worker.shared.port()));
            }
        }
        Ok(announcer.addresses().to_vec())
    }

    /// Opens hatches between all media workers and those of the TURN server, each of which `bells` wakes when something is written
    /// to it (an eventfd). For each of these: the hatches to all media workers, by their ports. To be called once.
    pub fn open_hatches(&self, bells: &[Arc<OwnedFd>]) -> io::Result<Vec<Vec<(u16, Hatch)>>> {
        let mut theirs: Vec<_> = bells.iter().map(|_| Vec::new()).collect();
        for worker in &self.plane.workers {
            let own_bell = Arc::new(worker.mailbox.bell()?);
            let port = worker.shared.port();
            let mut own = Vec::new();
            for (bell, theirs) in bells.iter().zip(&mut theirs) {
                let [here, there] = hatch([own_bell.clone(), bell.clone()]);
                own.push(here);
                theirs.push((port, there));
            }
            worker.mailbox.open_hatches(own);
        }
        Ok(theirs)
    }

    /// The counters of all workers, at most about a second old. Holds no worker up.
    pub fn metrics(&self) -> Vec<WorkerMetrics> {
        self.plane.workers.iter().map(|worker| worker.shared.metrics()).collect()
    }

    /// Stops the workers: clients are told by DTLS, sockets are closed. Returns when all are done.
    pub async fn stop(&self) {
        for worker in &self.plane.workers {
            worker.mailbox.stop();
        }
        self.plane.studio.stop();
        // Never a message, only the end.
        let _ = self.plane.done.recv_async().await;
    }
}

impl Plane {
    /// The worker that a room's or a participant's number tells.
    fn worker_of(&self, number: u64) -> usize {
        (number % self.workers.len() as u64) as usize
    }

    /// How many of a room are on each worker.
    fn members_on(&self, room: RoomId) -> Vec<usize> {
        let mut on_worker = vec![0; self.workers.len()];
        let members = self.members_by_room.lock().unwrap_or_else(PoisonError::into_inner);
        for member in members.get(&room).into_iter().flatten() {
            on_worker[self.worker_of(member.0)] += 1;
        }
        on_worker
    }

    /// Which workers a command is for, and what each is told.
    fn route(&self, room: RoomId, command: Command) -> Vec<(usize, Command)> {
        let participant = match command {
            Command::RoomStats { request, .. } => return self.route_stats(room, request),
            Command::AddParticipant { participant, .. } => {
                let mut rooms = self.members_by_room.lock().unwrap_or_else(PoisonError::into_inner);
                rooms.entry(room).or_default().insert(participant);
                participant
            }
            Command::RemoveParticipant { participant } => {
                let mut rooms = self.members_by_room.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(members) = rooms.get_mut(&room) {
                    members.remove(&participant);
                    if members.is_empty() {
                        rooms.remove(&room);
                    }
                }
                participant
            }
            Command::Offer { participant, .. }
            | Command::SetMuted { participant, .. }
            | Command::SetRights { participant, .. }
            | Command::Subscribe { participant, .. }
            | Command::Timeline { participant, .. } => participant,
        };
        vec![(self.worker_of(participant.0), command)]
    }

    /// All who carry the room are asked; the first worker also when nobody is there, so that somebody answers.
    fn route_stats(&self, room: RoomId, request: RequestId) -> Vec<(usize, Command)> {
        let home = self.worker_of(room.0);
        let members = self.members_on(room);
        let carry = |index: &usize| members[*index] > 0 && !self.workers[*index].shared.is_gone();
        let mut asked: Vec<usize> = (0..members.len()).filter(carry).collect();
        if asked.is_empty() {
            asked.push(home);
        }
        let engines = asked.len();
        asked.into_iter().map(|index| (index, Command::RoomStats { room, request, engines })).collect()
    }
}
