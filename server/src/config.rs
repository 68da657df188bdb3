//! The configuration: defaults, then the file, then the environment.
//!
//! Every value is set and checked on its own, whatever its source, so that an error names the setting, says where it
//! stands and gives an example of what would be right.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};
use veche_sfu::SfuConfig;
use veche_signaling::Settings;

/// The file that is read when none is named and it exists.
const DEFAULT_FILE: &str = "veche.toml";

/// The prefix of environment variables: `VECHE_HTTP_LISTEN` is `http.listen`.
const PREFIX: &str = "VECHE_";

/// Variables of the messaging contract, and the settings that they are.
const CONTRACT_VARIABLES: [(&str, &str, &str); 6] = [
    ("WEBRTC_ENABLED", "signaling", "enabled"),
    ("WEBRTC_STUN_SERVERS", "signaling", "stun_servers"),
    ("WEBRTC_MAX_ROOMS", "signaling", "max_rooms"),
    ("WEBRTC_MAX_PARTICIPANTS_PER_ROOM", "signaling", "max_participants_per_room"),
    ("WEBSOCKET_MAX_CONNECTIONS", "signaling", "max_connections"),
    ("WEBSOCKET_HEARTBEAT_INTERVAL", "signaling", "heartbeat_seconds"),
];

/// Variables of the contract's features that do not exist yet.
const FUTURE_VARIABLES: [&str; 10] = [
    "WEBSOCKET_ENABLED",
    "WEBSOCKET_BINARY_MAX_SIZE",
    "SSE_ENABLED",
    "SSE_MAX_CONNECTIONS",
    "SSE_HEARTBEAT_INTERVAL",
    "SSE_RETRY_TIMEOUT",
    "BINARY_DATA_ENABLED",
    "BINARY_MAX_FILE_SIZE",
    "BINARY_ALLOWED_TYPES",
    "BINARY_COMPRESSION_ENABLED",
];

/// Variables of the contract that ask for authentication. Ignoring them would leave open what was meant to be closed.
const AUTH_VARIABLES: [&str; 2] = ["WEBSOCKET_AUTH_REQUIRED", "SSE_AUTH_REQUIRED"];

/// Heartbeats that a client may miss.
const IDLE_HEARTBEATS: u32 = 3;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) http: Http,
    pub(crate) media: MediaSettings,
    pub(crate) signaling: Settings,
    pub(crate) log: Log,
}

/// Web pages and the HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Where HTTP is served.
    pub(crate) listen: SocketAddr,
    /// Where HTTPS is served; empty for nowhere.
    #[serde(with = "empty_is_none")]
    pub(crate) https_listen: Option<SocketAddr>,
    /// The certificate chain (PEM); empty for a self-signed one.
    #[serde(with = "empty_is_none")]
    pub(crate) certificate_file: Option<Text<PathBuf>>,
    /// Its private key (PEM).
    #[serde(with = "empty_is_none")]
    pub(crate) key_file: Option<Text<PathBuf>>,
    /// Which pages may show the web client in a frame: a Content-Security-Policy `frame-ancestors` value.
    pub(crate) frame_ancestors: String,
    /// Where certificates and the like are kept.
    pub(crate) data_dir: PathBuf,
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
    /// Announce loopback addresses too.
    pub(crate) loopback: bool,
    /// Accept media over TCP.
    pub(crate) tcp: bool,
    /// Offer DTLS 1.3 as well as 1.2.
    pub(crate) dtls13: bool,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// What is logged, in the form of `RUST_LOG`, which comes before it.
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

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

/// One value, and where it comes from.
struct Assignment {
    section: String,
    field: String,
    value: Value,
    /// `veche.toml` or an environment variable.
    source: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8000)),
            https_listen: Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443))),
            certificate_file: None,
            key_file: None,
            frame_ancestors: "'self'".to_owned(),
            data_dir: PathBuf::from("data"),
        }
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
            loopback: true,
            tcp: true,
            dtls13: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info,dcsctp=warn,dimpl=warn".to_owned(), format: LogFormat::Text }
    }
}

