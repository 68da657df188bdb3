//! Where settings come from: a file, environment variables, flags. Each gives assignments; the later wins.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use toml::{Table, Value};

use super::{ConfigError, default_table, did_you_mean, example, hidden, nearest};

/// The prefix of environment variables: `VECHE_HTTP_LISTEN` is `http.listen`.
const PREFIX: &str = "VECHE_";

/// Variables with the prefix that are no settings.
const NO_SETTINGS: [&str; 1] = ["CONFIG"];

/// Variables of the messaging contract, and the settings that they are.
const CONTRACT_VARIABLES: &[(&str, &[(&str, &str)])] = &[
    ("WEBSOCKET_ENABLED", &[("messaging", "websocket_enabled")]),
    ("WEBSOCKET_AUTH_REQUIRED", &[("access", "websocket_required")]),
    (
        "WEBSOCKET_MAX_CONNECTIONS",
        &[("messaging", "websocket_max_connections"), ("signaling", "max_connections")],
    ),
    (
        "WEBSOCKET_HEARTBEAT_INTERVAL",
        &[("messaging", "websocket_heartbeat_seconds"), ("signaling", "heartbeat_seconds")],
    ),
    ("WEBSOCKET_BINARY_MAX_SIZE", &[("messaging", "websocket_binary_max_bytes")]),
    ("SSE_ENABLED", &[("messaging", "sse_enabled")]),
    ("SSE_AUTH_REQUIRED", &[("access", "sse_required")]),
    ("SSE_MAX_CONNECTIONS", &[("messaging", "sse_max_connections")]),
    ("SSE_HEARTBEAT_INTERVAL", &[("messaging", "sse_heartbeat_seconds")]),
    ("SSE_RETRY_TIMEOUT", &[("messaging", "sse_retry_milliseconds")]),
    ("WEBRTC_ENABLED", &[("signaling", "enabled")]),
    ("WEBRTC_STUN_SERVERS", &[("signaling", "stun_servers")]),
    ("WEBRTC_MAX_ROOMS", &[("signaling", "max_rooms")]),
    ("WEBRTC_MAX_PARTICIPANTS_PER_ROOM", &[("signaling", "max_participants_per_room")]),
    ("BINARY_DATA_ENABLED", &[("files", "enabled")]),
    ("BINARY_MAX_FILE_SIZE", &[("files", "max_file_bytes")]),
    ("BINARY_ALLOWED_TYPES", &[("files", "allowed_types")]),
    ("BINARY_COMPRESSION_ENABLED", &[("files", "compression")]),
];

/// How the names of the contract's variables begin.
const CONTRACT_PREFIXES: [&str; 4] = ["WEBSOCKET_", "SSE_", "WEBRTC_", "BINARY_"];

/// The log's filter by its usual name, which comes before ours.
const RUST_LOG: &str = "RUST_LOG";

/// One value, and where it comes from.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) section: String,
    pub(super) field: String,
    pub(super) value: Value,
    /// `veche.toml`, an environment variable or a flag.
    pub(super) source: String,
}

/// What the command line sets.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// Where HTTP is served: http.listen
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    http_listen: Option<String>,
    /// Where HTTPS is served, "" for nowhere: http.https_listen
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    https_listen: Option<String>,
    /// Where certificates, the database and files are kept: http.data_dir
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// What is logged, such as "debug": log.filter
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Any setting; may be repeated: --set signaling.max_rooms=100
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Assignment {
    /// `section.field`, or a section that is a list.
    pub(super) fn name(&self) -> String {
        name(&self.section, &self.field)
    }

    /// The default of what it sets; fails where there is no such setting.
    pub(super) fn default(&self) -> Result<Value, ConfigError> {
        let Self { section, field, source, .. } = self;
        find(&default_table(), section, field, source).cloned()
    }
}

