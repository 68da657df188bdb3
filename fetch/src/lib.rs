//! HTTP requests that the server makes itself: webhooks, and the keys and discovery documents of identity providers.
//!
//! Whoever answers is not trusted: every request ends after a time, bodies are bounded, redirects are not followed (they
//! come back as what they are), and HTTPS is checked against the machine's own root certificates.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
pub use hyper::header::HeaderMap;
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

/// How long an address may take to answer a connection; another address of the same name is tried then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Connections kept for one host.
const IDLE_PER_HOST: usize = 4;

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest a whole request may take: name, connection, answer and its body.
    pub timeout: Duration,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
}

/// A pool of connections; cheap to clone, all clones share it.
#[derive(Clone)]
pub struct Client {
    inner: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: Limits,
    /// Why HTTPS cannot be checked, where that is so.
    without_roots: Option<Arc<str>>,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code; redirects come back as 3xx.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The address cannot be asked.
    #[error("'{0}' is no address of a web server; write it like https://example.org/path")]
    BadUrl(String),
    /// A header field cannot be sent.
    #[error("the header field '{0}' has characters that HTTP does not allow")]
    BadHeader(String),
    /// The body of the answer is longer than is read.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// What would be read, in bytes.
        limit: usize,
    },
    /// Nothing came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// HTTPS cannot be checked on this machine.
    #[error(
        "HTTPS cannot be checked without root certificates ({0}); install ca-certificates, or set SSL_CERT_FILE"
    )]
    NoRoots(String),
    /// Connecting, TLS or HTTP failed.
    #[error("{0}")]
    Failed(String),
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), max_body: 1024 * 1024 }
    }
}

impl Client {
    /// A client that trusts the machine's root certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` count). Without any it is
    /// made all the same, and refuses https:// only.
    pub fn new(limits: Limits) -> Result<Self, FetchError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        let without_roots = (usable == 0).then(|| {
            let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            if reasons.is_empty() { "none were found".into() } else { reasons.join("; ").into() }
        });
        let client = Self::with_roots(limits, roots)?;
        Ok(Self { without_roots, ..client })
    }

    /// A client that trusts these certificates and no others.
    pub fn with_roots(limits: Limits, roots: RootCertStore) -> Result<Self, FetchError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Failed(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(connector);
        Ok(Self { inner, limits, without_roots: None })
    }

    /// Asks for `url`, with these header fields besides.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response, FetchError> {
        self.send(Method::GET, url, headers, Bytes::new()).await
    }

    /// Sends `body` to `url`, with these header fields besides.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response, FetchError> {
        self.send(Method::POST, url, headers, body).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response, FetchError> {
        let uri = check_url(url)?;
        if uri.scheme_str() == Some("https")
            && let Some(reason) = &self.without_roots
        {
            return Err(FetchError::NoRoots(reason.to_string()));
        }
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let names = || headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let request = request.body(Full::new(body)).map_err(|_| FetchError::BadHeader(names()))?;
        match tokio::time::timeout(self.limits.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::TimedOut(self.limits.timeout)),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response, FetchError> {
        let answer = self.inner.request(request).await.map_err(|error| FetchError::Failed(chain(&error)))?;
        let (head, body) = answer.into_parts();
        let limit = self.limits.max_body;
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                FetchError::TooLarge { limit }
            } else {
                FetchError::Failed(chain(error.as_ref()))
            }
        })?;
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Whether a request could be sent to `url`: http or https, a host, no user name.
pub fn check_url(url: &str) -> Result<Uri, FetchError> {
    let bad = || FetchError::BadUrl(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri
        .authority()
        .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    if known && host { Ok(uri) } else { Err(bad()) }
}

/// An error with its causes: hyper's own text alone says only "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
