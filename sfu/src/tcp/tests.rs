//! A port, driven as a worker does.

use std::io::Read;
use std::net::Ipv4Addr;

use super::*;
use crate::frames::MAX_FRAME;
use crate::poller::Ready;

/// A port, driven as a worker does.
struct Driver {
    port: TcpPort,
    poller: Poller,
    address: SocketAddr,
    now: Instant,
    traffic: Traffic,
    frames: Vec<(Path, Vec<u8>)>,
    gone: Vec<Path>,
    /// Whether paths are somebody's.
    is_known: bool,
}

impl Driver {
    fn new(max_connections: usize) -> Self {
        Self::with_households(max_connections, 0)
    }

    fn with_households(max_connections: usize, per_household: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (port, poller) =
            (TcpPort::new(vec![listener], max_connections, per_household), Poller::new().unwrap());
        port.register(&poller).unwrap();
        let (traffic, frames, gone) = Default::default();
        Self { port, poller, address, now: Instant::now(), traffic, frames, gone, is_known: false }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    /// Turns until `done`, at most for some seconds each.
    fn turn_until(&mut self, done: impl Fn(&Self) -> bool) {
        let mut ready = Ready::new();
        while !done(self) {
            self.poller.wait(&mut ready, Duration::from_secs(5)).unwrap();
            assert!(ready.tokens().count() > 0, "nothing came in time");
            for token in ready.tokens() {
                match token {
                    Token::Listener(index) => self.port.accept(index, self.now, &self.poller),
                    Token::Connection(id) => {
                        self.port.handle_ready(id, self.now, &self.poller, &mut self.traffic, |input| {
                            match input {
                                TcpInput::Frame(path, frame) => self.frames.push((path, frame.to_vec())),
                                TcpInput::Gone(path) => self.gone.push(path),
                            }
                            self.is_known
                        });
                    }
                    Token::Mailbox | Token::Udp(_) => unreachable!(),
                }
            }
        }
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.port.look(self.now, |_| self.is_known);
        self.port.handle_timeout(self.now, &self.poller, |input| {
            let TcpInput::Gone(path) = input else { unreachable!() };
            self.gone.push(path);
            false
        });
    }

    fn send(&mut self, path: Path, packets: &[&[u8]]) {
        let mut ends = Vec::new();
        for packet in packets {
            ends.push(ends.last().copied().unwrap_or(0) + packet.len() as u32);
        }
        let transmit = Transmit { path, bytes: &packets.concat(), ends: &ends };
        self.port.send(&transmit, &self.poller, &mut self.traffic);
    }
}

fn write_frame(mut stream: &TcpStream, frame: &[u8]) {
    stream.write_all(&[&(frame.len() as u16).to_be_bytes()[..], frame].concat()).unwrap();
}

fn read_frame(mut stream: &TcpStream) -> Vec<u8> {
    let mut length = [0; HEADER];
    stream.read_exact(&mut length).unwrap();
    let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut frame).unwrap();
    frame
}

