//! A UDP proxy with an impaired path: clients talk to it as if it were the server.
//!
//! Each client address gets its own socket towards the server and its own pair of links, so that the server sees as
//! many clients as there are. The proxy is told what to do while it runs: see [`Command`].

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::network::{Bursts, Codel, Link, LinkConfig, LinkCounters, QueueConfig};

/// Clients at a time; the one that was silent longest makes room for a new one.
const MAX_CLIENTS: usize = 64;
/// Packets under way per direction and client.
const MAX_UNDER_WAY: usize = 4096;
/// Packets read from the server and not yet looked at.
const MAX_UNREAD: usize = 1024;
/// Longer than any UDP payload.
const BUFFER_BYTES: usize = 65_536;

/// What the proxy does to packets in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairments {
    /// From the clients to the server.
    pub up: LinkConfig,
    /// From the server to the clients.
    pub down: LinkConfig,
}

impl Default for Impairments {
    /// Nothing, and what waits for a rate that may come waits half a second at most.
    fn default() -> Self {
        let queue = QueueConfig::Time(Duration::from_millis(500));
        let nothing = LinkConfig { queue, ..LinkConfig::perfect() };
        Self { up: nothing, down: nothing }
    }
}

/// Which directions a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the clients to the server.
    Up,
    /// From the server to the clients.
    Down,
    /// Each of them.
    Both,
}

/// What a running proxy can be told, one a line: `loss UP DOWN`, `bursts SHARE LENGTH`, `delay MS`, `jitter MS`,
/// `reordering SHARE`, `duplication SHARE`, `rate KBPS`, `queue MS|codel`, `blackout on|off`, `counters`. `up` or `down` in
/// front of a line limits it to a direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Command {
    /// Where.
    pub direction: Direction,
    /// What.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Lose so much from now on, 0 to 1, upwards and downwards.
    Loss(f64, f64),
    /// Lose in bursts as well, or no longer.
    Bursts(Option<Bursts>),
    /// Delay every packet so long, each way.
    Delay(Duration),
    /// Delay packets up to so much more, each way.
    Jitter(Duration),
    /// The share of packets that later ones overtake.
    Reordering(f64),
    /// The share of packets that come twice.
    Duplication(f64),
    /// Let so many kilobits per second through, each way; 0: no limit.
    Rate(u64),
    /// What waits for the rate.
    Queue(QueueConfig),
    /// Let nothing through, or let packets through again.
    Blackout(bool),
    /// Tell what was done so far.
    Counters,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (direction, words) = match &words[..] {
            ["up", rest @ ..] => (Direction::Up, rest),
            ["down", rest @ ..] => (Direction::Down, rest),
            all => (Direction::Both, all),
        };
        let action = match *words {
            ["loss", up, down] => Action::Loss(share(up)?, share(down)?),
            ["bursts", "0", _] => Action::Bursts(None),
            ["bursts", lost, length] => {
                Action::Bursts(Some(Bursts::losing(share(lost)?, number(length)? as f64)))
            }
            ["delay", time] => Action::Delay(Duration::from_millis(number(time)?)),
            ["jitter", time] => Action::Jitter(Duration::from_millis(number(time)?)),
            ["reordering", part] => Action::Reordering(share(part)?),
            ["duplication", part] => Action::Duplication(share(part)?),
            ["rate", kbps] => Action::Rate(number(kbps)?),
            ["queue", "codel"] => Action::Queue(QueueConfig::Codel(Codel::default())),
            ["queue", time] => Action::Queue(QueueConfig::Time(Duration::from_millis(number(time)?))),
            ["blackout", "on"] => Action::Blackout(true),
            ["blackout", "off"] => Action::Blackout(false),
            ["counters"] => Action::Counters,
            _ => return Err(format!("not understood: {line}")),
        };
        Ok(Self { direction, action })
    }
}

impl Action {
    /// Changes a direction. The rate 0 is none.
    fn apply(self, link: &mut LinkConfig, upwards: bool) {
        match self {
            Self::Loss(up, down) => link.loss = if upwards { up } else { down },
            Self::Bursts(bursts) => link.bursts = bursts,
            Self::Delay(delay) => link.delay = delay,
            Self::Jitter(jitter) => link.jitter = jitter,
            Self::Reordering(share) => link.reordering = share,
            Self::Duplication(share) => link.duplication = share,
            Self::Rate(kbps) => link.rate = (kbps > 0).then_some(kbps * 1000),
            Self::Queue(queue) => link.queue = queue,
            Self::Blackout(on) => link.blackout = on,
            Self::Counters => {}
        }
    }
}

fn share(word: &str) -> Result<f64, String> {
    let value: f64 = word.parse().map_err(|_| format!("{word} is no number"))?;
    (0.0..=1.0).contains(&value).then_some(value).ok_or(format!("{word} is not between 0 and 1"))
}

