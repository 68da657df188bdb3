//! What a loaded worker costs: the real engine behind real sockets on loopback, with real clients on the other side.
//! Prints, for each room, what a worker's thread forwards in a second of its CPU time, how its packets left, and how long
//! frames took: with the wait of a loaded worker for more (`hold.rs`) and without it, in turn.
//!
//! ```sh
//! cargo bench -p veche-sfu --bench worker              # all rooms
//! cargo bench -p veche-sfu --bench worker -- voices    # those with this in their name
//! cargo bench -p veche-sfu --bench worker -- voices 5  # the same in five rounds, and of each figure the median
//! ```
//!
//! The clients run in this process too, on another core if there is one; only the worker's thread is counted. To see where
//! its time goes: `perf record -g -- target/…/worker-… voices`, then `perf report --comm media-0`.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use veche_sfu::{Sfu, SfuConfig, Traffic, start};
use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::ids::{ParticipantId, RequestId, RoomId};
use veche_sfu_core::media::Codec;
use veche_testkit::client::{Client, ClientConfig};
use veche_testkit::media::{LayerConfig, TrackConfig, Voice};

const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(6);
/// How often the clients look at their sockets.
const LOOK: Duration = Duration::from_micros(200);

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let wanted = arguments.next().unwrap_or_default();
    let rounds = arguments.next().map_or(1, |rounds| rounds.parse().expect("rounds are a number"));
    println!(
        "{:<22} {:>9} {:>7} {:>11} {:>10} {:>9} {:>8} {:>8} {:>8} {:>7}",
        "", "packets/s", "CPU", "per CPU-s", "in trains", "per send", "p50 ms", "p95 ms", "p99 ms", "lost"
    );
    let rooms = [
        ("camera 1x2", camera(), 1, viewer(1, 0), 2),
        ("camera 1x10", camera(), 1, viewer(1, 0), 10),
        ("camera 1x50", camera(), 1, viewer(1, 0), 50),
        ("camera 1x100", camera(), 1, viewer(1, 0), 100),
        ("voices 10x50", microphone(), 10, viewer(0, 10), 50),
        ("voices 10x100", microphone(), 10, viewer(0, 10), 100),
        ("meeting 12x12", small_camera(), 12, viewer(11, 0), 0),
    ];
    for (name, publisher, publishers, viewer, viewers) in rooms {
        if !name.contains(&wanted) {
            continue;
        }
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (hold, figures) in [true, false].into_iter().zip(&mut figures) {
                figures.push(Room::start(hold, &publisher, publishers, &viewer, viewers).measure());
            }
        }
        for (how, figures) in ["", ", no wait"].into_iter().zip(figures) {
            print(&format!("{name}{how}"), &median(&figures));
        }
    }
}

/// What a measurement of a room came to.
type Figures = [f64; 9];

