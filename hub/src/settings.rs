//! What an operator sets about channels.

use serde::{Deserialize, Serialize};

use crate::pattern::Pattern;

/// Everything about channels. Sizes are in bytes; what happens at a bound is said at each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubSettings {
    /// The newest messages of a channel that its history has; older ones go.
    pub history_messages: usize,
    /// How old a message in a history gets.
    pub history_seconds: u64,
    /// What a channel's history may take in memory; then its oldest messages go.
    pub history_bytes: usize,
    /// What all histories may take in memory; then a channel that gets a message gives up its own oldest, down to its fair
    /// share. All together may so take up to twice this much.
    pub history_total_bytes: usize,
    /// The newest kept messages of a channel that a new subscriber is given.
    pub kept_messages: usize,
    /// What a channel's kept messages may take in memory; older ones stay in storage but are not given any more.
    pub kept_bytes: usize,
    /// What all kept messages may take in memory; then a channel that gets one gives up its own oldest, as above.
    pub kept_total_bytes: usize,
    /// What may wait for one connection; then it is told `slow_consumer` and closed. One message may always wait.
    pub outbox_bytes: usize,
    /// What kept and missed messages may add to that for one connection.
    pub backlog_bytes: usize,
    /// How many channels there may be in memory; then no further is made.
    pub max_channels: usize,
    /// How many channels a connection may be subscribed to; a further subscription is refused.
    pub max_subscriptions: usize,
    /// The largest message; a larger one is refused.
    pub max_message_bytes: usize,
    /// How many connections a list of presence has; of more only the number is told.
    pub presence_entries: usize,
    /// How many WebSocket connections there may be; a further one is refused.
    pub max_websocket: Option<usize>,
    /// How many SSE connections there may be; a further one is refused.
    pub max_sse: Option<usize>,
    /// How many gRPC subscriptions there may be; a further one is refused.
    pub max_grpc: Option<usize>,
    /// How long a channel without subscribers and history is remembered, so that who comes back finds its epoch.
    pub channel_linger_seconds: u64,
    /// How many persistent messages may wait for storage; then a further one is refused as busy.
    pub uncommitted_messages: usize,
    /// What they may take together; then a further one is refused as busy.
    pub uncommitted_bytes: usize,
    /// Exceptions for channels; the first whose pattern matches counts. Behind them stand three for calls: of
    /// `room:*:cursors` and `room:*:camera:*` only the newest message waits, and neither they nor `room:*:typing` have a
    /// history.
    pub rules: Vec<ChannelRule>,
}

/// An exception for channels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelRule {
    /// Which channels: `chat:*`; `*` is any run of characters.
    pub pattern: String,
    /// Instead of the setting of this name.
    pub history_messages: Option<usize>,
    /// Instead of the setting of this name.
    pub history_seconds: Option<u64>,
    /// Only the newest message waits for who is slow: for positions, cursors, prices.
    pub latest_only: Option<bool>,
    /// Whether it is told who is there; `true` by default.
    pub presence: Option<bool>,
}

impl Default for HubSettings {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            history_messages: 1_000,
            history_seconds: 300,
            history_bytes: 4 * MIB,
            history_total_bytes: 256 * MIB,
            kept_messages: 1_000,
            kept_bytes: 4 * MIB,
            kept_total_bytes: 256 * MIB,
            outbox_bytes: 4 * MIB,
            backlog_bytes: 64 * MIB,
            max_channels: 100_000,
            max_subscriptions: 256,
            max_message_bytes: 64 * MIB,
            presence_entries: 1_000,
            max_websocket: None,
            max_sse: None,
            max_grpc: None,
            channel_linger_seconds: 60,
            uncommitted_messages: 4_096,
            uncommitted_bytes: 64 * MIB,
            rules: Vec::new(),
        }
    }
}

