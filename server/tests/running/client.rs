//! Clients of HTTP/1.1 and HTTP/2, plain and over TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use yawc::{OpCode, Options, WebSocket};

use crate::server::PATIENCE;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// GET by HTTP/1.1 over a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    get_with(address, path, &[]).await
}

pub(crate) async fn get_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path).header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(TcpStream::connect(address).await.unwrap(), request.body(Full::default()).unwrap()).await
}

/// By HTTP/1.1 over any stream.
pub(crate) async fn ask(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Answer {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    read(sender.send_request(request).await.unwrap()).await
}

/// GET by HTTP/2, known before (h2c) or agreed on by TLS.
pub(crate) async fn get_http2(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Answer {
    let request = Request::get(format!("http://veche.example{path}")).body(Full::default()).unwrap();
    ask_http2(io, request).await
}

/// By HTTP/2 over any stream.
pub(crate) async fn ask_http2(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Answer {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    read(sender.send_request(request).await.unwrap()).await
}

/// A connection by HTTP/1.1 that is used again and again.
pub(crate) struct Caller {
    address: SocketAddr,
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Caller {
    pub(crate) async fn connect(address: SocketAddr) -> Option<Self> {
        let io = TokioIo::new(TcpStream::connect(address).await.ok()?);
        let (sender, connection) = http1::handshake(io).await.ok()?;
        tokio::spawn(connection);
        Some(Self { address, sender })
    }

    /// POSTs JSON. `None`: the connection broke before the answer was there.
    pub(crate) async fn post(&mut self, path: &str, body: &serde_json::Value) -> Option<Answer> {
        let request = Request::post(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap();
        self.sender.ready().await.ok()?;
        let (parts, body) = self.sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// Sends bytes as they are, and takes what comes until the server closes.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let mut answer = Vec::new();
    let exchange = async {
        // A server that refuses what comes need not read it, and may reset what it has closed.
        let write = async {
            let _ = writer.write_all(request).await;
        };
        let read = async {
            let _ = reader.read_to_end(&mut answer).await;
        };
        tokio::join!(write, read)
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A WebSocket to `/realtime/ws`; `None`: it does not open.
pub(crate) async fn websocket(address: SocketAddr) -> Option<WebSocket<TcpStream>> {
    websocket_at(address, "/realtime/ws", Options::default()).await
}

/// A WebSocket to any path.
pub(crate) async fn websocket_at(
    address: SocketAddr,
    path: &str,
    options: Options,
) -> Option<WebSocket<TcpStream>> {
    let url = format!("ws://localhost{path}").parse().unwrap();
    let io = TcpStream::connect(address).await.ok()?;
    WebSocket::handshake(url, io, options.with_limits(1 << 27, 1 << 27)).await.ok()
}

/// The next message of a WebSocket; `None`: it has ended.
pub(crate) async fn receive(socket: &mut WebSocket<TcpStream>) -> Option<serde_json::Value> {
    loop {
        let frame =
            tokio::time::timeout(PATIENCE, socket.next_frame()).await.expect("something comes").ok()?;
        match frame.opcode() {
            OpCode::Text => return Some(serde_json::from_slice(frame.payload()).unwrap()),
            OpCode::Close => return None,
            _ => {}
        }
    }
}

async fn read(response: axum::http::Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// TLS that takes any certificate, offers these protocols, and no other version.
pub(crate) async fn tls(
    address: SocketAddr,
    name: &str,
    protocols: &[&str],
    version: &'static SupportedProtocolVersion,
) -> TlsStream<TcpStream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let io = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, io).await.unwrap()
}

/// The certificate that the server shows.
pub(crate) async fn certificate(address: SocketAddr, name: &str) -> Vec<u8> {
    let stream = tls(address, name, &["http/1.1"], &rustls::version::TLS13).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Believes everybody.
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
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
