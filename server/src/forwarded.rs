//! Who the client is, when the connection is a proxy's.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;

use crate::config::Network;

/// What proxies add the client's address to.
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Puts the client's address in the place of the proxy's, for all that look at addresses.
pub(crate) async fn see_through(
    State(trusted): State<Arc<[Network]>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    if let Some(peer) = peer {
        let address = client(&trusted, peer.ip(), request.headers());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, peer.port())));
    }
    next.run(request).await
}

/// Each proxy adds whom it was asked by at the end: the last one that is no proxy of ours is the client. What stands
/// before was written by the client itself, perhaps.
fn client(trusted: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev().filter_map(|line| line.to_str().ok());
    let named = lines.flat_map(|line| line.rsplit(',')).map(|address| address.trim().parse::<IpAddr>());
    let mut client = peer;
    for address in named {
        if !is_trusted(client) {
            break;
        }
        let Ok(address) = address else { break };
        client = address;
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_who_is_no_proxy_of_ours() {
        let trusted: Vec<Network> =
            ["127.0.0.1", "10.0.0.0/8"].map(|network| network.parse().unwrap()).into();
        let client = |peer: &str, lines: &[&str]| {
            let lines = lines.iter().map(|line| (X_FORWARDED_FOR, line.parse().unwrap()));
            client(&trusted, peer.parse().unwrap(), &lines.collect()).to_string()
        };
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9", "not a proxy");
        assert_eq!(client("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(client("127.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            client("127.0.0.1", &["8.8.8.8, 198.51.100.1, 10.1.1.1"]),
            "198.51.100.1",
            "the first is forged"
        );
        assert_eq!(client("127.0.0.1", &["198.51.100.1", "10.1.1.1"]), "198.51.100.1");
        assert_eq!(client("10.9.9.9", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(client("127.0.0.1", &["unknown"]), "127.0.0.1");
        assert_eq!(client("127.0.0.1", &["10.0.0.1"]), "10.0.0.1", "all are proxies");
    }
}
