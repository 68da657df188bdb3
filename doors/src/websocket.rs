//! How WebSockets are spoken at every door.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
pub use yawc::DeflatePool;
use yawc::{IncomingUpgrade, Options, Role, WebSocket};

/// How long a client may take to answer a close.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// The longest close reason, in bytes (RFC 6455 section 5.5).
pub const MAX_CLOSE_REASON: usize = 123;

/// How long the fragments of one message may take to come.
const FRAGMENT_WAIT: Duration = Duration::from_secs(30);

/// Compressors that wait for their next message, shared by all connections of a door.
const POOLED_COMPRESSORS: usize = 32;

/// Messages below this many bytes are not worth compressing.
const COMPRESSION_THRESHOLD: usize = 1024;

/// What a connection's buffers begin with, in bytes; they grow while a larger message is in them.
const BUFFER_BYTES: usize = 1024;

/// Compressors for the connections of a door.
pub fn deflate_pool() -> DeflatePool {
    DeflatePool::new(POOLED_COMPRESSORS)
}

/// Options of a door that takes messages of up to `max_message` bytes; larger ones end the connection with 1009.
/// Compression keeps no state between messages, so that an idle client costs none.
pub fn options(max_message: usize, pool: DeflatePool) -> Options {
    Options::default()
        .with_limits(max_message, max_message)
        .with_low_latency_compression()
        .server_no_context_takeover()
        .client_no_context_takeover()
        .with_compression_threshold(COMPRESSION_THRESHOLD)
        .with_deflate_pool(pool)
        .with_read_buffer_capacity(BUFFER_BYTES)
        .with_write_buffer_capacity(BUFFER_BYTES)
        .with_fragment_timeout(FRAGMENT_WAIT)
        .with_no_delay()
}

/// A request for a WebSocket that can be opened several times over, with other limits each time: for who is a stranger at
/// first.
pub struct Upgrade {
    incoming: IncomingUpgrade,
    stream: OnUpgrade,
}

/// What was agreed on with the client.
#[derive(Debug)]
pub struct Agreed {
    stream: OnUpgrade,
    extensions: Extensions,
}

/// The extensions that were agreed on.
#[derive(Clone, Debug)]
pub struct Extensions(Option<Box<str>>);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, StatusCode> {
        let stream = parts.extensions.get::<OnUpgrade>().cloned().ok_or(StatusCode::BAD_REQUEST)?;
        let incoming = IncomingUpgrade::from_request_parts(parts, state).await?;
        Ok(Self { incoming, stream })
    }
}

impl Upgrade {
    /// Agrees: the answer for the client, and what comes of it when the client has it.
    pub fn agree(self, pool: DeflatePool) -> yawc::Result<(Response, Agreed)> {
        let (response, _) = self.incoming.upgrade(options(0, pool))?;
        let agreed = response.headers().get(header::SEC_WEBSOCKET_EXTENSIONS);
        let extensions = Extensions(agreed.and_then(|agreed| agreed.to_str().ok()).map(Into::into));
        Ok((response.into_response(), Agreed { stream: self.stream, extensions }))
    }

    /// Agrees on no compression: for pictures, which have one of their own.
    pub fn agree_plain(self) -> yawc::Result<(Response, Agreed)> {
        let (response, _) = self.incoming.upgrade(Options::default())?;
        Ok((response.into_response(), Agreed { stream: self.stream, extensions: Extensions(None) }))
    }
}

impl Agreed {
    /// Waits until the client has the answer: its stream, and how frames on it are read.
    pub async fn stream(self) -> hyper::Result<(TokioIo<Upgraded>, Extensions)> {
        Ok((TokioIo::new(self.stream.await?), self.extensions))
    }
}

impl Extensions {
    /// A WebSocket on a stream at the beginning of a frame; see [`options`].
    pub fn open<S>(&self, stream: S, max_message: usize, pool: DeflatePool) -> yawc::Result<WebSocket<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let options = options(max_message, pool);
        WebSocket::from_stream_with_extensions(stream, Role::Server, self.0.as_deref(), options)
    }
}
