//! The settings of access: the section `[access]` of the configuration.

use std::fmt;
use std::path::PathBuf;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::grants::GrantsClaim;

/// The shortest shared secret, in bytes: as long as the digest of HS256 (RFC 7518 section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Secrets, and key files, that may be good at once; every token may be tried with each of its algorithm.
const MAX_KEYS: usize = 16;

/// The settings of access.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessSettings {
    /// Whether every door asks for a token or API key.
    pub required: bool,
    /// Whether WebSockets do (`WEBSOCKET_AUTH_REQUIRED`), and with them signaling, HTTP and gRPC.
    pub websocket_required: bool,
    /// Whether Server-Sent Events do (`SSE_AUTH_REQUIRED`), and with them HTTP and gRPC.
    pub sse_required: bool,
    /// Shared secrets for HS256. Several are good at once, so that they can be changed without a gap.
    pub secrets: Vec<Secret>,
    /// Files with public keys (PEM) for RS256, ES256 or EdDSA.
    pub public_keys: Vec<PublicKey>,
    /// Where a set of public keys (JWKS) is published; empty for nowhere.
    pub jwks_url: String,
    /// The issuer of tokens, an OpenID Connect one, whose discovery document says where its keys are; empty for none.
    pub oidc_issuer: String,
    /// What `iss` of a token must be; empty: anything, or with `oidc_issuer` that.
    pub issuer: String,
    /// One of these must be in `aud` of a token; empty: any may.
    pub audience: Vec<String>,
    /// How far the clocks of token makers may be off, in seconds.
    pub leeway_seconds: u32,
    /// How often published keys are fetched again, in seconds.
    pub jwks_refresh_seconds: u32,
    /// What a token grants that has no `veche` claim.
    pub default_grants: GrantsClaim,
}

/// A shared secret, as a text or as `{ kid = "2026", secret = "…" }`.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Without a name.
    Text(String),
    /// With a name, which tokens may give.
    Named {
        /// The `kid` of tokens.
        kid: String,
        /// The secret.
        secret: String,
    },
}

/// A file with a public key, as a path or as `{ kid = "2026", file = "…" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PublicKey {
    /// Without a name.
    File(PathBuf),
    /// With a name, which tokens may give.
    Named {
        /// The `kid` of tokens.
        kid: String,
        /// The file.
        file: PathBuf,
    },
}

/// A setting that cannot be used: which, and what is wrong with an example of what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access.{field}: {message}")]
pub struct SettingsError {
    /// The setting.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            required: false,
            websocket_required: false,
            sse_required: false,
            secrets: Vec::new(),
            public_keys: Vec::new(),
            jwks_url: String::new(),
            oidc_issuer: String::new(),
            issuer: String::new(),
            audience: Vec::new(),
            leeway_seconds: 30,
            jwks_refresh_seconds: 300,
            default_grants: GrantsClaim::usual(),
        }
    }
}