/// Of each figure the median.
fn median(rounds: &[Figures]) -> Figures {
    std::array::from_fn(|figure| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[figure]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

fn print(name: &str, figures: &Figures) {
    let [rate, cpu, per_cpu, trains, per_send, p50, p95, p99, lost] = figures;
    println!(
        "{name:<22} {rate:>9.0} {cpu:>6.1}% {per_cpu:>11.0} {trains:>9.0}% {per_send:>9.2} {p50:>8.2} {p95:>8.2} \
         {p99:>8.2} {lost:>7}"
    );
}

fn camera() -> ClientConfig {
    let layer = LayerConfig { rid: None, size: (1280, 720), rate: 30, packets: 10, packet_len: 1_100 };
    let track = TrackConfig { layers: vec![layer], delay: Duration::ZERO, ..TrackConfig::camera(Codec::Vp8) };
    ClientConfig { tracks: vec![track], ..viewer(0, 0) }
}

fn microphone() -> ClientConfig {
    let track = TrackConfig { delay: Duration::ZERO, ..TrackConfig::microphone() };
    ClientConfig { tracks: vec![track], ..viewer(0, 0) }
}

/// Somebody in a meeting, who sees all others.
fn small_camera() -> ClientConfig {
    let layer = LayerConfig { rid: None, size: (320, 180), rate: 20, packets: 2, packet_len: 700 };
    let track = TrackConfig { layers: vec![layer], delay: Duration::ZERO, ..TrackConfig::camera(Codec::Vp8) };
    ClientConfig { tracks: vec![track], ..viewer(11, 0) }
}

fn viewer(video_slots: usize, audio_slots: usize) -> ClientConfig {
    ClientConfig { audio_slots, video_slots, data: false, ..ClientConfig::viewer() }
}

/// A worker with a room, and its clients.
struct Room {
    sfu: Sfu,
    clients: Vec<Seat>,
    start: Instant,
    buffer: Vec<u8>,
}

struct Seat {
    client: Client,
    socket: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
    participant: ParticipantId,
    /// Frames of each slot that were counted.
    counted: Vec<usize>,
}

impl Room {
    fn start(
        hold: bool,
        publisher: &ClientConfig,
        publishers: usize,
        viewer: &ClientConfig,
        viewers: usize,
    ) -> Self {
        let config = SfuConfig { hold, ..SfuConfig::on_loopback(1) };
        let sfu = start(config).expect("the media plane starts");
        let room = sfu.handle.create_room();
        let start = Instant::now();
        let mut this = Self { sfu, clients: Vec::new(), start, buffer: vec![0; BATCH_SIZE << 16] };
        let configs = std::iter::repeat_n(publisher, publishers).chain(std::iter::repeat_n(viewer, viewers));
        for config in configs {
            this.join(room, config);
        }
        for seat in &mut this.clients {
            seat.client.speak(Voice::SPEAKING);
        }
        this.run_for(WARM_UP);
        this
    }

    fn join(&mut self, room: RoomId, config: &ClientConfig) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("a socket can be set up");
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), 4 << 20);
        let address = socket.local_addr().expect("it is bound");
        let number = self.clients.len() as u32 + 1;
        let seed = u64::from(number);
        let mut client = Client::new(number, config.clone(), address, self.start, Instant::now(), seed);
        let participant = self.sfu.handle.create_participant(room);
        let (sdp, labels) = client.offer();
        let peer = format!("peer-{number}").into();
        let request = RequestId(u64::from(number));
        for command in [
            Command::AddParticipant { room, participant, peer },
            Command::Offer { participant, request, sdp, labels },
        ] {
            self.sfu.handle.try_command(room, command).expect("the worker takes commands");
        }
        self.clients.push(Seat { client, socket, state, address, participant, counted: Vec::new() });
        self.run_for(Duration::from_millis(20));
    }

    fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            while let Ok(event) = self.sfu.events.try_recv() {
                if let Event::Answer { participant, result, .. } = event {
                    let answer = result.expect("the offer is well formed");
                    let seat = self.clients.iter_mut().find(|seat| seat.participant == participant);
                    seat.expect("it is one of ours").client.handle_answer(Instant::now(), &answer);
                }
            }
            for seat in &mut self.clients {
                seat.look(&mut self.buffer);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn measure(mut self) -> Figures {
        for seat in &mut self.clients {
            seat.counted = seat.client.slots.iter().map(|slot| slot.frames.len()).collect();
        }
        let before = self.fresh_traffic();
        let (cpu_before, began) = (worker_cpu(), Instant::now());
        self.run_for(MEASURED);
        let after = self.fresh_traffic();
        let (cpu, elapsed) = (worker_cpu().saturating_sub(cpu_before), began.elapsed());
        let sent = after.packets_out - before.packets_out;
        let trains = after.trains_out - before.trains_out;
        let sends = after.sends_out - before.sends_out;
        let (mut delays, mut lost) = (Vec::new(), 0);
        for (slot, counted) in
            self.clients.iter().flat_map(|seat| seat.client.slots.iter().zip(&seat.counted))
        {
            let frames = &slot.frames[*counted..];
            let arrived = |frame: &veche_testkit::client::Frame| {
                frame.at.saturating_duration_since(self.start + frame.stamp.captured).as_secs_f64() * 1000.0
            };
            delays.extend(frames.iter().map(arrived));
            lost += frames.windows(2).filter(|pair| pair[1].stamp.frame != pair[0].stamp.frame + 1).count();
        }
        delays.sort_by(f64::total_cmp);
        let percentile =
            |share: f64| delays.get((delays.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
        let figures = [
            sent as f64 / elapsed.as_secs_f64(),
            100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64(),
            sent as f64 / cpu.as_secs_f64(),
            100.0 * trains as f64 / sends as f64,
            sent as f64 / sends as f64,
            percentile(0.50),
            percentile(0.95),
            percentile(0.99),
            lost as f64,
        ];
        drop(self.sfu);
        std::thread::sleep(Duration::from_millis(300));
        figures
    }

    /// What the worker tells next; it does so once a second.
    fn fresh_traffic(&mut self) -> Traffic {
        let traffic = |sfu: &Sfu| sfu.handle.metrics()[0].traffic;
        let before = traffic(&self.sfu);
        while traffic(&self.sfu) == before {
            self.run_for(LOOK);
        }
        traffic(&self.sfu)
    }
}

impl Seat {
    fn look(&mut self, buffer: &mut [u8]) {
        let mut slices: [IoSliceMut<'_>; 4] = {
            let mut parts = buffer.chunks_exact_mut(1 << 16);
            std::array::from_fn(|_| IoSliceMut::new(parts.next().expect("the buffer is large")))
        };
        let mut metas = [RecvMeta::default(); 4];
        while let Ok(received) = self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) {
            let now = Instant::now();
            for (meta, slice) in metas.iter().zip(&mut slices).take(received) {
                for datagram in slice[..meta.len].chunks_mut(meta.stride.max(1)) {
                    self.client.handle_datagram(now, self.address, datagram);
                }
            }
        }
        let now = Instant::now();
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        while let Some((_, to, datagram)) = self.client.poll_transmit() {
            let _ = self.socket.send_to(&datagram, to);
        }
    }
}

/// What the worker's thread has used of its core, as the scheduler counts it.
fn worker_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it").flatten();
    let worker = tasks
        .map(|task| task.path())
        .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "media-0"));
    let statistics = worker.and_then(|task| std::fs::read_to_string(task.join("schedstat")).ok());
    let nanos = statistics.as_deref().and_then(|text| text.split(' ').next()?.parse().ok());
    Duration::from_nanos(nanos.expect("the kernel keeps statistics of its scheduler"))
}
