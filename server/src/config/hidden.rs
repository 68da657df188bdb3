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
        let secrets = webhooks.iter_mut().filter_map(|webhook| webhook.get_mut("secret"));
        secrets.for_each(|secret| *secret = HIDDEN.into());
    }
    if let Some(turn) = table.get_mut("turn").and_then(Value::as_table_mut) {
        let secrets = turn.get_mut("secrets").and_then(Value::as_array_mut);
        secrets.into_iter().flatten().for_each(|secret| *secret = HIDDEN.into());
        let users = turn.get_mut("users").and_then(Value::as_array_mut).into_iter().flatten();
        users.filter_map(|user| user.get_mut("password")).for_each(|password| *password = HIDDEN.into());
    }
    // An address may have a password, which stands before the `@`.
    for (section, field, sign) in [("storage", "url", "@"), ("files", "s3_secret_key", "")] {
        let value = table.get_mut(section).and_then(|section| section.get_mut(field));
        let has_secret =
            |value: &&mut Value| value.as_str().is_some_and(|text| !text.is_empty() && text.contains(sign));
        if let Some(value) = value.filter(has_secret) {
            *value = HIDDEN.into();
        }
    }
}

/// A value for an error.
pub(super) fn shown(name: &str, value: &Value) -> String {
    if WITH_SECRETS.contains(&name) { HIDDEN.to_owned() } else { value.to_string() }
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
        let mut local: Table = "[storage]\nurl = \"sqlite:veche.db\"".parse().unwrap();
        hide(&mut local);
        assert!(local.to_string().contains("sqlite:veche.db"));
        assert_eq!(shown("storage.url", &"s3cret".into()), HIDDEN);
        assert_eq!(shown("log.filter", &"info".into()), "\"info\"");
    }
}
