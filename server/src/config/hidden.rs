//! Secrets among the settings: neither printed nor put into errors.

use toml::{Table, Value};

/// What stands in their place.
const HIDDEN: &str = "(hidden)";

/// Sections and settings in which secrets stand, among other things.
const WITH_SECRETS: [&str; 6] =
    ["access.secrets", "files.s3_secret_key", "storage.url", "turn.secrets", "turn.users", "webhooks"];

/// Puts something else in the place of secrets.
pub(super) fn hide(table: &mut Table) {
    if let Some(webhooks) = table.get_mut("webhooks").and_then(Value::as_array_mut) {
        for webhook in webhooks {
            if let Some(secret) = webhook.get_mut("secret") {
                *secret = HIDDEN.into();
            }
            if let Some(Value::String(url)) = webhook.get_mut("url")
                && let Some((address, _)) = url.split_once('?')
            {
                *url = format!("{address}?{HIDDEN}");
            }
        }
    }
    if let Some(turn) = table.get_mut("turn").and_then(Value::as_table_mut) {
        let secrets = turn.get_mut("secrets").and_then(Value::as_array_mut);
        secrets.into_iter().flatten().for_each(|secret| *secret = HIDDEN.into());
        let users = turn.get_mut("users").and_then(Value::as_array_mut).into_iter().flatten();
        users.filter_map(|user| user.get_mut("password")).for_each(|password| *password = HIDDEN.into());
    }
    // A database's address may have a password, and not only before the `@`; a file has none.
    for (section, field, harmless) in [("storage", "url", "sqlite:"), ("files", "s3_secret_key", "\0")] {
        let value = table.get_mut(section).and_then(|section| section.get_mut(field));
        let has_secret = |value: &&mut Value| {
            value.as_str().is_some_and(|text| !text.is_empty() && !text.starts_with(harmless))
        };
        if let Some(value) = value.filter(has_secret) {
            *value = HIDDEN.into();
        }
    }
}

/// A value for an error.
pub(super) fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if WITH_SECRETS.contains(&name) { HIDDEN } else { value }
}

/// Why a value cannot be used. Reasons name the value that they are about, unless they are about the name of a field.
pub(super) fn reason<'a>(name: &str, reason: &'a str) -> &'a str {
    let is_about_a_name = ["unknown field", "missing field"].iter().any(|about| reason.starts_with(about));
    if is_about_a_name || !WITH_SECRETS.contains(&name) { reason } else { "not of the form that it needs" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secrets_are_hidden() {
        let mut table: Table = "webhooks = [{ url = \"https://app.example\", secret = \"s3cret\" }]\n\
                                [storage]\nurl = \"postgres://veche:s3cret@db/veche\"\n[log]\nfilter = \"info\"\n[turn]\nsecrets = [\"s3cret\"]\n\
                                users = [{ name = \"ann\", password = \"s3cret\" }]"
            .parse()
            .unwrap();
        hide(&mut table);
        let text = table.to_string();
        assert!(
            !text.contains("s3cret") && text.contains("https://app.example") && text.contains("info"),
            "{text}"
        );
        for url in ["postgres:///veche?password=s3cret", "postgres://veche@db/veche"] {
            let mut table: Table = format!("[storage]\nurl = \"{url}\"").parse().unwrap();
            hide(&mut table);
            assert_eq!(table["storage"]["url"].as_str(), Some(HIDDEN));
        }
        let mut webhooks: Table =
            "webhooks = [{ url = \"https://app.example/x?key=s3cret\" }]".parse().unwrap();
        hide(&mut webhooks);
        assert_eq!(webhooks["webhooks"][0]["url"].as_str(), Some("https://app.example/x?(hidden)"));
        let mut local: Table = "[storage]\nurl = \"sqlite:veche.db\"".parse().unwrap();
        hide(&mut local);
        assert!(local.to_string().contains("sqlite:veche.db"));
        assert_eq!(shown("storage.url", "s3cret"), HIDDEN);
        assert_eq!(shown("log.filter", "info"), "info");
    }
}
