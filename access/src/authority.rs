//! Turns credentials into identities.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jsonwebtoken::Algorithm;
use parking_lot::RwLock;
use veche_fetch::{Client, Limits};

use crate::api_key::{self, KeyLookup};
use crate::claims::{Claims, Expected};
use crate::credential::Credential;
use crate::error::{AccessError, AccessErrorKind};
use crate::identity::{Identity, RoomLimit, RoomLimits};
use crate::key::Key;
use crate::key_set::{KeySet, Source};
use crate::settings::{AccessSettings, SettingsError};
use crate::token::{Token, algorithm_name};

/// How long fetching keys may take, and how large they may be.
const FETCH_LIMITS: Limits = Limits { timeout: Duration::from_secs(5), max_body: 256 * 1024 };

/// Where somebody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// `WS /realtime/ws`.
    WebSocket,
    /// `GET /realtime/events`.
    Sse,
    /// Everything else over HTTP.
    Http,
    /// gRPC.
    Grpc,
    /// `WS /realtime/webrtc/signaling`.
    Signaling,
}

/// Turns credentials into identities. Cheap to clone; what is reloaded is so for all clones.
#[derive(Clone)]
pub struct Authority {
    shared: Arc<Shared>,
}

struct Shared {
    rules: RwLock<Arc<Rules>>,
    lookup: Option<KeyLookup>,
    rooms: RoomLimits,
}

/// What the settings say, ready for use.
struct Rules {
    settings: AccessSettings,
    expected: Expected,
    keys: Vec<Key>,
    key_set: Option<Arc<KeySet>>,
}

impl Authority {
    /// One that asks nobody for anything: everybody may do everything.
    pub fn open() -> Self {
        let rules = Rules {
            settings: AccessSettings::default(),
            expected: Expected::default(),
            keys: vec![],
            key_set: None,
        };
        Self::from_rules(rules, None)
    }

    /// By these settings, with a way to look API keys up. Reads the files of public keys; published keys are fetched
    /// when they are first needed.
    pub fn new(settings: &AccessSettings, lookup: Option<KeyLookup>) -> Result<Self, SettingsError> {
        Ok(Self::from_rules(Rules::new(settings, None)?, lookup))
    }

    /// Takes other settings from now on; where they are wrong, nothing changes. Who has been let in stays.
    pub fn reload(&self, settings: &AccessSettings) -> Result<(), SettingsError> {
        let key_set = self.rules().key_set.clone();
        let rules = Rules::new(settings, key_set)?;
        *self.shared.rules.write() = Arc::new(rules);
        Ok(())
    }

    /// Whether who comes in at this door must show a credential. A door that does not ask must not lead around one that
    /// does: HTTP and gRPC, which can do what all others can, ask when any does.
    pub fn is_required(&self, door: Door) -> bool {
        let AccessSettings { required, websocket_required, sse_required, .. } = self.rules().settings;
        match door {
            Door::WebSocket | Door::Signaling => required || websocket_required,
            Door::Sse => required || sse_required,
            Door::Http | Door::Grpc => required || websocket_required || sse_required,
        }
    }

    /// Whether anybody who comes may do anything: no door asks, and no token could be checked.
    pub fn is_open(&self) -> bool {
        !self.is_required(Door::Http) && !self.rules().settings.checks_tokens()
    }

    /// Who comes in at a door. Who shows nothing where nothing is required is anonymous: they may do everything on a
    /// server that is open, and only take part on one that checks tokens, as far as `access.default_grants` go. An open server has no key to check a token
    /// with, and passes it over: it would add nothing to what everybody may do.
    pub async fn identify(
        &self,
        door: Door,
        credential: Option<&Credential>,
    ) -> Result<Identity, AccessError> {
        let identity = match credential {
            Some(Credential::Token(_)) if self.is_open() => Identity::anonymous(true),
            Some(credential) => return self.verify(credential).await,
            None if self.is_required(door) => {
                return Err(AccessError::new(
                    AccessErrorKind::Missing,
                    "show a token or an API key: the header `Authorization: Bearer …`, `X-API-Key: …`, or `?token=…`",
                ));
            }
            None if self.is_open() => Identity::anonymous(true),
            None => Identity::guest(&self.rules().settings.default_grants),
        };
        Ok(self.bound_by_rooms(identity))
    }

    /// Asks from now on what rooms leave to identities. Only the first counts.
    pub fn limit_rooms(&self, limit: RoomLimit) {
        let _ = self.shared.rooms.0.set(limit);
    }

    /// Whose credential it is.
    pub async fn verify(&self, credential: &Credential) -> Result<Identity, AccessError> {
        self.verify_at(credential, SystemTime::now()).await
    }

    /// The same at another time.
    pub(crate) async fn verify_at(
        &self,
        credential: &Credential,
        now: SystemTime,
    ) -> Result<Identity, AccessError> {
        let identity = match credential {
            Credential::Token(token) => self.rules().verify(token, now).await,
            Credential::ApiKey(key) => api_key::verify(key, self.shared.lookup.as_ref(), now).await,
        };
        identity.map(|identity| self.bound_by_rooms(identity))
    }

