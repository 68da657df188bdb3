//! Who may do what.
//!
//! The way in is [`Authority`]: it turns a [`Credential`] (a token or an API key) into an [`Identity`], which says what
//! it [allows](Identity::allows). `TOKENS.md` describes tokens, keys and grants for those who make them.
//!
//! A token is parsed by `token`, its signature checked by a `key` of the configuration or of a `key_set` that is fetched,
//! and its `claims` become [`Grants`] made of `pattern`s and [`Action`]s.

mod action;
mod api_key;
mod authority;
mod claims;
mod credential;
mod error;
mod grants;
mod identity;
mod issue;
mod key;
mod key_set;
mod pattern;
mod settings;
mod token;

pub use action::{Action, Actions};
pub use api_key::{API_KEY_PREFIX, KeyLookup, KeyRecord, NewApiKey};
pub use authority::{Authority, Door};
pub use credential::Credential;
pub use error::{AccessError, AccessErrorKind};
pub use grants::{Grants, GrantsClaim, Resource};
pub use identity::{Identity, RoomLimit};
pub use issue::{IssueError, NewToken, issue};
pub use settings::{AccessSettings, PublicKey, Secret, SettingsError};
