//! What uploads under way take: of the number of uploads, and of the quotas before the catalogue counts them.
//!
//! The catalogue compares quotas once more, in the transaction that adds a file. Claims are there so that an upload that
//! cannot end well is refused when it begins, or as soon as it is too large.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use veche_doors::{Error, ErrorKind};

use crate::settings::FileSettings;

/// What a quota is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// All files.
    Total,
    /// Those of a user.
    User(String),
    /// Those in the channels of a room.
    Room(String),
    /// Those in a channel that belongs to no room.
    Channel(String),
}

/// All claims.
pub(crate) struct Claims {
    max_uploads: usize,
    max_uploads_per_user: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    uploads: usize,
    uploads_by_user: HashMap<String, usize>,
    bytes_by_scope: HashMap<Scope, u64>,
}

/// What one upload takes; dropping it gives all back.
pub(crate) struct Claim {
    claims: Arc<Claims>,
    /// Whose upload it is among those that are counted.
    by: String,
    /// How much it takes of each quota.
    bytes: u64,
    quotas: Vec<Quota>,
}

/// A quota and what the catalogue has of it.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    pub(crate) scope: Scope,
    pub(crate) limit: u64,
    pub(crate) stored: u64,
}

impl Scope {
    /// That of a channel: its room, where it belongs to one.
    pub(crate) fn of_channel(channel: &str) -> Self {
        match room_of(channel) {
            Some(room) => Self::Room(room.to_owned()),
            None => Self::Channel(channel.to_owned()),
        }
    }
}

/// The room that a channel belongs to: `meeting` for `room:meeting` and `room:meeting:chat`.
pub(crate) fn room_of(channel: &str) -> Option<&str> {
    let rest = channel.strip_prefix("room:")?;
    rest.split(':').next().filter(|room| !room.is_empty())
}

impl Claims {
    /// None yet.
    pub(crate) fn new(settings: &FileSettings) -> Arc<Self> {
        Arc::new(Self {
            max_uploads: settings.max_uploads,
            max_uploads_per_user: settings.max_uploads_per_user,
            state: Mutex::default(),
        })
    }

    /// Begins an upload; `by` is a user or an address.
    pub(crate) fn begin(self: &Arc<Self>, by: &str) -> Result<Claim, Error> {
        let mut state = self.state.lock();
        let own = state.uploads_by_user.get(by).copied().unwrap_or_default();
        if state.uploads >= self.max_uploads || own >= self.max_uploads_per_user {
            let message = format!(
                "there are {own} uploads of yours under way, of {} allowed, and {} in all, of {}; finish or delete one, \
                 or try again later",
                self.max_uploads_per_user, state.uploads, self.max_uploads
            );
            return Err(Error::new(ErrorKind::TooManyUploads, message));
        }
        Ok(self.add(&mut state, by))
    }

    /// Takes up an upload again that a process before this one has begun, whatever is under way.
    pub(crate) fn resume(self: &Arc<Self>, by: &str) -> Claim {
        self.add(&mut self.state.lock(), by)
    }

    /// How many uploads are under way.
    pub(crate) fn uploads(&self) -> usize {
        self.state.lock().uploads
    }

    fn add(self: &Arc<Self>, state: &mut State, by: &str) -> Claim {
        state.uploads += 1;
        *state.uploads_by_user.entry(by.to_owned()).or_default() += 1;
        Claim { claims: Arc::clone(self), by: by.to_owned(), bytes: 0, quotas: Vec::new() }
    }
}

impl Claim {
    /// Counts it against another quota too.
    pub(crate) fn add_quota(&mut self, quota: Quota) -> Result<(), Error> {
        let mut state = self.claims.state.lock();
        let claimed = state.bytes_by_scope.entry(quota.scope.clone()).or_default();
        let result = check(&quota, *claimed, self.bytes);
        *claimed += self.bytes;
        self.quotas.push(quota);
        result
    }

    /// Takes so many bytes in all, if every quota has room for them.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), Error> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut state = self.claims.state.lock();
        for quota in &self.quotas {
            check(quota, state.bytes_by_scope.get(&quota.scope).copied().unwrap_or_default(), more)?;
        }
        for quota in &self.quotas {
            *state.bytes_by_scope.entry(quota.scope.clone()).or_default() += more;
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.claims.state.lock();
        let state = &mut *state;
        state.uploads -= 1;
        lower(&mut state.uploads_by_user, &self.by, 1);
        for quota in &self.quotas {
            lower(&mut state.bytes_by_scope, &quota.scope, self.bytes);
        }
    }
}

