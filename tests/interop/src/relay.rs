//! The TURN client of the `rtc` crate, which has no sockets, with one: UDP, TCP or TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::sansio::Protocol;
use rtc::shared::{TransportContext, TransportMessage, TransportProtocol};
use rtc::turn::client::{Client, ClientConfig, Event};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig as TlsConfig, RootCertStore};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the client is told the time, so that it sends again what was lost.
const TICK: Duration = Duration::from_millis(50);

/// By what a TURN server is reached.
pub enum Line {
    /// Datagrams.
    Udp(UdpSocket),
    /// A connection, with TLS or without, and what came over it and is no whole message yet.
    Stream(Box<dyn Stream>, BytesMut),
}

/// What a connection can do.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Line {
    /// To a server on this machine over UDP.
    pub async fn udp(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        socket.connect(server).await.expect("the server is on this machine");
        Self::Udp(socket)
    }

    /// Over TCP.
    pub async fn tcp(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.expect("the server listens");
        Self::Stream(Box::new(stream), BytesMut::new())
    }

    /// Over TLS, to a server that has this certificate for `localhost`.
    pub async fn tls(server: SocketAddr, certificate: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("it is a certificate");
        let config = TlsConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(server).await.expect("the server listens");
        let name = ServerName::try_from("localhost").expect("it is a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        Self::Stream(Box::new(stream.expect("the certificate is the server's")), BytesMut::new())
    }

    /// What the client should think of it: to TLS it is as blind as to sockets.
    fn protocol(&self) -> TransportProtocol {
        match self {
            Self::Udp(_) => TransportProtocol::UDP,
            Self::Stream(..) => TransportProtocol::TCP,
        }
    }

    async fn send(&mut self, message: &[u8]) {
        match self {
            Self::Udp(socket) => assert_eq!(socket.send(message).await.expect("it is sent"), message.len()),
            Self::Stream(stream, _) => stream.write_all(message).await.expect("the connection stands"),
        }
    }

    /// The next message, without the padding that streams have. Nothing is lost where it is not waited for to the end.
    async fn receive(&mut self) -> BytesMut {
        match self {
            Self::Udp(socket) => {
                let mut message = BytesMut::zeroed(65_536);
                let len = socket.recv(&mut message).await.expect("the server is there");
                message.truncate(len);
                message
            }
            Self::Stream(stream, early) => loop {
                if let Some(message) = cut(early) {
                    return message;
                }
                assert!(
                    stream.read_buf(early).await.expect("the connection stands") > 0,
                    "the server hangs up"
                );
            },
        }
    }
}

/// Takes the first message of a stream, where it is whole.
fn cut(stream: &mut BytesMut) -> Option<BytesMut> {
    let &[first, _, high, low] = stream.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    // A STUN message has a header of 20 bytes; what a channel carries has one of four, and is padded to four.
    let (len, padding) = if first < 0x40 { (20 + len, 0) } else { (4 + len, len.wrapping_neg() % 4) };
    if stream.len() < len + padding {
        return None;
    }
    let mut message = stream.split_to(len + padding);
    message.truncate(len);
    Some(message)
}

/// A client with a relay.
pub struct RelayClient {
    client: Client,
    line: Line,
    transport: TransportContext,
    /// Where peers reach it.
    pub relayed: SocketAddr,
}

impl RelayClient {
    /// Asks a server for a relay.
    pub async fn allocate(line: Line, server: SocketAddr, user: &str, password: &str, realm: &str) -> Self {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let config = ClientConfig {
            turn_serv_addr: server.to_string(),
            local_addr: local,
            transport_protocol: line.protocol(),
            username: user.to_owned(),
            password: password.to_owned(),
            realm: realm.to_owned(),
            ..ClientConfig::default()
        };
        let transport = TransportContext {
            local_addr: local,
            peer_addr: server,
            transport_protocol: line.protocol(),
            ecn: None,
        };
        let provider = rtc::crypto::default_provider().expect("a feature chooses one");
        let client = Client::new(config, provider).expect("the settings are good");
        let mut this = Self { client, line, transport, relayed: local };
        let wanted = this.client.allocate(Instant::now()).expect("it can be asked for");
        this.relayed = match this.event().await {
            Event::AllocateResponse(id, relayed) if id == wanted => relayed,
            other => panic!("no relay: {other:?}"),
        };
        this
    }

    /// Lets a peer send to the relay, and the relay to the peer.
    pub async fn permit(&mut self, peer: SocketAddr) {
        let mut relay = self.client.relay(self.relayed).expect("it was allocated");
        let wanted = relay.create_permission(Instant::now(), peer).expect("it can be asked for");
        match self.event().await {
            Event::CreatePermissionResponse(id, _) if Some(id) == wanted => {}
            other => panic!("no permission: {other:?}"),
        }
    }

    /// Sends to a peer through the relay: the first time in an indication, over a channel as soon as there is one.
    pub async fn send(&mut self, peer: SocketAddr, payload: &[u8]) {
        let mut relay = self.client.relay(self.relayed).expect("it was allocated");
        relay.send_to(Instant::now(), payload, peer).expect("it is permitted");
        self.flush().await;
    }

    /// What comes from a peer next, whether it came over a channel, and from whom.
    pub async fn receive(&mut self) -> (BytesMut, bool, SocketAddr) {
        match self.event().await {
            Event::DataIndicationOrChannelData(channel, peer, data) => (data, channel.is_some(), peer),
            other => panic!("no data: {other:?}"),
        }
    }

    /// Gives the relay back.
    pub async fn close(mut self) {
        self.client
            .relay(self.relayed)
            .expect("it was allocated")
            .close(Instant::now())
            .expect("it can be closed");
        self.flush().await;
    }

    async fn event(&mut self) -> Event {
        let event = async {
            loop {
                self.flush().await;
                if let Some(event) = self.client.poll_event() {
                    return event;
                }
                if let Ok(message) = timeout(TICK, self.line.receive()).await {
                    let message =
                        TransportMessage { now: Instant::now(), transport: self.transport, message };
                    self.client.handle_read(message).expect("the client understands the server");
                } else {
                    self.client.handle_timeout(Instant::now()).expect("time goes on");
                }
            }
        };
        timeout(PATIENCE, event).await.expect("the server answers in time")
    }

    async fn flush(&mut self) {
        while let Some(transmit) = self.client.poll_write() {
            self.line.send(&transmit.message).await;
        }
    }
}