impl Config {
    /// Reads `file` (or `veche.toml`, where it exists) and the environment. The notes are for the log.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let default_file = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default_file.exists().then_some(default_file));
        let mut assignments = Vec::new();
        if let Some(file) = file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                ConfigError(format!(
                    "{}: {error}; name a readable file, for example --config veche.toml",
                    file.display()
                ))
            })?;
            assignments = parse_file(&text, &file.display().to_string())?;
        }
        let (from_environment, notes) = parse_environment(environment)?;
        assignments.extend(from_environment);
        Ok((Self::from_assignments(assignments)?, notes))
    }

    /// The configuration as a file.
    pub(crate) fn to_toml(&self) -> String {
        toml::to_string(self).expect("every setting can stand in a file")
    }

    /// What the media plane is started with.
    pub(crate) fn sfu(&self) -> SfuConfig {
        let media = self.media.clone();
        SfuConfig {
            bind: media.bind,
            first_port: media.first_port,
            workers: media.workers,
            spread_from: media.spread_from,
            external_addresses: media.external_addresses,
            loopback: media.loopback,
            tcp: media.tcp,
            certificate_file: Some(self.http.data_dir.join("dtls.pem")),
            dtls13: media.dtls13,
            max_data_message: self.signaling.max_data_message_bytes as usize,
            hold: true,
        }
    }

    fn from_assignments(assignments: Vec<Assignment>) -> Result<Self, ConfigError> {
        let defaults = default_table();
        let mut table = defaults.clone();
        let mut config = Self::default();
        let idle_is_set =
            assignments.iter().any(|a| (&*a.section, &*a.field) == ("signaling", "idle_seconds"));
        for assignment in assignments {
            let Assignment { section, field, value, source } = assignment;
            let known = defaults.get(&section).and_then(Value::as_table).ok_or_else(|| {
                let known = defaults.keys().cloned().collect::<Vec<_>>().join(", ");
                ConfigError(format!("{source}: there is no section [{section}]; the sections are {known}"))
            })?;
            let default = known.get(&field).ok_or_else(|| {
                let known = known.keys().cloned().collect::<Vec<_>>().join(", ");
                ConfigError(format!(
                    "{source}: there is no setting {section}.{field}; [{section}] has {known}"
                ))
            })?;
            let shown = value.to_string();
            if let Some(section) = table.get_mut(&section).and_then(Value::as_table_mut) {
                section.insert(field.clone(), value);
            }
            config = Self::deserialize(Value::Table(table.clone())).map_err(|error| {
                let reason = error.message().lines().next().unwrap_or_default().to_owned();
                ConfigError(format!(
                    "{source}: {section}.{field} = {shown}: {reason}; for example {section}.{field} = {}",
                    example(&section, &field, default)
                ))
            })?;
        }
        if !idle_is_set {
            let signaling = &mut config.signaling;
            let three = signaling.heartbeat_seconds.saturating_mul(IDLE_HEARTBEATS);
            signaling.idle_seconds = signaling.idle_seconds.max(three);
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.signaling
            .check()
            .map_err(|(field, message)| ConfigError(format!("signaling.{field}: {message}")))?;
        if self.http.certificate_file.is_some() != self.http.key_file.is_some() {
            let message = "http.certificate_file and http.key_file: set both or none, for example \
                           http.certificate_file = \"/etc/veche/fullchain.pem\" and http.key_file = \"/etc/veche/key.pem\"";
            return Err(ConfigError(message.to_owned()));
        }
        if self.media.bind.is_empty() {
            let message = "media.bind: names no address; for example media.bind = [\"0.0.0.0\", \"::\"]";
            return Err(ConfigError(message.to_owned()));
        }
        if !self.http.frame_ancestors.bytes().all(|b| b.is_ascii_graphic() && b != b';' || b == b' ') {
            let message = "http.frame_ancestors: for example \"'self' https://app.example\"";
            return Err(ConfigError(message.to_owned()));
        }
        Ok(())
    }
}

fn default_table() -> Table {
    Table::try_from(Config::default()).expect("the defaults can stand in a file")
}

fn example(section: &str, field: &str, default: &Value) -> String {
    match (section, field) {
        ("http", "certificate_file") => "\"/etc/veche/fullchain.pem\"".to_owned(),
        ("http", "key_file") => "\"/etc/veche/key.pem\"".to_owned(),
        ("media", "external_addresses") => "[\"203.0.113.5\"]".to_owned(),
        ("signaling", "stun_servers") => "[\"stun:stun.example:3478\"]".to_owned(),
        ("signaling", "allowed_origins") => "[\"https://app.example\"]".to_owned(),
        _ => default.to_string(),
    }
}

fn parse_file(text: &str, name: &str) -> Result<Vec<Assignment>, ConfigError> {
    let table: Table = text.parse().map_err(|error| {
        ConfigError(format!("{name}: {error}config.example.toml shows how it is written"))
    })?;
    let mut assignments = Vec::new();
    for (section, fields) in table {
        let Value::Table(fields) = fields else {
            let message = format!("{name}: `{section}` stands outside of a section, for example [http]");
            return Err(ConfigError(message));
        };
        assignments.extend(fields.into_iter().map(|(field, value)| Assignment {
            section: section.clone(),
            field,
            value,
            source: name.to_owned(),
        }));
    }
    Ok(assignments)
}

