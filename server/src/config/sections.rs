//! The sections that the server itself reads; the others belong to the crates that they are about.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::EnvFilter;

use crate::discovery::StunServer;

/// Web pages and the HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Where HTTP is served.
    pub(crate) listen: SocketAddr,
    /// Where HTTPS is served; empty for nowhere.
    #[serde(with = "empty_is_none")]
    pub(crate) https_listen: Option<SocketAddr>,
    /// The port of HTTPS, or of HTTP without it, as clients find it; 0 for the one that is bound.
    pub(crate) external_port: u16,
    /// The certificate chain (PEM); empty for a self-signed one.
    #[serde(with = "empty_is_none")]
    pub(crate) certificate_file: Option<Text<PathBuf>>,
    /// Its private key (PEM).
    #[serde(with = "empty_is_none")]
    pub(crate) key_file: Option<Text<PathBuf>>,
    /// Which pages may show the web client in a frame: a Content-Security-Policy `frame-ancestors` value.
    pub(crate) frame_ancestors: String,
    /// For how long browsers that came by HTTPS shall never use HTTP, in seconds (`Strict-Transport-Security`); 0 to say
    /// nothing.
    pub(crate) hsts_seconds: u64,
    /// How many connections there may be, WebSockets and idle ones too. Who comes then is refused.
    pub(crate) max_connections: usize,
    /// How many of them one client address may have (of IPv6: a network of 64 bits), and how many of those that have not said yet
    /// what they want; 0 for any number.
    pub(crate) max_connections_per_address: usize,
    pub(crate) max_opening_per_address: usize,
    /// How long a client may send nothing while its request is awaited, in seconds.
    pub(crate) body_idle_seconds: u64,
    /// Whose `X-Forwarded-For` names the client: addresses and networks of proxies.
    pub(crate) trusted_proxies: Vec<Network>,
    /// How long requests and uploads may take to end when the server stops, in seconds.
    pub(crate) drain_seconds: u64,
    /// Where certificates and the like are kept.
    pub(crate) data_dir: PathBuf,
}

/// A certificate from an authority that speaks ACME (RFC 8555), such as Let's Encrypt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Acme {
    /// The names of this server. Empty: no certificate is asked for.
    pub(crate) domains: Vec<String>,
    /// Whom the authority may write to.
    pub(crate) email: String,
    /// The authority's directory.
    pub(crate) directory: String,
    /// Certificates (PEM) by which the directory's own HTTPS is trusted; empty for those of the usual authorities.
    #[serde(with = "empty_is_none")]
    pub(crate) directory_ca_file: Option<Text<PathBuf>>,
}

/// The media plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MediaSettings {
    /// The addresses to bind.
    pub(crate) bind: Vec<IpAddr>,
    /// Worker `n` has the UDP and TCP port `first_port + n`; 0 lets the system choose.
    pub(crate) first_port: u16,
    /// How many workers; 0 for as many as cores.
    pub(crate) workers: usize,
    /// A room of which so many are on one worker spreads over others; 0 for never.
    pub(crate) spread_from: usize,
    /// Addresses announced to clients instead of the machine's own.
    pub(crate) external_addresses: Vec<IpAddr>,
    /// STUN servers that are asked at which addresses others see this machine, which are announced too.
    pub(crate) discover: Vec<StunServer>,
    /// Announce loopback addresses too.
    pub(crate) loopback: bool,
    /// Accept media over TCP.
    pub(crate) tcp: bool,
    /// How many connections of media over TCP one client address may have at each worker; 0 for any number.
    pub(crate) tcp_per_address: usize,
    /// Accept it at the ports of HTTP and HTTPS too.
    pub(crate) share_port: bool,
    /// Offer DTLS 1.3 as well as 1.2.
    pub(crate) dtls13: bool,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// What is logged, in the form of `RUST_LOG`, which comes before it.
    #[serde(deserialize_with = "filter")]
    pub(crate) filter: String,
    /// How it is written.
    pub(crate) format: LogFormat,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// What the server tells of itself to those who run it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Telemetry {
    /// Who may read `/metrics`.
    pub(crate) metrics: Reach,
    /// Another address for `/metrics`, where everybody may read it; empty for none.
    #[serde(with = "empty_is_none")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Where traces are sent by OTLP over HTTP; empty for nowhere.
    pub(crate) otlp_endpoint: String,
    /// The share of requests that are traced, 0 to 1, where who asks has not decided.
    pub(crate) otlp_sample: f64,
}

/// Who may read something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reach {
    /// Nobody.
    Off,
    /// This machine, and administrators.
    #[default]
    Local,
    /// Everybody.
    All,
}

/// An address, or all that begin alike: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8000)),
            https_listen: Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443))),
            external_port: 0,
            certificate_file: None,
            key_file: None,
            frame_ancestors: "'self'".to_owned(),
            hsts_seconds: 0,
            max_connections: 50_000,
            max_connections_per_address: 10_000,
            max_opening_per_address: 1000,
            body_idle_seconds: 30,
            trusted_proxies: Vec::new(),
            drain_seconds: 10,
            data_dir: PathBuf::from("data"),
        }
    }
}

