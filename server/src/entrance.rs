//! The entrance of a port: what a connection speaks is told by its first bytes, and it goes to those who speak that.
//!
//! HTTP stays here. TURN and media over TCP have workers of their own, which take the connection over with what was read of it,
//! and with its TLS session if it has one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum_server::accept::Accept;
use rustls::ServerConnection;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use veche_doors::first_bytes::{Opening, opening};
use veche_sfu::{AdoptError, MAX_EARLY, whole_frame};

use crate::gate::{Gate, Permit};
use crate::patience::{Guarded, OPENING_WAIT, set_options};
use crate::tally::{Kind, Tally, Unserved};
use crate::tls::ACME_PROTOCOL;

/// What clients of TURN over TLS may call the protocol (RFC 7443).
pub(crate) const TURN_PROTOCOLS: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];

/// How who speaks HTTP where it is HTTPS is told so.
const NOT_HTTPS: &str = "{\"error\": {\"code\": \"https_only\", \"message\": \"this port speaks HTTPS: begin the address with \
                         https://\"}}\n";

/// How much of a request is read that is not served, so that its sender sees the answer.
const MAX_UNSERVED: u64 = 64 << 10;

/// Lets connections in and looks what they speak.
#[derive(Clone)]
pub(crate) struct Entrance {
    offers: Arc<Offers>,
    gate: Gate,
    tally: Tally,
    /// Nobody is waited for any more who has said nothing yet.
    stopping: CancellationToken,
}

/// What is spoken at a port.
pub(crate) struct Offers {
    /// HTTP without TLS.
    pub(crate) http: bool,
    /// TLS, and HTTP in it.
    pub(crate) tls: Option<TlsAcceptor>,
    /// TURN, with and without TLS.
    pub(crate) turn: Option<veche_turn::Handle>,
    /// Media over TCP.
    pub(crate) media: Option<veche_sfu::Handle>,
}

/// A connection of HTTP or HTTPS. A session of TLS is large, and those without need no room for it.
type Web = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What a connection speaks.
enum Arrival {
    Web(Web),
    /// TURN, with the TLS session that it is in, and what was read of it, in the session where there is one.
    Turn(TcpStream, Option<Box<ServerConnection>>, Vec<u8>),
    /// Media, with its first frame and perhaps more.
    Ice(TcpStream, Vec<u8>),
}

impl Entrance {
    pub(crate) fn new(offers: Offers, gate: Gate, tally: Tally, stopping: CancellationToken) -> Self {
        Self { offers: Arc::new(offers), gate, tally, stopping }
    }

    /// Whether there is room for it, before anything of it is read.
    fn admit(&self, stream: &TcpStream) -> Result<Permit, Unserved> {
        let permit = self.gate.enter(stream.peer_addr()?.ip())?;
        set_options(stream)?;
        Ok(permit)
    }

    /// What is served here; `None`: others serve it.
    async fn receive(&self, stream: TcpStream) -> Result<Option<Web>, Unserved> {
        let arrival = tokio::select! {
            arrival = tokio::time::timeout(OPENING_WAIT, self.offers.recognise(stream)) => arrival,
            () = self.stopping.cancelled() => return Err(Unserved::Stopping),
        };
        match arrival.unwrap_or(Err(Unserved::Slow))? {
            Arrival::Web(web) => {
                self.tally.take(if matches!(web, Either::Left(_)) { Kind::Http } else { Kind::Https });
                Ok(Some(web))
            }
            Arrival::Turn(stream, tls, early) => {
                let kind = if tls.is_some() { Kind::TurnTls } else { Kind::Turn };
                let turn = self.offers.turn.as_ref().ok_or(Unserved::NoTurn)?;
                if !turn.adopt(stream.into_std()?, tls.map(|tls| *tls), early).await {
                    return Err(Unserved::Busy);
                }
                self.tally.take(kind);
                Ok(None)
            }
            Arrival::Ice(stream, early) => {
                let media = self.offers.media.as_ref().ok_or(Unserved::NoIce)?;
                let adopted = media.adopt(stream.into_std()?, early).await;
                adopted.map_err(|error| match error {
                    AdoptError::NotIce | AdoptError::UnknownUser => Unserved::Stranger,
                    AdoptError::Busy => Unserved::Busy,
                    AdoptError::Crowded => Unserved::Crowded,
                })?;
                self.tally.take(Kind::Ice);
                Ok(None)
            }
        }
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Entrance {
    type Stream = Guarded<Web>;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    /// An error ends the connection here: it is with others, or closed.
    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let permit = self.admit(&stream);
        let entrance = self.clone();
        Box::pin(async move {
            let served = async {
                let mut permit = permit?;
                let web = entrance.receive(stream).await?;
                permit.serve();
                Ok(web.map(|web| Guarded::new(web, permit)))
            };
            match served.await {
                Ok(Some(web)) => Ok((web, service)),
                Ok(None) => Err(io::Error::other("others serve it")),
                Err(reason) => {
                    tracing::debug!(%reason, "a connection is closed");
                    entrance.tally.close(&reason);
                    Err(io::Error::other(reason))
                }
            }
        })
    }
}

impl Offers {
    async fn recognise(&self, stream: TcpStream) -> Result<Arrival, Unserved> {
        // Only looked at, so that HTTP and TLS find it still.
        let mut first = [0];
        let peeked = stream.peek(&mut first).await?;
        match opening(&first[..peeked]) {
            Opening::Http if self.http => Ok(Arrival::Web(Either::Left(stream))),
            Opening::Http => Err(refuse_http(stream).await),
            Opening::Tls => self.within_tls(stream).await,
            Opening::NeedMore if peeked == 0 => Err(Unserved::Ended),
            Opening::NeedMore | Opening::Turn | Opening::Ice => framed(stream).await,
            Opening::Unknown => Err(Unserved::Unknown),
        }
    }