impl AccessSettings {
    /// Finds values that cannot work: the field, and what is wrong with an example of what would be right.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.secrets.len() > MAX_KEYS {
            return Err((
                "secrets",
                format!("more than {MAX_KEYS}; remove those that no token uses any more"),
            ));
        }
        if self.secrets.iter().any(|secret| secret.text().len() < MIN_SECRET_BYTES) {
            let message = format!(
                "a secret is shorter than {MIN_SECRET_BYTES} bytes and could be guessed; for example the output of \
                 `openssl rand -base64 32`"
            );
            return Err(("secrets", message));
        }
        if self.public_keys.len() > MAX_KEYS {
            return Err((
                "public_keys",
                format!("more than {MAX_KEYS}; remove those that no token uses any more"),
            ));
        }
        for (field, url) in [("jwks_url", &self.jwks_url), ("oidc_issuer", &self.oidc_issuer)] {
            if !url.is_empty() && !is_safe_url(url) {
                let message =
                    format!("`{url}` is not like \"https://id.example/keys\" (http only on this machine)");
                return Err((field, message));
            }
        }
        if !self.jwks_url.is_empty() && !self.oidc_issuer.is_empty() {
            return Err(("jwks_url", "oidc_issuer says where its keys are; leave one of the two out".into()));
        }
        if !self.oidc_issuer.is_empty() && self.audience.is_empty() {
            let message =
                "an issuer has tokens for others too: name this server as it does, for example [\"veche\"]";
            return Err(("audience", message.into()));
        }
        if self.leeway_seconds > 600 {
            return Err(("leeway_seconds", "at most 600, for example 30".into()));
        }
        if !(10..=86_400).contains(&self.jwks_refresh_seconds) {
            return Err(("jwks_refresh_seconds", "10 to 86400, for example 300".into()));
        }
        self.default_grants.check().map_err(|error| ("default_grants", error))
    }

    /// Whether tokens can be checked at all: there is a secret, a key, or somewhere to fetch keys.
    pub fn checks_tokens(&self) -> bool {
        let published = !self.jwks_url.is_empty() || !self.oidc_issuer.is_empty();
        !self.secrets.is_empty() || !self.public_keys.is_empty() || published
    }

    /// What `iss` of a token must be.
    pub(crate) fn expected_issuer(&self) -> Option<String> {
        [&self.issuer, &self.oidc_issuer].into_iter().find(|issuer| !issuer.is_empty()).cloned()
    }
}

impl Secret {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(secret) | Self::Named { secret, .. } => secret,
        }
    }

    pub(crate) fn kid(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Named { kid, .. } => Some(kid),
        }
    }
}

impl PublicKey {
    pub(crate) fn file(&self) -> &PathBuf {
        match self {
            Self::File(file) | Self::Named { file, .. } => file,
        }
    }

    pub(crate) fn kid(&self) -> Option<&str> {
        match self {
            Self::File(_) => None,
            Self::Named { kid, .. } => Some(kid),
        }
    }
}

/// Read by hand, so that a slip is told without the secret in which it stands.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match NamedOrNot::read(deserializer, ["kid", "secret"])? {
            NamedOrNot::Text(text) => Self::Text(text),
            NamedOrNot::Named { kid, value: secret } => Self::Named { kid, secret },
        })
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match NamedOrNot::read(deserializer, ["kid", "file"])? {
            NamedOrNot::Text(file) => Self::File(file.into()),
            NamedOrNot::Named { kid, value: file } => Self::Named { kid, file: file.into() },
        })
    }
}

/// A text, or a map of a name and a text.
enum NamedOrNot {
    Text(String),
    Named { kid: String, value: String },
}

impl NamedOrNot {
    fn read<'de, D: Deserializer<'de>>(deserializer: D, fields: [&'static str; 2]) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamedOrNotVisitor { fields })
    }
}

struct NamedOrNotVisitor {
    fields: [&'static str; 2],
}

impl<'de> Visitor<'de> for NamedOrNotVisitor {
    type Value = NamedOrNot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kid, value] = self.fields;
        write!(f, "a text or {{ {kid} = \"2026\", {value} = \"…\" }}")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<NamedOrNot, E> {
        Ok(NamedOrNot::Text(text.to_owned()))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<NamedOrNot, M::Error> {
        use serde::de::Error as _;
        let mut found = [None, None];
        while let Some(name) = map.next_key::<String>()? {
            let index = self.fields.iter().position(|field| *field == name);
            let index = index.ok_or_else(|| {
                let shown: String = name.chars().take(32).collect();
                let [kid, value] = self.fields;
                M::Error::custom(format!("unknown field `{shown}`; there are `{kid}` and `{value}`"))
            })?;
            found[index] = Some(map.next_value::<String>()?);
        }
        let [kid, value] = found;
        match (kid, value) {
            (Some(kid), Some(value)) => Ok(NamedOrNot::Named { kid, value }),
            (None, _) => Err(M::Error::missing_field(self.fields[0])),
            (_, None) => Err(M::Error::missing_field(self.fields[1])),
        }
    }
}

/// Where a configuration is printed, secrets are not.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

/// Whether keys may be fetched from there: over TLS, or from this machine.
pub(crate) fn is_safe_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let Some(host) = uri.host().filter(|host| !host.is_empty()) else { return false };
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => {
            host == "localhost"
                || host
                    .trim_matches(['[', ']'])
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(settings: &str) -> &'static str {
        let settings: AccessSettings = serde_json::from_str(settings).unwrap();
        settings.check().unwrap_err().0
    }

