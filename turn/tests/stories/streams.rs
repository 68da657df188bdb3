//! Connections, by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use socket2::{Domain, Socket, Type};
use veche_stun::Message;
use veche_turn::Turn;

use crate::client::{ALLOCATE, Attribute, CREATE_PERMISSION, Client, DATA, REFRESH, Tls, UDP, Wire};
use crate::server::{start, wait_until};

/// A binding request.
const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn at(turn: &Turn) -> SocketAddr {
    turn.handle.addresses()[0]
}

pub(crate) fn connect(turn: &Turn) -> TcpStream {
    let stream = TcpStream::connect(at(turn)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn connect_from(turn: &Turn, ip: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&at(turn).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.into()
}

fn expect_answer(mut stream: &TcpStream) {
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(Message::parse(&answer).unwrap().kind(), 0x0101);
}

/// Whether the server closes the connection, and says nothing before. With what it has not read the system resets it.
fn is_closed(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn requests_are_answered_however_they_are_cut() {
    let turn = start(|_| {});
    let mut stream = connect(&turn);
    for _ in 0..3 {
        for byte in BINDING.chunks(3) {
            stream.write_all(byte).unwrap();
        }
        expect_answer(&stream);
    }
    stream.write_all(&[BINDING, BINDING].concat()).unwrap();
    expect_answer(&stream);
    expect_answer(&stream);
    wait_until("the connection is counted", || {
        turn.handle.metrics().iter().any(|worker| worker.connections == 1)
    });
    stream.shutdown(Shutdown::Both).unwrap();
    wait_until("it is gone", || turn.handle.metrics().iter().all(|worker| worker.connections == 0));
}

#[test]
fn what_is_not_turn_or_too_large_is_closed() {
    let turn = start(|config| config.tls = None);
    for wrong in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x01\xff\xfc\x21\x12\xa4\x42",
        b"\x80\x00\x00\x00",
    ] {
        let mut stream = connect(&turn);
        stream.write_all(wrong).unwrap();
        assert!(is_closed(&stream), "{wrong:?}");
    }
}

/// Allocations made since the start, and relays now.
fn allocations(turn: &Turn) -> (u64, usize) {
    let metrics = turn.handle.metrics();
    (
        metrics.iter().map(|worker| worker.totals.allocations_made).sum(),
        metrics.iter().map(|worker| worker.relays).sum(),
    )
}

#[test]
fn an_allocation_that_ends_as_it_begins_leaves_no_relay() {
    let turn = start(|_| {});
    let stream = connect(&turn);
    let mut client = Client::greeted(&stream);
    let garbage = [0x80, 0, 0, 0];
    let request = client.request(ALLOCATE, &[UDP]);
    (&stream).send(&[&request[..], &garbage].concat());
    wait_until("it was made, and nothing is left", || allocations(&turn) == (1, 0));

    let stream = connect(&turn);
    let mut client = Client::greeted(&stream);
    let request = client.request(ALLOCATE, &[UDP]);
    let goodbye = client.request(REFRESH, &[Attribute::Bytes(0x000d, &[0; 4])]);
    (&stream).send(&[request, goodbye].concat());
    for _ in 0..2 {
        let answer = (&stream).receive();
        assert_eq!(client.read(&answer).code, 0);
    }
    wait_until("it was made, and nothing is left", || allocations(&turn) == (2, 0));
    assert_eq!(turn.handle.total().allocations, 0);
}

#[test]
fn who_has_no_allocation_and_reads_no_answers_is_closed() {
    let turn = start(|config| config.workers = 1);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&at(&turn).into()).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut stream = TcpStream::from(socket);
    // Far more than the buffers of two sockets take.
    let requests = BINDING.repeat(1000);
    let ended = (0..2000).find_map(|_| stream.write_all(&requests).err());
    let kind = ended.map(|error| error.kind());
    assert!(matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "{kind:?}");
}

#[test]
fn who_reads_slowly_and_says_goodbye_is_answered() {
    let turn = start(|config| config.workers = 1);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&at(&turn).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let stream = TcpStream::from(socket);
    let mut client = Client::greeted(&stream);
    let relay = client.ask(&stream, ALLOCATE, &[UDP]).relayed[0];
    let peer = UdpSocket::bind((relay.ip(), 0)).unwrap();
    let permission = [Attribute::Peer(peer.local_addr().unwrap())];
    assert_eq!(client.ask(&stream, CREATE_PERMISSION, &permission).code, 0);
    let drops = || turn.handle.metrics().iter().map(|worker| worker.traffic.send_drops).sum::<u64>();
    wait_until("there is no more room", || {
        for _ in 0..500 {
            peer.send_to(&[7; 1000], relay).unwrap();
        }
        drops() > 0
    });
    let goodbye = client.request(REFRESH, &[Attribute::Bytes(0x000d, &[0; 4])]);
    (&stream).send(&goodbye);
    wait_until("the relay is closed", || allocations(&turn).1 == 0);
    let answer = (0..100_000).map(|_| (&stream).receive()).find(|packet| packet[0] == 1).unwrap();
    assert_eq!(client.read(&answer).code, 0);
}

#[test]
fn a_packet_that_is_larger_than_a_train_of_tls_takes_leaves_the_stream_whole() {
    let turn = start(|_| {});
    let mut tls = tls_client(connect(&turn));
    let mut client = Client::default();
    assert_eq!(client.ask(&mut tls, ALLOCATE, &[UDP]).code, 401);
    let relay = client.ask(&mut tls, ALLOCATE, &[UDP]).relayed[0];
    let peer = UdpSocket::bind((relay.ip(), 0)).unwrap();
    let permission = [Attribute::Peer(peer.local_addr().unwrap())];
    assert_eq!(client.ask(&mut tls, CREATE_PERMISSION, &permission).code, 0);
    // The last is the largest that an indication holds; the one before it none does.
    for len in [1000, 65_505, 65_504] {
        peer.send_to(&vec![7; len], relay).unwrap();
    }
    for len in [1000, 65_504] {
        let packet = tls.receive();
        let message = Message::parse(&packet).unwrap();
        let data = message.attributes().map(Result::unwrap).find(|one| one.kind == DATA).unwrap().value;
        assert!(data.len() == len && data.iter().all(|&byte| byte == 7), "{}", data.len());
    }
    assert_eq!(client.ask(&mut tls, REFRESH, &[]).code, 0);
}

/// TLS over a connection, with a server that anybody may be.
pub(crate) fn tls_client(stream: TcpStream) -> Tls {
    #[derive(Debug)]
    struct Anybody;
    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    rustls::StreamOwned::new(session, stream)
}

#[test]
fn garbage_after_a_hello_ends_tls() {
    let turn = start(|_| {});
    let mut stream = connect(&turn);
    stream.write_all(&[22, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
    // An alert, and the end.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}

#[test]
fn more_connections_than_there_may_be_are_closed() {
    let turn = start(|config| {
        config.max_connections = 8;
        config.workers = 1;
    });
    let from = |last| connect_from(&turn, [127, 0, 0, last]);
    let held: Vec<TcpStream> = [1, 1, 2, 2, 3, 3, 4].into_iter().map(from).collect();
    for mut stream in &held {
        stream.write_all(&BINDING).unwrap();
        expect_answer(stream);
    }
    assert!(is_closed(&from(1)), "one address has a quarter of all");
    let mut last = from(5);
    last.write_all(&BINDING).unwrap();
    expect_answer(&last);
    assert!(is_closed(&from(6)), "there are as many as may be");
    drop(held);
    wait_until("there is room again", || {
        let mut stream = connect(&turn);
        stream.write_all(&BINDING).is_ok() && matches!(stream.read(&mut [0; 32]), Ok(32))
    });
}

#[test]
fn a_connection_that_somebody_else_accepted_is_taken_over() {
    let turn = start(|_| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(&BINDING[15..]).unwrap();
    let handle = turn.handle.clone();
    futures_block(async move { assert!(handle.adopt(server, None, BINDING[..15].to_vec()).await) });
    expect_answer(&client);
}

#[test]
fn a_server_that_stops_closes_its_sockets_and_another_takes_their_place() {
    let turn = start(|_| {});
    let at = at(&turn);
    let other = veche_turn::start(config_of(at));
    assert_eq!(other.unwrap_err().setting, "turn.listen");
    futures_block(turn.handle.stop());
    drop(turn);
    UdpSocket::bind(at).unwrap();
    let turn = start(|config| config.listen = vec![at]);
    assert_eq!(turn.handle.addresses(), [at]);
}

/// A configuration like that of the other stories.
fn config_of(at: SocketAddr) -> veche_turn::TurnConfig {
    let mut kept = None;
    let _other = start(|config| kept = Some(config.clone()));
    veche_turn::TurnConfig { listen: vec![at], ..kept.unwrap() }
}

/// Waits for a future that another thread ends.
fn futures_block(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
}