fn check(quota: &Quota, claimed: u64, more: u64) -> Result<(), Error> {
    let taken = quota.stored.saturating_add(claimed);
    if taken.saturating_add(more) <= quota.limit {
        return Ok(());
    }
    Err(exceeded(&quota.scope, quota.limit, Some(taken)))
}

/// The answer to who would exceed a quota.
pub(crate) fn exceeded(scope: &Scope, limit: u64, taken: Option<u64>) -> Error {
    let whose = match scope {
        Scope::Total => "all files".to_owned(),
        Scope::User(_) => "your files".to_owned(),
        Scope::Room(room) => format!("the files of room `{room}`"),
        Scope::Channel(channel) => format!("the files of channel `{channel}`"),
    };
    let taken = taken.map(|taken| format!(", {taken} are taken")).unwrap_or_default();
    let message = format!("{whose} may have {limit} bytes together{taken}; delete some first");
    Error::new(ErrorKind::QuotaExceeded, message)
}

/// Takes from a count, and forgets it at zero: what peers choose must not fill the map.
fn lower<K, N>(counts: &mut HashMap<K, N>, key: &K, by: N)
where
    K: std::hash::Hash + Eq + Clone,
    N: std::ops::SubAssign + PartialEq + Default,
{
    if let Some(count) = counts.get_mut(key) {
        *count -= by;
        if *count == N::default() {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Arc<Claims> {
        let settings = FileSettings { max_uploads: 3, max_uploads_per_user: 2, ..FileSettings::default() };
        Claims::new(&settings)
    }

    fn quota(stored: u64) -> Quota {
        Quota { scope: Scope::User("anna".into()), limit: 100, stored }
    }

    #[test]
    fn uploads_are_counted_for_each_and_for_all_and_given_back() {
        let claims = claims();
        let first = claims.begin("anna").unwrap();
        let _second = claims.begin("anna").unwrap();
        assert_eq!(claims.begin("anna").err().unwrap().kind, ErrorKind::TooManyUploads);
        let _third = claims.begin("boris").unwrap();
        assert_eq!(claims.begin("clara").err().unwrap().kind, ErrorKind::TooManyUploads);
        drop(first);
        assert!(claims.begin("anna").is_ok());
        assert_eq!(claims.uploads(), 2);
    }

    #[test]
    fn bytes_under_way_count_with_those_stored_to_the_very_edge() {
        let claims = claims();
        let mut first = claims.begin("anna").unwrap();
        first.add_quota(quota(40)).unwrap();
        first.grow_to(30).unwrap();
        let mut second = claims.begin("anna").unwrap();
        second.add_quota(quota(40)).unwrap();
        second.grow_to(30).unwrap();
        assert_eq!(second.grow_to(31).unwrap_err().kind, ErrorKind::QuotaExceeded);
        assert_eq!(second.bytes, 30, "what was refused is not taken");
        drop(first);
        second.grow_to(60).unwrap();
        drop(second);
        assert!(
            claims.state.lock().bytes_by_scope.is_empty() && claims.state.lock().uploads_by_user.is_empty()
        );
    }

    #[test]
    fn a_quota_that_is_known_later_counts_what_is_there_already() {
        let claims = claims();
        let mut claim = claims.begin("anna").unwrap();
        claim.grow_to(60).unwrap();
        assert_eq!(claim.add_quota(quota(41)).unwrap_err().kind, ErrorKind::QuotaExceeded);
        drop(claim);
        assert!(claims.state.lock().bytes_by_scope.is_empty());
    }

    #[test]
    fn channels_belong_to_rooms() {
        assert_eq!(room_of("room:meeting:chat"), Some("meeting"));
        assert_eq!(room_of("room:meeting"), Some("meeting"));
        assert_eq!(room_of("room:"), None);
        assert_eq!(room_of("general"), None);
        assert_eq!(Scope::of_channel("general"), Scope::Channel("general".into()));
    }
}