/// The contract's variables come before `VECHE_` ones, which are more exact. Of those, sections that do not exist are
/// only noted: a cluster gives its services variables of such names (`VECHE_SERVICE_HOST`, `VECHE_PORT_8000_TCP`).
fn parse_environment(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Vec<Assignment>, Vec<String>), ConfigError> {
    let defaults = default_table();
    let (mut contract, mut own) = (Vec::new(), Vec::new());
    let (mut future, mut unknown) = (Vec::new(), Vec::new());
    for (name, text) in environment {
        // The names of settings are ASCII; others are not for us.
        let Ok(name) = name.into_string() else { continue };
        let text = || {
            text.to_str().ok_or_else(|| ConfigError(format!("{name}: not UTF-8; write its value in UTF-8")))
        };
        let known = CONTRACT_VARIABLES.iter().find(|(variable, ..)| *variable == name);
        if let Some(&(_, section, field)) = known {
            contract.push(assignment(&defaults, section, field, text()?, name.clone())?);
        } else if AUTH_VARIABLES.contains(&name.as_str()) {
            check_no_auth(&name, text()?)?;
            future.push(name);
        } else if FUTURE_VARIABLES.contains(&name.as_str()) {
            future.push(name);
        } else if let Some(setting) = name.strip_prefix(PREFIX).filter(|setting| *setting != "CONFIG") {
            let setting = setting.to_lowercase();
            let (section, field) = setting.split_once('_').unwrap_or((&setting, ""));
            if defaults.contains_key(section) {
                own.push(assignment(&defaults, section, field, text()?, name.clone())?);
            } else {
                unknown.push(name);
            }
        }
    }
    contract.extend(own);
    let mut notes = Vec::new();
    if !future.is_empty() {
        notes.push(format!("ignored, for features that do not exist yet: {}", future.join(", ")));
    }
    if !unknown.is_empty() {
        notes.push(format!("ignored, of no section of the configuration: {}", unknown.join(", ")));
    }
    Ok((contract, notes))
}

fn check_no_auth(name: &str, text: &str) -> Result<(), ConfigError> {
    if matches!(text.trim(), "" | "false" | "0" | "no" | "off") {
        return Ok(());
    }
    Err(ConfigError(format!(
        "{name}={text}: authentication does not exist yet, and whoever reaches the server may use it; let a proxy \
         authenticate, and set {name}=false"
    )))
}

