//! Requests to small servers on loopback, which answer what a test wants to see.

use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

#[tokio::test]
async fn a_post_arrives_with_its_headers_and_body() {
    let (url, asked) = serve("HTTP/1.1 201 Created\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok").await;
    let client = Client::new(Limits::default()).unwrap();
    let answer =
        client.post(&format!("{url}/hook?x=1"), &[("x-mine", "7")], Bytes::from("hello")).await.unwrap();
    assert_eq!((answer.status, answer.is_success(), answer.body.as_ref()), (201, true, b"ok".as_ref()));
    assert_eq!(answer.headers["x-a"], "b");
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("x-mine: 7\r\n") && asked.ends_with("\r\n\r\nhello"), "{asked}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (url, _) =
        serve("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n").await;
    let answer = Client::new(Limits::default()).unwrap().get(&url, &[]).await.unwrap();
    assert_eq!((answer.status, answer.is_success()), (302, false));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_read() {
    let (url, _) = serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789").await;
    let client = Client::new(Limits { max_body: 8, ..Limits::default() }).unwrap();
    assert_eq!(client.get(&url, &[]).await.unwrap_err(), FetchError::TooLarge { limit: 8 });
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let timeout = Duration::from_millis(50);
    let client = Client::new(Limits { timeout, ..Limits::default() }).unwrap();
    assert_eq!(client.get(&url, &[]).await.unwrap_err(), FetchError::TimedOut(timeout));
}

#[tokio::test]
async fn a_closed_port_is_named_with_its_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(Limits::default()).unwrap().get(&url, &[]).await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    let client = Client::new(Limits::default()).unwrap();
    for url in ["", "/path", "ftp://example.org/", "example.org", "https://", "http://user:secret@127.0.0.1/"]
    {
        let error = client.get(url, &[]).await.unwrap_err();
        assert_eq!(error, FetchError::BadUrl(url.to_owned()));
    }
    let error = client.get("http://127.0.0.1:1/", &[("x", "a\nb")]).await.unwrap_err();
    assert_eq!(error, FetchError::BadHeader("x".into()));
}

#[tokio::test]
async fn https_is_checked_against_the_roots() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let certificate = key.cert.der().clone();
    let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    });

    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let trusting = Client::with_roots(Limits::default(), roots).unwrap();
    assert!(trusting.get(&url, &[]).await.unwrap().is_success());
    let stranger = Client::with_roots(Limits::default(), RootCertStore::empty()).unwrap();
    let error = stranger.get(&url, &[]).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

/// A server that answers its first request so, and the request that it got.
async fn serve(text: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, text).await
    });
    (url, asked)
}

/// Reads a request, with as much of a body as it announces, and answers it.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
    let mut request = Vec::new();
    while !is_whole(&request) && stream.read_buf(&mut request).await.unwrap() > 0 {}
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(request).unwrap()
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}