    fn bound_by_rooms(&self, identity: Identity) -> Identity {
        Identity { rooms: self.shared.rooms.clone(), ..identity }
    }

    /// Whether the API key that let somebody in was revoked since. Tokens cannot be revoked; they expire.
    pub async fn is_revoked(&self, identity: &Identity) -> bool {
        match &identity.key_hash {
            Some(hash) => api_key::is_revoked(hash, self.shared.lookup.as_ref()).await,
            None => false,
        }
    }

    fn from_rules(rules: Rules, lookup: Option<KeyLookup>) -> Self {
        Self {
            shared: Arc::new(Shared {
                rules: RwLock::new(Arc::new(rules)),
                lookup,
                rooms: RoomLimits::default(),
            }),
        }
    }

    fn rules(&self) -> Arc<Rules> {
        self.shared.rules.read().clone()
    }
}

impl Rules {
    /// `before`: published keys that were fetched already, to be kept where they are the same.
    fn new(settings: &AccessSettings, before: Option<Arc<KeySet>>) -> Result<Self, SettingsError> {
        settings.check().map_err(|(field, message)| SettingsError { field, message })?;
        let secret = |secret: &crate::Secret| Key::secret(secret.kid().map(str::to_owned), secret.text());
        let mut keys: Vec<_> = settings.secrets.iter().map(secret).collect();
        for public_key in &settings.public_keys {
            keys.push(read_key(public_key)?);
        }
        let expected = Expected {
            issuer: settings.expected_issuer(),
            audience: settings.audience.clone(),
            leeway: Duration::from_secs(settings.leeway_seconds.into()),
            default_grants: settings.default_grants.clone(),
        };
        Ok(Self { settings: settings.clone(), expected, keys, key_set: key_set(settings, before)? })
    }

    async fn verify(&self, text: &str, now: SystemTime) -> Result<Identity, AccessError> {
        let token = Token::parse(text)?;
        if !self.is_signed(&token).await? {
            return Err(self.why_not(&token));
        }
        Claims::parse(&token.claims)?.into_identity(&self.expected, now)
    }

    async fn is_signed(&self, token: &Token<'_>) -> Result<bool, AccessError> {
        if self.keys.iter().any(|key| key.suits(token) && key.verifies(token)) {
            return Ok(true);
        }
        match &self.key_set {
            // A set that everybody can read has no secrets.
            Some(key_set) if token.algorithm != Algorithm::HS256 => key_set.verifies(token).await,
            _ => Ok(false),
        }
    }

    fn why_not(&self, token: &Token<'_>) -> AccessError {
        let name = algorithm_name(token.algorithm);
        if !self.settings.checks_tokens() {
            return AccessError::invalid(
                "this server has no key to check tokens with; its operator sets access.secrets, access.public_keys, \
                 access.jwks_url or access.oidc_issuer",
            );
        }
        let has_algorithm = self.keys.iter().any(|key| key.algorithm == token.algorithm)
            || self.key_set.is_some() && token.algorithm != Algorithm::HS256;
        if !has_algorithm {
            return AccessError::invalid(format!("this server has no key for tokens signed with {name}"));
        }
        AccessError::invalid(format!(
            "the token's signature is of no {name} key of this server; it may be of an old key, or of another server"
        ))
    }
}

/// Never shown: it holds secrets.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("keys", &self.rules().keys.len()).finish_non_exhaustive()
    }
}

fn read_key(public_key: &crate::PublicKey) -> Result<Key, SettingsError> {
    let file = public_key.file();
    let wrong = |message: String| SettingsError {
        field: "public_keys",
        message: format!("{}: {message}", file.display()),
    };
    let pem = std::fs::read_to_string(file).map_err(|error| {
        wrong(format!("{error}; name a readable file, for example \"/etc/veche/token.pem\""))
    })?;
    Key::pem(public_key.kid().map(str::to_owned), &pem).map_err(wrong)
}

fn key_set(
    settings: &AccessSettings,
    before: Option<Arc<KeySet>>,
) -> Result<Option<Arc<KeySet>>, SettingsError> {
    let (field, source) = match (&*settings.jwks_url, &*settings.oidc_issuer) {
        ("", "") => return Ok(None),
        ("", issuer) => ("oidc_issuer", Source::Issuer(issuer.to_owned())),
        (url, _) => ("jwks_url", Source::Url(url.to_owned())),
    };
    let refresh = Duration::from_secs(settings.jwks_refresh_seconds.into());
    if let Some(before) = before.filter(|before| before.source == source && before.refresh == refresh) {
        return Ok(Some(before));
    }
    let client = Client::new(FETCH_LIMITS)
        .map_err(|error| SettingsError { field, message: format!("keys cannot be fetched: {error}") })?;
    Ok(Some(KeySet::new(source, refresh, client)))
}

#[cfg(test)]
mod tests;