/// A variable's text as the type that its setting has.
fn assignment(
    defaults: &Table,
    section: &str,
    field: &str,
    text: &str,
    source: String,
) -> Result<Assignment, ConfigError> {
    let default = defaults.get(section).and_then(|section| section.get(field));
    let text = text.trim();
    let wrong = |kind: &str, example: String| {
        ConfigError(format!("{source}={text}: not {kind}; for example {source}={example}"))
    };
    let value = match default {
        Some(Value::Boolean(_)) => match text {
            "true" | "1" | "yes" | "on" => Value::Boolean(true),
            "false" | "0" | "no" | "off" => Value::Boolean(false),
            _ => return Err(wrong("true or false", "true".to_owned())),
        },
        Some(default @ Value::Integer(_)) => {
            Value::Integer(text.parse().map_err(|_| wrong("a number", default.to_string()))?)
        }
        Some(Value::Array(_)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        _ => Value::String(text.to_owned()),
    };
    Ok(Assignment { section: section.to_owned(), field: field.to_owned(), value, source })
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

    fn from_file(text: &str) -> Result<Config, String> {
        let assignments = parse_file(text, "veche.toml").map_err(|error| error.to_string())?;
        Config::from_assignments(assignments).map_err(|error| error.to_string())
    }

    fn from_environment(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|&(name, value)| (name.into(), value.into()));
        let (assignments, _) = parse_environment(variables).map_err(|error| error.to_string())?;
        Config::from_assignments(assignments).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_has_every_setting_with_its_default() {
        let example = include_str!("../../config.example.toml");
        assert_eq!(from_file(example), Ok(Config::default()));
        let table: Table = example.parse().unwrap();
        assert_eq!(table, default_table());
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let config = from_file("[http]\nlisten = \"127.0.0.1:9000\"\nhttps_listen = \"\"").unwrap();
        assert_eq!(config.http.https_listen, None);
        assert_eq!(from_file(&config.to_toml()), Ok(config));
    }

    #[test]
    fn the_environment_overrides_and_the_contracts_variables_work() {
        let config = from_environment(&[
            ("VECHE_HTTP_LISTEN", "127.0.0.1:9000"),
            ("VECHE_MEDIA_EXTERNAL_ADDRESSES", "203.0.113.5, 2001:db8::5"),
            ("VECHE_LOG_FORMAT", "json"),
            ("WEBRTC_STUN_SERVERS", "stun:stun.example:3478,stun:stun1.example:3478"),
            ("WEBRTC_MAX_ROOMS", "100"),
            ("WEBRTC_ENABLED", "false"),
            ("WEBSOCKET_HEARTBEAT_INTERVAL", "30"),
            ("VECHE_CONFIG", "ignored here"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.http.listen.port(), 9000);
        assert_eq!(config.media.external_addresses.len(), 2);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.signaling.stun_servers.len(), 2);
        assert_eq!((config.signaling.max_rooms, config.signaling.enabled), (100, false));
        assert_eq!(config.signaling.heartbeat_seconds, 30);
    }

    #[test]
    fn variables_of_features_to_come_are_noted() {
        let variables =
            [("SSE_ENABLED", "true"), ("SSE_AUTH_REQUIRED", "false"), ("VECHE_SERVICE_HOST", "10.0.0.1")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let (assignments, notes) = parse_environment(variables.into_iter()).unwrap();
        assert!(assignments.is_empty());
        assert_eq!(
            notes,
            [
                "ignored, for features that do not exist yet: SSE_ENABLED, SSE_AUTH_REQUIRED",
                "ignored, of no section of the configuration: VECHE_SERVICE_HOST"
            ]
        );
    }

    #[test]
    fn authentication_that_does_not_exist_is_not_promised() {
        for name in ["WEBSOCKET_AUTH_REQUIRED", "SSE_AUTH_REQUIRED"] {
            let error = from_environment(&[(name, "true")]).unwrap_err();
            assert!(error.contains(name) && error.contains("does not exist yet"), "{error}");
        }
    }

    #[test]
    fn variables_that_are_not_utf8_matter_only_where_they_are_settings() {
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(vec![0xff]);
        let (assignments, notes) =
            parse_environment([(odd(), "1".into()), ("PATH".into(), odd())].into_iter()).unwrap();
        assert!(assignments.is_empty() && notes.is_empty());
        let error = parse_environment([("VECHE_LOG_FILTER".into(), odd())].into_iter()).err().unwrap();
        assert!(error.to_string().starts_with("VECHE_LOG_FILTER: not UTF-8"), "{error}");
    }

    #[test]
    fn a_longer_heartbeat_alone_makes_patience_longer() {
        let seconds =
            |variables: &[_]| from_environment(variables).map(|config| config.signaling.idle_seconds);
        assert_eq!(seconds(&[("WEBSOCKET_HEARTBEAT_INTERVAL", "60")]), Ok(180));
        assert_eq!(seconds(&[("WEBSOCKET_HEARTBEAT_INTERVAL", "5")]), Ok(45));
        let both = [("WEBSOCKET_HEARTBEAT_INTERVAL", "60"), ("VECHE_SIGNALING_IDLE_SECONDS", "90")];
        assert_eq!(seconds(&both), Ok(90));
    }

    #[test]
    fn errors_name_the_setting_and_give_an_example() {
        for (text, parts) in [
            (
                "[http]\nlisten = \"here\"",
                vec!["http.listen = \"here\"", "for example http.listen = \"0.0.0.0:8000\""],
            ),
            ("[http]\nport = 80", vec!["there is no setting http.port", "listen"]),
            ("[htp]\nlisten = 1", vec!["no section [htp]", "http"]),
            ("listen = 1", vec!["outside of a section"]),
            ("[http", vec!["veche.toml", "config.example.toml"]),
            (
                "[media]\nfirst_port = 70000",
                vec!["media.first_port = 70000", "for example media.first_port = 40000"],
            ),
            ("[media]\nbind = [\"x\"]", vec!["media.bind", "for example"]),
            ("[log]\nformat = \"xml\"", vec!["log.format", "for example log.format = \"text\""]),
            ("[signaling]\nidle_seconds = 1", vec!["signaling.idle_seconds", "for example 45"]),
            ("[http]\nkey_file = \"key.pem\"", vec!["http.certificate_file", "for example"]),
        ] {
            let error = from_file(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "`{error}` lacks `{part}`");
            }
        }
        let error = from_environment(&[("WEBRTC_MAX_ROOMS", "many")]).unwrap_err();
        assert_eq!(error, "WEBRTC_MAX_ROOMS=many: not a number; for example WEBRTC_MAX_ROOMS=10000");
        let error = from_environment(&[("VECHE_HTTP_LISTN", "x")]).unwrap_err();
        assert!(error.starts_with("VECHE_HTTP_LISTN: there is no setting http.listn"), "{error}");
    }
}
