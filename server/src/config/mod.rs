//! The configuration: defaults, then the file, then the environment, then flags.
//!
//! Every value is set and checked on its own, whatever its source, so that an error names the setting, says where it
//! stands and gives an example of what would be right.

pub(crate) mod changes;
mod hidden;
mod nearest;
mod sections;
mod sources;
mod turn;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use veche_access::AccessSettings;
use veche_files::FileSettings;
use veche_hub::HubSettings;
use veche_recorder::Settings as RecordingSettings;
use veche_sfu::SfuConfig;
use veche_signaling::Settings;
use veche_storage::{StorageSettings, WebhookSettings};

use nearest::did_you_mean;
pub(crate) use sections::{Acme, Http, Log, LogFormat, MediaSettings, Network, Reach, Telemetry};
use sources::Assignment;
pub(crate) use sources::Flags;
pub(crate) use turn::{RelayTo, TurnSettings, User as TurnUser};

/// The file that is read when none is named and it exists.
const DEFAULT_FILE: &str = "veche.toml";

/// Heartbeats that a client may miss.
const IDLE_HEARTBEATS: u32 = 3;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) http: Http,
    pub(crate) acme: Acme,
    pub(crate) media: MediaSettings,
    pub(crate) turn: TurnSettings,
    pub(crate) signaling: Settings,
    pub(crate) log: Log,
    pub(crate) messaging: veche_messaging::Settings,
    pub(crate) cameras: veche_cameras::Settings,
    pub(crate) channels: HubSettings,
    pub(crate) files: FileSettings,
    pub(crate) access: AccessSettings,
    pub(crate) storage: StorageSettings,
    pub(crate) recording: RecordingSettings,
    pub(crate) telemetry: Telemetry,
    pub(crate) webhooks: Vec<WebhookSettings>,
}

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

