//! The server's web address as it was found: connections to it, plain HTTP requests, and who may be told secrets.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio_util::either::Either;

use crate::line::{Line, PATIENCE, connect, in_time, secure, silence};
use crate::target::Target;

/// The most that is read of an answer.
const MAX_BODY: usize = 1024 * 1024;

/// What this client says that it is.
pub(crate) const AGENT: &str = concat!("veche-doctor/", env!("CARGO_PKG_VERSION"));

/// A server's web address, at one of the places where its name is.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) target: Target,
    pub(crate) address: SocketAddr,
    pub(crate) name: ServerName<'static>,
    /// Whether the token may be sent: plain HTTP is what the operator asked for, a certificate has to be right.
    pub(crate) is_trusted: bool,
    /// The certificate that was found right: later connections have to show the same.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Door {
    /// A connection, and what certificates were shown on it.
    pub(crate) async fn open(&self) -> io::Result<(Line, Vec<CertificateDer<'static>>)> {
        let stream = connect(self.address).await?;
        if self.target.is_secure() {
            let (line, chain) = secure(stream, &self.name, b"http/1.1").await?;
            if self.certificate.is_some() && self.certificate.as_ref() != chain.first() {
                let message =
                    "another certificate was shown than on the first connection, so nothing was told";
                return Err(io::Error::other(message));
            }
            return Ok((line, chain));
        }
        Ok((Either::Left(stream), Vec::new()))
    }

    /// The token, where it may be sent.
    pub(crate) fn token(&self) -> Option<&str> {
        self.target.token.as_deref().filter(|_| self.is_trusted)
    }

    /// GET, with the token where it may be sent.
    pub(crate) async fn get(&self, path: &str) -> io::Result<Answer> {
        let (line, _) = self.open().await?;
        in_time(self.exchange(line, path)).await
    }

    /// What stands in the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        self.target.url.authority()
    }

    /// GET of what does not end: its head, and what comes first of it, which are an answer without an end.
    pub(crate) async fn begin(&self, path: &str) -> io::Result<Answer> {
        let (line, _) = self.open().await?;
        let request = self.request(path)?;
        let begun = async {
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(line)).await.map_err(io::Error::other)?;
            let connection = tokio::spawn(connection);
            let (head, mut body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
            let first = async {
                let frame = body.frame().await.transpose().map_err(io::Error::other)?;
                Ok(frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default())
            };
            // Nothing is told apart from no answer at all: the head has come.
            let body = in_time(first).await.unwrap_or_default();
            connection.abort();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        // Half of the time for the head, half for what comes first.
        tokio::time::timeout(2 * PATIENCE, begun).await.unwrap_or_else(|_| Err(silence(2 * PATIENCE)))
    }

    fn request(&self, path: &str) -> io::Result<Request<Empty<Bytes>>> {
        let mut request = Request::get(path).header(HOST, self.authority()).header(USER_AGENT, AGENT);
        if let Some(token) = self.token() {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Empty::new()).map_err(io::Error::other)
    }

    async fn exchange(&self, line: Line, path: &str) -> io::Result<Answer> {
        let request = self.request(path)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(line)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(io::Error::other)?.to_bytes();
        connection.abort();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Answer {
    /// The body, where it is JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What the server says of an error: its code and its words, or the beginning of what it answered.
    pub(crate) fn complaint(&self) -> String {
        let json = self.json().unwrap_or_default();
        let error = &json["error"];
        let words = match (error["code"].as_str(), error["message"].as_str()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            _ => String::from_utf8_lossy(&self.body).chars().take(100).collect(),
        };
        format!("{} {words}", self.status.as_u16()).trim_end().to_owned()
    }
}
