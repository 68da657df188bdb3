//! Keys that somebody else publishes (RFC 7517): fetched when first needed, refreshed in the background, and fetched
//! again for a token of a key that is not known, which is how its owner rotates them.
//!
//! Whoever shows tokens chooses what is in them, so unknown ones cause a request at most every ten seconds. A publisher that
//! cannot be reached for a while does not matter: what was fetched stays good for a day.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use veche_fetch::Client;

use crate::error::{AccessError, AccessErrorKind};
use crate::key::Key;
use crate::settings::is_safe_url;
use crate::token::Token;

/// How often keys are fetched at most.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// How long keys stay good that cannot be fetched again.
const MAX_AGE: Duration = Duration::from_hours(24);

/// Keys of one set that are taken; publishers have a handful.
const MAX_KEYS: usize = 64;

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A set of keys.
    Url(String),
    /// An issuer, whose discovery document says where its keys are (OpenID Connect Discovery 1.0 section 4).
    Issuer(String),
}

/// A set of keys that somebody else publishes.
#[derive(Debug)]
pub(crate) struct KeySet {
    pub(crate) source: Source,
    pub(crate) refresh: Duration,
    client: Client,
    state: Mutex<State>,
    /// Held by who fetches; others wait for what comes.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<[Key]>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
    failure: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl KeySet {
    pub(crate) fn new(source: Source, refresh: Duration, client: Client) -> Arc<Self> {
        Arc::new(Self {
            source,
            refresh,
            client,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// Whether a key of the set has signed the token.
    pub(crate) async fn verifies(self: &Arc<Self>, token: &Token<'_>) -> Result<bool, AccessError> {
        let known = self.known();
        let signed = |keys: &[Key]| keys.iter().any(|key| key.suits(token) && key.verifies(token));
        let is_named = known.iter().any(|key| key.suits(token) && key.is_named_by(token));
        if is_named || signed(&known) {
            if self.is_due(self.refresh) {
                let set = self.clone();
                tokio::spawn(async move { set.fetch().await });
            }
            return Ok(signed(&known));
        }
        // Its key may be new: one whose name is not known, or where names do not tell, any.
        self.fetch().await;
        let known = self.known();
        if known.is_empty() {
            let failure = self.state.lock().failure.clone().unwrap_or_else(|| "it has none".to_owned());
            let message = format!(
                "the keys that check tokens cannot be fetched now ({failure}); try again in a moment"
            );
            return Err(AccessError::new(AccessErrorKind::Unavailable, message));
        }
        Ok(signed(&known))
    }

    /// The keys that are good now.
    fn known(&self) -> Arc<[Key]> {
        let state = self.state.lock();
        match state.fetched_at {
            Some(at) if at.elapsed() <= MAX_AGE.max(self.refresh) => state.keys.clone(),
            _ => Arc::default(),
        }
    }

    /// Whether the last attempt was so long ago.
    fn is_due(&self, interval: Duration) -> bool {
        self.state.lock().tried_at.is_none_or(|at| at.elapsed() >= interval)
    }

    /// Fetches the keys, unless that was done a moment ago.
    async fn fetch(&self) {
        let _fetching = self.fetching.lock().await;
        if !self.is_due(MIN_INTERVAL) {
            return;
        }
        self.state.lock().tried_at = Some(Instant::now());
        let result = self.request().await;
        let mut state = self.state.lock();
        match result {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "fetched the keys that check tokens");
                state.keys = keys.into();
                state.fetched_at = Some(Instant::now());
                state.failure = None;
            }
            Err(failure) => {
                tracing::warn!(source = ?self.source, failure, "cannot fetch the keys that check tokens");
                state.failure = Some(failure);
            }
        }
    }

    async fn request(&self) -> Result<Vec<Key>, String> {
        let url = match &self.source {
            Source::Url(url) => url.clone(),
            Source::Issuer(issuer) => {
                let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
                let discovery: Discovery = self.get(&url).await?;
                if discovery.issuer != *issuer {
                    return Err(format!("{url} is of the issuer `{}`, not of `{issuer}`", discovery.issuer));
                }
                if !is_safe_url(&discovery.jwks_uri) {
                    return Err(format!(
                        "{url} names the keys at `{}`, which is not https",
                        discovery.jwks_uri
                    ));
                }
                discovery.jwks_uri
            }
        };
        let published: Published = self.get(&url).await?;
        let jwk = |value: Value| serde_json::from_value::<Jwk>(value).ok();
        let keys: Vec<_> = published
            .keys
            .into_iter()
            .filter_map(jwk)
            .filter_map(|jwk| Key::jwk(&jwk))
            .take(MAX_KEYS)
            .collect();
        if keys.is_empty() {
            return Err(format!("{url} has no key for RS256, ES256 or EdDSA"));
        }
        Ok(keys)
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, url: &str) -> Result<T, String> {
        let answer = self.client.get(url, &[("accept", "application/json")]).await;
        let answer = answer.map_err(|error| format!("{url}: {error}"))?;
        if !answer.is_success() {
            return Err(format!("{url} answered {}", answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))
    }
}