fn number(word: &str) -> Result<u64, String> {
    let value: u64 = word.parse().map_err(|_| format!("{word} is no whole number"))?;
    (value <= 10_000_000).then_some(value).ok_or(format!("{word} is too large"))
}

/// What the proxy has done so far, for all clients together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProxyCounters {
    /// Clients seen so far.
    pub clients: u64,
    /// From the clients to the server.
    pub up: LinkCounters,
    /// From the server to the clients.
    pub down: LinkCounters,
}

/// The proxy: its listening socket, and a path for each client.
pub struct Proxy {
    listener: Arc<UdpSocket>,
    server: SocketAddr,
    impairments: Impairments,
    seed: u64,
    paths_by_client: HashMap<SocketAddr, Path>,
    /// What the server sent: to which client, and what.
    from_server: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    to_loop: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    /// Of the paths that are gone.
    past: ProxyCounters,
}

/// A client's way to the server and back.
struct Path {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
    heard_at: Instant,
    up: Link<Vec<u8>>,
    down: Link<Vec<u8>>,
}

impl Proxy {
    /// Listens on `listen` for clients of `server`.
    pub async fn bind(
        listen: SocketAddr,
        server: SocketAddr,
        impairments: Impairments,
        seed: u64,
    ) -> io::Result<Self> {
        let (to_loop, from_server) = mpsc::channel(MAX_UNREAD);
        Ok(Self {
            listener: Arc::new(UdpSocket::bind(listen).await?),
            server,
            impairments,
            seed,
            paths_by_client: HashMap::new(),
            from_server,
            to_loop,
            past: ProxyCounters::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs until there can be no more commands. Answers to commands go to `replies`.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        replies: mpsc::Sender<String>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let listener = self.listener.clone();
        loop {
            let due = self.next_due().unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
            tokio::select! {
                biased;
                command = commands.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    let reply = self.handle_command(command);
                    // Whoever does not read the replies does not want them.
                    let _ = replies.try_send(reply);
                }
                () = tokio::time::sleep_until(due.into()) => self.flush(Instant::now()).await,
                received = listener.recv_from(&mut buffer) => {
                    // An ICMP error of an earlier packet is reported here and concerns no other.
                    if let Ok((length, client)) = received {
                        self.handle_up(client, &buffer[..length], Instant::now()).await?;
                    }
                }
                Some((client, packet)) = self.from_server.recv() => self.handle_down(client, packet, Instant::now()),
            }
        }
    }

    fn handle_command(&mut self, command: Command) -> String {
        if command.action == Action::Counters {
            return serde_json::to_string(&self.counters()).expect("numbers under plain names become JSON");
        }
        if command.direction != Direction::Down {
            command.action.apply(&mut self.impairments.up, true);
        }
        if command.direction != Direction::Up {
            command.action.apply(&mut self.impairments.down, false);
        }
        for path in self.paths_by_client.values_mut() {
            path.up.config = self.impairments.up;
            path.down.config = self.impairments.down;
        }
        "ok".to_owned()
    }

    fn counters(&self) -> ProxyCounters {
        let mut sum = self.past;
        for path in self.paths_by_client.values() {
            path.add_to(&mut sum);
        }
        sum
    }

    async fn handle_up(&mut self, client: SocketAddr, packet: &[u8], now: Instant) -> io::Result<()> {
        if !self.paths_by_client.contains_key(&client) {
            self.open_path(client, now).await?;
        }
        let path = self.paths_by_client.get_mut(&client).expect("the path was just made");
        path.heard_at = now;
        put(&mut path.up, now, packet.to_vec());
        Ok(())
    }

    fn handle_down(&mut self, client: SocketAddr, packet: Vec<u8>, now: Instant) {
        if let Some(path) = self.paths_by_client.get_mut(&client) {
            put(&mut path.down, now, packet);
        }
    }

    async fn open_path(&mut self, client: SocketAddr, now: Instant) -> io::Result<()> {
        if self.paths_by_client.len() >= MAX_CLIENTS {
            let silent =
                self.paths_by_client.iter().min_by_key(|(_, path)| path.heard_at).map(|(client, _)| *client);
            if let Some(path) = silent.and_then(|client| self.paths_by_client.remove(&client)) {
                path.add_to(&mut self.past);
                path.reader.abort();
            }
        }
        let any_port = SocketAddr::new(self.listener.local_addr()?.ip(), 0);
        let socket = Arc::new(UdpSocket::bind(any_port).await?);
        socket.connect(self.server).await?;
        let reader = tokio::spawn(read_server(socket.clone(), client, self.to_loop.clone()));
        let seed = self.seed.wrapping_add(2 * self.past.clients);
        self.past.clients += 1;
        let up = Link::new(self.impairments.up, StdRng::seed_from_u64(seed));
        let down = Link::new(self.impairments.down, StdRng::seed_from_u64(seed.wrapping_add(1)));
        self.paths_by_client.insert(client, Path { socket, reader, heard_at: now, up, down });
        Ok(())
    }

    fn next_due(&self) -> Option<Instant> {
        let links = self.paths_by_client.values().flat_map(|path| [&path.up, &path.down]);
        links.filter_map(Link::poll_timeout).min()
    }

    /// Sends what has arrived by now. What a socket does not take is lost, as on any network.
    async fn flush(&mut self, now: Instant) {
        for (client, path) in &mut self.paths_by_client {
            while let Some((_, packet)) = path.up.poll_packet(now) {
                let _ = path.socket.send(&packet).await;
            }
            while let Some((_, packet)) = path.down.poll_packet(now) {
                let _ = self.listener.send_to(&packet, client).await;
            }
        }
    }
}

async fn read_server(
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    to_loop: mpsc::Sender<(SocketAddr, Vec<u8>)>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                if to_loop.send((client, buffer[..length].to_vec())).await.is_err() {
                    return;
                }
            }
            // The server is not there now; it may come back on the same port.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

impl Path {
    fn add_to(&self, sum: &mut ProxyCounters) {
        add(&mut sum.up, self.up.counters());
        add(&mut sum.down, self.down.counters());
    }
}

fn add(sum: &mut LinkCounters, more: LinkCounters) {
    sum.passed += more.passed;
    sum.bytes += more.bytes;
    sum.lost += more.lost;
    sum.blackout += more.blackout;
    sum.overflow += more.overflow;
}

/// Puts a packet on a link, unless it carries as many as it may.
fn put(link: &mut Link<Vec<u8>>, now: Instant, packet: Vec<u8>) {
    if link.under_way() < MAX_UNDER_WAY {
        link.handle_packet(now, packet.len(), packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_its_commands_and_nothing_else() {
        let both = |action| Ok(Command { direction: Direction::Both, action });
        let millis = Duration::from_millis;
        assert_eq!("loss 0.1 0.25".parse(), both(Action::Loss(0.1, 0.25)));
        assert_eq!("delay 40".parse(), both(Action::Delay(millis(40))));
        assert_eq!("jitter 5".parse(), both(Action::Jitter(millis(5))));
        assert_eq!("rate 500".parse(), both(Action::Rate(500)));
        assert_eq!("queue 30".parse(), both(Action::Queue(QueueConfig::Time(millis(30)))));
        assert_eq!("queue codel".parse(), both(Action::Queue(QueueConfig::Codel(Codel::default()))));
        assert_eq!("bursts 0.05 8".parse(), both(Action::Bursts(Some(Bursts::losing(0.05, 8.0)))));
        assert_eq!("bursts 0 8".parse(), both(Action::Bursts(None)));
        assert_eq!("blackout on".parse(), both(Action::Blackout(true)));
        assert_eq!("blackout off".parse(), both(Action::Blackout(false)));
        assert_eq!("counters".parse(), both(Action::Counters));
        let down = Command { direction: Direction::Down, action: Action::Rate(300) };
        assert_eq!("down rate 300".parse(), Ok(down));
        for wrong in [
            "",
            "up",
            "loss",
            "loss 0.1",
            "loss 2 0",
            "loss NaN 0",
            "delay -1",
            "rate 1e9",
            "blackout",
            "hop",
        ] {
            assert!(wrong.parse::<Command>().is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn carries_packets_both_ways_per_client_and_stops_in_a_blackout() {
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = UdpSocket::bind(local).await.unwrap();
        let proxy =
            Proxy::bind(local, server.local_addr().unwrap(), Impairments::default(), 1).await.unwrap();
        let address = proxy.address().unwrap();
        let (commands, command_receiver) = mpsc::channel(4);
        let (reply_sender, mut replies) = mpsc::channel(4);
        let running = tokio::spawn(proxy.run(command_receiver, reply_sender));

        let mut buffer = [0; 16];
        let mut seen = Vec::new();
        for name in [b"a", b"b"] {
            let client = UdpSocket::bind(local).await.unwrap();
            client.send_to(name, address).await.unwrap();
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], name);
            server.send_to(&[name[0] + 1], from).await.unwrap();
            let (length, _) = client.recv_from(&mut buffer).await.unwrap();
            assert_eq!(buffer[..length], [name[0] + 1]);
            seen.push((client, from));
        }
        assert_ne!(seen[0].1, seen[1].1, "the server sees two clients");

        commands.send("blackout on".parse().unwrap()).await.unwrap();
        assert_eq!(replies.recv().await.unwrap(), "ok");
        seen[0].0.send_to(b"lost", address).await.unwrap();
        loop {
            commands.send("counters".parse().unwrap()).await.unwrap();
            let counters: serde_json::Value = serde_json::from_str(&replies.recv().await.unwrap()).unwrap();
            if counters["up"]["blackout"] == 1 {
                assert_eq!(counters["clients"], 2);
                assert_eq!(counters["up"]["passed"], 2);
                assert_eq!(counters["down"]["passed"], 2);
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(commands);
        running.await.unwrap().unwrap();
    }
}