impl HubSettings {
    /// Whether the settings make sense; if not, which does not and what would.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("outbox_bytes", self.outbox_bytes),
            ("max_channels", self.max_channels),
            ("max_subscriptions", self.max_subscriptions),
            ("max_message_bytes", self.max_message_bytes),
            ("uncommitted_messages", self.uncommitted_messages),
            ("uncommitted_bytes", self.uncommitted_bytes),
        ] {
            if value == 0 {
                return Err(format!(
                    "channels.{name} is 0, with which nothing works: for example {name} = {}",
                    Self::example(name)
                ));
            }
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if let Err(error) = Pattern::new(&rule.pattern) {
                return Err(format!("channels.rules[{index}].pattern: {error}"));
            }
        }
        Ok(())
    }

    fn example(name: &str) -> usize {
        let example = Self::default();
        match name {
            "outbox_bytes" => example.outbox_bytes,
            "max_channels" => example.max_channels,
            "max_subscriptions" => example.max_subscriptions,
            "max_message_bytes" => example.max_message_bytes,
            "uncommitted_messages" => example.uncommitted_messages,
            _ => example.uncommitted_bytes,
        }
    }
}

/// The rule of one channel, worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub history_messages: usize,
    /// Milliseconds.
    pub history_age: u64,
    pub latest_only: bool,
    pub presence: bool,
}

/// The rules of all channels.
#[derive(Debug)]
pub(crate) struct Rules {
    default: Rule,
    by_pattern: Vec<(Pattern, Rule)>,
}

impl Rules {
    /// Rules with a pattern that [`HubSettings::check`] refuses are left out.
    pub fn new(settings: &HubSettings) -> Self {
        let default = Rule {
            history_messages: settings.history_messages,
            history_age: settings.history_seconds.saturating_mul(1_000),
            latest_only: false,
            presence: true,
        };
        let moment = |pattern: &str, latest_only| ChannelRule {
            pattern: pattern.into(),
            history_seconds: Some(0),
            latest_only: Some(latest_only),
            ..ChannelRule::default()
        };
        let own =
            [moment("room:*:cursors", true), moment("room:*:camera:*", true), moment("room:*:typing", false)];
        let by_pattern = settings.rules.iter().chain(&own).filter_map(|rule| {
            let pattern = Pattern::new(&rule.pattern).ok()?;
            let rule = Rule {
                history_messages: rule.history_messages.unwrap_or(default.history_messages),
                history_age: rule.history_seconds.map_or(default.history_age, |s| s.saturating_mul(1_000)),
                latest_only: rule.latest_only.unwrap_or(default.latest_only),
                presence: rule.presence.unwrap_or(default.presence),
            };
            Some((pattern, rule))
        });
        Self { default, by_pattern: by_pattern.collect() }
    }

    pub fn of(&self, channel: &str) -> Rule {
        self.by_pattern
            .iter()
            .find(|(pattern, _)| pattern.matches(channel))
            .map_or(self.default, |(_, rule)| *rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rule = |pattern: &str, messages| ChannelRule {
            pattern: pattern.into(),
            history_messages: Some(messages),
            ..ChannelRule::default()
        };
        let settings =
            HubSettings { rules: vec![rule("chat:vip:*", 7), rule("chat:*", 8)], ..HubSettings::default() };
        let rules = Rules::new(&settings);
        assert_eq!(rules.of("chat:vip:1").history_messages, 7);
        assert_eq!(rules.of("chat:1").history_messages, 8);
        assert_eq!(rules.of("other").history_messages, 1_000);
        assert_eq!(rules.of("chat:1").history_age, 300_000);
        let (cursors, typing) = (rules.of("room:tea:cursors"), rules.of("room:tea:typing"));
        assert_eq!((cursors.latest_only, cursors.history_age), (true, 0));
        let camera = rules.of("room:tea:camera:door");
        assert_eq!((camera.latest_only, camera.history_age), (true, 0));
        assert_eq!((typing.latest_only, typing.history_age), (false, 0));
        let settings = HubSettings { rules: vec![rule("room:*", 9)], ..HubSettings::default() };
        assert!(!Rules::new(&settings).of("room:tea:cursors").latest_only, "an operator's rule comes first");
    }

    #[test]
    fn senseless_settings_are_named_with_an_example() {
        assert_eq!(HubSettings::default().check(), Ok(()));
        let error = HubSettings { outbox_bytes: 0, ..HubSettings::default() }.check().unwrap_err();
        assert!(error.contains("channels.outbox_bytes") && error.contains("4194304"), "{error}");
        let rules = vec![ChannelRule::default()];
        let error = HubSettings { rules, ..HubSettings::default() }.check().unwrap_err();
        assert!(error.contains("channels.rules[0].pattern"), "{error}");
    }
}
