//! Workers as the server starts and stops them.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use veche_sfu::{AdoptError, CommandError, Handle, Sfu, SfuConfig, WorkerMetrics, start};
use veche_sfu_core::control::{Command, Event, SectionLabels};
use veche_sfu_core::drops::DropReason;
use veche_sfu_core::ids::RequestId;
use veche_stun::{Writer, attribute};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn config(workers: usize) -> SfuConfig {
    SfuConfig { spread_from: 50, tcp: true, ..SfuConfig::on_loopback(workers) }
}

/// Waits on what a worker tells once a second.
fn wait_for(handle: &Handle, what: impl Fn(&[WorkerMetrics]) -> bool) -> Vec<WorkerMetrics> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = handle.metrics();
        if what(&metrics) {
            return metrics;
        }
        assert!(Instant::now() < deadline, "not in time: {metrics:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn garbage_is_received_counted_and_dropped() {
    let Sfu { handle, events, failures, .. } = start(config(2)).unwrap();
    let ports: Vec<u16> = handle.metrics().iter().map(|worker| worker.port).collect();
    assert_eq!(ports.len(), 2);
    assert_ne!(ports[0], ports[1]);

    let client = UdpSocket::bind((LOCALHOST, 0)).unwrap();
    for sent in 1..=1000 {
        client.send_to(&[200; 300], (LOCALHOST, ports[1])).unwrap();
        if sent % 100 == 0 {
            // Where the system grants small buffers only, a longer burst could overrun a worker that has no core.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let metrics = wait_for(&handle, |workers| workers[1].traffic.packets_in == 1000);
    assert!(metrics.iter().all(|worker| worker.running && worker.participants == 0));
    assert_eq!(metrics[0].traffic.packets_in, 0);
    assert_eq!(metrics[1].traffic.bytes_in, 300_000);
    assert_eq!(metrics[1].traffic.packets_out, 0, "garbage is never answered");
    assert_eq!(metrics[1].drops.total(), 1000);
    assert_eq!(metrics[1].drops.get(DropReason::UnknownProtocol), 1000);

    handle.stop().await;
    assert!(handle.metrics().iter().all(|worker| !worker.running));
    assert!(failures.recv_async().await.is_err(), "ended without a failure");
    assert!(events.recv_async().await.is_err());
    let again = UdpSocket::bind((LOCALHOST, ports[0]));
    assert!(again.is_ok(), "the sockets are closed");
}

#[tokio::test]
async fn frames_over_tcp_reach_the_engine() {
    let Sfu { handle, .. } = start(config(1)).unwrap();
    let port = handle.metrics()[0].port;
    let mut client = TcpStream::connect((LOCALHOST, port)).unwrap();
    // It begins as STUN does, and is none.
    client.write_all(&[0, 3, 0, 1, 2]).unwrap();
    let metrics =
        wait_for(&handle, |workers| workers[0].connections == 1 && workers[0].traffic.packets_in == 1);
    assert_eq!((metrics[0].traffic.bytes_in, metrics[0].drops.total()), (3, 1));
    drop(client);
    wait_for(&handle, |workers| workers[0].connections == 0);
    handle.stop().await;
    assert!(TcpStream::connect((LOCALHOST, port)).is_err(), "nobody listens any more");
}

#[tokio::test]
async fn connections_that_others_accepted_go_to_the_worker_that_the_request_names() {
    let Sfu { handle, .. } = start(config(3)).unwrap();
    let elsewhere = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let adopt = async |ufrag: &str| {
        let client = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
        let (stream, _) = elsewhere.accept().unwrap();
        let request = binding_request(ufrag);
        let early = [&(request.len() as u16).to_be_bytes()[..], &request].concat();
        (client, handle.adopt(stream, early).await)
    };
    let (first, adopted) = adopt("AACabcdefghijkl").await;
    assert_eq!(adopted, Ok(()));
    let metrics = wait_for(&handle, |workers| workers[2].connections == 1);
    assert_eq!(metrics[2].drops.get(DropReason::StunUnknownUser), 1, "the worker has read the request");
    for nobody in ["AADabcdefghijkl", "AA", "A:", "///bcdefghijkl"] {
        assert!(adopt(nobody).await.1.is_err(), "there are workers 0 to 2 only: {nobody}");
    }
    let (_client, stream) = (first, elsewhere.local_addr().map(TcpStream::connect).unwrap().unwrap());
    assert_eq!(handle.adopt(stream, b"GET / HTTP/1.1".to_vec()).await, Err(AdoptError::NotIce));
    handle.stop().await;
    assert_eq!(adopt("AACabcdefghijkl").await.1, Err(AdoptError::Busy));
}

/// A request that asks for the one with this user name fragment; what signs it is nobody's.
fn binding_request(ufrag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::begin(1, &[7; 12], &mut out);
    writer.attribute(attribute::USERNAME, format!("{ufrag}:client").as_bytes());
    writer.attribute(attribute::MESSAGE_INTEGRITY, &[0; 20]);
    out
}

/// An offer of a data channel, by the browser session with this number.
fn offer(session: u32) -> String {
    format!(
        "v=0\r\no=- {session} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:test\r\n\
         a=ice-pwd:0123456789abcdefghijkl\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:0\r\n\
         a=sctp-port:5000\r\n",
        ["0A"; 32].join(":")
    )
}

#[tokio::test]
async fn who_joins_is_told_of_the_addresses_of_now_and_who_is_here_keeps_theirs() {
    let Sfu { handle, events, .. } = start(config(1)).unwrap();
    let room = handle.create_room();
    let joined = async || {
        let participant = handle.create_participant(room);
        handle.command(room, Command::AddParticipant { room, participant, peer: "p".into() }).await.unwrap();
        participant
    };
    let candidates = async |participant, session| {
        let (request, labels) = (RequestId(1), SectionLabels::default());
        let offer = Command::Offer { participant, request, sdp: offer(session), labels };
        handle.command(room, offer).await.unwrap();
        loop {
            if let Event::Answer { result, .. } = events.recv_async().await.unwrap() {
                let answer = result.unwrap();
                let lines = answer.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
                return lines.map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect::<Vec<_>>();
            }
        }
    };
    let early = joined().await;
    assert_eq!(candidates(early, 1).await, ["127.0.0.1", "127.0.0.1"]);
    let seen = IpAddr::from([203, 0, 113, 5]);
    assert_eq!(handle.announce(&[seen]).unwrap(), [seen, LOCALHOST]);
    let late = joined().await;
    assert_eq!(candidates(late, 2).await, ["203.0.113.5", "127.0.0.1", "203.0.113.5", "127.0.0.1"]);
    assert_eq!(candidates(early, 1).await, ["127.0.0.1", "127.0.0.1"]);
    assert_eq!(handle.announce(&[]).unwrap(), [LOCALHOST]);
    assert_eq!(candidates(joined().await, 3).await, ["127.0.0.1", "127.0.0.1"]);
    handle.stop().await;
}

#[tokio::test]
async fn who_has_stopped_takes_no_commands() {
    let Sfu { handle, .. } = start(config(1)).unwrap();
    let room = handle.create_room();
    let command = || Command::RemoveParticipant { participant: handle.create_participant(room) };
    handle.command(room, command()).await.unwrap();
    handle.try_command(room, command()).unwrap();
    handle.stop().await;
    handle.stop().await;
    assert_eq!(handle.command(room, command()).await, Err(CommandError::Stopped));
    assert_eq!(handle.try_command(room, command()), Err(CommandError::Stopped));
}

#[tokio::test]
async fn workers_stop_with_their_last_handle() {
    let Sfu { handle, failures, .. } = start(config(1)).unwrap();
    let other = handle.clone();
    drop(handle);
    assert!(other.metrics()[0].running);
    drop(other);
    assert!(failures.recv_async().await.is_err());
}

#[tokio::test]
async fn rooms_are_spread_over_workers() {
    let Sfu { handle, .. } = start(config(3)).unwrap();
    let rooms: Vec<_> = (0..6).map(|_| handle.create_room()).collect();
    let mut workers: Vec<u64> = rooms.iter().map(|room| room.0 % 3).collect();
    workers.sort_unstable();
    assert_eq!(workers, [0, 0, 1, 1, 2, 2]);
    let mut unique = rooms.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), rooms.len());
    handle.stop().await;
}

#[test]
fn a_port_in_use_is_said_with_its_setting() {
    let other = UdpSocket::bind((LOCALHOST, 0)).unwrap();
    let first_port = other.local_addr().unwrap().port();
    let error = start(SfuConfig { first_port, ..config(1) }).unwrap_err();
    assert_eq!(error.setting, "media.first_port");
    assert!(error.to_string().contains("VECHE_MEDIA_FIRST_PORT"), "{error}");
}