/// What a file sets. `name` is for errors.
pub(super) fn from_file(text: &str, name: &str) -> Result<Vec<Assignment>, ConfigError> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        // Without the line itself, in which a secret may stand.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let reason = error.message().lines().collect::<Vec<_>>().join(", ");
        ConfigError(format!("{name}: line {line}: {reason}; config.example.toml shows how it is written"))
    })?;
    let defaults = default_table();
    let mut assignments = Vec::new();
    for (section, fields) in table {
        let fields = match fields {
            Value::Table(fields) => fields,
            value if defaults.get(&section).is_some_and(Value::is_array) => {
                let (field, source) = (String::new(), name.to_owned());
                assignments.push(Assignment { section, field, value, source });
                continue;
            }
            _ => {
                let message = format!("{name}: `{section}` stands outside of a section, for example [http]");
                return Err(ConfigError(message));
            }
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
pub(super) fn from_environment(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Vec<Assignment>, Vec<String>), ConfigError> {
    let defaults = default_table();
    let (mut contract, mut own, mut last) = (Vec::new(), Vec::new(), None);
    let mut notes = Vec::new();
    for (name, text) in environment {
        // The names of settings are ASCII; others are not for us.
        let Ok(name) = name.into_string() else { continue };
        let text = || {
            text.to_str().ok_or_else(|| ConfigError(format!("{name}: not UTF-8; write its value in UTF-8")))
        };
        if let Some((_, settings)) = CONTRACT_VARIABLES.iter().find(|(variable, _)| *variable == name) {
            for (section, field) in *settings {
                contract.push(parse(&defaults, section, field, text()?, name.clone())?);
            }
        } else if name == RUST_LOG {
            let text = text()?;
            if !text.trim().is_empty() {
                last = Some(parse(&defaults, "log", "filter", text, name.clone())?);
            }
        } else if let Some(setting) = name.strip_prefix(PREFIX).filter(|s| !NO_SETTINGS.contains(s)) {
            let setting = setting.to_lowercase();
            let (section, field) = setting.split_once('_').unwrap_or((&setting, ""));
            if defaults.contains_key(section) {
                own.push(parse(&defaults, section, field, text()?, name.clone())?);
            } else {
                notes.push(format!("{name}: ignored, for the configuration has no section [{section}]"));
            }
        } else if CONTRACT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let known = CONTRACT_VARIABLES.iter().map(|(variable, _)| *variable);
            notes.push(format!(
                "{name}: ignored, for it is no variable of veche{}",
                did_you_mean(&name, known)
            ));
        }
    }
    contract.extend(own);
    contract.extend(last);
    Ok((contract, notes))
}

impl Flags {
    /// What they set; `--set` comes last.
    pub(super) fn assignments(&self) -> Result<Vec<Assignment>, ConfigError> {
        let defaults = default_table();
        let data_dir = self.data_dir.as_ref().map(|folder| folder.display().to_string());
        let own = [
            ("--http-listen", "http", "listen", &self.http_listen),
            ("--https-listen", "http", "https_listen", &self.https_listen),
            ("--data-dir", "http", "data_dir", &data_dir),
            ("--log", "log", "filter", &self.log),
        ];
        let given = own
            .into_iter()
            .filter_map(|(flag, section, field, text)| Some((flag, section, field, text.as_ref()?)));
        let mut assignments = given
            .map(|(flag, section, field, text)| parse(&defaults, section, field, text, flag.to_owned()))
            .collect::<Result<Vec<_>, _>>()?;
        for set in &self.set {
            let (name, text) = set.split_once('=').ok_or_else(|| {
                ConfigError(format!(
                    "--set {set}: not SECTION.KEY=VALUE, for example --set signaling.max_rooms=100"
                ))
            })?;
            let (section, field) = name.split_once('.').unwrap_or((name, ""));
            assignments.push(parse(&defaults, section, field, text, format!("--set {name}"))?);
        }
        Ok(assignments)
    }
}

/// The default of a setting, or an error that names what there is.
fn find<'a>(defaults: &'a Table, section: &str, field: &str, source: &str) -> Result<&'a Value, ConfigError> {
    let names = |table: &Table| table.keys().cloned().collect::<Vec<_>>().join(", ");
    if let Some(list @ Value::Array(_)) = defaults.get(section).filter(|_| field.is_empty()) {
        return Ok(list);
    }
    let fields = defaults.get(section).and_then(Value::as_table).ok_or_else(|| {
        let meant = did_you_mean(section, defaults.keys().map(String::as_str));
        ConfigError(format!(
            "{source}: there is no section [{section}]{meant}; the sections are {}",
            names(defaults)
        ))
    })?;
    fields.get(field).ok_or_else(|| {
        let meant = elsewhere(defaults, section, field);
        ConfigError(format!(
            "{source}: there is no setting {section}.{field}{meant}; [{section}] has {}",
            names(fields)
        ))
    })
}

/// What was meant by a field that its section lacks: one of nearly the same name there, or of the same name in another
/// section.
fn elsewhere(defaults: &Table, section: &str, field: &str) -> String {
    let fields = |table: &Value| {
        table.as_table().map(|t| t.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default()
    };
    let own = defaults.get(section).map(fields).unwrap_or_default();
    let meant =
        nearest::nearest(field, own.iter().map(String::as_str)).map(|field| format!("{section}.{field}"));
    let other = || {
        let (section, _) = defaults.iter().find(|(_, table)| fields(table).contains(field))?;
        Some(format!("{section}.{field}"))
    };
    meant.or_else(other).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

/// A variable's or flag's text as the type that its setting has.
fn parse(
    defaults: &Table,
    section: &str,
    field: &str,
    text: &str,
    source: String,
) -> Result<Assignment, ConfigError> {
    let default = find(defaults, section, field, &source)?;
    let text = text.trim();
    let wrong = |kind: &str| {
        let name = name(section, field);
        let (shown, example) = (hidden::shown(&name, text), example(&name, default));
        ConfigError(format!("{source}={shown}: not {kind}; for example {source}={example}"))
    };
    let value = match default {
        Value::Boolean(_) => match text {
            "true" | "1" | "yes" | "on" => Value::Boolean(true),
            "false" | "0" | "no" | "off" => Value::Boolean(false),
            _ => return Err(wrong("true or false")),
        },
        Value::Integer(_) => Value::Integer(text.parse().map_err(|_| wrong("a number"))?),
        Value::Float(_) => Value::Float(text.parse().map_err(|_| wrong("a number"))?),
        // As in a file, for those of tables; or plain texts.
        Value::Array(_) if text.starts_with('[') => value(text).ok_or_else(|| wrong("a list"))?,
        Value::Table(_) => value(text).ok_or_else(|| wrong("a table such as { key = \"value\" }"))?,
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        _ => Value::String(text.to_owned()),
    };
    Ok(Assignment { section: section.to_owned(), field: field.to_owned(), value, source })
}

/// A value as it stands in a file.
fn value(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

fn name(section: &str, field: &str) -> String {
    if field.is_empty() { section.to_owned() } else { format!("{section}.{field}") }
}