    #[test]
    fn the_defaults_work_and_what_cannot_work_is_named() {
        assert_eq!(AccessSettings::default().check(), Ok(()));
        assert!(!AccessSettings::default().checks_tokens());
        assert_eq!(wrong(r#"{"secrets":["short"]}"#), "secrets");
        assert_eq!(wrong(r#"{"secrets":["(hidden)"]}"#), "secrets");
        assert_eq!(wrong(r#"{"jwks_url":"http://id.example/keys"}"#), "jwks_url");
        assert_eq!(wrong(r#"{"oidc_issuer":"id.example"}"#), "oidc_issuer");
        assert_eq!(wrong(r#"{"oidc_issuer":"https://id.example"}"#), "audience");
        assert_eq!(
            wrong(
                r#"{"oidc_issuer":"https://id.example","jwks_url":"https://id.example/k","audience":["a"]}"#
            ),
            "jwks_url"
        );
        assert_eq!(wrong(r#"{"leeway_seconds":601}"#), "leeway_seconds");
        assert_eq!(wrong(r#"{"jwks_refresh_seconds":1}"#), "jwks_refresh_seconds");
        assert!(serde_json::from_str::<AccessSettings>(r#"{"secret":"x"}"#).is_err());
    }

    #[test]
    fn secrets_have_names_or_not_and_are_never_printed() {
        let text = "0123456789abcdef0123456789abcdef";
        let json = format!(r#"{{"secrets":["{text}",{{"kid":"a","secret":"{text}"}}]}}"#);
        let settings: AccessSettings = serde_json::from_str(&json).unwrap();
        assert_eq!(settings.secrets.iter().map(Secret::kid).collect::<Vec<_>>(), [None, Some("a")]);
        assert!(settings.checks_tokens());
        assert!(!format!("{settings:?}").contains(text));
        assert!(!serde_json::to_string(&settings).unwrap().contains(text));
    }

    #[test]
    fn slips_in_keys_name_the_field() {
        let error = |json: &str| serde_json::from_str::<AccessSettings>(json).unwrap_err().to_string();
        for (json, part) in [
            (
                r#"{"secrets":[{"kid":"a","secert":"x"}]}"#,
                "unknown field `secert`; there are `kid` and `secret`",
            ),
            (r#"{"secrets":[{"secret":"x"}]}"#, "missing field `kid`"),
            (r#"{"secrets":[{"kid":"a"}]}"#, "missing field `secret`"),
            (r#"{"secrets":[{"kid":"a","secret":"x","alg":"HS256"}]}"#, "unknown field `alg`"),
            (r#"{"public_keys":[{"kid":"a","path":"x"}]}"#, "there are `kid` and `file`"),
            (r#"{"public_keys":[7]}"#, "expected a text or { kid = \"2026\", file = \"…\" }"),
        ] {
            assert!(error(json).contains(part), "{}", error(json));
        }
    }

    #[test]
    fn keys_are_fetched_over_tls_or_from_this_machine() {
        for url in ["https://id.example/x", "http://127.0.0.1:8080/x", "http://[::1]/x", "http://localhost/x"]
        {
            assert!(is_safe_url(url), "{url}");
        }
        for url in
            ["http://id.example", "http://localhost.evil.example", "file:///etc/x", "", "https://", "//x"]
        {
            assert!(!is_safe_url(url), "{url}");
        }
    }
}
