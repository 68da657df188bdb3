//! What differs between two configurations, and what of it a running server can take.

use toml::{Table, Value};

use super::Config;

/// Settings that can change while the server runs: `section.field`, or a section for all of it.
const LIVE: &[&str] = &[
    "access",
    "cameras.allowed_origins",
    "cameras.request_burst",
    "cameras.requests_per_second",
    "channels.history_messages",
    "channels.history_seconds",
    "channels.rules",
    "http.certificate_file",
    "http.key_file",
    "log.filter",
    "messaging.allowed_origins",
    "messaging.message_burst",
    "messaging.messages_per_second",
    "messaging.request_burst",
    "messaging.requests_per_second",
    "messaging.user_message_burst",
    "messaging.user_messages_per_second",
    "signaling.allowed_origins",
    "signaling.message_burst",
    "signaling.messages_per_second",
    "signaling.request_burst",
    "signaling.requests_per_second",
    "turn.allow",
    "turn.deny",
    "turn.relay_to",
    "turn.secrets",
    "turn.users",
    "webhooks",
];

/// Names of settings, as `section.field`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Those that take effect now.
    pub(crate) live: Vec<String>,
    /// Those that need a restart.
    pub(crate) at_restart: Vec<String>,
}

impl Changes {
    /// What is not the same in both.
    pub(crate) fn between(old: &Config, new: &Config) -> Self {
        let [old, new] = [old, new].map(|config| Table::try_from(config).expect("it was read from a file"));
        let mut changes = Self::default();
        for (section, value) in &new {
            match (old.get(section), value) {
                (Some(Value::Table(old)), Value::Table(new)) => {
                    let differing = new.iter().filter(|(field, value)| old.get(*field) != Some(value));
                    differing.for_each(|(field, _)| changes.add(format!("{section}.{field}")));
                }
                (old, new) if old != Some(new) => changes.add(section.clone()),
                _ => {}
            }
        }
        changes
    }

    fn add(&mut self, name: String) {
        let section = name.split('.').next().unwrap_or_default();
        let is_live = LIVE.contains(&name.as_str()) || LIVE.contains(&section);
        if is_live { self.live.push(name) } else { self.at_restart.push(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_table;

    #[test]
    fn what_changed_is_named_by_whether_it_can_change_now() {
        let old = Config::default();
        assert_eq!(Changes::between(&old, &old), Changes::default());
        let mut new = old.clone();
        new.log.filter = "debug".to_owned();
        new.http.listen.set_port(9000);
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.live, ["log.filter"]);
        assert_eq!(changes.at_restart, ["http.listen"]);
    }

    #[test]
    fn every_setting_that_can_change_is_a_setting() {
        let known = default_table();
        for name in LIVE {
            let (section, field) = name.split_once('.').unwrap_or((name, ""));
            let section = known.get(section).unwrap_or_else(|| panic!("{name}"));
            assert!(field.is_empty() || section.get(field).is_some(), "{name}");
        }
    }
}
