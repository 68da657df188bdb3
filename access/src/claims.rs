//! What a token says, and whether that is for this server and for now.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::error::{AccessError, AccessErrorKind};
use crate::grants::{Grants, GrantsClaim};
use crate::identity::Identity;
use crate::token::short;

/// The longest id of a user, in bytes.
pub(crate) const MAX_USER_ID_BYTES: usize = 128;

/// Names for people are cut after so many characters.
const MAX_NAME_CHARS: usize = 128;

/// The claims of a token whose signature is good. Others may be there too.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    #[serde(default)]
    sub: Option<Id>,
    #[serde(default)]
    user_id: Option<Id>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    preferred_username: Option<String>,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    aud: Option<OneOrMore>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    veche: Option<GrantsClaim>,
}

/// Ids are text; many systems have numbers for them.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// What is expected of claims.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Expected {
    /// The only issuer that is accepted, where one is named.
    pub(crate) issuer: Option<String>,
    /// One of them must be among those that the token is for, where any are named.
    pub(crate) audience: Vec<String>,
    /// How far clocks may differ.
    pub(crate) leeway: Duration,
    /// What a token grants that does not say.
    pub(crate) default_grants: GrantsClaim,
}

impl Claims {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, AccessError> {
        serde_json::from_slice(json)
            .map_err(|error| AccessError::invalid(format!("the token's claims: {error}")))
    }

    /// Who the token is of, if it is for this server and for now.
    pub(crate) fn into_identity(self, expected: &Expected, now: SystemTime) -> Result<Identity, AccessError> {
        self.check_origin(expected)?;
        let expires_at = self.check_time(expected.leeway, now)?;
        let user_id = self.user_id()?;
        let name = self.name.as_deref().or(self.preferred_username.as_deref()).and_then(clean_name);
        let claim = self.veche.as_ref().unwrap_or(&expected.default_grants);
        claim.check().map_err(|error| AccessError::invalid(format!("the token's `veche`: {error}")))?;
        Ok(Identity {
            grants: Arc::new(Grants::new(claim, user_id.as_deref())),
            user_id,
            name,
            attributes: claim.attributes.clone().map(Arc::new),
            expires_at: Some(expires_at),
            authenticated: true,
            ..Identity::default()
        })
    }

    fn check_origin(&self, expected: &Expected) -> Result<(), AccessError> {
        if let Some(issuer) = &expected.issuer
            && self.iss.as_ref() != Some(issuer)
        {
            let found = self.iss.as_deref().map_or("missing".to_owned(), |iss| format!("`{}`", short(iss)));
            let message = format!("the token's `iss` is {found}; this server accepts `{issuer}`");
            return Err(AccessError::invalid(message));
        }
        let is_for = |audience: &String| match &self.aud {
            Some(OneOrMore::One(one)) => one == audience,
            Some(OneOrMore::More(more)) => more.contains(audience),
            None => false,
        };
        if !expected.audience.is_empty() && !expected.audience.iter().any(is_for) {
            let message =
                format!("the token's `aud` does not name this server, which is `{}`", expected.audience[0]);
            return Err(AccessError::invalid(message));
        }
        Ok(())
    }

    /// Times in tokens are seconds since 1970, which may have fractions (RFC 7519 section 2).
    fn check_time(&self, leeway: Duration, now: SystemTime) -> Result<SystemTime, AccessError> {
        let exp = self.exp.ok_or_else(|| {
            AccessError::invalid("the token has no `exp`; give it one, in seconds since 1970")
        })?;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let leeway_seconds = leeway.as_secs_f64();
        if exp + leeway_seconds <= seconds {
            let ago = (seconds - exp).round();
            let message = format!("the token expired {ago} s ago; get a new one");
            return Err(AccessError::new(AccessErrorKind::Expired, message));
        }
        if let Some(nbf) = self.nbf.filter(|nbf| *nbf > seconds + leeway_seconds) {
            let message = format!(
                "the token is not valid before {nbf} (`nbf`), which is in the future; compare the clocks"
            );
            return Err(AccessError::invalid(message));
        }
        // A year that no clock reaches is as good as the last one.
        let span =
            Duration::try_from_secs_f64(exp + leeway_seconds).unwrap_or(Duration::from_secs(u32::MAX.into()));
        Ok(UNIX_EPOCH.checked_add(span).unwrap_or(UNIX_EPOCH + Duration::from_secs(u32::MAX.into())))
    }

    fn user_id(&self) -> Result<Option<Arc<str>>, AccessError> {
        if let (Some(sub), Some(user_id)) = (&self.sub, &self.user_id)
            && sub.text() != user_id.text()
        {
            return Err(AccessError::invalid(
                "the token's `sub` and `user_id` differ; leave one of them out",
            ));
        }
        let Some(id) = self.sub.as_ref().or(self.user_id.as_ref()).map(Id::text) else { return Ok(None) };
        check_user_id(&id).map_err(|error| AccessError::invalid(format!("the token's `sub`: {error}")))?;
        Ok(Some(id.into()))
    }
}

impl Id {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// What is wrong with the id of a user, where something is.
pub(crate) fn check_user_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > MAX_USER_ID_BYTES || id.chars().any(char::is_control) {
        return Err(format!(
            "the id of a user has 1 to {MAX_USER_ID_BYTES} bytes without control characters, for example \"anna\""
        ));
    }
    Ok(())
}

