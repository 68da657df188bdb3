//! Something between a client and the server that changes the heads of HTTP messages, as badly set up proxies do.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// What it makes of a head, which ends with an empty line.
pub(crate) type Change = fn(String) -> String;

/// Starts one; `request` and `answer` are what it does to each. Says where it is.
pub(crate) async fn start(server: SocketAddr, request: Change, answer: Change) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let changes = Arc::new((request, answer));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, server, changes.clone()));
        }
    });
    address
}

/// The lines of a head without those that `is_out` names.
pub(crate) fn without(head: &str, is_out: impl Fn(&str) -> bool) -> String {
    head.split_inclusive("\r\n").filter(|line| !is_out(&line.to_lowercase())).collect()
}

/// One request, its answer, and then whatever comes.
async fn carry(mut client: TcpStream, server: SocketAddr, changes: Arc<(Change, Change)>) -> Option<()> {
    let mut server = TcpStream::connect(server).await.ok()?;
    let request = head(&mut client).await?;
    server.write_all(changes.0(request).as_bytes()).await.ok()?;
    let answer = head(&mut server).await?;
    client.write_all(changes.1(answer).as_bytes()).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}

/// Byte by byte, so that nothing of what follows is taken.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(bytes).ok()
}