impl Config {
    /// Reads `file` (or `veche.toml`, where it exists), the environment and the flags. The notes are for the log.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
        flags: &Flags,
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
            assignments = sources::from_file(&text, &file.display().to_string())?;
        }
        let (from_environment, notes) = sources::from_environment(environment)?;
        assignments.extend(from_environment);
        assignments.extend(flags.assignments()?);
        Ok((Self::from_assignments(assignments)?, notes))
    }

    /// The configuration as a file, without its secrets.
    pub(crate) fn to_toml(&self) -> String {
        let mut table = Table::try_from(self).expect("every setting can stand in a file");
        hidden::hide(&mut table);
        toml::to_string(&table).expect("a table can stand in a file")
    }

    /// What the media plane is started with. `discovered` is where STUN servers see this machine.
    pub(crate) fn sfu(&self, discovered: &[IpAddr]) -> SfuConfig {
        let media = self.media.clone();
        SfuConfig {
            bind: media.bind,
            first_port: media.first_port,
            workers: media.workers,
            spread_from: media.spread_from,
            external_addresses: media.external_addresses,
            discovered_addresses: discovered.to_vec(),
            loopback: media.loopback,
            tcp: media.tcp,
            tcp_per_address: media.tcp_per_address,
            shared_tcp: None,
            foreign_tcp: self.foreign_tcp(),
            tenants: if self.shares_media_udp() { self.turn.worker_count() } else { 0 },
            certificate_file: Some(self.http.data_dir.join("dtls.pem")),
            dtls13: media.dtls13,
            max_data_message: self.signaling.max_data_message_bytes as usize,
            hold: true,
        }
    }

    /// Whether media over TCP is taken at the ports of HTTP and HTTPS too.
    pub(crate) fn shares_media(&self) -> bool {
        self.media.tcp && self.media.share_port
    }

    /// Ports of HTTP and HTTPS, where media over TCP is taken: there the media plane needs none of its own.
    fn foreign_tcp(&self) -> Vec<u16> {
        let http = [Some(self.http.listen), self.http.https_listen].into_iter().flatten();
        http.map(|address| address.port()).filter(|port| *port != 0 && self.shares_media()).collect()
    }

    /// Whether TURN is taken at the UDP port of the first media worker too.
    pub(crate) fn shares_media_udp(&self) -> bool {
        self.signaling.enabled && self.turn.enabled && self.turn.share_udp_port
    }

    fn from_assignments(assignments: Vec<Assignment>) -> Result<Self, ConfigError> {
        let mut table = default_table();
        let mut config = Self::default();
        let idle_is_set =
            assignments.iter().any(|a| (&*a.section, &*a.field) == ("signaling", "idle_seconds"));
        for assignment in assignments {
            let default = assignment.default()?;
            let name = assignment.name();
            let shown = hidden::shown(&name, &assignment.value.to_string()).to_owned();
            let Assignment { section, field, value, source } = assignment;
            match table.get_mut(&section) {
                Some(Value::Table(fields)) => drop(fields.insert(field, value)),
                _ => drop(table.insert(section, value)),
            }
            config = Self::deserialize(Value::Table(table.clone())).map_err(|error| {
                let reason = hidden::reason(&name, error.message().lines().next().unwrap_or_default());
                ConfigError(format!(
                    "{source}: {name} = {shown}: {reason}; for example {name} = {}",
                    example(&name, &default)
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

    /// What no value tells on its own.
    fn check(&self) -> Result<(), ConfigError> {
        let checks = [
            ("http", self.http.check()),
            ("acme", self.acme.check()),
            ("signaling", self.signaling.check()),
            ("telemetry", self.telemetry.check()),
            ("messaging", self.messaging.check()),
            ("cameras", self.cameras.check()),
            ("files", self.files.check()),
            ("access", self.access.check()),
            ("turn", self.turn.check()),
            ("recording", self.recording.check()),
        ];
        for (section, check) in checks {
            check.map_err(|(field, message)| ConfigError(format!("{section}.{field}: {message}")))?;
        }
        self.channels.check().map_err(ConfigError)?;
        self.storage.check().map_err(ConfigError)?;
        WebhookSettings::check_all(&self.webhooks).map_err(ConfigError)?;
        if self.media.bind.is_empty() {
            let message = "media.bind: names no address; for example media.bind = [\"0.0.0.0\", \"::\"]";
            return Err(ConfigError(message.to_owned()));
        }
        if self.turn.enabled && self.turn.share_udp_port && !self.signaling.enabled {
            let message = "turn.share_udp_port: there is no media port to share, since signaling.enabled is false; leave it out, and \
                           let TURN have a port of its own, for example turn.listen = [\"0.0.0.0:443\"]";
            return Err(ConfigError(message.to_owned()));
        }
        if !self.media.discover.is_empty() && !self.media.external_addresses.is_empty() {
            let message = "media.discover and media.external_addresses: the addresses that clients are told come from one of them; \
                           leave out the other";
            return Err(ConfigError(message.to_owned()));
        }
        if !self.acme.domains.is_empty() && self.http.certificate_file.is_some() {
            let message = "acme.domains and http.certificate_file: the certificate comes from one of them; leave out the other";
            return Err(ConfigError(message.to_owned()));
        }
        if !self.acme.domains.is_empty() && self.http.https_listen.is_none() {
            let message = "acme.domains: the authority looks for its proof over HTTPS; set http.https_listen, for example \
                           http.https_listen = \"0.0.0.0:443\"";
            return Err(ConfigError(message.to_owned()));
        }
        Ok(())
    }
}

/// Every setting with its default, by section.
fn default_table() -> Table {
    Table::try_from(Config::default()).expect("the defaults can stand in a file")
}

/// What would be right, where the default says too little.
fn example(name: &str, default: &Value) -> String {
    match name {
        "acme.domains" => "[\"veche.example\"]".to_owned(),
        "http.certificate_file" => "\"/etc/veche/fullchain.pem\"".to_owned(),
        "http.key_file" => "\"/etc/veche/key.pem\"".to_owned(),
        "http.trusted_proxies" => "[\"127.0.0.1\", \"10.0.0.0/8\"]".to_owned(),
        "media.external_addresses" | "turn.external_addresses" => "[\"203.0.113.5\"]".to_owned(),
        "access.secrets" => "[\"at least 32 random bytes\"]".to_owned(),
        "channels.rules" => "[{ pattern = \"cursor:*\", latest_only = true }]".to_owned(),
        "files.store" => "\"s3://bucket/prefix\"".to_owned(),
        "media.discover" | "signaling.stun_servers" => "[\"stun:stun.example:3478\"]".to_owned(),
        "cameras.allowed_origins" | "messaging.allowed_origins" | "signaling.allowed_origins" => {
            "[\"https://app.example\"]".to_owned()
        }
        "storage.url" => "\"postgres://veche:password@127.0.0.1/veche\"".to_owned(),
        "webhooks" => "[{ url = \"https://app.example/veche\", secret = \"…\" }]".to_owned(),
        "turn.alternates" => "[\"203.0.113.7:3478\"]".to_owned(),
        "turn.allow" | "turn.deny" => "[\"10.0.0.0/8\"]".to_owned(),
        "turn.hosts" => "[\"turn.example\"]".to_owned(),
        "turn.secrets" => "[\"at least 16 random bytes\"]".to_owned(),
        "turn.users" => "[{ name = \"ann\", password = \"…\" }]".to_owned(),
        "telemetry.metrics_listen" => "\"127.0.0.1:9090\"".to_owned(),
        _ => default.to_string(),
    }
}

#[cfg(test)]
mod tests;
