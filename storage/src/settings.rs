//! What an operator decides about storage.

use serde::{Deserialize, Serialize};

use crate::database::Place;

/// The section `[storage]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSettings {
    /// Where: `sqlite:PATH` or `postgres://user:password@host/database`; empty for `veche.db` in the data folder.
    pub url: String,
    /// The most messages that are kept of a channel; the oldest go.
    pub kept_messages: u64,
    /// The most bytes that are kept of a channel; the oldest messages go. A larger message is refused.
    pub kept_bytes: u64,
    /// How many days a message is kept.
    pub kept_days: u32,
    /// The most bytes that are kept of all channels together; the oldest messages go.
    pub kept_total_bytes: u64,
    /// How many days an event stays in the log.
    pub event_days: u32,
    /// The most events that stay in the log; the oldest go.
    pub events: u64,
    /// The most messages that wait for the disk; one more is refused.
    pub queue_messages: usize,
    /// The most bytes that wait for the disk; what goes beyond is refused.
    pub queue_bytes: usize,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            kept_messages: 1_000,
            kept_bytes: 16 * 1024 * 1024,
            kept_days: 30,
            kept_total_bytes: 1024 * 1024 * 1024,
            event_days: 30,
            events: 1_000_000,
            queue_messages: 4_096,
            queue_bytes: 64 * 1024 * 1024,
        }
    }
}

impl StorageSettings {
    /// Whether storage can be opened like that; what is wrong names the setting and gives an example.
    pub fn check(&self) -> Result<(), String> {
        if !self.url.is_empty() {
            Place::parse(&self.url).map_err(|error| format!("storage.url: {error}"))?;
        }
        let numbers = [
            ("kept_messages", self.kept_messages, 1_000),
            ("kept_bytes", self.kept_bytes, 16_777_216),
            ("kept_days", self.kept_days.into(), 30),
            ("kept_total_bytes", self.kept_total_bytes, 1_073_741_824),
            ("event_days", self.event_days.into(), 30),
            ("events", self.events, 1_000_000),
            ("queue_messages", self.queue_messages as u64, 4_096),
            ("queue_bytes", self.queue_bytes as u64, 67_108_864),
        ];
        for (name, value, example) in numbers {
            if value == 0 || i64::try_from(value).is_err() {
                return Err(format!(
                    "storage.{name}: {value} is out of range; for example {name} = {example}"
                ));
            }
        }
        if self.kept_total_bytes < self.kept_bytes {
            return Err(format!(
                "storage.kept_total_bytes: {} is less than kept_bytes of one channel; for example kept_total_bytes = {}",
                self.kept_total_bytes,
                self.kept_bytes.saturating_mul(64)
            ));
        }
        Ok(())
    }

    /// The age in milliseconds after which a kept message goes.
    pub(crate) fn kept_millis(&self) -> i64 {
        days(self.kept_days)
    }

    /// The age in milliseconds after which an event goes.
    pub(crate) fn event_millis(&self) -> i64 {
        days(self.event_days)
    }
}

fn days(days: u32) -> i64 {
    i64::from(days) * 24 * 60 * 60 * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_an_example() {
        assert_eq!(StorageSettings::default().check(), Ok(()));
        let wrong = |change: fn(&mut StorageSettings)| {
            let mut settings = StorageSettings::default();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        let error = wrong(|settings| settings.queue_messages = 0);
        assert_eq!(error, "storage.queue_messages: 0 is out of range; for example queue_messages = 4096");
        let error = wrong(|settings| settings.kept_total_bytes = 5);
        assert!(error.contains("kept_total_bytes") && error.contains("example"), "{error}");
        let error = wrong(|settings| settings.url = "mysql://x".into());
        assert!(error.starts_with("storage.url: ") && error.contains("postgres://"), "{error}");
    }
}
