//! The address of a STUN or TURN server as clients get it (RFC 7064, RFC 7065).

use std::fmt;

/// How a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Udp,
    Tcp,
    Tls,
}

/// The address of a STUN or TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IceUrl {
    text: String,
    /// Whether it relays.
    pub(crate) is_turn: bool,
    pub(crate) way: Way,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl IceUrl {
    /// `turn:host[:port][?transport=udp|tcp]`, or `turns:`, `stun:`, `stuns:`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let (is_turn, is_secure) = match scheme {
            "turn" => (true, false),
            "turns" => (true, true),
            "stun" => (false, false),
            "stuns" => (false, true),
            _ => return None,
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let way = match (is_secure, query.strip_prefix("transport=")) {
            (true, _) => Way::Tls,
            (false, Some("tcp")) => Way::Tcp,
            (false, _) => Way::Udp,
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let default = if is_secure { 5349 } else { 3478 };
        let port = port.map_or(Some(default), |port| port.parse().ok())?;
        let host = Some(host).filter(|host| !host.is_empty())?.to_owned();
        Some(Self { text: text.to_owned(), is_turn, way, host, port })
    }

    /// The name of the check.
    pub(crate) fn check(&self) -> &'static str {
        match (self.is_turn, self.way) {
            (false, _) => "stun",
            (true, Way::Udp) => "turn.udp",
            (true, Way::Tcp) => "turn.tcp",
            (true, Way::Tls) => "turn.tls",
        }
    }
}

impl Way {
    /// As firewalls call it.
    pub(crate) fn firewall(self) -> &'static str {
        if self == Self::Udp { "udp" } else { "tcp" }
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers_are_understood() {
        let parts = |text: &str| {
            let url = IceUrl::parse(text).unwrap();
            (url.check(), url.way, url.host, url.port)
        };
        assert_eq!(parts("turn:a.example:5?transport=tcp"), ("turn.tcp", Way::Tcp, "a.example".into(), 5));
        assert_eq!(
            parts("turn:[2001:db8::1]:5?transport=udp"),
            ("turn.udp", Way::Udp, "2001:db8::1".into(), 5)
        );
        assert_eq!(parts("turns:a.example"), ("turn.tls", Way::Tls, "a.example".into(), 5349));
        assert_eq!(parts("stun:192.0.2.1"), ("stun", Way::Udp, "192.0.2.1".into(), 3478));
        for bad in ["", "http://a", "turn:", "turn:a:b", "turn:[::1", "stun:a:99999"] {
            assert_eq!(IceUrl::parse(bad), None, "{bad}");
        }
    }
}
