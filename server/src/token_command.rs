//! `veche token`: a token for trying out, signed with the first of `access.secrets`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use veche_access::{Actions, GrantsClaim, NewToken, issue};

use crate::config::Config;

/// What the token shall say.
#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// Whose it is
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Their name for people
    #[arg(long)]
    name: Option<String>,
    /// Rooms it is for (a pattern); with none, and no --channel, it grants what access.default_grants says
    #[arg(long, value_name = "PATTERN")]
    room: Vec<String>,
    /// Channels it is for (a pattern)
    #[arg(long, value_name = "PATTERN")]
    channel: Vec<String>,
    /// What it grants there: join, publish, subscribe, send, upload (those where it is not said), moderate, … or *
    #[arg(long, value_name = "ACTION")]
    grant: Vec<String>,
    /// Everything everywhere
    #[arg(long)]
    admin: bool,
    /// How long it is good: 90s, 30m, 12h, 7d
    #[arg(long, default_value = "1h", value_parser = parse_span)]
    expires: Duration,
}

/// Prints the token, and nothing else.
pub(crate) fn run(config: &Config, arguments: &TokenArguments) -> Result<()> {
    let grants = grants(&arguments.room, &arguments.channel, &arguments.grant, arguments.admin)?;
    let new = NewToken {
        user_id: arguments.user.clone(),
        name: arguments.name.clone(),
        grants,
        lifetime: arguments.expires,
    };
    println!("{}", issue(&config.access, &new, SystemTime::now())?);
    Ok(())
}

/// What is granted; `None` where nothing was said.
pub(crate) fn grants(
    rooms: &[String],
    channels: &[String],
    actions: &[String],
    admin: bool,
) -> Result<Option<GrantsClaim>> {
    let named = |name: &String| {
        Actions::named(name)
            .ok_or_else(|| anyhow!("--grant {name}: no action; for example --grant join --grant subscribe"))
    };
    let granted =
        actions.iter().map(named).try_fold(Actions::NONE, |all, actions| anyhow::Ok(all.union(actions?)))?;
    if rooms.is_empty() && channels.is_empty() {
        if let Some(action) = actions.first() {
            return Err(anyhow!("--grant {action}: where? for example --room tea --grant {action}"));
        }
        if !admin {
            return Ok(None);
        }
    }
    let granted = if actions.is_empty() { Actions::PARTICIPATE } else { granted };
    let patterns =
        |list: &[String]| list.iter().map(|pattern| (pattern.clone(), granted)).collect::<BTreeMap<_, _>>();
    Ok(Some(GrantsClaim {
        admin,
        rooms: patterns(rooms),
        channels: patterns(channels),
        ..GrantsClaim::default()
    }))
}

/// A span such as `30m`.
pub(crate) fn parse_span(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let number: u64 = number
        .parse()
        .ok()
        .filter(|_| seconds > 0)
        .with_context(|| format!("{text}: for example 30m, 12h or 7d"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use veche_access::Action;

    use super::*;

    #[test]
    fn spans_have_a_unit_and_what_is_no_span_says_so() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(parse_span(text).unwrap(), Duration::from_secs(seconds));
        }
        for text in ["", "h", "12", "-1h", "1.5h", "3ч"] {
            assert!(parse_span(text).unwrap_err().to_string().contains("for example 30m"), "{text}");
        }
    }

    #[test]
    fn what_is_granted_is_what_was_asked_for_and_mistakes_are_named() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let claim =
            grants(&list(&["tea"]), &list(&["news"]), &list(&["join", "publish"]), false).unwrap().unwrap();
        assert!(
            claim.rooms["tea"].contains(Action::PublishScreen)
                && !claim.rooms["tea"].contains(Action::Moderate)
        );
        assert_eq!(claim.channels["news"], claim.rooms["tea"]);
        assert_eq!(grants(&[], &[], &[], false).unwrap(), None);
        assert!(grants(&[], &[], &[], true).unwrap().unwrap().admin);
        let usual = grants(&list(&["tea"]), &[], &[], false).unwrap().unwrap();
        assert_eq!(usual.rooms["tea"], Actions::PARTICIPATE);
        for admin in [false, true] {
            let error = grants(&[], &[], &list(&["send"]), admin).unwrap_err().to_string();
            assert_eq!(error, "--grant send: where? for example --room tea --grant send");
        }
        let error = grants(&list(&["tea"]), &[], &list(&["jion"]), false).unwrap_err().to_string();
        assert!(error.starts_with("--grant jion: no action"), "{error}");
    }
}