/// A name without control characters and outer spaces, cut where it is too long.
pub(crate) fn clean_name(name: &str) -> Option<Arc<str>> {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::action::Action;
    use crate::grants::Resource;

    const NOW: u64 = 1_700_000_000;

    fn identity(claims: &Value, expected: &Expected) -> Result<Identity, AccessError> {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        Claims::parse(claims.to_string().as_bytes())?.into_identity(expected, now)
    }

    fn expected() -> Expected {
        Expected {
            issuer: Some("https://id.example".into()),
            audience: vec!["veche".into(), "calls".into()],
            leeway: Duration::from_secs(30),
            default_grants: GrantsClaim::usual(),
        }
    }

    fn good() -> Value {
        json!({ "sub": "anna", "iss": "https://id.example", "aud": "veche", "exp": NOW + 60 })
    }

    fn with(change: &Value) -> Value {
        let mut claims = good();
        let object = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            object.insert(name.clone(), value.clone());
        }
        object.retain(|_, value| !value.is_null());
        claims
    }

    fn refused(change: &Value) -> (AccessErrorKind, String) {
        let error = identity(&with(change), &expected()).unwrap_err();
        (error.kind, error.message)
    }

    #[test]
    fn good_claims_tell_who_it_is_and_the_default_grants_what_they_may() {
        let anna = identity(&with(&json!({ "name": " Anna\u{7} " })), &expected()).unwrap();
        assert_eq!((anna.user_id.as_deref(), anna.name.as_deref()), (Some("anna"), Some("Anna")));
        assert_eq!(anna.expires_at, Some(UNIX_EPOCH + Duration::from_secs(NOW + 90)));
        assert!(anna.is_authenticated());
        assert_eq!(anna.allows(Action::Join, Resource::Room("tea")), Ok(()));
        assert!(anna.allows(Action::Moderate, Resource::Room("tea")).is_err());
    }

    #[test]
    fn grants_in_the_token_replace_the_defaults() {
        let veche = json!({ "rooms": { "tea": ["moderate"] }, "attributes": { "role": "host" } });
        let anna = identity(&with(&json!({ "veche": veche })), &expected()).unwrap();
        assert_eq!(anna.allows(Action::Moderate, Resource::Room("tea")), Ok(()));
        assert!(anna.allows(Action::Join, Resource::Room("tea")).is_err());
        assert_eq!(anna.attributes.as_deref(), Some(&json!({ "role": "host" })));
    }

    #[test]
    fn the_user_is_in_sub_or_user_id_as_text_or_number() {
        let user = |change: &Value| identity(&with(change), &expected()).unwrap().user_id;
        assert_eq!(user(&json!({ "sub": 42 })).as_deref(), Some("42"));
        assert_eq!(user(&json!({ "sub": null, "user_id": "boris" })).as_deref(), Some("boris"));
        assert_eq!(user(&json!({ "sub": "7", "user_id": 7 })).as_deref(), Some("7"));
        assert_eq!(user(&json!({ "sub": null })), None);
        assert!(refused(&json!({ "user_id": "boris" })).1.contains("differ"));
        assert!(refused(&json!({ "sub": "" })).1.contains("1 to 128 bytes"));
        assert!(refused(&json!({ "sub": "a\nb" })).1.contains("control"));
        assert!(refused(&json!({ "sub": ["a"] })).1.starts_with("the token's claims"));
    }

    #[test]
    fn tokens_of_others_for_others_or_of_another_time_are_refused() {
        let invalid = AccessErrorKind::Invalid;
        let (kind, message) = refused(&json!({ "iss": "https://evil.example" }));
        assert!(kind == invalid && message.contains("accepts `https://id.example`"), "{message}");
        assert!(refused(&json!({ "iss": null })).1.contains("`iss` is missing"));
        assert!(refused(&json!({ "aud": "other" })).1.contains("does not name this server"));
        assert!(refused(&json!({ "aud": null })).1.contains("does not name this server"));
        assert!(identity(&with(&json!({ "aud": ["x", "calls"] })), &expected()).is_ok());
        assert!(refused(&json!({ "exp": null })).1.contains("no `exp`"));
        assert!(refused(&json!({ "exp": "soon" })).1.starts_with("the token's claims"));
        let (kind, message) = refused(&json!({ "exp": NOW - 30 }));
        assert_eq!(
            (kind, &*message),
            (AccessErrorKind::Expired, "the token expired 30 s ago; get a new one")
        );
        assert!(identity(&with(&json!({ "exp": NOW - 29 })), &expected()).is_ok());
        assert_eq!(refused(&json!({ "exp": -1e300 })).0, AccessErrorKind::Expired);
        assert!(refused(&json!({ "nbf": NOW + 31 })).1.contains("`nbf`"));
        assert!(identity(&with(&json!({ "nbf": NOW as f64 + 29.5, "exp": 1e300 })), &expected()).is_ok());
    }

    #[test]
    fn a_veche_claim_with_a_mistake_is_refused_instead_of_granting_nothing() {
        assert!(refused(&json!({ "veche": { "chanels": {} } })).1.contains("unknown field `chanels`"));
        assert!(
            refused(&json!({ "veche": { "rooms": { "tea": ["jion"] } } })).1.contains("`jion` is no action")
        );
        assert!(refused(&json!({ "veche": { "attributes": 1 } })).1.contains("attributes"));
    }
}
