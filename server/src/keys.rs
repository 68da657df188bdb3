//! `veche keys`: API keys, kept in the database; a running server sees changes at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use veche_access::{GrantsClaim, NewApiKey};
use veche_storage::{ApiKey, Database, rfc3339};

use crate::config::Config;
use crate::token_command::{grants, parse_span};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Makes a key and shows it, once
    Create(CreateArguments),
    /// Lists keys, without what they are
    List,
    /// Makes a key useless
    Revoke {
        /// Its id, such as key_1f2e3d4c
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// What it is for
    name: String,
    /// The user that it acts for; none for a service of its own
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    #[arg(long, value_name = "PATTERN")]
    room: Vec<String>,
    #[arg(long, value_name = "PATTERN")]
    channel: Vec<String>,
    /// What it grants there, as for `veche token`
    #[arg(long, value_name = "ACTION")]
    grant: Vec<String>,
    #[arg(long)]
    admin: bool,
    /// How long it is good: 12h, 90d; for good where it is not said
    #[arg(long, value_parser = parse_span)]
    expires: Option<Duration>,
}

pub(crate) fn run(config: &Config, command: &KeysCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let database = Database::open_beside(&config.storage, &config.http.data_dir).await?;
        let result = act(&database, command).await;
        database.close().await;
        result
    })
}

async fn act(database: &Database, command: &KeysCommand) -> Result<()> {
    let now = milliseconds(SystemTime::now());
    match command {
        KeysCommand::Create(new) => {
            let granted =
                grants(&new.room, &new.channel, &new.grant, new.admin)?.unwrap_or_else(GrantsClaim::usual);
            let expires = new.expires.and_then(|span| SystemTime::now().checked_add(span));
            let NewApiKey { key, record } = NewApiKey::new(&new.name, new.user.clone(), &granted, expires)
                .map_err(|error| anyhow!(error))?;
            let row = ApiKey {
                id: record.id.clone(),
                hash: record.hash,
                name: record.name,
                user_id: record.user_id,
                grants: record.grants,
                created: now,
                expires: record.expires,
                revoked: None,
                last_used: None,
            };
            database.create_key(&row).await?;
            println!("{key}");
            eprintln!("This is {}. It is shown only now: keep it where nobody else reads it.", record.id);
        }
        KeysCommand::List => {
            for key in database.keys().await? {
                let state = match (key.revoked, key.expires) {
                    (Some(_), _) => "revoked",
                    (None, Some(at)) if at <= now => "expired",
                    _ => "good",
                };
                println!(
                    "{}\t{state}\t{}\t{}\tlast used {}\t{}",
                    key.id,
                    key.user_id.as_deref().unwrap_or("-"),
                    key.name,
                    key.last_used.map_or_else(|| "never".to_owned(), rfc3339),
                    key.grants
                );
            }
        }
        KeysCommand::Revoke { id } => {
            if !database.revoke_key(id, now).await? {
                return Err(anyhow!("{id}: no such key, or revoked before; `veche keys list` shows them"));
            }
            println!("{id} is revoked; what it has opened ends within a minute.");
        }
    }
    Ok(())
}

fn milliseconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
