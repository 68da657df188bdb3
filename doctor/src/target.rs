//! Which server is looked at, and from where.

use std::net::SocketAddr;
use std::time::Duration;

use url::{Host, Url};

use crate::line::in_time;

/// Which server is looked at, and from where.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) url: Url,
    pub(crate) token: Option<String>,
    pub(crate) vantage: Vantage,
    pub(crate) idle: Duration,
    pub(crate) room: String,
    /// Whether somebody has said which room.
    pub(crate) is_room_named: bool,
}

/// From where it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vantage {
    /// Another machine, as users do: an address that does not answer is a failure.
    Outside,
    /// The server's own machine. Many routers do not let it reach its own public address, so that silence there is only to be
    /// looked at.
    Inside,
}

/// It is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no address of a server; write it like https://call.example or https://call.example:8443")]
pub struct BadTarget(String);

impl Target {
    /// A server by the address of its web page, `https://host[:port]`.
    pub fn new(address: &str, vantage: Vantage) -> Result<Self, BadTarget> {
        let bad = || BadTarget(address.to_owned());
        let mut url: Url = address.parse().map_err(|_| bad())?;
        let is_web = matches!(url.scheme(), "http" | "https");
        if !is_web || url.host().is_none() || !url.username().is_empty() || url.password().is_some() {
            return Err(bad());
        }
        url.set_path("");
        url.set_query(None);
        url.set_fragment(None);
        let room = format!("doctor-{:08x}", rand::random::<u32>());
        Ok(Self { url, token: None, vantage, idle: Duration::ZERO, room, is_room_named: false })
    }

    /// Asks with this token.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// Joins this room, which must take whoever comes, instead of one of its own.
    #[must_use]
    pub fn with_room(self, room: Option<String>) -> Self {
        let is_room_named = room.is_some();
        Self { room: room.unwrap_or_else(|| self.room.clone()), is_room_named, ..self }
    }

    /// Leaves the WebSocket alone for so long, to see whether something on the way cuts it.
    #[must_use]
    pub fn with_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// The room that is joined to try the media plane out.
    pub fn room(&self) -> &str {
        &self.room
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The name or address without brackets.
    pub(crate) fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => String::new(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }

    /// As it stands in messages: without the slash at the end.
    pub(crate) fn shown(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Where its host is. A name may have several addresses, each once.
    pub(crate) async fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        resolve(&self.host(), self.port()).await
    }
}

/// Where a name is.
pub(crate) async fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let looked_up = async { tokio::net::lookup_host((host, port)).await.map(Vec::from_iter) };
    let mut addresses: Vec<SocketAddr> = in_time(looked_up).await?;
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_web_page() {
        let target = |text| Target::new(text, Vantage::Outside);
        let server = target("https://call.example:8443/room?x=1").unwrap();
        assert_eq!((server.shown(), server.port()), ("https://call.example:8443", 8443));
        assert!(server.is_secure() && server.room().starts_with("doctor-"));
        assert_eq!(target("http://[::1]").unwrap().host(), "::1");
        assert_eq!(target("http://[::1]").unwrap().port(), 80);
        for bad in ["", "call.example", "ftp://call.example", "https://", "https://a:b@c.example"] {
            let error = target(bad).unwrap_err().to_string();
            assert!(error.contains("https://call.example"), "{error}");
        }
    }
}