fn is_closed(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn frames_go_both_ways() {
    let mut driver = Driver::new(4);
    let client = driver.connect();
    write_frame(&client, b"\0first");
    write_frame(&client, b"anything");
    driver.turn_until(|d| d.frames.len() == 2);
    let path = driver.frames[0].0;
    assert_eq!(path, Path::Tcp { connection: ConnectionId(0), remote: client.local_addr().unwrap() });
    assert_eq!(driver.frames, [(path, b"\0first".to_vec()), (path, b"anything".to_vec())]);

    driver.send(path, &[b"one", b"", b"three"]);
    assert_eq!([read_frame(&client), read_frame(&client), read_frame(&client)], [&b"one"[..], b"", b"three"]);
    assert_eq!((driver.traffic.packets_in, driver.traffic.packets_out), (2, 3));
}

#[test]
fn a_connection_is_taken_over_with_what_was_read_of_it() {
    let mut driver = Driver::new(1);
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let adopt = |driver: &mut Driver, early: &[u8]| {
        let client = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (answer, answered) = flume::bounded(1);
        let adoption = Adoption { stream: elsewhere.accept().unwrap().0, early: early.to_vec(), answer };
        let Driver { port, poller, now, traffic, frames, gone, .. } = driver;
        port.adopt(adoption, *now, poller, traffic, |input| {
            match input {
                TcpInput::Frame(path, frame) => frames.push((path, frame.to_vec())),
                TcpInput::Gone(path) => gone.push(path),
            }
            false
        });
        (client, answered.try_recv().unwrap())
    };
    let (web, _) = adopt(&mut driver, b"\0\x05GET /");
    assert!(is_closed(&web) && driver.frames.is_empty() && driver.gone.len() == 1);

    let (mut client, adopted) = adopt(&mut driver, b"\0\x06\0first\0\x04ha");
    assert_eq!(adopted, Ok(()));
    client.write_all(b"lf").unwrap();
    driver.turn_until(|d| d.frames.len() == 2);
    let path = driver.frames[0].0;
    assert_eq!(path.remote(), client.local_addr().unwrap());
    assert_eq!(driver.frames, [(path, b"\0first".to_vec()), (path, b"half".to_vec())]);
    driver.send(path, &[b"answer"]);
    assert_eq!(read_frame(&client), b"answer");

    let (full, adopted) = adopt(&mut driver, b"\0\x01\0");
    assert!(is_closed(&full), "there is room for one");
    assert_eq!((adopted, driver.port.refusals.full), (Err(AdoptError::Busy), 1));
}

#[test]
fn who_leaves_is_reported_and_their_number_is_not_given_again() {
    let mut driver = Driver::new(4);
    drop(driver.connect());
    driver.turn_until(|d| d.gone.len() == 1);
    assert_eq!(driver.port.len(), 0);
    let path = driver.gone[0];
    driver.send(path, &[b"too late"]);
    assert_eq!((driver.traffic.packets_out, driver.traffic.send_drops), (0, 1));

    let client = driver.connect();
    write_frame(&client, &[0]);
    driver.turn_until(|d| !d.frames.is_empty());
    assert!(matches!(driver.frames[0].0, Path::Tcp { connection: ConnectionId(1), .. }));
}

#[test]
fn strangers_are_closed() {
    let mut driver = Driver::new(4);
    let web = driver.connect();
    write_frame(&web, b"GET / HTTP/1.1");
    let empty = driver.connect();
    write_frame(&empty, b"");
    let oversized = driver.connect();
    write_frame(&oversized, &vec![0; MAX_FRAME + 1]);
    driver.turn_until(|d| d.gone.len() == 3);
    assert!(driver.frames.is_empty());
    assert!(is_closed(&web) && is_closed(&empty) && is_closed(&oversized));
}

#[test]
fn more_connections_than_allowed_are_closed_as_they_come() {
    let mut driver = Driver::new(2);
    let clients = [driver.connect(), driver.connect(), driver.connect()];
    for client in &clients[..2] {
        write_frame(client, &[1]);
    }
    driver.turn_until(|d| d.frames.len() == 2);
    assert_eq!(driver.port.len(), 2);
    assert!(is_closed(&clients[2]));
    let [first, _, _] = clients;
    drop(first);
    driver.turn_until(|d| d.gone.len() == 1);
    let fourth = driver.connect();
    write_frame(&fourth, &[1]);
    driver.turn_until(|d| d.frames.len() == 3);
}

#[test]
fn silence_is_not_waited_for_without_end() {
    let mut driver = Driver::new(4);
    driver.is_known = true;
    let (mute, talker) = (driver.connect(), driver.connect());
    write_frame(&talker, &[0]);
    driver.turn_until(|d| d.frames.len() == 1 && d.port.len() == 2);
    driver.wait(Duration::from_secs(9));
    assert_eq!(driver.port.len(), 2);
    driver.wait(Duration::from_secs(1));
    assert!(is_closed(&mute));
    assert_eq!(driver.port.len(), 1);
    driver.wait(Duration::from_secs(49));
    assert_eq!(driver.port.len(), 1);
    driver.wait(Duration::from_secs(1));
    assert_eq!((driver.port.len(), driver.gone.len()), (0, 2));
    assert_eq!((driver.port.refusals.silent, driver.port.refusals.unproven), (2, 0));
}

#[test]
fn who_talks_and_proves_nothing_is_closed_and_so_is_whose_owner_has_left() {
    let mut driver = Driver::new(4);
    let stranger = driver.connect();
    write_frame(&stranger, &[0]);
    driver.turn_until(|d| d.frames.len() == 1);
    for frames in 2..=6 {
        driver.wait(Duration::from_secs(5));
        write_frame(&stranger, &[0]);
        driver.turn_until(|d| d.frames.len() == frames);
    }
    driver.wait(Duration::from_secs(4));
    assert_eq!(driver.port.len(), 1);
    driver.wait(Duration::from_secs(1));
    assert!(is_closed(&stranger));
    assert_eq!(driver.port.refusals.unproven, 1);

    driver.is_known = true;
    let member = driver.connect();
    write_frame(&member, &[0]);
    driver.turn_until(|d| d.frames.len() == 7);
    driver.wait(Duration::from_secs(40));
    assert_eq!(driver.port.len(), 1);
    driver.is_known = false;
    write_frame(&member, &[0]);
    driver.turn_until(|d| d.frames.len() == 8);
    driver.wait(Duration::from_secs(29));
    assert_eq!(driver.port.len(), 1);
    driver.wait(Duration::from_secs(1));
    assert_eq!((driver.port.len(), driver.port.refusals.unproven), (0, 2));
}

#[test]
fn one_household_leaves_room_for_others_and_who_has_proved_themselves_counts_less() {
    let mut driver = Driver::with_households(64, 8);
    let client = |driver: &mut Driver, is_known| {
        let (client, before) = (driver.connect(), driver.frames.len() + driver.gone.len());
        write_frame(&client, &[0]);
        driver.is_known = is_known;
        let refused = driver.port.refusals;
        driver.turn_until(|d| d.frames.len() + d.gone.len() > before || d.port.refusals != refused);
        client
    };
    let strangers = [client(&mut driver, false), client(&mut driver, false)];
    assert!(is_closed(&client(&mut driver, false)));
    assert_eq!((driver.port.len(), driver.port.refusals.household_unproven), (2, 1));
    drop(strangers);
    driver.turn_until(|d| d.gone.len() == 2);
    let members: Vec<_> = (0..8).map(|_| client(&mut driver, true)).collect();
    assert!(is_closed(&client(&mut driver, true)));
    assert_eq!((driver.port.len(), driver.port.refusals.household), (8, 1));
    // From another address of this machine.
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    other.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    other.connect(&driver.address.into()).unwrap();
    let other: TcpStream = other.into();
    write_frame(&other, &[0]);
    driver.turn_until(|d| d.port.len() == 9);
    drop(members);
    driver.turn_until(|d| d.port.len() == 1);
}

#[test]
fn a_slow_reader_gets_whole_frames_and_misses_others() {
    let mut driver = Driver::new(4);
    let client = driver.connect();
    write_frame(&client, &[0]);
    driver.turn_until(|d| d.frames.len() == 1);
    let path = driver.frames[0].0;
    let mut offered = 0u32;
    while driver.traffic.send_drops == 0 {
        let packet = [&offered.to_be_bytes()[..], &[7; 1196]].concat();
        driver.send(path, &[&packet]);
        offered += 1;
    }
    assert!(driver.port.connections[&ConnectionId(0)].queue.0.len() <= MAX_QUEUED);

    let taken = offered - 1;
    let reader = std::thread::spawn(move || {
        for number in 0..taken {
            let frame = read_frame(&client);
            assert_eq!((frame.len(), &frame[..4]), (1200, &number.to_be_bytes()[..]));
        }
        client
    });
    driver.turn_until(|d| d.port.connections[&ConnectionId(0)].queue.0.is_empty());
    let client = reader.join().unwrap();
    driver.send(path, &[b"again"]);
    assert_eq!(read_frame(&client), b"again");
}
