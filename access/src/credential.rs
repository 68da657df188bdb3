//! What somebody shows to be let in, and where in a request it stands.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::api_key::API_KEY_PREFIX;
use crate::error::AccessError;

/// The header for API keys.
const API_KEY_HEADER: &str = "x-api-key";

/// What somebody shows to be let in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A signed token (JWT).
    Token(String),
    /// An API key of this server.
    ApiKey(String),
}

impl Credential {
    /// What a request shows: `Authorization: Bearer …`, else `X-API-Key`, else `?token=`, else `?api_key=`. Other schemes
    /// than Bearer are for proxies on the way and are passed over.
    pub fn from_request(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Self>, AccessError> {
        if let Some(value) = headers.get(AUTHORIZATION) {
            let value = value.to_str().map_err(|_| {
                AccessError::invalid(
                    "the header Authorization is not ASCII; send `Authorization: Bearer TOKEN`",
                )
            })?;
            if let Some(token) = bearer(value) {
                return Ok(Self::from_text(token));
            }
        }
        if let Some(value) = headers.get(API_KEY_HEADER) {
            let key = value.to_str().map_err(|_| {
                AccessError::invalid("the header X-API-Key is not ASCII; send `X-API-Key: vk_…`")
            })?;
            return Ok(Self::api_key(key));
        }
        let parameters = || form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let parameter = |name: &str| parameters().find(|(key, _)| key == name).map(|(_, value)| value);
        let token = parameter("token").and_then(|token| Self::from_text(&token));
        Ok(token.or_else(|| parameter("api_key").and_then(|key| Self::api_key(&key))))
    }

    /// A token or an API key, by what it begins with; `None` where nothing is there.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            None
        } else if text.starts_with(API_KEY_PREFIX) {
            Some(Self::ApiKey(text.to_owned()))
        } else {
            Some(Self::Token(text.to_owned()))
        }
    }

    /// An API key; `None` where nothing is there.
    pub fn api_key(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self::ApiKey(text.to_owned()))
    }
}

/// Never shown: logs are read by more people than may use it.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(..)",
            Self::ApiKey(_) => "ApiKey(..)",
        })
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn shown(headers: &[(&'static str, &'static str)], query: &str) -> Option<Credential> {
        let header = |&(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        Credential::from_request(&headers.iter().map(header).collect(), Some(query)).unwrap()
    }

    #[test]
    fn headers_come_before_the_query_and_a_key_is_known_by_its_prefix() {
        let token = |text: &str| Some(Credential::Token(text.into()));
        let key = |text: &str| Some(Credential::ApiKey(text.into()));
        assert_eq!(shown(&[("authorization", "Bearer a.b.c")], "token=x"), token("a.b.c"));
        assert_eq!(shown(&[("authorization", "bearer  vk_1 ")], ""), key("vk_1"));
        assert_eq!(shown(&[("x-api-key", "vk_2")], "token=x"), key("vk_2"));
        assert_eq!(shown(&[], "room_id=tea&token=a.b%2Ec"), token("a.b.c"));
        assert_eq!(shown(&[], "token=vk_3"), key("vk_3"));
        assert_eq!(shown(&[], "token=&api_key=vk_4"), key("vk_4"));
        assert_eq!(shown(&[("authorization", "Basic eDp5")], "token=t"), token("t"));
        for nothing in ["", "token=", "api_key=", "atoken=x", "token"] {
            assert_eq!(shown(&[("authorization", "Bearer ")], nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_credential_is_not_printed() {
        let printed = format!("{:?}", Credential::from_text("secret"));
        assert!(!printed.contains("secret"), "{printed}");
    }
}