impl Http {
    /// How long requests and uploads may take to end when the server stops.
    pub(crate) fn drain_wait(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.certificate_file.is_some() != self.key_file.is_some() {
            let message = "set http.key_file too, or neither, for example http.certificate_file = \
                           \"/etc/veche/fullchain.pem\" and http.key_file = \"/etc/veche/key.pem\"";
            return Err(("certificate_file", message.to_owned()));
        }
        if !self.frame_ancestors.bytes().all(|b| b.is_ascii_graphic() && b != b';' || b == b' ') {
            return Err(("frame_ancestors", "for example \"'self' https://app.example\"".to_owned()));
        }
        if self.max_connections == 0 {
            return Err(("max_connections", "must be at least 1, for example 50000".to_owned()));
        }
        if self.body_idle_seconds == 0 {
            return Err(("body_idle_seconds", "must be at least 1, for example 30".to_owned()));
        }
        Ok(())
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            email: String::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            directory_ca_file: None,
        }
    }
}

impl Acme {
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let is_name = |name: &String| {
            let is_label = |label: &str| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            name.len() <= 253 && name.split('.').all(is_label) && name.parse::<IpAddr>().is_err()
        };
        if let Some(name) = self.domains.iter().find(|name| !is_name(name)) {
            let message =
                format!("`{name}` is not a name such as \"veche.example\"; wildcards need another proof");
            return Err(("domains", message));
        }
        if !self.directory.starts_with("https://") {
            let message =
                "an https:// address, for example \"https://acme-v02.api.letsencrypt.org/directory\"";
            return Err(("directory", message.to_owned()));
        }
        if !self.email.is_empty() && !self.email.contains('@') {
            return Err(("email", "an address, for example \"admin@veche.example\"".to_owned()));
        }
        Ok(())
    }
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            bind: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            first_port: 40_000,
            workers: 0,
            spread_from: 50,
            external_addresses: Vec::new(),
            discover: Vec::new(),
            loopback: true,
            tcp: true,
            tcp_per_address: 512,
            share_port: true,
            dtls13: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info,dcsctp=warn,dimpl=warn".to_owned(), format: LogFormat::Text }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { metrics: Reach::Local, metrics_listen: None, otlp_endpoint: String::new(), otlp_sample: 1.0 }
    }
}

impl Telemetry {
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=1.0).contains(&self.otlp_sample) {
            return Err(("otlp_sample", "a share from 0.0 to 1.0, for example 0.1".to_owned()));
        }
        let is_url = ["http://", "https://"].iter().any(|scheme| self.otlp_endpoint.starts_with(scheme));
        if !self.otlp_endpoint.is_empty() && !is_url {
            return Err(("otlp_endpoint", "for example \"http://127.0.0.1:4318/v1/traces\"".to_owned()));
        }
        Ok(())
    }
}

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl From<Network> for veche_turn::Network {
    fn from(Network { address, bits }: Network) -> Self {
        Self::new(address, bits)
    }
}

impl std::str::FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not an address such as 127.0.0.1, nor a network such as 10.0.0.0/8";
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| wrong))?;
        if bits > most {
            return Err(wrong);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A path as text, so that it has the same form as an address in [`empty_is_none`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<T>(pub(crate) T);

impl fmt::Display for Text<PathBuf> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl std::str::FromStr for Text<PathBuf> {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(PathBuf::from(text)))
    }
}

/// What `tracing` understands. An empty one would silence everything but errors, which nobody who leaves it empty means.
fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Err(serde::de::Error::custom("empty; \"error\" is the least"));
    }
    EnvFilter::try_new(&text).map_err(serde::de::Error::custom)?;
    Ok(text)
}

/// TOML has no null: an empty text stands for nothing.
mod empty_is_none {
    use super::{Deserialize, Deserializer, Serializer, fmt};

    #[expect(clippy::ref_option, reason = "serde asks for this signature")]
    pub(super) fn serialize<T: fmt::Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = value.as_ref().map(ToString::to_string).unwrap_or_default();
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, T, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: std::str::FromStr<Err: fmt::Display>,
    {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_all_addresses_that_begin_alike() {
        let network = |text: &str| text.parse::<Network>();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let ten = network("10.0.0.0/8").unwrap();
        assert!(ten.contains(address("10.255.0.1")) && ten.contains(address("::ffff:10.1.2.3")));
        assert!(!ten.contains(address("11.0.0.1")) && !ten.contains(address("::1")));
        let one = network("127.0.0.1").unwrap();
        assert!(one.contains(address("127.0.0.1")) && !one.contains(address("127.0.0.2")));
        assert!(network("0.0.0.0/0").unwrap().contains(address("203.0.113.5")));
        assert!(network("2001:db8::/32").unwrap().contains(address("2001:db8:1::1")));
        for wrong in ["", "here", "10.0.0.0/33", "10.0.0.0/x", "::/129"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