    /// In TLS the protocol that was agreed on tells; where none was, the first byte does: STUN, or HTTP.
    async fn within_tls(&self, stream: TcpStream) -> Result<Arrival, Unserved> {
        let tls = self.tls.as_ref().ok_or(Unserved::NoTls)?;
        let mut stream = tls.accept(stream).await.map_err(Unserved::Handshake)?;
        match stream.get_ref().1.alpn_protocol() {
            Some(name) if TURN_PROTOCOLS.contains(&name) => return Ok(taken_apart(stream)),
            Some(ACME_PROTOCOL) => return Err(Unserved::Proof),
            Some(_) => return Ok(Arrival::Web(Either::Right(Box::new(stream)))),
            None => {}
        }
        let first = stream.fill_buf().await?.first().copied().ok_or(Unserved::Ended)?;
        match opening(&[first]) {
            Opening::Http => Ok(Arrival::Web(Either::Right(Box::new(stream)))),
            Opening::NeedMore | Opening::Turn => Ok(taken_apart(stream)),
            Opening::Tls | Opening::Ice | Opening::Unknown => Err(Unserved::Unknown),
        }
    }
}

/// The connection, its session, and what of its contents has come.
fn taken_apart(stream: TlsStream<TcpStream>) -> Arrival {
    let (stream, mut session) = stream.into_inner();
    let mut early = Vec::new();
    // It ends with an error where the session does not: what has come is in `early`, and no more than the session holds.
    let _ = io::Read::read_to_end(&mut session.reader(), &mut early);
    Arrival::Turn(stream, Some(Box::new(session)), early)
}

/// STUN by itself, or in a frame; then the whole of the first one, which tells whom it is for.
async fn framed(mut stream: TcpStream) -> Result<Arrival, Unserved> {
    let (mut early, mut len) = ([0; MAX_EARLY], 0);
    loop {
        let read = stream.read(&mut early[len..]).await?;
        if read == 0 {
            return Err(Unserved::Ended);
        }
        len += read;
        let bytes = &early[..len];
        match opening(bytes) {
            Opening::Turn => return Ok(Arrival::Turn(stream, None, bytes.to_vec())),
            Opening::Ice if whole_frame(bytes).is_some() => return Ok(Arrival::Ice(stream, bytes.to_vec())),
            Opening::Ice | Opening::NeedMore => {}
            Opening::Http | Opening::Tls | Opening::Unknown => return Err(Unserved::Unknown),
        }
    }
}

/// Says that it is HTTPS here.
async fn refuse_http(mut stream: TcpStream) -> Unserved {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{NOT_HTTPS}",
        NOT_HTTPS.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        // What is not read would have the system reset the connection, and the answer might be lost.
        let _ = tokio::io::copy(&mut stream.take(MAX_UNSERVED), &mut tokio::io::sink()).await;
    }
    Unserved::NotHttps
}
