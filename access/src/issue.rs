//! Making tokens, for trying out and for tests: `veche token`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::claims::check_user_id;
use crate::grants::GrantsClaim;
use crate::settings::{AccessSettings, SettingsError};

/// What a new token shall say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewToken {
    /// Whose it is; absent for a service that acts for nobody.
    pub user_id: Option<String>,
    /// Their name for people.
    pub name: Option<String>,
    /// What it grants; absent: what `access.default_grants` says.
    pub grants: Option<GrantsClaim>,
    /// How long it is good.
    pub lifetime: Duration,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nobody can have this id.
    #[error("the user: {0}")]
    User(String),
    /// It cannot be granted like that.
    #[error("the grants: {0}")]
    Grants(String),
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a String>,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    veche: Option<&'a GrantsClaim>,
}

/// Makes a token that a server with these settings accepts, signed with the first of its secrets.
pub fn issue(settings: &AccessSettings, new: &NewToken, now: SystemTime) -> Result<String, IssueError> {
    let wrong = |message: String| SettingsError { field: "secrets", message };
    let secret = settings.secrets.first().ok_or_else(|| {
        let message = "there is none, and only a shared secret can sign here; for example \
                       VECHE_ACCESS_SECRETS=$(openssl rand -base64 32)";
        wrong(message.to_owned())
    })?;
    if let Some(user_id) = &new.user_id {
        check_user_id(user_id).map_err(IssueError::User)?;
    }
    if let Some(grants) = &new.grants {
        grants.check().map_err(IssueError::Grants)?;
    }
    let iat = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = Claims {
        sub: new.user_id.as_deref(),
        name: new.name.as_deref(),
        iss: settings.expected_issuer(),
        aud: settings.audience.first(),
        iat,
        exp: iat.saturating_add(new.lifetime.as_secs()),
        veche: new.grants.as_ref(),
    };
    let header = Header { kid: secret.kid().map(str::to_owned), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(secret.text().as_bytes());
    Ok(jsonwebtoken::encode(&header, &claims, &key).map_err(|error| wrong(error.to_string()))?)
}
